"""How the values of one column differ between two sets of rows, as a number and in words. Which rows these are is decided in `trace`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import polars as pl

LEAST_ROWS: Final = 20
"""Rows without which nothing is said."""
_LEAST: Final = 0.05
"""A distance below this is no change."""
_PART: Final = 0.5
"""So much of a change has to be seen in a table for it to have come from there."""
_NOISE: Final = 1.95
"""The Kolmogorov-Smirnov statistic of two large samples passes this, over the root of the rows, once in a thousand."""
_TIMES: Final = 1.3
_MANY: Final = 1_000
_SHOWN: Final = 2


@dataclass(frozen=True)
class Change:
    """The values of a column before and after.

    Attributes:
        before: The values before.
        after: The values after, of the same type.
        shows: Whether values may be shown: not those of personal columns.
    """

    before: pl.Series
    after: pl.Series
    shows: bool = True

    @cached_property
    def distance(self) -> float:
        """From 0 to 1: Kolmogorov-Smirnov of numbers, total variation of texts, or the shift of nulls if that is larger."""
        if min(len(self.before), len(self.after)) < LEAST_ROWS:
            return 0.0
        before, after = self.before.drop_nulls(), self.after.drop_nulls()
        if before.is_empty() or after.is_empty():
            return abs(self.nulls)
        return max(self._among_values(before, after), abs(self.nulls))

    @property
    def nulls(self) -> float:
        """By how much the share of nulls rose."""
        return _nulls(self.after) - _nulls(self.before)

    def carries(self, found: "Change") -> bool:
        """Whether a change that was found in a table can come from this one, in a table that it is made of."""
        return self.distance >= max(_PART * found.distance, _LEAST, self.noise)

    @property
    def noise(self) -> float:
        """What chance does to so many rows."""
        rows = min(len(self.before), len(self.after))
        return float(_NOISE / np.sqrt(rows)) if rows else 1.0

    @property
    def words(self) -> str:
        """What changed, as `median 1,512 against 15.1, 100 times larger`."""
        if abs(self.nulls) >= self.distance - 1e-9 and self.nulls:
            return f"nulls {_nulls(self.after):.1%} against {_nulls(self.before):.1%}"
        if not self._is_number:
            return self._items()
        before, after = (_quantile(one, 0.5) for one in (self.before, self.after))
        if before == after:
            before, after = (_mean(one) for one in (self.before, self.after))
            return f"average {_number(after)} against {_number(before)}"
        said = f"median {_number(after)} against {_number(before)}"
        times = after / before if before and after / before > 0 else 1.0
        if times >= _TIMES:
            return f"{said}, {times:,.3g} times larger"
        return f"{said}, {1 / times:,.3g} times smaller" if times <= 1 / _TIMES else said

    @property
    def _is_number(self) -> bool:
        return self.before.dtype.is_numeric()

    def _among_values(self, before: pl.Series, after: pl.Series) -> float:
        if self._is_number:
            one, other = (np.sort(values.to_numpy()) for values in (before, after))
            points = np.concatenate([one, other])
            shares = [np.searchsorted(values, points, side="right") / len(values) for values in (one, other)]
            return float(np.abs(shares[0] - shares[1]).max())
        moved = _shares(after)
        for item, share in _shares(before).items():
            moved[item] = moved.get(item, 0.0) - share
        return sum(map(abs, moved.values())) / 2

    def _items(self) -> str:
        before, after = _shares(self.before.drop_nulls()), _shares(self.after.drop_nulls())
        moved = sorted({*before, *after}, key=lambda item: (-abs(after.get(item, 0.0) - before.get(item, 0.0)), item))
        if not self.shows:
            return "other values than before"
        return ", ".join(f"{item!r} {after.get(item, 0.0):.1%} against {before.get(item, 0.0):.1%}" for item in moved[:_SHOWN])

    @property
    def is_identifying(self) -> bool:
        """Whether it is a text that tells rows apart, as a key: two sets of rows never have the same."""
        return not self._is_number and max(_unique(self.before), _unique(self.after)) > _PART


def comparable(rows: pl.LazyFrame, column: str, *, as_number: bool) -> pl.Expr:
    """The values of a column as they are compared: numbers as floats, all else as texts.

    Args:
        rows: Have the column.
        column: Its name.
        as_number: Whether texts are read as numbers, as those of files.
    """
    dtype = rows.collect_schema()[column]
    if dtype.is_numeric() or (as_number and dtype == pl.String):
        value = pl.col(column).cast(pl.Float64, strict=False)
        return pl.when(value.is_finite()).then(value).alias(column)
    if dtype.is_temporal():
        return pl.col(column).to_physical().cast(pl.Float64).alias(column)
    return pl.col(column).cast(pl.String, strict=False).alias(column)


def _unique(values: pl.Series) -> float:
    return values.n_unique() / max(len(values), 1)


def _nulls(values: pl.Series) -> float:
    return values.null_count() / max(len(values), 1)


def _shares(values: pl.Series) -> dict[str, float]:
    counts: Mapping[str, int] = dict(values.value_counts().iter_rows())
    return {item: count / len(values) for item, count in counts.items()}


def _quantile(values: pl.Series, share: float) -> float:
    found = values.quantile(share)
    return float(found) if found is not None else float("nan")


def _mean(values: pl.Series) -> float:
    found: float | None = values.mean()  # type: ignore[assignment]
    return float("nan") if found is None else found


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= _MANY else f"{value:.3g}"
