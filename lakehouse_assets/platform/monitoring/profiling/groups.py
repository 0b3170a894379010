"""Which rows are profiled together: windows of time, and in each the whole table and the slices of it.

A row belongs to one window, and there to the whole and to one slice of each key. What is counted of them is in `counting`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

Moment = TypeVar("Moment", int, datetime)
MOST_GROUPS = 2_000
"""Windows times slices of one profile."""
MOST_SLICES = 100
"""Values of one slice key."""
MOMENT = pl.Datetime("us", "UTC")
KEYS = pl.Schema({"window_start": MOMENT, "slice_key": pl.String(), "slice_value": pl.String()})
WINDOW = "window"
Span = tuple[int | None, int | None]
"""From a moment on and before another, as microseconds since 1970; None: without a bound."""
_DAY = 24 * 3_600 * 1_000_000
_UNITS = {"ms": (1_000, 1), "us": (1, 1), "ns": (1, 1_000)}
"""So many microseconds are so many of a unit."""
_LENGTHS = {"m": 60_000_000, "h": 3_600_000_000, "d": _DAY, "w": 7 * _DAY, "mo": 31 * _DAY, "q": 92 * _DAY, "y": 366 * _DAY}
_EVERY = re.compile(r"([1-9]\d*)(m|h|d|w|mo|q|y)")


class CannotProfile(ValueError):
    """A table that cannot be profiled as was asked, with what to ask instead."""


@dataclass(frozen=True)
class Groups:
    """How the rows of a profile are grouped.

    Attributes:
        time: The column of their time.
        every: The length of a window, as Polars writes it: `1h`, `1d`, `1w`, `1mo`; None: all rows are one window.
        slices: Columns whose values are profiled each by itself.

    Raises:
        CannotProfile: A length is none, or is given without a column of time.
    """

    time: str | None = None
    every: str | None = None
    slices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.every is None:
            return
        if self.time is None:
            raise CannotProfile(f"windows of {self.every} need a column of time: name it, as `--time COLUMN`")
        if not _EVERY.fullmatch(self.every):
            raise CannotProfile(f"{self.every!r} is no length of a window: give a number with m, h, d, w, mo, q or y, as 1h, 1d, 1w or 1mo")

    @property
    def length(self) -> timedelta | None:
        """How long a window is; None: there are none, or not all are as long."""
        unit = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
        found = None if self.every is None else _EVERY.fullmatch(self.every)
        return None if found is None or found[2] not in unit else int(found[1]) * unit[found[2]]

    def begin(self, moment: datetime) -> datetime:
        """The start of the window that a moment lies in (UTC); without windows that of its day."""
        start: datetime = pl.select(pl.lit(moment, MOMENT).dt.truncate(self.every or "1d")).item()
        return start

    def check(self, schema: pl.Schema) -> None:
        """Refuse columns that do not exist or are no times.

        Raises:
            CannotProfile: So they are.
        """
        from lakehouse_assets.platform.declarations.base import nearest_or_all

        for name in (*([self.time] if self.time else []), *self.slices):
            if name not in schema:
                raise CannotProfile(f"there is no column {name!r}{nearest_or_all(name, list(schema))}")
        if self.time is not None and not is_time(schema[self.time]):
            times = [name for name, dtype in schema.items() if is_time(dtype)]
            known = f"columns of time are {', '.join(times)}" if times else "the table has no column of dates or timestamps"
            raise CannotProfile(f"{self.time} is {schema[self.time]}, which is no time: {known}")

    def moment(self, schema: pl.Schema) -> pl.Expr:
        """The time of a row in UTC; naive times count as UTC, and without a column of time there is none."""
        if self.time is None:
            return pl.lit(None, MOMENT)
        column, dtype = pl.col(self.time), schema[self.time]
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
            return column.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")

    def window(self, schema: pl.Schema) -> pl.Expr:
        """The start of the window of a row."""
        return self.moment(schema).dt.truncate(self.every or "1d")

    def within(self, schema: pl.Schema, spans: Sequence["Span"]) -> pl.Expr:
        """Whether the time of a row lies in a span, by values of the column's own type, so that files of other times are not read."""
        column, dtype = pl.col(self.time or ""), schema[self.time or ""]
        return pl.any_horizontal(pl.lit(value=False), *(_in_span(column, dtype, *span) for span in spans))

    @property
    def microseconds(self) -> int:
        """The length of a window, or the most that it may be."""
        found = _EVERY.fullmatch(self.every or "1d")
        return int(found[1]) * _LENGTHS[found[2]] if found is not None else 0

    def marks(self, schema: pl.Schema) -> list[pl.Expr]:
        """What tells the groups of a row."""
        slices = [pl.col(key).cast(pl.String).alias(_slice(number)) for number, key in enumerate(self.slices)]
        return [*([self.window(schema).alias(WINDOW)] if self.every else []), *slices]


@dataclass(frozen=True)
class Marked:
    """Which group each of some rows belongs to.

    Attributes:
        present: The groups that have rows, in order.
        local: Of each row the place of its group among them.
        rows: Which rows of the batch these are; None: all.
    """

    present: npt.NDArray[np.intp]
    local: npt.NDArray[np.intp]
    rows: npt.NDArray[np.intp] | None = None


class Directory:
    """Numbers the groups in the order in which they are met, so that nothing has to be known of the rows before they are read.

    Args:
        groups: How rows are grouped.
        windows: Name of the column of windows in a batch; None if there are none.
        most: How many groups there may be.
        of: The type of the windows.
    """

    def __init__(self, groups: Groups, windows: str | None, most: int = MOST_GROUPS, of: pl.DataType = MOMENT) -> None:
        self._slices, self._window, self._most = groups.slices, windows, most
        self._known: list[pl.DataFrame | None] = [None] * (1 + len(groups.slices))
        self.keys = pl.DataFrame(schema={**KEYS, "window_start": of})
        if windows is None:
            self.keys = pl.DataFrame({"window_start": [None], "slice_key": [None], "slice_value": [None]}, schema=KEYS)

    @property
    def size(self) -> int:
        """How many groups there are by now."""
        return self.keys.height

    def mark(self, batch: pl.DataFrame, rows: npt.NDArray[np.intp] | None = None) -> list[Marked]:
        """The groups of the rows of a batch, as `Groups.marks` tells them: first of the whole, then of each slice key.

        Args:
            batch: The rows.
            rows: Which of the rows of a larger batch they are.

        Raises:
            CannotProfile: There are too many groups to count them in bounded memory.
        """
        return [self._one(batch, number, rows) for number in range(len(self._known))]

    def _one(self, batch: pl.DataFrame, number: int, rows: npt.NDArray[np.intp] | None) -> Marked:
        key = self._slices[number - 1] if number else None
        columns = [
            *([pl.col(self._window).alias("window_start")] if self._window else []),
            *([pl.col(_slice(number - 1))] if number else []),
        ]
        if not columns:
            return Marked(np.zeros(1, dtype=np.intp), np.zeros(batch.height, dtype=np.intp), rows)
        wanted = batch.select(columns)
        names = wanted.columns
        known = self._known[number]
        met = wanted.unique(maintain_order=True)
        new = met if known is None else met.join(known, on=names, how="anti", nulls_equal=True, maintain_order="left")
        if new.height:
            added = new.with_columns(place=pl.int_range(self.size, self.size + new.height, dtype=pl.Int64))
            known = added if known is None else known.vstack(added)
            self._known[number] = known
            self._add(new, key, number, known)
        codes = wanted.join(met if known is None else known, on=names, how="left", nulls_equal=True, maintain_order="left")[
            "place"
        ].to_numpy()
        present, local = np.unique(codes, return_inverse=True)
        return Marked(present.astype(np.intp), local.astype(np.intp), rows)

    def _add(self, new: pl.DataFrame, key: str | None, number: int, known: pl.DataFrame) -> None:
        if key is not None:
            values = known[_slice(number - 1)].n_unique()
            if values > MOST_SLICES:
                raise CannotProfile(
                    f"{key} has more than {MOST_SLICES} values, and no more can be slices: choose a column with fewer values"
                )
        window = pl.col("window_start") if self._window else pl.lit(None, MOMENT).alias("window_start")
        value = pl.col(_slice(number - 1)) if number else pl.lit(None, pl.String)
        keys = new.select(window, slice_key=pl.lit(key, pl.String), slice_value=value)
        self.keys = self.keys.vstack(keys)
        if self.size > self._most:
            longer = "choose longer windows" + (" or fewer slices" if self._slices else "")
            raise CannotProfile(f"a profile has at most {self._most:,} windows and slices, and these are more: {longer}")


def is_time(dtype: pl.DataType | None) -> bool:
    """Whether a type is a date or a moment."""
    return isinstance(dtype, pl.Date | pl.Datetime)


def _in_span(column: pl.Expr, dtype: pl.DataType, start: int | None, end: int | None) -> pl.Expr:
    """Whether a time lies in a span; a date does if a part of its day does."""
    per_unit = _UNITS[dtype.time_unit] if isinstance(dtype, pl.Datetime) else (_DAY, 1)
    physical, most = (pl.Int64(), 2**63 - 1) if isinstance(dtype, pl.Datetime) else (pl.Int32(), 2**31 - 1)

    def bound(moment: int) -> pl.Expr:
        return pl.lit(max(-most, min(most, moment * per_unit[1] // per_unit[0])), physical).cast(dtype)

    found = [column.is_not_null()]
    found += [column >= bound(start)] if start is not None else []
    found += [column <= bound(end - 1)] if end is not None else []
    return pl.all_horizontal(found)


def merged(spans: Iterable[tuple[Moment, Moment]]) -> list[tuple[Moment, Moment]]:
    """Spans as few as possible, none of which meets another; ends are exclusive."""
    found: list[tuple[Moment, Moment]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def chosen_windows(
    starts: Sequence[int], rows: npt.NDArray[np.int64], most: int, least_rows: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Which windows of a baseline are counted each by itself: all, or pairs of neighbours at random.

    Args:
        starts: Of all windows, in order, as microseconds since 1970.
        rows: About how many each has.
        most: How many to choose at most.
        least_rows: Windows with fewer are left out.

    Returns:
        Their starts, in order, and whether each is the next one after that before it.
    """
    found = np.asarray(starts, dtype=np.int64)[rows >= least_rows]
    if len(found) <= most:
        return found, np.ones(len(found), dtype=bool)
    firsts = np.random.default_rng(20_260_101).choice(len(found) - 1, most // 2, replace=False)
    chosen = np.unique(np.concatenate([firsts, firsts + 1]))
    return found[chosen], np.diff(chosen, prepend=-2) == 1


def _slice(number: int) -> str:
    return f"slice{number}"
