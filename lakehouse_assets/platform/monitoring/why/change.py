"""How the values of one column differ between two sets of rows, as a number and in words. Which rows these are is decided in `trace`."""

from dataclasses import dataclass
from functools import cached_property
from math import log, sqrt
from statistics import NormalDist
from typing import Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.monitoring.drift import distances
from lakehouse_assets.platform.monitoring.drift.distances import Array

LEAST_ROWS: Final = 20
"""Rows without which nothing is said."""
_LEAST: Final = 0.05
"""A distance below this is no change."""
_PART: Final = 0.5
"""So much of a change has to be seen in a table for it to have come from there."""
_BY_CHANCE: Final = 0.001
"""Of rows in which nothing changed, so seldom a change is seen."""
_MOST_ITEMS: Final = 100
"""So many texts are compared by themselves, the most frequent ones; all others together."""
_DRAWS, _SEED = 200, 20_260_101
_TIMES: Final = 1.3
_MANY: Final = 1_000
_TOO_LONG: Final = 1e15
_SHOWN: Final = 2


@dataclass(frozen=True)
class Change:
    """The values of a column before and after.

    Attributes:
        before: The values before.
        after: The values after, of the same type.
        shows: Whether values may be shown: not those of personal columns.
        among: So many changes are looked at together, of which one may be seen by chance.
    """

    before: pl.Series
    after: pl.Series
    shows: bool = True
    among: int = 1

    @cached_property
    def distance(self) -> float:
        """From 0 to 1: Kolmogorov-Smirnov of numbers, total variation of texts, or the shift of nulls if that is larger.

        What so many rows differ by chance counts as 0.
        """
        if min(len(self.before), len(self.after)) < LEAST_ROWS:
            return 0.0
        before, after = self.before.drop_nulls(), self.after.drop_nulls()
        of_nulls = abs(self.nulls) if self._nulls_are_no_chance else 0.0
        if before.is_empty() or after.is_empty():
            return of_nulls
        found, by_chance = self._of_numbers(before, after) if self._is_number else self._of_texts(before, after)
        return max(found if found > by_chance else 0.0, of_nulls)

    @property
    def nulls(self) -> float:
        """By how much the share of nulls rose."""
        return _nulls(self.after) - _nulls(self.before)

    def carries(self, found: "Change") -> bool:
        """Whether a change that was found in a table can come from this one, in a table that it is made of."""
        return self.distance >= max(_PART * found.distance, _LEAST)

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

    @property
    def _rate(self) -> float:
        return _BY_CHANCE / max(self.among, 1)

    @property
    def _nulls_are_no_chance(self) -> bool:
        """Whether the nulls are seldom shared out so between both sides, if all rows are shuffled (Fisher's exact test, two-sided)."""
        from scipy.stats import hypergeom  # type: ignore[import-untyped]

        nulls, rows = self.after.null_count(), len(self.after)
        of_all = (len(self.before) + rows, self.before.null_count() + nulls, rows)
        return bool(2 * min(hypergeom.cdf(nulls, *of_all), hypergeom.sf(nulls - 1, *of_all)) <= self._rate)

    def _of_steps(self, rows: int, others: int) -> float:
        """What the Kolmogorov-Smirnov statistic of two samples passes at that rate (Smirnov, 1939)."""
        return sqrt(log(2 / self._rate) / 2 * (1 / rows + 1 / others))

    def _of_numbers(self, before: pl.Series, after: pl.Series) -> tuple[float, float]:
        """The distance, and what it is by chance."""
        one, other = (np.sort(values.to_numpy()) for values in (before, after))
        points = np.concatenate([one, other])
        below = [np.searchsorted(values, points, side="right") / len(values) for values in (one, other)]
        return float(np.abs(below[0] - below[1]).max()), self._of_steps(len(one), len(other))

    def _of_texts(self, before: pl.Series, after: pl.Series) -> tuple[float, float]:
        """The distance, and what it is if the rows of both sides are shuffled: that depends on how many texts there are, and how rare."""
        counts = _in_cells(before, after)
        sizes = counts.sum(axis=1)
        found = float(distances.total_variation(*distances.shares(counts)))
        drawn = np.random.default_rng(_SEED).multivariate_hypergeometric(counts.sum(axis=0), sizes[1], size=_DRAWS, method="marginals")
        rest = counts.sum(axis=0) - drawn
        shuffled = distances.total_variation(rest / sizes[0], drawn / sizes[1])
        # Of two texts it falls off as the normal distribution without its sign does, of more texts faster.
        half = NormalDist().inv_cdf(1 - self._rate / 2)
        return found, float(shuffled.mean() + shuffled.std() * (half - sqrt(2 / np.pi)) / sqrt(1 - 2 / np.pi))

    def _items(self) -> str:
        before, after = _shares(self.before.drop_nulls()), _shares(self.after.drop_nulls())
        moved = sorted({*before, *after}, key=lambda item: (-abs(after.get(item, 0.0) - before.get(item, 0.0)), item))
        if not self.shows:
            return "other values than before"
        return ", ".join(f"{item!r} {after.get(item, 0.0):.1%} against {before.get(item, 0.0):.1%}" for item in moved[:_SHOWN])

    @property
    def is_no_sign(self) -> bool:
        """Whether the values before differ among themselves as much, in the order of the rows, as those of running numbers and keys do."""
        half = len(self.before) // 2
        earlier = Change(self.before.head(half), self.before.tail(half))
        return earlier.distance > _PART * self.distance


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


def _nulls(values: pl.Series) -> float:
    return values.null_count() / max(len(values), 1)


def _in_cells(before: pl.Series, after: pl.Series) -> Array:
    """How often each of the most frequent texts of both sides stands on each, and all others together."""
    sides = [values.rename("item").value_counts(name=name) for name, values in (("before", before), ("after", after))]
    both = (
        sides[0]
        .join(sides[1], on="item", how="full", coalesce=True)
        .with_columns(pl.col("before", "after").fill_null(0))
        .sort(pl.col("before") + pl.col("after"), "item", descending=[True, False])
    )
    counts = both.select("before", "after").cast(pl.Int64).to_numpy().T
    return np.column_stack([counts[:, :_MOST_ITEMS], counts[:, _MOST_ITEMS:].sum(axis=1)])


def _shares(values: pl.Series) -> dict[str, float]:
    return {item: count / len(values) for item, count in values.value_counts().iter_rows()}


def _quantile(values: pl.Series, share: float) -> float:
    found = values.quantile(share)
    return float(found) if found is not None else float("nan")


def _mean(values: pl.Series) -> float:
    found: float | None = values.mean()  # type: ignore[assignment]
    return float("nan") if found is None else found


def _number(value: float) -> str:
    return f"{value:,.0f}" if _MANY <= abs(value) < _TOO_LONG else f"{value:.3g}"
