"""Rows of a quarantine on their way back: shown with their source, put through the current function and contract again, released once.

A release takes two commits. The first marks the rows in the quarantine (`RELEASED`) under the replay's number; the second works the marked
rows out and writes them into the table, with that number as its cursor. A replay that died in between is finished by the next one, or by
the next refresh of the table; so is one that the table lost, as after a restore. If by then some of its rows do not pass any more, a
third commit takes their marks away. A released row that comes too late changes nothing: what the table has taken of its key since still
counts, so where the table alone cannot tell, the source is read from that file on. A row comes too early while the quarantine is ahead of
the table, as after a run that died: the rest of its batch would come after it. So it waits for that batch. How rows get into a quarantine
is in `refresh`, how they are computed again in `replayed_rows`.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.kind import Result
from lakehouse_assets.platform.declarations.snapshots import SNAPSHOT_COMPLETE
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline import batch, functions
from lakehouse_assets.platform.pipeline.contracts import info as contract_info
from lakehouse_assets.platform.pipeline.contracts import references_now
from lakehouse_assets.platform.pipeline.marks import FULL_REFRESH
from lakehouse_assets.platform.pipeline.quarantine import (
    RELEASED,
    RELEASED_AT,
    RELEASED_IN,
    RELEASED_WITH,
    SOURCE,
    with_source,
)
from lakehouse_assets.platform.pipeline.replayed_rows import ReplayedRows
from lakehouse_assets.platform.pipeline.selection import ReplayRefused, Selection
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.quality.masking import without_values
from lakehouse_assets.platform.quality.split import BROKEN
from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor, cursor_of
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.lineage import LINEAGE, NOT_STORED
from lakehouse_assets.platform.storage.lineage import ORDER as ROW
from lakehouse_assets.platform.storage.types import TIMESTAMP
from lakehouse_assets.platform.storage.update import update

_REPLAYS, _TAKEN_BACK = "replays", "replays/taken back"
_TIMES_A_REPLAY_IS_TAKEN_UP = 20


@dataclass(frozen=True)
class Replayed:
    """What a replay did.

    Attributes:
        number: Of the replay; None if no row was released.
        selected: How many rows were put through.
        released: How many of them are in the table now, or had nothing new for it.
        rejected: By rule, how many rows still break it.
        gone: How many rows the source does not have any more; they were left as they are.
        account: Where the released rows went; None in a dry run.
        finished: How many replays before this one had not come to their end, and were brought to it.
    """

    selected: int
    released: int
    rejected: Mapping[str, int]
    gone: int = 0
    number: int | None = None
    account: RowAccount | None = None
    finished: int = 0


@dataclass(frozen=True)
class Replays(ReplayedRows):
    """The quarantine of one table and the way of its rows back into the table."""

    run_id: str

    def unfinished(self) -> bool:
        """Whether rows are marked as released that the table did not get; from cursors alone."""
        if not self.quarantine.exists() or not self.target.exists():
            return False
        marked, table = self.quarantine.now(), self.target.now()
        replays = cursor_of(marked, _REPLAYS)
        return replays is not None and (replays > (cursor_of(table, self._cursor) or 0) or self._rejected(table, marked) is not None)

    # --- what is done

    def run(self, selection: Selection, *, dry_run: bool = False) -> Replayed:
        """Put the selected rows that are not released yet through the current function and contract, and release what passes.

        Raises:
            ReplayRefused: The table is not made row by row from one source, a run has to be finished first, or the selection cannot be
                understood.
            ContractBroken: The function or the contract does not fit the source as a whole; nothing was released.
            RowsLost: The function does not return one row for each; nothing was released.
        """
        self.check()
        if not dry_run:
            self.quarantine.add_columns(RELEASED)
        finished = 0 if dry_run else self.finish()
        for _ in range(_TIMES_A_REPLAY_IS_TAKEN_UP):
            try:
                return self._run(selection, finished, dry_run=dry_run)
            except CursorMoved:
                finished += self.finish()  # another replay was faster: go on with the rows that it left
        raise ReplayRefused(f"{self.declaration.name}: other replays were faster {_TIMES_A_REPLAY_IS_TAKEN_UP} times; run it again")

    def finish(self) -> int:
        """Bring the rows into the table that were marked as released and did not get there; how many replays that was.

        Rows that the current function and contract do not let through are taken back: they wait in the quarantine again. While a run has to
        be finished first, nothing is done; it does this when it has.
        """
        done = 0
        while self.unfinished() and not self._awaits_run(self.target.now()):
            with suppress(CursorMoved):  # another process was faster
                if self._rejected(self.target.delta(), self.quarantine.delta()) is not None:
                    self._take_back()
                    continue
                at = self.target.cursor(self._cursor)
                waiting = self.marked().filter(pl.col(RELEASED_IN) > (at or 0)).select(pl.col(RELEASED_IN).min()).collect().item()
                number = int(self.quarantine.cursor(_REPLAYS) or 0 if waiting is None else waiting)
                self._write_marked(number)
                done += 1
        return done

    def forgets(self) -> tuple[str, ...]:
        """The watermark on replays, if the table has one: a commit that computes released rows again from their source takes it away."""
        return () if self.target.cursor(self._cursor) is None else (self._cursor,)

    def check(self) -> None:
        """Refuse a table whose quarantine cannot be replayed.

        Raises:
            ReplayRefused: With what to do instead.
        """
        name = self.declaration.name
        sources = ", ".join(self.declaration.inputs.values())
        if not self.declaration.kind.takes_rows or not self.declaration.row_for_row:
            raise ReplayRefused(
                f"{name} is not computed row by row from one table, so a row cannot be computed alone: fix {sources}, then "
                f"`lakehouse run {name} --full-refresh`"
            )
        if not self.quarantine.exists():
            how = (
                f"`lakehouse run {name} --full-refresh` computes both again" if self.target.exists() else f"`lakehouse run {name}` makes it"
            )
            raise ReplayRefused(f"{name} has no quarantine: {how}")
        for table in (self.quarantine, self.source):
            missing = [column for column in LINEAGE if column not in table.schema()]
            if missing:
                raise ReplayRefused(
                    f"{table.name} has no {', '.join(missing)}, so rejected rows cannot be found in their source: let the function of "
                    f"{name} keep these columns, or fix {sources}; then `lakehouse run {name} --full-refresh`"
                )
        if self._awaits_run(self.target.now()):
            raise ReplayRefused(
                f"{name} has not taken all that its quarantine has seen: a run of it was interrupted, or still goes on. `lakehouse run "
                f"{name}` first"
            )

    # --- one replay

    def _run(self, selection: Selection, finished: int, *, dry_run: bool) -> Replayed:
        before = self.quarantine.cursor(_REPLAYS)
        keys, gone = self._selected(selection)
        # One more than any number that either table has seen: a restore takes the one or the other back.
        number = max(before or 0, self.target.cursor(self._cursor) or 0) + 1
        parts = self.split(self.work_out(keys, selection.sets, number))
        passing = parts.good.select(ROW)
        rejected = dict(parts.bad[BROKEN].explode().drop_nulls().value_counts(sort=True).iter_rows())
        replayed = Replayed(keys.height, passing.height, rejected, gone, finished=finished)
        if dry_run or not passing.height:
            return replayed if dry_run else replace(replayed, account=RowAccount())
        marks = passing.with_columns(
            pl.lit(clock.now()).cast(TIMESTAMP).alias(RELEASED_AT),
            pl.lit(number, pl.Int64).alias(RELEASED_IN),
            pl.lit(json.dumps(dict(selection.sets))).alias(RELEASED_WITH),
        )
        # Columns alone: conditions and new values may hold personal data, and the log is not masked.
        replayed_with = {
            "number": number,
            "set": sorted(selection.sets),
            "source_version": self.source.version(),
            "rows": passing.height,
        }
        info = {"lakehouse.replay": json.dumps(replayed_with)}
        marked = update(self.quarantine, marks, ROW, Commit((Cursor(_REPLAYS, before, number),), lambda _: self._info() | info))
        if marked.counts is None:
            raise CursorMoved(f"{self.quarantine.name}: another process did a replay {number} at the same moment")
        return replace(replayed, number=number, **self._released(number))

    def _released(self, number: int) -> dict[str, Any]:
        """Write the rows of a replay, unless another process does it, and say what became of them."""
        # In the order of their numbers: another process may have marked rows just before, and not written them yet.
        self.finish()
        info = self._info_of(number)
        account = RowAccount.from_json(info["account"]) if info else RowAccount(None)
        return {"account": account, "released": account.rows_in or 0}

    def _info_of(self, number: int) -> Mapping[str, str]:
        """The commit info of the commit that wrote the rows of a replay; nothing if it has left the log."""
        return next((commit["info"] for commit in self.target.commits() if commit["info"].get("replay") == str(number)), {})

    def _selected(self, selection: Selection) -> tuple[pl.DataFrame, int]:
        """The keys of the selected rows that the source has, and how many it does not have any more."""
        rows = with_source(self.declaration, self.lakehouse)
        names = rows.collect_schema().names()
        others = [name for name in self.source.schema() if name not in names]
        rows = rows.with_columns(pl.col(SOURCE).struct.field(name).alias(name) for name in others)
        if selection.where is not None:
            # A snapshot that was refused comes back whole or not at all.
            rows = rows.filter(~pl.col(BROKEN).list.contains(SNAPSHOT_COMPLETE))
        rows = selection.chosen(rows)
        try:
            found = rows.select(*ROW, pl.col(SOURCE).is_not_null()).collect(engine="streaming")
        except pl.exceptions.PolarsError as error:
            hint = f"compare a column as its type has it; the text that came is `{SOURCE}.COLUMN`"
            # The cause shows values of rows.
            raise ReplayRefused(f"--where {selection.where}: {without_values(error)}: {hint}") from None
        keys = found.filter(SOURCE).select(ROW)
        if keys.is_duplicated().any():
            raise ReplayRefused(f"{self.source.name} has rows of one file and one number twice, so it is not clear which one was rejected")
        return keys, found.height - keys.height

    def _write_marked(self, number: int) -> None:
        """Write the rows that are marked with a number; those that do not pass any more are named in the commit, and then taken back.

        Only when the commit stands is it sure that no other process writes them.
        """
        # Before anything else is read: what is read later may hold the rows already.
        table = self.target.delta()
        done, rejected = (cursor_of(table, name) for name in (self._cursor, self._cursor_rejected))
        if (done or 0) >= number:
            return
        if self._awaits_run(table):
            raise CursorMoved(f"{self.target.name}: a run has written rejected rows at the same moment, and not the rest of its batch")
        marked = self.marked().filter(pl.col(RELEASED_IN) == number).select(*ROW, RELEASED_WITH).collect()
        sets = json.loads(marked[RELEASED_WITH][0] or "{}") if marked.height else {}
        files = marked["_sequence"].unique().implode()
        waiting = self.marked().filter(pl.col("_sequence").is_in(files) & pl.col(RELEASED_IN).is_null()).collect()
        parts = self.split(self.work_out(marked.select(ROW), sets, number), waiting)
        failing = marked.select(ROW).join(parts.good, on=list(ROW), how="anti")

        def info(counts: Counts) -> Mapping[str, str]:
            account = RowAccount(parts.good.height, counts.written, counts.updated, counts.duplicates)
            account.check(self.declaration.name)
            reads = {self.source.name: self.target.cursor(self.source.name)}
            recorded = {"lakehouse.replay": str(number), "lakehouse.reads": json.dumps(reads), "lakehouse.account": account.to_json()}
            return self._info() | recorded | ({"lakehouse.rejected": json.dumps(failing.rows())} if failing.height else {})

        cursors = [Cursor(self._cursor, done, number), *functions.cursors(self.declaration, self.target, all_rows=False)]
        if failing.height:
            cursors.append(Cursor(self._cursor_rejected, rejected, number))
        good = parts.good.drop(*NOT_STORED, strict=False)
        at = batch.number(cursor_of(table, self.source.name))
        cursors.append(Cursor(self.source.name, at, at))  # a refresh in between may take later rows
        result = Result(good, parts.bad, None, self.declaration.identity, self.taken_since(good, at, number))
        self.declaration.kind.release(self.target, result, Commit(tuple(cursors), info))
        if failing.height:
            self._take_back()

    def _awaits_run(self, table: DeltaTable) -> bool:
        """Whether a batch has to be finished first: its rejected rows are in the quarantine, and the rest is not in the table yet."""
        at = {source: cursor_of(table, source) for source in self.declaration.sources()}
        quarantine = self.quarantine.now()
        ahead = any(batch.number(cursor_of(quarantine, source)) > batch.number(before) for source, before in at.items())
        return ahead or at[self.source.name] is None

    def _rejected(self, table: DeltaTable, quarantine: DeltaTable) -> int | None:
        """The replay whose rows the table has rejected in the end and that still are marked as released, if there is one."""
        named, taken_back = cursor_of(table, self._cursor_rejected), cursor_of(quarantine, _TAKEN_BACK)
        return named if named is not None and named > (taken_back or 0) else None

    def _take_back(self) -> None:
        """Let the rows wait again that were marked as released and that the table has rejected."""
        number = self._rejected(self.target.delta(), self.quarantine.delta())
        if number is None:
            return
        rejected = pl.DataFrame(json.loads(self._info_of(number).get("rejected", "[]")), schema=dict.fromkeys(ROW, pl.Int64), orient="row")
        keys = self.marked().filter(pl.col(RELEASED_IN) == number).select(ROW).join(rejected.lazy(), on=list(ROW), how="semi").collect()
        marks = keys.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in RELEASED.items())
        cursor = Cursor(_TAKEN_BACK, self.quarantine.cursor(_TAKEN_BACK), number)
        update(self.quarantine, marks, ROW, Commit((cursor,), lambda _: self._info()))

    def _info(self) -> dict[str, str]:
        return {"lakehouse.run_id": self.run_id} | contract_info(self.declaration, references_now(self.declaration, self.lakehouse))

    @property
    def _cursor(self) -> str:
        """The name under which the table keeps up to which replay it has the released rows."""
        return cursor_name(self.declaration)

    @property
    def _cursor_rejected(self) -> str:
        """The name under which the table keeps the last replay of which it rejected rows."""
        return self._cursor + "/rejected"


def paired_cursors(quarantine: str) -> dict[str, str]:
    """The watermarks of a quarantine besides those on sources, each with the name under which its table has the same number."""
    return {_REPLAYS: f"replay/{quarantine}", _TAKEN_BACK: f"replay/{quarantine}/rejected", FULL_REFRESH: FULL_REFRESH}


def cursor_name(declaration: TableDeclaration) -> str:
    """The name of the table's cursor on the replays of its quarantine."""
    return f"replay/{declaration.quarantine}"
