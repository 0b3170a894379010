"""How the values of one column differ between two sets of rows, as a number and in words. Which rows these are is decided in `trace`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite, log, sqrt
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
_QUARTILES: Final = 1.349
"""So many standard deviations the quartiles of a normal distribution are apart."""
_CLEARLY: Final = 1.5
_LITTLE: Final = 0.2
_MANY, _TOO_LONG = 1_000, 1e15
_SHOWN: Final = 2


@dataclass(frozen=True)
class Change:
    """The values of a column before and after.

    Attributes:
        before: The values before.
        after: The values after, of the same type.
        shows: Whether values may be shown: not those of personal columns.
        among: So many changes are looked at together, of which one may be seen by chance.
        least: Rows of a side without which nothing is said. Below `LEAST_ROWS` only what is exact is trusted, so far more has to differ.
    """

    before: pl.Series
    after: pl.Series
    shows: bool = True
    among: int = 1
    least: int = LEAST_ROWS

    @cached_property
    def distance(self) -> float:
        """From 0 to 1: Kolmogorov-Smirnov of numbers, total variation of texts, or the shift of nulls if that is larger.

        What so many rows differ by chance counts as 0.
        """
        if min(len(self.before), len(self.after)) < self.least:
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
        nulls = f"nulls {_nulls(self.after):.1%} against {_nulls(self.before):.1%}"
        if abs(self.nulls) >= self.distance - 1e-9 and self.nulls:
            return nulls
        also = f", {nulls}" if abs(self.nulls) >= _LEAST and self._nulls_are_no_chance else ""
        return (self._of_values if self._is_number else self._items()) + also

    @property
    def _of_values(self) -> str:
        """What changed of numbers."""
        name, before, after = self._moved_most
        said = f"{name} {_number(after)} against {_number(before)}"
        times = after / before if before and after / before > 0 else 1.0
        if times >= _TIMES:
            return f"{said}, {times:,.3g} times larger"
        return f"{said}, {1 / times:,.3g} times smaller" if times <= 1 / _TIMES else said

    @property
    def _moved_most(self) -> tuple[str, float, float]:
        """Median, average or standard deviation, whichever moved most in units of what values usually spread by; before and after."""
        sides = [side.drop_nulls() for side in (self.before, self.after)]
        medians, means, spreads = ([of(side) for side in sides] for of in (_quantile, _mean, _spread))
        quartiles = [_quantile(sides[0], share) for share in (0.25, 0.75)]
        usual = (quartiles[1] - quartiles[0]) / _QUARTILES
        of_median = _moved(medians, usual or spreads[0])
        of_mean = _moved(means, spreads[0])
        if max(of_median, of_mean) < _LITTLE and _is_other(spreads):
            return "standard deviation", *spreads  # type: ignore[return-value]
        # The median of skewed values is what people know; the average is named where it tells clearly more.
        return ("average", *means) if of_mean > _CLEARLY * of_median else ("median", *medians)  # type: ignore[return-value]

    def differs_as(self, other: "Change") -> bool:
        """Whether what changed is the same as in another change from the same rows: what is left between both is small beside either."""
        between = Change(self.after, other.after, self.shows, self.among)
        left = between._at_all if between._is_small else between.distance
        return left <= _PART * min(self.distance, other.distance)

    @property
    def _is_small(self) -> bool:
        return min(len(self.before), len(self.after)) < LEAST_ROWS

    @property
    def _at_all(self) -> float:
        """The distance, chance or not."""
        before, after = self.before.drop_nulls(), self.after.drop_nulls()
        if before.is_empty() or after.is_empty():
            return abs(self.nulls)
        found, _ = self._of_numbers(before, after) if self._is_number else self._of_texts(before, after)
        return max(found, abs(self.nulls))

    @property
    def _is_number(self) -> bool:
        return self.before.dtype.is_numeric()

    @property
    def _rate(self) -> float:
        return _BY_CHANCE / max(self.among, 1)

    @property
    def _nulls_are_no_chance(self) -> bool:
        """Whether the nulls are seldom shared out so between both sides, if all rows are shuffled (Fisher's exact test, two-sided)."""
        nulls = np.array([[side.null_count()] for side in (self.before, self.after)])
        return _by_chance(nulls, (len(self.before), len(self.after))) <= self._rate

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
        if sizes.min() < LEAST_ROWS:  # the tail below is one of many rows
            return found, 0.0 if counts.shape[1] * _by_chance(counts, sizes) <= self._rate else inf
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


def _by_chance(counts: Array, sizes: Sequence[int] | Array) -> float:
    """How seldom the most telling of some items is shared out so between both sides, if all rows are shuffled.

    Fisher's exact test, two-sided.

    Args:
        counts: By side, rows of each item.
        sizes: By side, all rows.
    """
    from scipy.stats import hypergeom  # type: ignore[import-untyped]

    of_all = (int(sum(sizes)), counts.sum(axis=0), int(sizes[1]))
    tails = np.minimum(hypergeom.cdf(counts[1], *of_all), hypergeom.sf(counts[1] - 1, *of_all))
    return float(min(2 * tails.min(), 1.0))


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


def _quantile(values: pl.Series, share: float = 0.5) -> float:
    found = values.quantile(share)
    return float(found) if found is not None else float("nan")


def _mean(values: pl.Series) -> float:
    found: float | None = values.mean()  # type: ignore[assignment]
    return float("nan") if found is None else found


def _spread(values: pl.Series) -> float:
    found: float | None = values.std()  # type: ignore[assignment]
    return 0.0 if found is None else found


def _moved(both: Sequence[float], usual: float) -> float:
    """By how much a statistic moved in units of the usual spread; not at all if it cannot be told, as of sums that are too large."""
    by = abs(both[1] - both[0])
    if not isfinite(by) or not by:
        return 0.0
    return by / usual if usual else inf


def _is_other(spreads: Sequence[float]) -> bool:
    return all(isfinite(one) for one in spreads) and max(spreads) > _TIMES * min(spreads)


def _number(value: float) -> str:
    return f"{value:,.0f}" if _MANY <= abs(value) < _TOO_LONG else f"{value:.3g}"
