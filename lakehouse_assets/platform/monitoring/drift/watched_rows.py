"""The rows that a monitor of drift profiles: those of a table, window by window, and which of them changed since they were read last.

Of a feature set, which keeps every revision, a row counts once, as it is known now. How windows are profiled is in `profile_tables`;
residuals, which are in no table, are in `accuracy.residuals`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Final

import polars as pl

from lakehouse_assets.platform.monitoring.profiling.groups import Groups
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets.platform.storage.known_at import as_known, of_version
from lakehouse_assets.platform.storage.table import Table

WINDOW_START: Final = "window_start"
Marks = Mapping[str, int | None]
"""By part, up to which number it was read."""


class WatchedRows(ABC):
    """Rows that are profiled by windows, as they are at one moment."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The table that they are in."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """Another one where nothing that was said of them before holds any more, as after the table was made again."""

    @property
    @abstractmethod
    def version(self) -> int:
        """The version of the table that is read."""

    @property
    @abstractmethod
    def marks(self) -> Mapping[str, int]:
        """By part, up to which number it is read: the watermarks of what is written about the rows."""

    @property
    @abstractmethod
    def schema(self) -> pl.Schema:
        """The columns of the rows, masked."""

    @abstractmethod
    def rows(self, groups: Groups, windows: pl.Series | None = None) -> pl.LazyFrame:
        """The rows that count, masked.

        Args:
            groups: Tell the windows.
            windows: The starts of those that are wanted; None: all.
        """

    def windows(self, groups: Groups) -> pl.Series:
        """The starts of all windows that have rows."""
        return starts_of(self.rows(groups), groups)

    @abstractmethod
    def changed(self, groups: Groups, before: Marks) -> pl.Series | None:
        """The starts of the windows in which rows came, changed or went since the marks were so; None: that is not known."""


@dataclass(frozen=True)
class TableRows(WatchedRows):
    """The rows of a table.

    Attributes:
        table: The table.
        masked: Masks personal columns.
        revised: The columns that tell rows apart of which all revisions are kept; none: each row stands for itself.
        at: The version that is read; None: the newest.
    """

    table: Table
    masked: Callable[[pl.LazyFrame], pl.LazyFrame] = field(default=lambda rows: rows)
    revised: tuple[str, ...] = ()
    at: int | None = None

    @property
    def name(self) -> str:
        """See `WatchedRows.name`."""
        return self.table.name

    @cached_property
    def identity(self) -> str:
        """See `WatchedRows.identity`."""
        return str(self.table.now().metadata().id)

    @cached_property
    def version(self) -> int:
        """See `WatchedRows.version`."""
        return self.table.version() if self.at is None else self.at

    @property
    def marks(self) -> Mapping[str, int]:
        """See `WatchedRows.marks`."""
        return MappingProxyType({"": self.version})

    @property
    def schema(self) -> pl.Schema:
        """See `WatchedRows.schema`."""
        return self.masked(self.table.scan(self.version)).collect_schema()

    def rows(self, groups: Groups, windows: pl.Series | None = None) -> pl.LazyFrame:
        """See `WatchedRows.rows`."""
        rows = self.table.scan(self.version)
        if not self.revised:
            return within(self.masked(rows), groups, windows)
        newest = FeatureVersion.of(self.table, self.version)
        rows = of_version(rows, None if newest is None else newest.number)
        if groups.time in self.revised:  # all revisions of a row are in its window
            return self.masked(as_known(within(rows, groups, windows), self.revised))
        return within(self.masked(as_known(rows, self.revised)), groups, windows)

    def changed(self, groups: Groups, before: Marks) -> pl.Series | None:
        """See `WatchedRows.changed`."""
        after = before[""]
        # Of a revision that moves a row to another window, nothing tells the window that it was in.
        if after is None or (self.revised and groups.time not in self.revised):
            return None
        try:
            if self.table.layout_changed(after, self.version):
                return None
            return starts_of(self.table.change_feed(after, self.version), groups)
        except NoSuchVersion:
            return None


def starts_of(rows: pl.LazyFrame, groups: Groups) -> pl.Series:
    """The starts of the windows of some rows."""
    start = groups.window(rows.collect_schema()).alias(WINDOW_START)
    return rows.select(start.unique()).collect(engine="streaming").to_series()


def within(rows: pl.LazyFrame, groups: Groups, windows: pl.Series | None) -> pl.LazyFrame:
    """The rows of some windows; None: of all."""
    if windows is None:
        return rows
    start = groups.window(rows.collect_schema())
    return rows.filter(start.is_in(windows.drop_nulls().implode()) | (start.is_null() & pl.lit(windows.has_nulls())))
