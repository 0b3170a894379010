"""The forecast of a daily series: one quantile model for all of its series and for each of the days ahead, and its backtest.

The model learns the ratio of values to a plain reference, so series of any size teach each other. What a training hands over to registry
and gate is put together in `evaluation`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.features.point_in_time import as_first_known
from lakehouse_assets.platform.modelling.baselines import seasonal_naive, seasonal_window_average
from lakehouse_assets.platform.modelling.forecasting.inputs import MODEL_INPUTS, forecast_rows, training_rows
from lakehouse_assets.platform.modelling.forecasting.series import DAY, VALUE, WARM_UP_DAYS, Series
from lakehouse_assets.platform.modelling.quantile import QuantileModel, calibrate, fit_quantiles, quantile_name
from lakehouse_assets.platform.modelling.result import HistoryTooShort
from lakehouse_assets.platform.storage.known_at import as_known

BASELINES = {"seasonal_naive": seasonal_naive, "seasonal_window_average": seasonal_window_average}

# The last days of the training period, at most a third of it, calibrate the band.
CALIBRATION_DAYS = 112

# Neighbouring origins and horizons tell nearly the same: more rows than these cost time and gain little.
MOST_ROWS = 25_000

# Small trees: a daily value is mostly noise, and deeper ones learnt it. All rows for every tree: drawing some of them made the forecast
# depend on the seed. One thread, because on so few rows a second one costs as much as it gains.
PARAMETERS: Mapping[str, Any] = {
    "learning_rate": 0.1,
    "num_leaves": 7,
    "min_data_in_leaf": 60,
    "feature_fraction": 0.6,
    "lambda_l2": 1.0,
    "num_threads": 1,
}
ROUNDS = 60


def train(
    features: pl.LazyFrame, series: Series, cutoff: date, *, seed: int, compute: Compute, outcomes_known_at: datetime | None = None
) -> QuantileModel:
    """Train on what was known at the end of each day up to `cutoff`, and on nothing that became known later, unless that is asked for.

    Args:
        features: Rows of `daily_features` with all revisions; days after the cutoff are not used.
        series: What they are.
        cutoff: Last day of the training period.
        seed: The same seed and features give the same model, byte for byte.
        compute: Where to train.
        outcomes_known_at: Outcomes up to the cutoff are learnt as they were known then; None: at the midnight (UTC) that ends the cutoff,
            so that a forecast from there can be held against what came.

    Returns:
        A calibrated model of the ratio of values to `reference`.

    Raises:
        HistoryTooShort: There are fewer than `least_days` days up to the cutoff, or no level above zero to learn ratios to.
    """
    history, day = features.filter(pl.col(series.time) <= cutoff), pl.col(series.time)
    first, count = history.select(day.min(), pl.struct(series.by).n_unique() if series.by else pl.lit(1)).collect().row(0)
    days = (cutoff - first).days + 1 if first else 0
    if days < series.least_days:
        raise HistoryTooShort(
            f"{series.value} is known for {days} days up to {cutoff}; a forecast model needs {series.least_days}: "
            f"land {series.least_days - days} more days"
        )
    full = pl.col("origin") >= first + timedelta(days=WARM_UP_DAYS - 1)
    midnight = datetime.combine(cutoff + timedelta(days=1), time(), UTC)
    rows = training_rows(history, series, cutoff, outcomes_known_at=outcomes_known_at or midnight).filter(full)
    split = cutoff - timedelta(days=min(CALIBRATION_DAYS, (days - WARM_UP_DAYS) // 3))
    every = _every(count * (days - WARM_UP_DAYS) * series.horizon)
    thinned = ((cutoff - pl.col("origin")).dt.total_days() + pl.col("horizon")) % every == 0
    lessons, unseen = pl.collect_all([rows.filter(thinned), rows.filter(pl.col("origin") >= split)])
    before = lessons.filter(pl.col(DAY) <= split)
    if before.is_empty():
        raise HistoryTooShort(
            f"{series.value} has no level above zero over 28 days before {split}, and a forecast learns ratios to that level: "
            "land more days with values above zero. Of values that are mostly negative, forecast the opposite, as -value in the series"
        )
    trial = _fit(before, series, seed, compute)
    return replace(_fit(lessons, series, seed, compute), stretch=calibrate(trial, unseen, "ratio").stretch)


def forecast(model: QuantileModel, features: pl.LazyFrame, series: Series, as_of: date) -> pl.DataFrame:
    """The values of the days after `as_of`, from what was known at its end.

    Returns:
        `as_of`, `day`, `horizon`, the columns of `by`, and the quantiles in the unit of the values, sorted by series and day.

    Raises:
        ValueError: The features have no row of that day.
    """
    rows = rows_from(features, series, as_of)
    if rows.is_empty():
        raise ValueError(f"no features of {as_of}: bring the feature table up to that day, or forecast from an earlier one")
    quantiles = model.predict(rows)
    return rows.select(pl.col("origin").alias("as_of"), DAY, "horizon", *series.by).with_columns(
        quantile * rows["reference"] for quantile in quantiles
    )


def rows_from(features: pl.LazyFrame, series: Series, origin: date) -> pl.DataFrame:
    """`forecast_rows` of one origin, sorted by series and day."""
    known = features.filter(pl.col(series.time) <= origin)
    return forecast_rows(known, series).filter(pl.col("origin") == origin).sort(series.key).collect()


def backtest(features: pl.LazyFrame, series: Series, origins: Sequence[date], *, seed: int, compute: Compute) -> pl.DataFrame:
    """Forecasts from several origins, each by a model that knows what was known at the end of its origin, with outcome and baselines.

    Args:
        features: Rows of `daily_features` with all revisions.
        series: What they are.
        origins: Last day that each forecast may see.
        seed: Of the trainings.
        compute: Where to train.

    Returns:
        `origin`, `day`, `horizon`, the columns of `by`, `actual`, the quantiles, `seasonal_naive` and `seasonal_window_average`, for the
        days whose outcome is known. A baseline is zero where its series does not reach back far enough.
    """
    known = as_first_known(features, series.stored_key).collect().lazy()

    def from_origin(origin: date) -> pl.DataFrame:
        return forecast(train(features, series, origin, seed=seed, compute=compute), known, series, origin)

    forecasts = pl.concat(compute.map(from_origin, origins)).rename({"as_of": "origin"}).lazy()
    for name, baseline in BASELINES.items():
        naive = baseline(series.opened(known), VALUE, origins, by=series.by, horizons=series.horizon)
        forecasts = forecasts.join(
            naive.with_columns(pl.col(VALUE).fill_null(0)).rename({VALUE: name}), on=[*series.key, "origin", "horizon"]
        )
    actual = as_known(features, series.stored_key).pipe(series.opened).select(*series.key, actual=VALUE)
    quantiles = [quantile_name(quantile) for quantile in series.quantiles]
    return (
        forecasts.join(actual, on=series.key)
        .select("origin", DAY, "horizon", *series.by, "actual", *quantiles, *BASELINES)
        .sort("origin", *series.key)
        .collect()
    )


def _every(rows: int) -> int:
    """Of how many rows one is kept; coprime to week and horizons, so that every weekday and horizon stays."""
    step = math.ceil(rows / MOST_ROWS)
    return next(every for every in range(max(step, 1), 2 * step + 8) if every == 1 or (every % 2 and every % 7))


def _fit(rows: pl.DataFrame, series: Series, seed: int, compute: Compute) -> QuantileModel:
    # An error weighs by the value at stake, dampened: a few very large days would drown the others.
    weighted = rows.sort("origin", "horizon", *series.by).with_columns(
        weight=pl.col("reference").sqrt() / pl.col("reference").sqrt().mean()
    )
    return fit_quantiles(
        weighted,
        MODEL_INPUTS,
        "ratio",
        weight="weight",
        quantiles=series.quantiles,
        parameters=PARAMETERS,
        rounds=ROUNDS,
        seed=seed,
        compute=compute,
    )
