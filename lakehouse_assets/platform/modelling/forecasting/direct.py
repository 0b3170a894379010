"""The learner of a forecast: LightGBM models of all series and days ahead, in units of plain forecasts, with calibrated quantiles.

Series of any size teach each other, because they are told apart by ratios alone. Each number of days ahead is forecast directly. What
the inputs are is in `inputs`, how bands are calibrated in `bands`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import NotEnoughData, TrainingRows
from lakehouse_assets.platform.modelling.boosting import REPRODUCIBLE, make_dataset
from lakehouse_assets.platform.modelling.forecasting.bands import Bands, fit_bands, season_doubt
from lakehouse_assets.platform.modelling.forecasting.inputs import MODEL_INPUTS
from lakehouse_assets.platform.modelling.forecasting.model import ForecastModel, InTwoUnits
from lakehouse_assets.platform.modelling.forecasting.series import DAY, LEVEL, REFERENCE, SEASON, WARM_UP_DAYS, Series
from lakehouse_assets.platform.modelling.quantile import quantile_name

if TYPE_CHECKING:
    import lightgbm

# Names that no column of a series has.
_OUTCOME, _RATIO, _WEIGHT, _STEADY = "_outcome", "_ratio", "_weight", "_steady"
# Days that add up to so many times what was known at their origin, or to so small a part of it, follow a break in level. No input told of
# it: who learns from them expects another one after every rise. Bands are calibrated on them all the same.
_BREAK, _BREAK_DAYS = 2.5, 7
# Where more of a series is like that, it is no break but how the series is.
_LEAST_STEADY = 0.5
# Parts of the history that are forecast by models which learnt from the other parts.
_PARTS = 3
# The mean: errors beyond so many references count no more than that, or one order would decide.
_MEAN_PARAMETERS: Mapping[str, Any] = {"objective": "huber", "alpha": 1.5, "num_leaves": 7, "learning_rate": 0.05}
_MEAN_ROUNDS = 60
# A model of ratios to the level alone has to learn seasons by itself: it counts as far as it could, and most after a year of them.
_MOST_LEVEL_SHARE = 0.7
_LEAST_IN_LEAF = 20
# Bands need the order of the errors alone: what calibrates them learns in fewer, larger steps, together as far.
_TRIAL_STEPS = 3
# A daily value is mostly noise: finer bins of the inputs cost time and tell no more.
_BINS = 63


@dataclass(frozen=True)
class DirectForecast:
    """Boosters of the quantiles and of the mean, learnt together from all series.

    Small trees and few rounds: a daily value is mostly noise, and deeper ones learn it. One thread, because on so few rows a second one
    costs as much as it gains.

    Attributes:
        series: What is forecast.
        rounds: Trees in each booster.
        learning_rate: Share of each tree that counts.
        leaves: Leaves of a tree.
        in_leaf: Least rows in a leaf, where there are many rows.
        most_rows: Neighbouring origins and days ahead tell nearly the same: more rows than these cost time and gain little.
    """

    series: Series
    rounds: int = 60
    learning_rate: float = 0.08
    leaves: int = 15
    in_leaf: int = 120
    most_rows: int = 15_000

    def fit(self, training: TrainingRows, *, seed: int, compute: Compute) -> ForecastModel:
        """See `Learner.fit`.

        Raises:
            NotEnoughData: There are fewer than `Series.least_days` days, or no level above zero to learn ratios to.
        """
        about = training.rows.select(*self.series.by, "origin", "horizon", REFERENCE, _outcome(training)).collect()
        last = about.select((pl.col("origin") + pl.duration(days=pl.col("horizon"))).max()).item()
        first = about.select(pl.col("origin").min()).item()
        self._require_days(first, last)
        lessons = self._lessons(training, about, first, last)
        if lessons.is_empty():
            raise NotEnoughData(
                f"{self.series.value} has no level above zero up to {last}, and a forecast learns ratios to that level: land more days "
                "with values above zero. Of values that are mostly negative, forecast the opposite, as -value in the series"
            )
        seasons = lessons.filter(pl.col(SEASON) != 1).select(pl.col("origin").n_unique()).item()
        bands = self._calibrated(lessons, first, last, seasons, seed, compute)
        steady = lessons.filter(_STEADY)
        quantiles = self._quantiles(steady, _level_share(seasons), seed, compute)
        even = _in_unit_of(REFERENCE, steady, exponent=1.0)
        mean = compute.fit(partial(_part, even, seed), {**self._parameters(even, seed), **_MEAN_PARAMETERS}, _MEAN_ROUNDS)
        return ForecastModel(MODEL_INPUTS, quantiles, mean, bands)

    def _require_days(self, first: date | None, last: date | None) -> None:
        least = self.series.least_days
        if first is None or last is None:
            raise NotEnoughData(
                f"{self.series.value} is known for less than 2 days; a forecast model needs {least}: land at least {least - 1} more days"
            )
        days = (last - first).days + 1
        if days < least:
            raise NotEnoughData(
                f"{self.series.value} is known for {days} days up to {last}; a forecast model needs {least}: land {least - days} more days"
            )

    def _lessons(self, training: TrainingRows, about: pl.DataFrame, first: date, last: date) -> pl.DataFrame:
        """The rows to learn from, thinned and in a fixed order, and whether each is `_steady`."""
        full = pl.col("origin") >= first + timedelta(days=WARM_UP_DAYS - 1)
        return (
            training.rows.filter(full, _thinned(last, about.height, self.most_rows))
            .filter(pl.col(REFERENCE) > 0)
            .join(_steady(about, self.series.by).lazy(), on=[*self.series.by, "origin"], how="left")
            .sort("origin", "horizon", *self.series.by)
            .with_columns((pl.col("origin") + pl.duration(days=pl.col("horizon"))).alias(DAY), _outcome(training))
            .collect()
        )

    def _calibrated(  # noqa: PLR0917
        self, lessons: pl.DataFrame, first: date, last: date, seasons: int, seed: int, compute: Compute
    ) -> Bands:
        """Bands from forecasts of each part of the history by models of the other parts, so that every season counts.

        Nothing that a model learns from is a day of the part that it forecasts; which lessons follow a break was told by all days.
        """
        origin, day = pl.col("origin"), pl.col(DAY)
        begin: date = lessons.select(pl.col("origin").min()).item()
        length = (last - begin).days
        edges = [begin + timedelta(days=round(length * part / _PARTS)) for part in range(_PARTS + 1)]
        unseen, values = [lessons.clear()], [np.empty((0, len(self.series.quantiles)))]
        for start, stop in pairwise(edges):
            part = lessons.filter(origin >= start, day <= stop)
            others = lessons.filter(_STEADY, (day <= start) | (origin >= stop))
            if not part.is_empty() and not others.is_empty():
                quantiles = self._quantiles(others, _level_share(seasons), seed, compute, larger=_TRIAL_STEPS)
                unseen.append(part)
                values.append(quantiles.predict(MODEL_INPUTS, part))
        rows = pl.concat(unseen)
        return fit_bands(
            self.series.quantiles,
            np.concatenate(values),
            rows[_OUTCOME].to_numpy(),
            horizon=rows["horizon"].to_numpy(),
            age=rows.select(age=(pl.lit(last) - day).dt.total_days())["age"].to_numpy(),
            horizons=self.series.horizon,
            half_weeks=(last - first).days / 3.5,
            doubt=season_doubt(seasons),
        )

    def _quantiles(self, lessons: pl.DataFrame, share: float, seed: int, compute: Compute, *, larger: int = 1) -> InTwoUnits:
        by_reference = self._boosters(_in_unit_of(REFERENCE, lessons), seed, compute, larger)
        levelled = _in_unit_of(LEVEL, lessons)
        if not share or levelled.is_empty():
            return InTwoUnits(by_reference, {}, 0.0)
        return InTwoUnits(by_reference, self._boosters(levelled, seed, compute, larger), share)

    def _boosters(self, rows: pl.DataFrame, seed: int, compute: Compute, larger: int) -> dict[str, "lightgbm.Booster"]:
        """One for each quantile, by its column. Steps that are `larger` times as large are as many times fewer."""
        shared = cache(partial(_part, rows, seed))
        parameters = {**self._parameters(rows, seed), "learning_rate": min(self.learning_rate * larger, 1.0), "objective": "quantile"}
        rounds = max(self.rounds // larger, 1)
        return {
            quantile_name(quantile): compute.fit(shared, {**parameters, "alpha": quantile}, rounds) for quantile in self.series.quantiles
        }

    def _parameters(self, rows: pl.DataFrame, seed: int) -> dict[str, Any]:
        return {
            **REPRODUCIBLE,
            "seed": seed,
            "max_bin": _BINS,
            "num_threads": 1,
            "learning_rate": self.learning_rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": min(self.in_leaf, max(_LEAST_IN_LEAF, rows.height // 40)),
            "feature_fraction": 0.6,
            "lambda_l2": 1.0,
        }


def _outcome(training: TrainingRows) -> pl.Expr:
    return pl.col(training.target).cast(pl.Float64).alias(_OUTCOME)


def _steady(about: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """For each series and origin whether the days after it added up to about what was known there: `by`, `origin` and `_steady`."""
    # Sorted, so that a sum is the same on any number of threads.
    came, expected = (pl.col(name).sort().sum() for name in (_OUTCOME, REFERENCE))
    steady = (came / expected).is_between(1 / _BREAK, _BREAK) | (expected <= 0) | (pl.len() < _BREAK_DAYS)
    found = about.group_by(*by, "origin").agg(steady.alias(_STEADY))
    rare = pl.col(_STEADY).mean() >= _LEAST_STEADY
    return found.with_columns(pl.col(_STEADY) | ~(rare.over(by) if by else rare))


def _level_share(seasons: int) -> float:
    """How much models of ratios to the level count, if so many origins taught them what a season is."""
    return _MOST_LEVEL_SHARE * min(seasons / 365, 1.0)


def _in_unit_of(unit: str, lessons: pl.DataFrame, *, exponent: float = 0.5) -> pl.DataFrame:
    """The ratio to learn and how much it counts, of the rows that have the unit.

    An error weighs by the value at stake, dampened, or a few very large days would drown the others; a mean has to add up.
    """
    known = lessons.filter(pl.col(unit) > 0)
    weight = known[unit] ** exponent
    # `mean` adds up by chunks, of which there are as many as threads.
    mean = math.fsum(weight) / max(known.height, 1)
    return known.with_columns((pl.col(_OUTCOME) / pl.col(unit)).alias(_RATIO), (weight / mean).alias(_WEIGHT))


def _part(rows: pl.DataFrame, seed: int, part: int, parts: int) -> "lightgbm.Dataset":
    return make_dataset(rows.gather_every(parts, part), MODEL_INPUTS, _RATIO, weight=_WEIGHT, seed=seed, bins=_BINS)


def _thinned(last: date, rows: int, most: int) -> pl.Expr:
    """Which rows are kept so that about `most` remain, of all series, weekdays and days ahead alike."""
    return ((pl.lit(last) - pl.col("origin")).dt.total_days() + pl.col("horizon")) % _every(math.ceil(rows / most)) == 0


def _every(step: int) -> int:
    """Of how many rows one is kept; coprime to week and horizons, so that every weekday and day ahead stays."""
    return next(every for every in range(max(step, 1), 2 * step + 8) if every == 1 or (every % 2 and every % 7))
