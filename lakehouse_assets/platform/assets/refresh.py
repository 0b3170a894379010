"""Brings one declared table up to date: what is new since its cursors, through its function and its contract, into one commit.

It runs without Dagster, so a notebook or a test can do what a run does. Feeds and models have their own way; how all of it looks in
Dagster is in `build`.

A batch takes two commits: rejected rows into the quarantine, then the rest into the table, both with the same cursors. A run that died in
between left the quarantine's cursors ahead; the next one does exactly that batch again before it goes on, so no row is in both or in
neither.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl

from lakehouse_assets.platform.assets import contracts, dimensions, quarantine, replay
from lakehouse_assets.platform.assets.declare import (
    SCD1,
    SCD2,
    Append,
    Champion,
    Changes,
    Lookup,
    Merge,
    Replace,
    Revise,
    Since,
    Snapshot,
    TableAsset,
    Touched,
)
from lakehouse_assets.platform.quality.account import RowAccount, RowsLost
from lakehouse_assets.platform.quality.contract import schema_of
from lakehouse_assets.platform.quality.split import Evidence, Split
from lakehouse_assets.platform.storage import known_at, merge, predicates
from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor, Written
from lakehouse_assets.platform.storage.errors import CursorMoved, NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.upkeep import readable_from

# What silver has no use for: the text that did not fit stays in bronze, what could not be converted goes into quarantine.
_NOT_STORED = ("_unparsed", "_rescued")
_TIMES_A_BATCH_IS_TAKEN_UP = 20
# About so many rows are read at once where only changes are read: memory follows the batch, not what has piled up.
_BATCH_ROWS = 1_000_000
_REBUILD = "lakehouse.rebuild"


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did.

    Attributes:
        version: Of the table, afterwards.
        account: Over all batches; all zero if there was nothing new.
        evidence: What the contract's rules found.
        batches: How many there were; 0 if the table was up to date.
    """

    version: int
    account: RowAccount = field(default_factory=RowAccount)
    evidence: tuple[Evidence, ...] = ()
    batches: int = 0


@dataclass(frozen=True)
class _Batch:
    """From where to where the table's sources are read, and what that touches.

    Attributes:
        cursors: By source.
        set_aside: How far the quarantine has come, by source.
        touched: By input, the touched values (None: all of them); of a `Since` the last value before all that was touched.
        held: The versions of other tables that rows are held against, by table.
    """

    cursors: Mapping[str, Cursor]
    set_aside: Mapping[str, int | None]
    touched: Mapping[str, list[Any] | None]
    held: Mapping[str, int]

    @property
    def moved(self) -> tuple[Cursor, ...]:
        return tuple(cursor for cursor in self.cursors.values() if cursor.after != cursor.before)


@dataclass(frozen=True)
class Refresh:
    """One table on its way to being up to date.

    Attributes:
        champion: Gives the champion of a model (by the name of its ledger), or None while there is none.
        batch_rows: About how many rows of changes are read at once; at least one commit of the source.
    """

    asset: TableAsset
    lakehouse: Lakehouse
    run_id: str
    champion: Callable[[Champion], Any | None]
    batch_rows: int = _BATCH_ROWS

    def pending(self) -> list[str]:
        """The sources that have something new, and the quarantine if released rows are missing here; from cursors and versions alone."""
        target = self._target
        behind = [read.table for read in self.asset.reads.values() if self._behind(target, read.table)]
        return [*behind, self.asset.quarantine] if self._replays.unfinished() or self._is_half_rebuilt() else behind

    def _behind(self, target: Table, source: str) -> bool:
        table = self.lakehouse.table(source)
        if not target.exists() or not table.exists():
            return True
        at = target.cursor(source)
        return at is None or at > table.version() or self._newest(source, at) != at

    def run(self) -> Refreshed:
        """Bring the table up to date.

        Raises:
            ContractBroken: The table was not touched.
            RowsLost: The rows do not add up; the table was not touched.
        """
        self._replays.finish()
        done = self._until_nobody_is_faster(self._go_on, Refreshed(-1))
        return Refreshed(self._target.version(), done.account, done.evidence, done.batches)

    def rebuild(self) -> Refreshed:
        """Work the whole table out anew from all that its sources hold, whatever its cursors say; rows that do not come out again go.

        Raises:
            ContractBroken: The table was not touched.
        """
        return self._until_nobody_is_faster(lambda done: (self._rebuild(self._batch(stepwise=False), done), False), Refreshed(-1))

    def _until_nobody_is_faster(self, step: Callable[[Refreshed], tuple[Refreshed, bool]], done: Refreshed) -> Refreshed:
        """Take steps while there is more to do. Where another run was faster with a part of a batch, go on from where it left the table."""
        taken_up, more = 0, True
        while more:
            try:
                done, more = step(done)
            except CursorMoved:
                taken_up += 1
                if taken_up == _TIMES_A_BATCH_IS_TAKEN_UP:
                    raise
        return done

    def _go_on(self, done: Refreshed) -> tuple[Refreshed, bool]:
        batch = self._batch()
        if self._is_half_rebuilt():
            return self._rebuild(batch, done), True
        if not batch.moved and self._target.exists():
            return done, False
        return (self._rebuild(batch, done) if self._lost_rows(batch) else self._do(batch, done)), True

    def _rebuild(self, batch: _Batch, done: Refreshed) -> Refreshed:
        anew = {source: Cursor(source, None, cursor.after) for source, cursor in batch.cursors.items()}
        # A number of its own, so that a rebuild that died after the quarantine is taken up even where no source moved.
        at = self._target.cursor(_REBUILD)
        number = Cursor(_REBUILD, at, (at or 0) + 1)
        set_aside = {**batch.set_aside, _REBUILD: self._quarantine.cursor(_REBUILD)}
        done = self._do(_Batch(anew, set_aside, self._touched(anew), batch.held), done, rebuilds=(*batch.moved, number))
        self._replays.finish()  # what had been released is in the table again
        return done

    def _is_half_rebuilt(self) -> bool:
        return _number(self._quarantine.cursor(_REBUILD)) > _number(self._target.cursor(_REBUILD))

    def _lost_rows(self, batch: _Batch) -> bool:
        """Whether a source of changes took rows away, as after a restore: what was made of them cannot be told from the changes alone."""
        cursors = (batch.cursors[read.table] for read in self.asset.reads.values() if isinstance(read, Changes))
        return any(at.before is not None and self.lakehouse.table(at.source).lost_rows(at.before, at.after) for at in cursors)

    # --- what to read

    @property
    def _target(self) -> Table:
        return self.lakehouse.table(self.asset.name)

    @property
    def _quarantine(self) -> Table:
        return self.lakehouse.table(self.asset.quarantine)

    @property
    def _replays(self) -> replay.Replays:
        return replay.Replays(self.asset, self.lakehouse, self.run_id)

    def _batch(self, *, stepwise: bool = True) -> _Batch:
        sources = dict.fromkeys(read.table for read in self.asset.reads.values())
        set_aside = {source: self._quarantine.cursor(source) for source in sources}
        before = {source: self._target.cursor(source) for source in sources}
        ahead = {source: at for source, at in set_aside.items() if at is not None and at > _number(before[source])}
        if ahead:
            after = {source: _number(ahead.get(source, before[source])) for source in sources}
        else:
            after = {source: self._until(source, before[source], stepwise=stepwise) for source in sources}
        cursors = {source: Cursor(source, before[source], after[source]) for source in sources}
        held = contracts.held_before(self.asset, self._quarantine) if ahead else contracts.held_against(self.asset, self.lakehouse)
        return _Batch(cursors, set_aside, self._touched(cursors), held)

    def _until(self, source: str, before: int | None, *, stepwise: bool) -> int:
        """How far to read a source."""
        table = self.lakehouse.table(source)
        newest = table.version()
        if newest < _number(before):
            raise NoSuchVersion(
                f"{self.asset.name} has read {source} up to version {before}, but that stands at {newest}: "
                f"it was made anew behind its readers' backs. Move the folder of {self.asset.name} away to have that made anew as well."
            )
        until = _number(self._newest(source, before))
        only_changes = all(isinstance(read, Changes) for read in self.asset.reads.values() if read.table == source)
        if not stepwise or not only_changes or until == _number(before):
            return until
        if before is None and (whole_from := readable_from(table)):
            return whole_from
        return table.step(before, until, self.batch_rows)

    def _newest(self, source: str, after: int | None) -> int | None:
        """The newest version of a source that says something new. A ledger's does also without a row: that an alias was set."""
        table = self.lakehouse.table(source)
        is_ledger = any(isinstance(read, Champion) for read in self.asset.reads.values() if read.table == source)
        return table.version() if is_ledger else table.changed_at(after)

    def _touched(self, cursors: Mapping[str, Cursor]) -> dict[str, list[Any] | None]:
        reads = self.asset.reads.items()
        return {name: self._touched_values(name, read, cursors) for name, read in reads if isinstance(read, Touched | Since)}

    def _touched_values(self, name: str, read: Touched | Since, cursors: Mapping[str, Cursor]) -> list[Any] | None:
        own = cursors[read.table]
        others = [other for other in self.asset.reads.values() if isinstance(other, Snapshot)]
        if own.before is None or any(cursors[other.table].before != cursors[other.table].after for other in others):
            return None
        rows = self.lakehouse.table(read.table)
        values = set(rows.touched((read.by,), own.before, own.after)[read.by]) if own.after > own.before else set()
        for lookup in self.asset.reads.values():
            if not isinstance(lookup, Lookup) or lookup.of != name:
                continue
            at = cursors[lookup.table]
            if at.before is None:
                return None
            if at.after > at.before:
                changed = self.lakehouse.table(lookup.table).touched((lookup.on,), at.before, at.after)
                values |= set(
                    rows.scan(own.after).join(changed.lazy(), on=lookup.on, how="semi").select(read.by).unique().collect()[read.by]
                )
        if isinstance(read, Since) and values and None not in values:
            # Between that value and the first touched one the source has nothing, but the result may have: days without a row, say.
            before = rows.scan(own.after).filter(pl.col(read.by) < min(values)).select(pl.col(read.by).max())
            return [before.collect(engine="streaming").item()]
        return sorted(values, key=lambda value: (value is None, value))

    def _frames(self, batch: _Batch) -> dict[str, Any] | None:
        frames: dict[str, Any] = {}
        for name, read in self.asset.reads.items():
            cursor = batch.cursors[read.table]
            table = self.lakehouse.table(read.table)
            if isinstance(read, Champion):
                frames[name] = self.champion(read)
                if frames[name] is None:
                    return None
            elif isinstance(read, Changes):
                unchanged = cursor.before == cursor.after
                frames[name] = table.scan(cursor.after).limit(0) if unchanged else table.changes(cursor.before, cursor.after)
            else:
                frames[name] = table.scan(cursor.after)
            if isinstance(read, Touched):
                frames[name] = frames[name].filter(_in_scope(read, batch.touched[name]))
            if isinstance(read, Snapshot) and read.version_as:
                frames[name] = frames[name].with_columns(pl.lit(cursor.after, dtype=pl.Int64).alias(read.version_as))
        return frames

    # --- from frames to commits

    def _do(self, batch: _Batch, done: Refreshed, rebuilds: tuple[Cursor, ...] | None = None) -> Refreshed:
        rows, rows_read = self._work_out(batch)
        self._create(rows.schema)
        parts = contracts.judge(self.asset, self.lakehouse, rows, batch.held, anew=rebuilds is not None)
        contracts.record(self.asset, self.lakehouse, self.run_id)
        moved = batch.moved if rebuilds is None else rebuilds
        parts = dimensions.whole_snapshots(self.asset, self._target, parts, anew=rebuilds is not None)
        self._set_aside(parts, batch, moved, anew=rebuilds is not None)
        accounts: list[RowAccount] = []

        def info(counts: Counts) -> Mapping[str, str]:
            account = RowAccount(rows_read, counts.written, counts.merged, counts.duplicates, parts.bad.height)
            account.check(self.asset.name)
            accounts.append(account)
            marks = {} if rebuilds is None else {contracts.REBUILD: "true"}
            return self._info(batch) | marks | {"lakehouse.account": account.to_json()}

        good = parts.good.drop([column for column in _NOT_STORED if column in parts.good.columns])
        forgets = () if rebuilds is None else (replay.cursor_name(self.asset),)
        written = self._write(good, batch, Commit(moved, info, forgets), anew=rebuilds is not None, bad=parts.bad)
        account = accounts[-1] if written.counts is not None else RowAccount()
        return Refreshed(written.version, done.account + account, (*done.evidence, *parts.evidence), done.batches + 1)

    def _work_out(self, batch: _Batch) -> tuple[pl.DataFrame, int]:
        frames = self._frames(batch)
        if frames is None:
            return pl.DataFrame(schema=self._output_schema), 0
        counted = self._counted(frames)
        rows = self._changeable(batch, self.asset.function(**frames)).collect(engine="streaming")
        if self.asset.stamped_at:
            rows = rows.with_columns(pl.lit(datetime.now(UTC)).cast(pl.Datetime("us", "UTC")).alias(self.asset.stamped_at))
        rows_read = rows.height if counted is None else counted.select(pl.len()).collect().item()
        if rows_read != rows.height:
            raise RowsLost(
                f"{self.asset.name}: its function was given {rows_read} rows and returned {rows.height}. Return one row for each, let the "
                "contract reject rows, or declare row_for_row=False"
            )
        return rows, rows_read

    def _changeable(self, batch: _Batch, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Without the rows that are before everything that changed."""
        for name, read in self.asset.reads.items():
            if isinstance(read, Since):
                rows = rows.filter(_in_scope(read, batch.touched[name]))
        return rows

    @property
    def _output_schema(self) -> pl.Schema:
        """What the function returns: the contract's columns without those that the write adds."""
        return schema_of(self.asset.contract)

    def _counted(self, frames: dict[str, Any]) -> pl.LazyFrame | None:
        """The input whose rows must all come out again, if there is one."""
        changes = [name for name, read in self.asset.reads.items() if isinstance(read, Changes)]
        if not self.asset.row_for_row or len(changes) != 1:
            return None
        return frames[changes[0]]  # type: ignore[no-any-return]

    def _create(self, rows: Mapping[str, pl.DataType]) -> None:
        lineage = {name: dtype for name, dtype in rows.items() if name.startswith("_") and name not in _NOT_STORED}
        self._target.create({**self.asset.schema, **lineage}, self.asset.partition_by, self.asset.description)

    def _set_aside(self, parts: Split, batch: _Batch, moved: tuple[Cursor, ...], *, anew: bool) -> None:
        description = f"Rows that broke a rule of {self.asset.name}, each with every rule that it broke."
        bad = quarantine.with_marks(parts.bad.lazy()).collect()
        self._quarantine.create(bad.schema, description=description)
        own = tuple(Cursor(cursor.source, batch.set_aside[cursor.source], cursor.after) for cursor in moved)
        held = contracts.held_cursors(batch.held, self._quarantine) if own else ()
        commit = Commit((*own, *held), lambda _: self._info(batch))
        if anew:
            self._quarantine.add_columns(quarantine.RELEASED)
            self._quarantine.replace(quarantine.still_released(parts.bad, self._quarantine), None, commit)
        elif bad.height:
            self._quarantine.add_columns(quarantine.RELEASED)
            self._quarantine.append(bad, commit)

    def _info(self, batch: _Batch) -> dict[str, str]:
        return {
            "lakehouse.run_id": self.run_id,
            "lakehouse.reads": json.dumps({cursor.source: cursor.after for cursor in batch.cursors.values()}),
            **contracts.info(self.asset, batch.held),
        }

    def _write(self, good: pl.DataFrame, batch: _Batch, commit: Commit, *, anew: bool, bad: pl.DataFrame) -> Written:
        write = self.asset.write
        match write:
            case Append():
                return self._target.replace(good, None, commit) if anew else self._target.append(good, commit)
            case Merge():
                whole = pl.lit(value=True) if anew else self._whole(write, batch)
                return merge.merge(self._target, good, write.on, commit, newest_by=write.newest_by, ignore=write.stamps, whole=whole)
            case SCD1() | SCD2():
                return dimensions.write(self._target, write, good, commit, bad=bad, anew=anew)
            case Replace():
                scope = self._scope(write, batch)
                if not good.height and scope is not None and not all(scope.values()):
                    return self._target.append(good, commit)  # nothing was touched: the cursors alone go on
                return self._target.replace(good, scope, commit)
            case Revise():
                return known_at.revise(self._target, good, write.on, datetime.now(UTC), commit)

    def _whole(self, write: Merge, batch: _Batch) -> pl.Expr | None:
        """The rows of the table that were worked out anew, of which those that did not come out again go."""
        for name, read in self.asset.reads.items():
            if isinstance(read, Touched | Since) and read.by in write.on:
                return _in_scope(read, batch.touched[name])
        return None

    def _scope(self, write: Replace, batch: _Batch) -> dict[str, list[Any]] | None:
        if write.by is None:
            return None
        values: set[Any] = set()
        for name, read in self.asset.reads.items():
            if isinstance(read, Touched) and read.by == write.by:
                touched = batch.touched[name]
                if touched is None:
                    return None
                values |= set(touched)
        return {write.by: sorted(values, key=lambda value: (value is None, value))}


def _in_scope(read: Touched | Since, values: list[Any] | None) -> pl.Expr:
    """The rows that can have changed: see `_Batch.touched`."""
    if values is None or (isinstance(read, Since) and None in values):
        return pl.lit(value=True)
    if isinstance(read, Since):
        return pl.col(read.by) > values[0] if values else pl.lit(value=False)
    return predicates.expression({read.by: values})


def _number(cursor: int | None) -> int:
    """A cursor as a number below every version if the source was never read."""
    return -1 if cursor is None else cursor


def reads_of(table: Table, version: int) -> dict[str, int]:
    """The tables that a version of a table was worked out from, with their versions; upkeep in between works nothing out."""
    for commit in table.history():
        if commit["version"] <= version and "reads" in commit["info"]:
            return dict(json.loads(commit["info"]["reads"]))
    return {}
