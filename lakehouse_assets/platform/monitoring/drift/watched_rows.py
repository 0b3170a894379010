"""The rows that a monitor of drift profiles: those of a table, window by window, and which of them changed since they were read last.

Of a feature set, which keeps every revision, a row counts once, as it is known now. How windows are profiled is in `profile_tables`;
residuals, which are in no table, are in `accuracy.residuals`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Final

import polars as pl

from lakehouse_assets.platform.monitoring.profiling.groups import MOMENT, Groups, Span, merged
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets.platform.storage.known_at import as_known, of_version
from lakehouse_assets.platform.storage.table import Table

WINDOW_START: Final = "window_start"
_MOST_SPANS: Final = 50
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

    @abstractmethod
    def windows(self, groups: Groups, spans: Sequence[Span] | None = None, *, nulls: bool = True) -> pl.Series:
        """The starts of the windows that have rows.

        Args:
            groups: Tell the windows.
            spans: Those that have rows in one of these; None: all.
            nulls: Whether rows without a time are wanted too.
        """

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
        masks: Tells by which masks they are masked.
    """

    table: Table
    masked: Callable[[pl.LazyFrame], pl.LazyFrame] = field(default=lambda rows: rows)
    revised: tuple[str, ...] = ()
    at: int | None = None
    masks: str = ""

    @property
    def made_of(self) -> str:
        """Tells the rows from all others."""
        return repr((self.name, self.identity, self.version, self.masks, self.revised))

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
        return self._part(groups, lambda rows: within(rows, groups, windows))

    def windows(self, groups: Groups, spans: Sequence[Span] | None = None, *, nulls: bool = True) -> pl.Series:
        """See `WatchedRows.windows`."""
        return starts_of(self._part(groups, lambda rows: _near(rows, groups, spans, nulls=nulls)), groups)

    def _part(self, groups: Groups, part: Callable[[pl.LazyFrame], pl.LazyFrame]) -> pl.LazyFrame:
        """The rows that count of those that a filter by their time leaves."""
        rows = self.table.scan(self.version)
        if not self.revised:
            return part(self.masked(rows))
        newest = FeatureVersion.of(self.table, self.version)
        rows = of_version(rows, None if newest is None else newest.number)
        if groups.time in self.revised:  # all revisions of a row are in its window
            return self.masked(as_known(part(rows), self.revised))
        return part(self.masked(as_known(rows, self.revised)))

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
    wanted = start.is_in(windows.drop_nulls().implode()) | (start.is_null() & pl.lit(windows.has_nulls()))
    # By the bounds files of other times are left out, which no expression of a window does.
    return _near(rows, groups, spans_of(windows, groups), nulls=windows.has_nulls()).filter(wanted)


def spans_of(windows: pl.Series, groups: Groups, reach: int = 0) -> list[tuple[int, int]]:
    """What windows span, with so many on both sides; of very many, all that lies between them."""
    starts = windows.drop_nulls().cast(MOMENT).to_physical().sort().to_list()
    length = groups.microseconds
    found = merged([(start - reach * length, start + (reach + 1) * length) for start in starts])
    return found if len(found) <= _MOST_SPANS else [(found[0][0], found[-1][1])]


def _near(rows: pl.LazyFrame, groups: Groups, spans: Sequence[Span] | None, *, nulls: bool) -> pl.LazyFrame:
    if spans is None or groups.time is None:
        return rows
    inside = groups.within(rows.collect_schema(), spans)
    return rows.filter(inside | pl.col(groups.time).is_null() if nulls else inside)
