"""Which rows are profiled together: windows of time, and in each the whole table and the slices of it.

A row belongs to one window, and there to the whole and to one slice of each key. What is counted of them is in `profile`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from lakehouse_assets.platform.wording import counted

MOST_GROUPS = 2_000
"""Windows times slices of one profile."""
MOST_SLICES = 100
"""Values of one slice key."""
_EVERY = re.compile(r"[1-9]\d*(m|h|d|w|mo|q|y)")
_WINDOW = "__window"


class CannotProfile(ValueError):
    """A table that cannot be profiled as was asked, with what to ask instead."""


@dataclass(frozen=True)
class Slicing:
    """The groups of rows by window, and by the values of a slice key.

    Attributes:
        key: The slice key; None: the whole table.
        values: Of the key; None is the slice of nulls.
        windows: Their starts, in order; None is the window of rows without a time. One None if there are no windows.
    """

    key: str | None
    values: tuple[str | None, ...]
    windows: tuple[object, ...]

    @property
    def size(self) -> int:
        """How many groups there are."""
        return len(self.windows) * len(self.values)

    def codes(self, batch: pl.DataFrame) -> npt.NDArray[np.intp]:
        """The group of each row of a batch, as `Groups.marked` gives it."""
        window = self._places(batch[_WINDOW], self.windows) if _WINDOW in batch.columns else np.zeros(batch.height, dtype=np.intp)
        if self.key is None:
            return window
        return window * len(self.values) + self._places(batch[_slice(self.key)], self.values)

    def group(self, code: int) -> tuple[object, str | None]:
        """The window and the slice value of a group."""
        return self.windows[code // len(self.values)], self.values[code % len(self.values)]

    @staticmethod
    def _places(values: pl.Series, known: Sequence[object]) -> npt.NDArray[np.intp]:
        places = values.to_frame("value").join(
            pl.DataFrame({"value": pl.Series(known, dtype=values.dtype)}).with_row_index("place"),
            on="value",
            how="left",
            nulls_equal=True,
            maintain_order="left",
        )
        return places["place"].to_numpy().astype(np.intp)


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

    def check(self, schema: pl.Schema) -> None:
        """Refuse columns that do not exist or are no times.

        Raises:
            CannotProfile: So they are.
        """
        from lakehouse_assets.platform.declarations.base import nearest_or_all

        for name in (*([self.time] if self.time else []), *self.slices):
            if name not in schema:
                raise CannotProfile(f"there is no column {name!r}{nearest_or_all(name, list(schema))}")
        if self.time is not None and not isinstance(schema[self.time], pl.Date | pl.Datetime):
            times = [name for name, dtype in schema.items() if isinstance(dtype, pl.Date | pl.Datetime)]
            known = f"columns of time are {', '.join(times)}" if times else "the table has no column of dates or timestamps"
            raise CannotProfile(f"{self.time} is {schema[self.time]}, which is no time: {known}")

    def moment(self, schema: pl.Schema) -> pl.Expr:
        """The time of a row in UTC; naive times count as UTC, and without a column of time there is none."""
        if self.time is None:
            return pl.lit(None, pl.Datetime("us", "UTC"))
        column, dtype = pl.col(self.time), schema[self.time]
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
            return column.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")

    def marked(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """The rows with their window and the values of their slices."""
        marks = [pl.col(key).cast(pl.String).alias(_slice(key)) for key in self.slices]
        if self.every is not None:
            marks.append(self.moment(rows.collect_schema()).dt.truncate(self.every).alias(_WINDOW))
        return rows.with_columns(marks)

    def slicings(self, marked: pl.LazyFrame) -> tuple[Slicing, ...]:
        """The whole table, and each slice key with the values that it has.

        Raises:
            CannotProfile: There are too many groups to count them in bounded memory.
        """
        names = [*([_WINDOW] if self.every else []), *map(_slice, self.slices)]
        found = pl.collect_all([marked.select(pl.col(name).unique()) for name in names], engine="streaming")
        values = {frame.columns[0]: tuple(frame.to_series().sort(nulls_last=True).to_list()) for frame in found}
        windows = (values[_WINDOW] or (None,)) if self.every else (None,)
        for key in self.slices:
            if len(values[_slice(key)]) > MOST_SLICES:
                many = counted(len(values[_slice(key)]), "value")
                raise CannotProfile(f"{key} has {many}, and slices are of {MOST_SLICES} at most: choose a column with fewer values")
        whole = (Slicing(None, (None,), windows), *(Slicing(key, values[_slice(key)] or (None,), windows) for key in self.slices))
        if (groups := sum(one.size for one in whole)) > MOST_GROUPS:
            longer = "choose longer windows" + (" or fewer slices" if self.slices else "")
            raise CannotProfile(f"these are {groups:,} windows and slices, and a profile has {MOST_GROUPS:,} at most: {longer}")
        return whole


def _slice(key: str) -> str:
    return f"__slice_{key}"
