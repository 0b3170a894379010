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

from lakehouse_assets.platform.declarations.declare import (
    SCD1,
    SCD2,
    Append,
    Champion,
    Merge,
    Replace,
    Revise,
    Since,
    TableAsset,
    Touched,
)
from lakehouse_assets.platform.pipeline import contracts, dimensions, quarantine, replay
from lakehouse_assets.platform.pipeline.batches import BATCH_ROWS, Batch, Reading, in_scope, number
from lakehouse_assets.platform.pipeline.prefetch import Ahead
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.quality.split import Evidence, Split, together
from lakehouse_assets.platform.storage import known_at, merge
from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor, Written
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table

# What silver has no use for: the text that did not fit stays in bronze, what could not be converted goes into quarantine.
_NOT_STORED = ("_unparsed", "_rescued")
_TIMES_A_BATCH_IS_TAKEN_UP = 20
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
    batch_rows: int = BATCH_ROWS
    _ahead: Ahead = field(default_factory=Ahead, init=False, compare=False, repr=False)

    def pending(self) -> list[str]:
        """The sources that have something new, and the quarantine if released rows are missing here; from cursors and versions alone."""
        behind = self._reading.behind()
        return [*behind, self.asset.quarantine] if self._replays.unfinished() or self._is_half_rebuilt() else behind

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
        return self._until_nobody_is_faster(
            lambda done: (self._rebuild(self._reading.next_batch(stepwise=False), done), False), Refreshed(-1)
        )

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
        batch = self._reading.next_batch()
        if self._is_half_rebuilt():
            return self._rebuild(batch, done), True
        if not batch.moved and self._target.exists():
            return done, False
        return (self._rebuild(batch, done) if self._reading.lost_rows(batch) else self._do(batch, done)), True

    def _rebuild(self, batch: Batch, done: Refreshed) -> Refreshed:
        # A number of its own, so that a rebuild that died after the quarantine is taken up even where no source moved.
        at = self._target.cursor(_REBUILD)
        number = Cursor(_REBUILD, at, (at or 0) + 1)
        set_aside = {**batch.set_aside, _REBUILD: self._quarantine.cursor(_REBUILD)}
        done = self._do(self._reading.anew(batch, set_aside), done, rebuilds=(*batch.moved, number))
        self._replays.finish()  # what had been released is in the table again
        return done

    def _is_half_rebuilt(self) -> bool:
        return number(self._quarantine.cursor(_REBUILD)) > number(self._target.cursor(_REBUILD))

    @property
    def _reading(self) -> Reading:
        return Reading(self.asset, self.lakehouse, self.champion, self.batch_rows)

    @property
    def _target(self) -> Table:
        return self.lakehouse.table(self.asset.name)

    @property
    def _quarantine(self) -> Table:
        return self.lakehouse.table(self.asset.quarantine)

    @property
    def _replays(self) -> replay.Replays:
        return replay.Replays(self.asset, self.lakehouse, self.run_id)

    # --- from frames to commits

    def _do(self, batch: Batch, done: Refreshed, rebuilds: tuple[Cursor, ...] | None = None) -> Refreshed:
        rows, rows_read = self._ahead.take(batch) or self._reading.rows(batch)
        self._create(rows.schema)
        parts = contracts.judge(self.asset, self.lakehouse, rows, batch.held, anew=rebuilds is not None)
        contracts.record(self.asset, self.lakehouse, self.run_id)
        moved = batch.moved if rebuilds is None else rebuilds
        parts = dimensions.whole_snapshots(self.asset, self._target, parts, anew=rebuilds is not None)
        if rebuilds is None:
            self._ahead.begin(self._reading, batch)
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
        return Refreshed(written.version, done.account + account, together(done.evidence, parts.evidence), done.batches + 1)

    def _create(self, rows: Mapping[str, pl.DataType]) -> None:
        lineage = {name: dtype for name, dtype in rows.items() if name.startswith("_") and name not in _NOT_STORED}
        self._target.create({**self.asset.schema, **lineage}, self.asset.partition_by, self.asset.description)

    def _set_aside(self, parts: Split, batch: Batch, moved: tuple[Cursor, ...], *, anew: bool) -> None:
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

    def _info(self, batch: Batch) -> dict[str, str]:
        return {
            "lakehouse.run_id": self.run_id,
            "lakehouse.reads": json.dumps({cursor.source: cursor.after for cursor in batch.cursors.values()}),
            **contracts.info(self.asset, batch.held),
        }

    def _write(self, good: pl.DataFrame, batch: Batch, commit: Commit, *, anew: bool, bad: pl.DataFrame) -> Written:
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

    def _whole(self, write: Merge, batch: Batch) -> pl.Expr | None:
        """The rows of the table that were worked out anew, of which those that did not come out again go."""
        for name, read in self.asset.reads.items():
            if isinstance(read, Touched | Since) and read.by in write.on:
                return in_scope(read, batch.touched[name])
        return None

    def _scope(self, write: Replace, batch: Batch) -> dict[str, list[Any]] | None:
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


def reads_of(table: Table, version: int) -> dict[str, int]:
    """The tables that a version of a table was worked out from, with their versions; maintenance in between works nothing out."""
    for commit in table.commits(version):
        if "reads" in commit["info"]:
            return dict(json.loads(commit["info"]["reads"]))
    return {}
