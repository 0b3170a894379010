"""What a declared table has to read: from which version of each source to which, what that touches, and its function's rows of that.

Nothing is written here; what becomes of the rows is in `refresh`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations.declare import Champion, Changes, Lookup, Since, Snapshot, TableAsset, Touched
from lakehouse_assets.platform.pipeline import contracts
from lakehouse_assets.platform.quality.account import RowsLost
from lakehouse_assets.platform.quality.contract import schema_of
from lakehouse_assets.platform.storage import predicates
from lakehouse_assets.platform.storage.commit import Cursor
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.maintenance import readable_from
from lakehouse_assets.platform.storage.table import Table

BATCH_ROWS = 1_000_000
"""About so many rows are read at once where only changes are read: memory follows the batch, not what has piled up."""


@dataclass(frozen=True)
class Batch:
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
        """The cursors that this batch advances."""
        return tuple(cursor for cursor in self.cursors.values() if cursor.after != cursor.before)


@dataclass(frozen=True)
class Reading:
    """The sources of one table.

    Attributes:
        champion: Gives the champion of a model (by the name of its ledger), or None while there is none.
        batch_rows: About how many rows of changes are read at once; at least one commit of the source.
    """

    asset: TableAsset
    lakehouse: Lakehouse
    champion: Callable[[Champion], Any | None]
    batch_rows: int = BATCH_ROWS

    @property
    def _target(self) -> Table:
        return self.lakehouse.table(self.asset.name)

    @property
    def _sources(self) -> list[str]:
        return list(dict.fromkeys(read.table for read in self.asset.reads.values()))

    def behind(self) -> list[str]:
        """The sources that have something new, from cursors and versions alone."""
        target = self._target
        return [source for source in self._sources if self._is_behind(target, source)]

    def _is_behind(self, target: Table, source: str) -> bool:
        table = self.lakehouse.table(source)
        if not target.exists() or not table.exists():
            return True
        at = target.cursor(source)
        return at is None or at > table.version() or self._newest(source, at) != at

    def next_batch(self, *, stepwise: bool = True) -> Batch:
        """What is to be read next: a batch that a dead run left unfinished, else what is new; nothing has moved if all is up to date.

        Args:
            stepwise: Read no more than `batch_rows` at once where that can be.

        Raises:
            NoSuchVersion: A source was made anew.
        """
        for read in self.asset.reads.values():
            if isinstance(read, Champion):
                self.champion(read)  # an alias that was set by hand becomes a decision before the ledger's version is read
        sources, quarantine = self._sources, self.lakehouse.table(self.asset.quarantine)
        set_aside = {source: quarantine.cursor(source) for source in sources}
        before = {source: self._target.cursor(source) for source in sources}
        ahead = {source: at for source, at in set_aside.items() if at is not None and at > number(before[source])}
        if ahead:
            after = {source: number(ahead.get(source, before[source])) for source in sources}
        else:
            after = {source: self._until(source, before[source], stepwise=stepwise) for source in sources}
        cursors = {source: Cursor(source, before[source], after[source]) for source in sources}
        held = contracts.held_before(self.asset, quarantine) if ahead else contracts.held_against(self.asset, self.lakehouse)
        return Batch(cursors, set_aside, self._touched(cursors), held)

    def anew(self, batch: Batch, set_aside: Mapping[str, int | None]) -> Batch:
        """Everything up to where a batch ends."""
        cursors = {source: Cursor(source, None, cursor.after) for source, cursor in batch.cursors.items()}
        return Batch(cursors, set_aside, self._touched(cursors), batch.held)

    def following(self, batch: Batch) -> Batch | None:
        """What is to be read once a batch is written, if that can be told before: where only changes are read."""
        if not all(isinstance(read, Changes) for read in self.asset.reads.values()):
            return None
        ends = {source: cursor.after for source, cursor in batch.cursors.items()}
        cursors = {source: Cursor(source, end, self._until(source, end, stepwise=True)) for source, end in ends.items()}
        following = Batch(cursors, batch.set_aside, {}, batch.held)
        return following if following.moved else None

    def _until(self, source: str, before: int | None, *, stepwise: bool) -> int:
        """How far to read a source."""
        table = self.lakehouse.table(source)
        newest = table.version()
        if newest < number(before):
            raise NoSuchVersion(
                f"{self.asset.name} has read {source} up to version {before}, but that stands at {newest}: "
                f"it was made anew behind its readers' backs. Move the folder of {self.asset.name} away to have that made anew as well."
            )
        until = number(self._newest(source, before))
        only_changes = all(isinstance(read, Changes) for read in self.asset.reads.values() if read.table == source)
        if not stepwise or not only_changes or until == number(before):
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

    def _frames(self, batch: Batch) -> dict[str, Any] | None:
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
                frames[name] = frames[name].filter(in_scope(read, batch.touched[name]))
            if isinstance(read, Snapshot) and read.version_as:
                frames[name] = frames[name].with_columns(pl.lit(cursor.after, dtype=pl.Int64).alias(read.version_as))
        return frames

    def lost_rows(self, batch: Batch) -> bool:
        """Whether a source of changes took rows away, as after a restore: what was made of them cannot be told from the changes alone."""
        cursors = (batch.cursors[read.table] for read in self.asset.reads.values() if isinstance(read, Changes))
        return any(at.before is not None and self.lakehouse.table(at.source).lost_rows(at.before, at.after) for at in cursors)

    def rows(self, batch: Batch) -> tuple[pl.DataFrame, int]:
        """The rows of the table's function, and how many it was given.

        Raises:
            RowsLost: It has to return one row for each, and did not.
        """
        frames = self._frames(batch)
        if frames is None:
            return pl.DataFrame(schema=schema_of(self.asset.contract)), 0
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

    def _changeable(self, batch: Batch, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Without the rows that are before everything that changed."""
        for name, read in self.asset.reads.items():
            if isinstance(read, Since):
                rows = rows.filter(in_scope(read, batch.touched[name]))
        return rows

    def _counted(self, frames: dict[str, Any]) -> pl.LazyFrame | None:
        """The input whose rows must all come out again, if there is one."""
        changes = [name for name, read in self.asset.reads.items() if isinstance(read, Changes)]
        if not self.asset.row_for_row or len(changes) != 1:
            return None
        return frames[changes[0]]  # type: ignore[no-any-return]


def in_scope(read: Touched | Since, values: list[Any] | None) -> pl.Expr:
    """The rows that can have changed: see `Batch.touched`."""
    if values is None or (isinstance(read, Since) and None in values):
        return pl.lit(value=True)
    if isinstance(read, Since):
        return pl.col(read.by) > values[0] if values else pl.lit(value=False)
    return predicates.expression({read.by: values})


def number(cursor: int | None) -> int:
    """A cursor as a number below every version if the source was never read."""
    return -1 if cursor is None else cursor
