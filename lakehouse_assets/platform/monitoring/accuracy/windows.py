"""Windows of time, and the parts of a window's rows that are scored apart: slices and ranges of the horizon.

All times are in UTC. Weeks begin on Monday.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl

from lakehouse_assets.platform.declarations.actual_outcomes import ABOUT
from lakehouse_assets.platform.monitoring.accuracy.table import ALL

HORIZONS: Final = ((1, 7), (8, 14), (15, 28), (29, 56), (57, 182))
"""Days ahead that are scored together."""
COMPLETE: Final = 0.95
"""The share of predictions with an outcome from which on a window counts as complete, where nobody says how long outcomes take."""


@dataclass(frozen=True)
class Granularity:
    """How long windows are.

    Attributes:
        every: As Polars writes it: `1d`, `1w` or `1mo`.
        name: As tables write it.
        parts: Stretches of a window that are left out in turn to find out how far chance goes: see `scoring.measure`.
        days: About how many days it has.
    """

    every: str
    name: str
    parts: int
    days: int

    def start(self, time: pl.Expr) -> pl.Expr:
        """The begin of the window that a time lies in."""
        return time.dt.truncate(self.every)

    def end(self, start: pl.Expr) -> pl.Expr:
        """The end of the window that begins then, exclusive."""
        return start.dt.offset_by(self.every)


GRANULARITIES: Final = {
    one.every: one for one in (Granularity("1d", "1 day", 8, 1), Granularity("1w", "1 week", 7, 7), Granularity("1mo", "1 month", 10, 30))
}
"""By what is declared."""


@dataclass(frozen=True)
class Cell:
    """Rows of a window that are scored together.

    Attributes:
        name: Tells it apart.
        rows: The rows.
        slice_key: The column of the slice; None: rows of all values.
        slice_value: Its value, as text; None: null, if there is a column.
        horizon: The range of days ahead, as `1-7`; None: all.
    """

    name: str
    rows: pl.DataFrame
    slice_key: str | None = None
    slice_value: str | None = None
    horizon: str | None = None


def cells(rows: pl.DataFrame, slices: Sequence[str], horizon: str | None) -> Iterator[Cell]:
    """All rows of a window, those of each value of a slice, and those of each range of the horizon."""
    yield Cell(ALL, rows)
    for column in slices:
        for value, part in sorted(_parts(rows, column), key=lambda one: (one[0] is None, one[0] or "")):
            yield Cell(f"{column} is null" if value is None else f"{column}={value}", part, column, value)
    if horizon is not None:
        for first, last in HORIZONS:
            part = rows.filter(pl.col(horizon).is_between(first, last))
            if part.height:
                yield Cell(f"horizon={first}-{last}", part, horizon=f"{first}-{last}")


def _parts(rows: pl.DataFrame, column: str) -> Iterator[tuple[str | None, pl.DataFrame]]:
    for (value,), part in rows.group_by(pl.col(column).cast(pl.String), maintain_order=True):
        yield (None if value is None else str(value)), part


def part_of(start: datetime, end: datetime, parts: int) -> pl.Expr:
    """Which of equally long stretches of a window a row lies in."""
    microseconds = int((end - start).total_seconds() * 1_000_000)
    since = (pl.col(ABOUT) - pl.lit(start)).dt.total_microseconds()
    return (since * parts // microseconds).cast(pl.Int64)
