"""The monitor of freshness: whether the newest row of a table is young enough."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import polars as pl

from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError
from lakehouse_assets.platform.declarations.monitors import Monitor, MonitorKind, Verdict, Watched
from lakehouse_assets.platform.quality.contract import FreshBy
from lakehouse_assets.platform.quality.monitors import freshness, in_words


@dataclass(frozen=True)
class Freshness(MonitorKind):
    """The newest value of a column is at most so old.

    Attributes:
        column: Of dates or timestamps. A date lasts until its end.
        within: How old its newest value may be.

    Raises:
        DeclarationError: `within` is no span of time.
    """

    column: str
    within: timedelta

    word: ClassVar[str] = "freshness"

    def __post_init__(self) -> None:
        if not isinstance(self.within, timedelta) or self.within <= timedelta(0):
            raise DeclarationError(f"Freshness: within={self.within!r} is no span of time: give it as timedelta(days=2)")

    @property
    def demands(self) -> str:
        """See `MonitorKind.demands`."""
        return f"The newest {self.column} is at most {in_words(self.within)} old."

    def problems_with(self, monitor: Monitor, declared: Mapping[str, Declaration]) -> Iterator[str]:
        """See `MonitorKind.problems_with`."""
        yield from monitor.problems_with_column("column", self.column, declared, (pl.Date, pl.Datetime), "dates or timestamps")
        if (table := declared.get(monitor.of)) is not None and self.column in table.personal:
            yield f"{monitor.name}: column={self.column!r} of {monitor.of} is personal, and verdicts show its newest value: name another"

    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        """See `MonitorKind.evaluate`."""
        return [freshness(FreshBy(self.column, self.within), watched.lakehouse.table(watched.monitor.of), watched.now)]

    def watches(self, slice_key: str | None, column: str | None) -> bool:
        """See `MonitorKind.watches`."""
        return slice_key is None and column == self.column
