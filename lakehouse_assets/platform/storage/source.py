"""One table as a reader consumes it: from the version that it has consumed to the version that it reads now.

What changed in between is told as rows that came and rows that went, net: a row that was removed and added again, as when its partition was
replaced, did not change. What a reader does with it belongs to the kinds of tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.storage import change_feed
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
        """Whether all of it has to be read: it never was, or old and new rows cannot be compared as its columns or partitions changed."""
        return self.before is None or (self.moved and change_feed.layout_changed(self._now, self.before, self.after, self._options))

    @cached_property
    def only_appended(self) -> bool:
        """Whether rows came and none changed or went. A source that is new was only appended to."""
        if self.before is None or not self.moved:
            return True
        return not self.is_new and change_feed.only_appended(self._now, self.before, self.after, self._options)

    def rows(self) -> pl.LazyFrame:
        """All rows, as they are now."""
        return self.table.scan(self.after)

    def rows_before(self) -> pl.LazyFrame:
        """All rows, as they were when they were consumed last; none if they never were."""
        return self.rows().limit(0) if self.before is None else self.table.scan(self.before)

    def appended(self) -> pl.LazyFrame:
        """The rows that came, in the order of the commits; for a source that was only appended to."""
        return self.rows().limit(0) if not self.moved else self.table.changes(self.before, self.after)

    def came(self) -> pl.LazyFrame:
        """The rows that are there now and were not before, or not as often."""
        return self.rows() if self.is_new else self._net(1)

    def went(self) -> pl.LazyFrame:
        """The rows that were there before and are not any more, or not as often."""
        return self.rows_before() if self.is_new else self._net(-1)

    def touched(self, columns: Sequence[str]) -> pl.DataFrame:
        """The distinct values of `columns` among the rows that came or went."""
        if self.is_new:
            both = pl.concat([self.rows().select(columns), self.rows_before().select(columns)])
            return both.unique().collect(engine="streaming")
        return self._changes.select(columns).unique()

    def _net(self, sign: int) -> pl.LazyFrame:
        return self._changes.lazy().filter(pl.col(_TIMES) * sign > 0).drop(_TIMES)

    @cached_property
    def _changes(self) -> pl.DataFrame:
        """The rows that came (`_TIMES` above 0) or went (below)."""
        if self.before is None or not self.moved:
            return self.rows().limit(0).with_columns(pl.lit(0).alias(_TIMES)).collect()
        feed = change_feed.change_feed(self._now, self.before, self.after, self._options)
        columns = [name for name in feed.collect_schema() if name != change_feed.CHANGE_TYPE]
        sign = pl.when(change_feed.CAME).then(1).otherwise(-1).alias(_TIMES)
        if self.only_appended:
            return feed.select(*columns, sign).collect(engine="streaming")
        return (
            feed.select(*columns, sign).group_by(columns).agg(pl.col(_TIMES).sum()).filter(pl.col(_TIMES) != 0).collect(engine="streaming")
        )

    @cached_property
    def _now(self) -> DeltaTable:
        return self.table.now()

    @property
    def _options(self) -> dict[str, str]:
        return dict(self.table.storage_options)
