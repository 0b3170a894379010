"""How input columns become numbers, the same way in training and prediction: the one place for all learners.

Numbers, Booleans, decimals, dates, times and durations become numbers, texts and enumerations codes of categories. An encoding is part of
the stored predictor. What the target becomes is in `targets`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.modelling.targets import is_text

_MOST_CATEGORIES: Final = 254
MISSING, OTHER, FIRST = 0, 1, 2
"""Codes of null, of a category that training did not have or had once, and of the first category."""
_TEXT: Final = "text"


@dataclass(frozen=True)
class Column:
    """One input.

    Attributes:
        name: The column.
        kind: `number`, `time` or `text`.
        categories: Of texts those that have a code, in the order of the codes.
        gaps: Whether training had numbers that are missing.
    """

    name: str
    kind: str
    categories: tuple[str, ...] = ()
    gaps: bool = False

    @property
    def width(self) -> int:
        """Columns that it has in a `matrix`."""
        return FIRST + len(self.categories) if self.kind == _TEXT else 1 + self.gaps

    def encode(self, values: pl.Series) -> pl.Series:
        """Numbers; null where there is none. Codes of categories are never null.

        Raises:
            TypeError: The values are of another kind than in training.
        """
        kind = _kind(self.name, values.dtype)
        if kind != self.kind and values.dtype != pl.Null:
            raise TypeError(f"input {self.name!r} was of the kind {self.kind} in training, and now it is {values.dtype}, a {kind}")
        if self.kind == _TEXT:
            codes = {category: FIRST + number for number, category in enumerate(self.categories)}
            text = values.cast(pl.String)
            # A mapping without entries gives its default to null as well.
            coded = text.replace_strict({**codes, None: MISSING}, default=OTHER, return_dtype=pl.Int32)
            return coded.set(text.is_null(), MISSING).cast(pl.Float64)
        if values.dtype == pl.Null:
            return values.cast(pl.Float64)
        return _number(values)


@dataclass(frozen=True)
class Encoding:
    """How the inputs of a predictor become numbers.

    Attributes:
        columns: The inputs, in the order in which a learner sees them.
    """

    columns: tuple[Column, ...]

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def categorical(self) -> tuple[str, ...]:
        """The columns that are codes of categories."""
        return tuple(column.name for column in self.columns if column.kind == _TEXT)

    def encode(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The inputs as Float64, in their order. Infinity counts as missing.

        Raises:
            ValueError: The rows lack an input; it is named.
            TypeError: An input is of another kind than in training.
        """
        missing = [column.name for column in self.columns if column.name not in rows.columns]
        if missing:
            raise ValueError(f"the model needs {', '.join(missing)}, which the rows do not have; they have {', '.join(rows.columns)}")
        return pl.DataFrame([column.encode(rows[column.name]).alias(column.name) for column in self.columns])

    def to_json(self) -> list[dict[str, Any]]:
        """As JSON takes it."""
        return [
            {"name": column.name, "kind": column.kind, "categories": list(column.categories), "gaps": column.gaps}
            for column in self.columns
        ]

    @staticmethod
    def from_json(stored: Iterable[dict[str, Any]]) -> "Encoding":
        """Read what `to_json` gave."""
        return Encoding(tuple(Column(column["name"], column["kind"], tuple(column["categories"]), column["gaps"]) for column in stored))


def encoding_of(rows: pl.DataFrame, inputs: Sequence[str]) -> Encoding:
    """The encoding that training rows make.

    A category that one row has is as good as one that no row has: it gets the code of those, so learners have rows of it.

    Raises:
        TypeError: A column is neither number, time nor text.
        ValueError: There is no input.
    """
    if not inputs:
        raise ValueError("there is no input to learn from: name features, or inputs of the examples")
    return Encoding(tuple(_column(rows[name]) for name in inputs))


def matrix(encoding: Encoding, rows: pl.DataFrame) -> Any:
    """The encoded inputs as a matrix without a missing number, for learners that know neither categories nor missing values.

    Categories become a column each (0 or 1), of `missing` and `other` too; a column of which numbers were missing in training has a second
    one that says where. Which numbers stand in for missing ones is for the learner to say: they are NaN.
    """
    encoded = encoding.encode(rows)
    parts: list[Any] = []
    for column in encoding.columns:
        values = encoded[column.name].fill_null(float("nan")).to_numpy()
        if column.kind == _TEXT:
            parts += [(values == code).astype(float) for code in range(FIRST + len(column.categories))]
        else:
            parts += [values, np.isnan(values).astype(float)][: column.width]
    return np.column_stack(parts) if parts and len(encoded) else np.zeros((len(encoded), sum(column.width for column in encoding.columns)))


def _column(values: pl.Series) -> Column:
    kind = _kind(values.name, values.dtype)
    if kind != _TEXT:
        return Column(values.name, kind, gaps=bool(Column(values.name, kind).encode(values).null_count()))
    counts = values.cast(pl.String).rename("category").drop_nulls().value_counts().filter(pl.col("count") > 1)
    most = counts.sort("count", "category", descending=[True, False]).head(_MOST_CATEGORIES)
    return Column(values.name, kind, tuple(most["category"].sort()))


def _kind(name: str, dtype: pl.DataType) -> str:
    if dtype.is_numeric() or dtype in {pl.Boolean, pl.Null}:
        return "number"
    if dtype.is_temporal():
        return "time"
    if is_text(dtype):
        return _TEXT
    raise TypeError(
        f"input {name!r} is of type {dtype}, from which models do not learn: make numbers, times or texts of it, or leave it out"
    )


def _number(values: pl.Series) -> pl.Series:
    """Times in days since 1970, the parts of a day as a fraction."""
    if values.dtype == pl.Date:
        return values.to_physical().cast(pl.Float64)
    if isinstance(values.dtype, pl.Datetime):
        return values.cast(pl.Datetime("us", values.dtype.time_zone)).to_physical().cast(pl.Float64) / 86_400_000_000
    if isinstance(values.dtype, pl.Duration):
        return values.cast(pl.Duration("us")).to_physical().cast(pl.Float64) / 86_400_000_000
    if values.dtype == pl.Time:
        return values.to_physical().cast(pl.Float64) / 86_400_000_000_000
    numbers = values.cast(pl.Float64)
    return numbers.set(~numbers.is_finite(), None)
