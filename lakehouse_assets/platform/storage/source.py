"""One table as a reader consumes it: from the version that it has consumed to the version that it reads now.

What changed in between is told as rows that came and rows that went, net: a row that was removed and added again, as when its partition was
replaced, did not change. What a reader does with it belongs to the kinds of tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from lakehouse_assets.platform.storage.change_feed import CAME, CHANGE_TYPE
from lakehouse_assets.platform.storage.commit import Cursor
from lakehouse_assets.platform.storage.table import Table

_TIMES = "__times"


@dataclass(frozen=True)
class Source:
    """A source of a table in one batch.

    Attributes:
        table: The source.
        before: The version that was consumed last; None if it never was.
        after: The version that is read.
    """

    table: Table
    before: int | None
    after: int

    @property
    def cursor(self) -> Cursor:
        """The watermark that the batch advances."""
        return Cursor(self.table.name, self.before, self.after)

    @property
    def moved(self) -> bool:
        """Whether there is a new version to read."""
        return self.before != self.after

    @cached_property
    def is_new(self) -> bool:
        """Whether all of it has to be read: it never was, or columns or partitions changed, so that old and new rows cannot be compared."""
        return self.before is None or (self.moved and self.table.layout_changed(self.before, self.after))

    @cached_property
    def only_appended(self) -> bool:
        """Whether rows came and none changed or went. A source that is new was only appended to."""
        if self.before is None or not self.moved:
            return True
        return not self.is_new and self.table.only_appended(self.before, self.after)

    def rows(self) -> pl.LazyFrame:
        """All rows, as they are now."""
        return self.table.scan(self.after)

    def rows_before(self) -> pl.LazyFrame:
        """All rows, as they were when they were consumed last, with the columns of now; none if they never were."""
        if self.before is None:
            return self.rows().limit(0)
        rows, now = self.table.scan(self.before), self.rows().collect_schema()
        then = rows.collect_schema()
        return rows.select(
            pl.col(name).cast(dtype, strict=False) if name in then else pl.lit(None, dtype).alias(name) for name, dtype in now.items()
        )

    def appended(self) -> pl.LazyFrame:
        """The rows that came, in the order of the commits; for a source that was only appended to."""
        return self.rows().limit(0) if not self.moved else self.table.changes(self.before, self.after)

    def came(self) -> pl.LazyFrame:
        """The rows that are there now and were not before, or not as often."""
        if self.is_new:
            return self.rows()
        return self.appended() if self.only_appended else self._net(1)

    def went(self) -> pl.LazyFrame:
        """The rows that were there before and are not any more, or not as often."""
        if self.is_new:
            return self.rows_before()
        return self.rows().limit(0) if self.only_appended else self._net(-1)

    def touched(self, columns: Sequence[str]) -> pl.DataFrame:
        """The distinct values of `columns` among the rows that came or went."""
        if self.is_new:
            both = pl.concat([self.rows().select(columns), self.rows_before().select(columns)])
            return both.unique().collect(engine="streaming")
        if self.only_appended:
            return self.appended().select(columns).unique().collect(engine="streaming")
        return self._changes.select(columns).unique()

    def _net(self, sign: int) -> pl.LazyFrame:
        return self._changes.lazy().filter(pl.col(_TIMES) * sign > 0).drop(_TIMES)

    @cached_property
    def _changes(self) -> pl.DataFrame:
        """The rows that came (`_TIMES` above 0) or went (below), where rows changed or went."""
        feed = self.table.change_feed(self.before or 0, self.after)
        columns = [name for name in feed.collect_schema() if name != CHANGE_TYPE]
        sign = pl.when(CAME).then(1).otherwise(-1).alias(_TIMES)
        return (
            feed.select(*columns, sign).group_by(columns).agg(pl.col(_TIMES).sum()).filter(pl.col(_TIMES) != 0).collect(engine="streaming")
        )
