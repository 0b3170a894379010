"""The cells in which the values of a column are counted, made from a sample of a baseline.

Whatever compares two distributions (quantiles, distances, thresholds) works on counts in cells, so memory does not grow with rows.
Counting is in `profile`, distances are in `distances`.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from lakehouse_assets.platform.monitoring.profiling.text_lookup import TextLookup

LEVELS = 200
"""Quantiles of a sample that bound the cells of numbers: a cell of many values holds about a two hundredth of the rows."""
MOST_ITEMS = 200
"""Different texts of a sample up to which each has a cell of its own; of more, those that have two in a hundred rows."""
BUCKETS = 64
"""Cells of all other texts, by their hash."""
_OFTEN = 0.02

Counts = npt.NDArray[Any]
_LARGE = 10_000
PART = 16_384
"""So many values at a time, so that what is made of them on the way stays in the processor's cache."""
_LOW_BITS, _MOST_STEPS = 46, 6
_TAILS = 5
_EXACT = 2.0**53


class Cells(Protocol):
    """The cells of one column.

    Attributes:
        size: How many there are. Nulls are counted behind them under `size`, and NaN under `size + 1`.
        test: The metric that says whether the column drifted; None: its values cannot be compared.
    """

    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def test(self) -> str | None: ...  # noqa: D102

    def view(self, name: str, dtype: pl.DataType) -> pl.Expr:
        """The column as these cells take it."""

    def codes(self, values: pl.Series) -> npt.NDArray[np.intp]:
        """The number of the cell of each value of a view."""

    def items(self) -> list[tuple[int, str]]:
        """The cells that hold one value alone, each with that value."""


@dataclass(frozen=True)
class Numbers:
    """Cells of numbers: each holds the values above one edge and up to the next.

    Attributes:
        edges: In order. A value that many rows share has a cell of its own: the number just below it is an edge as well.
        exact: From this size on, different values of the column are the same float.
        single: Whether the column has floats of 32 bits.
    """

    edges: tuple[float, ...]
    exact: float = np.inf
    single: bool = False
    test: str | None = "ks_test"

    @classmethod
    def of(cls, sample: pl.Series, dtype: pl.DataType) -> "Numbers":
        """The cells of a sample: one for each value if it has few, else between its quantiles."""
        values = sample.drop_nulls().to_numpy()
        values, exact, single = np.sort(values[np.isfinite(values)]), _exact(dtype), dtype == pl.Float32
        if not len(values):
            return cls((), exact, single)
        starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
        distinct, counts = values[starts], np.diff(starts, append=len(values))
        if len(distinct) <= LEVELS:
            alone, between = distinct, distinct[:0]
        else:
            alone = distinct[counts * LEVELS >= len(values)]
            between = values[np.maximum(-(-len(values) * np.arange(LEVELS + 1) // LEVELS) - 1, 0)]
        edges = np.unique(np.concatenate([alone, np.nextafter(alone, -np.inf), between]))
        return cls(tuple(edges.tolist()), exact, single)

    @property
    def size(self) -> int:
        """One more than edges."""
        return len(self.edges) + 1

    @cached_property
    def array(self) -> npt.NDArray[np.float64]:
        """The edges."""
        return np.array(self.edges, dtype=np.float64)

    @cached_property
    def inner(self) -> tuple[int, int]:
        """The first cell that is no tail, and the first one after these: cells at both ends may be as wide as it gets."""
        lower, upper = self.bounds
        first = 1 if self.size < _TAILS or lower[1] == upper[1] else 2
        last = self.size - 1 if self.size < _TAILS or lower[-2] == upper[-2] else self.size - 2
        return first, max(first, last)

    @cached_property
    def ends(self) -> tuple[float, float]:
        """The number up to which the lower tail goes, and that above which the upper one begins."""
        if not self.edges:
            return 0.0, 0.0
        first, last = self.inner
        return self.edges[first - 1], self.edges[last - 1]

    def view(self, name: str, dtype: pl.DataType) -> pl.Expr:
        """As floats: dates as days and moments as seconds since 1970, durations and times of day as seconds."""
        column = pl.col(name)
        if isinstance(dtype, pl.Datetime | pl.Duration):
            per_second = {"ms": 1e3, "us": 1e6, "ns": 1e9}[dtype.time_unit]
            return column.to_physical().cast(pl.Float64) / per_second
        if dtype == pl.Time:
            return column.to_physical().cast(pl.Float64) / 1e9
        return (column.to_physical() if dtype == pl.Date else column).cast(pl.Float64)

    def codes(self, values: pl.Series) -> npt.NDArray[np.intp]:
        """The cell of each number."""
        numbers = floats(values)
        codes = self._near(numbers) if len(numbers) >= _LARGE else np.searchsorted(self.array, numbers)
        if values.is_nan().any():
            np.putmask(codes, np.isnan(numbers), self.size + 1)
        if values.null_count():
            np.putmask(codes, values.is_null().to_numpy(), self.size)
        return codes

    def _near(self, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
        """The same as by a binary search, in a twentieth of the time: the first bits of a number tell its cell but for a few edges."""
        first, steps = self._by_bits
        if steps > _MOST_STEPS:
            return np.searchsorted(self.array, numbers).astype(np.intp, copy=False)
        codes, edges = np.empty(len(numbers), dtype=np.intp), np.append(self.array, np.inf)
        for start in range(0, len(numbers), PART):
            some, there = numbers[start : start + PART], codes[start : start + PART]
            there[:] = first.take((np.ascontiguousarray(some).view(np.uint64) >> np.uint64(_LOW_BITS)).view(np.int64))
            for _ in range(steps):
                there += some > edges.take(there)
        return codes

    @cached_property
    def _by_bits(self) -> tuple[npt.NDArray[np.int16], int]:
        """The lowest cell of the numbers with the same first bits, by these bits, and how many edges lie among such numbers at most."""
        half = 1 << (63 - _LOW_BITS)
        # Zero without a sign lies above that with one, as their bits do.
        inside = np.bincount((_ordered(self.array + 0.0) >> _LOW_BITS) + half, minlength=2 * half)
        first = (np.cumsum(inside) - inside).astype(np.int16)
        # The bits of negative numbers run the other way.
        return np.concatenate([first[half:], first[:half][::-1]]), int(inside.max())

    @cached_property
    def bounds(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """What each cell lies between; of a cell of one value both are that value, and the outer ones are open."""
        upper = np.append(self.array, np.inf)
        lower = np.insert(self.array, 0, -np.inf)
        alone = np.nextafter(upper, -np.inf) == lower
        lower[alone] = upper[alone]
        return lower, upper

    def items(self) -> list[tuple[int, str]]:
        """The values that many rows shared."""
        lower, upper = self.bounds
        return [(int(at), self._text(upper[at])) for at in np.flatnonzero((lower == upper) & (np.abs(upper) < self.exact))]

    def _text(self, value: float) -> str:
        """The shortest text that is this number and no other."""
        if float(value).is_integer() and abs(value) < _EXACT:
            return str(int(value))
        return str(np.float32(value)) if self.single else repr(float(value))


@dataclass(frozen=True)
class Texts:
    """Cells of texts and Booleans: one for each frequent value, and buckets for all others.

    Of many values the most frequent of a sample are less so elsewhere; buckets know nothing of the sample, so they are not. A value
    that is new and frequent makes its bucket so. The hash is that of the installed Polars.

    Attributes:
        values: The frequent ones, the most frequent first.
        rare: All others that a baseline has, in no order; None if they are too many to know.
    """

    values: tuple[str, ...]
    rare: tuple[str, ...] | None = field(default=None, compare=False)
    test: str | None = "js_distance"

    @classmethod
    def of(cls, sample: pl.Series, dtype: pl.DataType) -> "Texts":  # noqa: ARG003 each kind is asked the same
        """The cells of a sample: its most frequent values."""
        column = sample.cast(pl.String).rename("value").drop_nulls()
        counts = column.value_counts().sort(["count", "value"], descending=[True, False])
        if counts.height > MOST_ITEMS:
            counts = counts.filter(pl.col("count") >= _OFTEN * len(column))
        return cls(tuple(counts["value"].to_list()))

    @property
    def size(self) -> int:
        """The values and the buckets."""
        return len(self.values) + BUCKETS

    @cached_property
    def _lookup(self) -> TextLookup:
        return TextLookup(self.values)

    def view(self, name: str, dtype: pl.DataType) -> pl.Expr:
        """As texts; Booleans as they are."""
        return pl.col(name) if dtype == pl.Boolean else pl.col(name).cast(pl.String)

    def codes(self, values: pl.Series) -> npt.NDArray[np.intp]:
        """The cell of each text or Boolean."""
        if values.dtype == pl.Boolean:
            codes = self._of_texts(pl.Series(["false", "true"])).take(values.fill_null(value=False).cast(pl.UInt8).to_numpy())
        else:
            codes = self._of_texts(values)
        if values.null_count():
            np.putmask(codes, values.is_null().to_numpy(), self.size)
        return codes

    def _of_texts(self, texts: pl.Series) -> npt.NDArray[np.intp]:
        hashes = texts.hash().to_numpy()
        codes = np.empty(len(hashes), dtype=np.intp)
        for start in range(0, len(hashes), PART):
            some, there = hashes[start : start + PART], codes[start : start + PART]
            found = self._lookup.find(some)
            bucket = (some % np.uint64(BUCKETS)).view(np.int64) + len(self.values)
            there[:] = np.where(found < len(self.values), found, bucket)
        return codes

    def items(self) -> list[tuple[int, str]]:
        """The frequent values."""
        return list(enumerate(self.values))


@dataclass(frozen=True)
class Opaque:
    """One cell for whatever is not null: lists, structs, bytes."""

    size: int = 1
    test: str | None = None

    def view(self, name: str, dtype: pl.DataType) -> pl.Expr:  # noqa: ARG002 each kind is asked the same
        """Whether there is a value; null if not."""
        return pl.when(pl.col(name).is_not_null()).then(pl.lit(1, pl.Int8))

    def codes(self, values: pl.Series) -> npt.NDArray[np.intp]:
        """The one cell, and that of nulls."""
        return values.is_null().to_numpy().astype(np.intp)

    def items(self) -> list[tuple[int, str]]:
        """None."""
        return []


def floats(values: pl.Series) -> npt.NDArray[np.float64]:
    """A column of floats as an array, nulls as NaN."""
    return (values.fill_null(float("nan")) if values.null_count() else values).to_numpy()


def kind_of(dtype: pl.DataType) -> type[Numbers | Texts | Opaque]:
    """How values of a type are counted."""
    if dtype.is_numeric() or dtype.is_temporal():
        return Numbers
    return Texts if isinstance(dtype, pl.String | pl.Boolean | pl.Categorical | pl.Enum) else Opaque


def cells_of(sample: pl.Series) -> Cells:
    """The cells of a column by a sample of it."""
    kind, dtype = kind_of(sample.dtype), sample.dtype
    if kind is Opaque:
        return Opaque()
    empty = Numbers(()) if kind is Numbers else Texts(())
    view = sample.to_frame().select(empty.view(sample.name, dtype)).to_series()
    return kind.of(view, dtype)  # type: ignore[union-attr]


def _exact(dtype: pl.DataType) -> float:
    """From which size on values of a type are no longer told apart as floats."""
    if isinstance(dtype, pl.Datetime | pl.Duration):
        return _EXACT / {"ms": 1e3, "us": 1e6, "ns": 1e9}[dtype.time_unit]
    if dtype.is_decimal():
        return _EXACT / 10.0 ** (dtype.scale or 0)  # type: ignore[attr-defined]
    return _EXACT if dtype.is_integer() else np.inf


def _ordered(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Whole numbers in the order of floats, from their bits."""
    bits = np.ascontiguousarray(numbers).view(np.int64)
    return bits ^ ((bits >> 63) & np.int64(0x7FFF_FFFF_FFFF_FFFF))
