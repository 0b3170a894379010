"""The forecast of daily revenue: one quantile model for all product groups and for each of the next 28 days, and its backtest.

The model learns the ratio of revenue to a plain reference, so groups of any size teach each other. It is declared in `tables`.
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
from lakehouse_assets.platform.modelling.quantile import QuantileModel, calibrate, fit_quantiles
from lakehouse_assets.platform.modelling.result import HistoryTooShort
from lakehouse_assets.platform.storage.known_at import as_known
from lakehouse_assets.products.revenue_forecast.features import HORIZONS, KEY, MODEL_INPUTS, forecast_rows, training_rows

QUANTILES = (0.1, 0.5, 0.9)
BASELINES = {"seasonal_naive": seasonal_naive, "seasonal_window_average": seasonal_window_average}

# A level over 28 days has to be full before an origin can teach, and as many days again have to follow.
WARM_UP_DAYS = 28
LEAST_DAYS = 2 * WARM_UP_DAYS
# The last days of the training period, at most a third of it, calibrate the band.
CALIBRATION_DAYS = 112

# Neighbouring origins and horizons tell nearly the same: more rows than these cost time and gain little.
MOST_ROWS = 25_000

# Small trees: revenue by group and day is mostly noise, and deeper ones learnt it. All rows for every tree: drawing some of them made the
# forecast depend on the seed. One thread, because on so few rows a second one costs as much as it gains.
PARAMETERS: Mapping[str, Any] = {
    "learning_rate": 0.1,
    "num_leaves": 7,
    "min_data_in_leaf": 60,
    "feature_fraction": 0.6,
    "lambda_l2": 1.0,
    "num_threads": 1,
}
ROUNDS = 60


def train(features: pl.LazyFrame, cutoff: date, *, seed: int, compute: Compute, outcomes_known_at: datetime | None = None) -> QuantileModel:
    """Train on what was known at the end of each day up to `cutoff`, and on nothing that became known later, unless that is asked for.

    Args:
        features: Rows of `daily_features` with all revisions; days after the cutoff are not used.
        cutoff: Last day of the training period.
        seed: The same seed and features give the same model, byte for byte.
        compute: Where to train.
        outcomes_known_at: Outcomes up to the cutoff are learnt as they were known then; None: at the midnight (UTC) that ends the cutoff,
            so that a forecast from there can be held against what came.

    Returns:
        A calibrated model of the ratio of revenue to `reference`.

    Raises:
        HistoryTooShort: There are fewer than `LEAST_DAYS` days up to the cutoff.
    """
    history = features.filter(pl.col("day") <= cutoff)
    first, groups = history.select(pl.col("day").min(), pl.col("product_group").n_unique()).collect().row(0)
    days = (cutoff - first).days + 1 if first else 0
    if days < LEAST_DAYS:
        raise HistoryTooShort(
            f"revenue is known for {days} days up to {cutoff}; a forecast model needs {LEAST_DAYS}: land {LEAST_DAYS - days} more days"
        )
    full = pl.col("origin") >= first + timedelta(days=WARM_UP_DAYS - 1)
    midnight = datetime.combine(cutoff + timedelta(days=1), time(), UTC)
    rows = training_rows(history, cutoff, outcomes_known_at=outcomes_known_at or midnight).filter(full)
    split = cutoff - timedelta(days=min(CALIBRATION_DAYS, (days - WARM_UP_DAYS) // 3))
    every = _every(groups * (days - WARM_UP_DAYS) * HORIZONS)
    thinned = ((cutoff - pl.col("origin")).dt.total_days() + pl.col("horizon")) % every == 0
    lessons, unseen = pl.collect_all([rows.filter(thinned), rows.filter(pl.col("origin") >= split)])
    trial = _fit(lessons.filter(pl.col("day") <= split), seed, compute)
    return replace(_fit(lessons, seed, compute), stretch=calibrate(trial, unseen, "ratio").stretch)


def forecast(model: QuantileModel, features: pl.LazyFrame, as_of: date) -> pl.DataFrame:
    """Revenue of the 28 days after `as_of`, from what was known at its end.

    Returns:
        `as_of`, `day`, `horizon`, `product_group`, `p10`, `p50`, `p90`, in the currency of the features, sorted by group and day.

    Raises:
        ValueError: The features have no row of that day.
    """
    rows = rows_from(features, as_of)
    if rows.is_empty():
        raise ValueError(f"no features of {as_of}: bring the feature table up to that day, or forecast from an earlier one")
    quantiles = model.predict(rows)
    return rows.select(pl.col("origin").alias("as_of"), "day", "horizon", "product_group").with_columns(
        quantile * rows["reference"] for quantile in quantiles
    )


def rows_from(features: pl.LazyFrame, origin: date) -> pl.DataFrame:
    """`forecast_rows` of one origin, sorted by group and day."""
    return forecast_rows(features.filter(pl.col("day") <= origin)).filter(pl.col("origin") == origin).sort(KEY).collect()


def backtest(features: pl.LazyFrame, origins: Sequence[date], *, seed: int, compute: Compute) -> pl.DataFrame:
    """Forecasts from several origins, each by a model that knows what was known at the end of its origin, with outcome and baselines.

    Args:
        features: Rows of `daily_features` with all revisions.
        origins: Last day that each forecast may see.
        seed: Of the trainings.
        compute: Where to train.

    Returns:
        `origin`, `day`, `horizon`, `product_group`, `actual`, `p10`, `p50`, `p90`, `seasonal_naive` and `seasonal_window_average`, for the
        days whose outcome is known.
    """
    known = as_first_known(features, KEY).collect().lazy()

    def from_origin(origin: date) -> pl.DataFrame:
        return forecast(train(features, origin, seed=seed, compute=compute), known, origin)

    forecasts = pl.concat(compute.map(from_origin, origins)).rename({"as_of": "origin"}).lazy()
    for name, baseline in BASELINES.items():
        naive = baseline(known, "net", origins, by=["product_group"], horizons=HORIZONS).rename({"net": name})
        forecasts = forecasts.join(naive, on=[*KEY, "origin", "horizon"])
    return (
        forecasts.join(as_known(features, KEY).select(*KEY, actual="net"), on=KEY)
        .select("origin", "day", "horizon", "product_group", "actual", "p10", "p50", "p90", *BASELINES)
        .sort("origin", *KEY)
        .collect()
    )


def _every(rows: int) -> int:
    """Of how many rows one is kept; coprime to week and horizons, so that every weekday and horizon stays."""
    step = math.ceil(rows / MOST_ROWS)
    return next(every for every in range(max(step, 1), 2 * step + 8) if every == 1 or (every % 2 and every % 7))


def _fit(rows: pl.DataFrame, seed: int, compute: Compute) -> QuantileModel:
    # An error weighs by the revenue at stake, dampened: a few very large days would drown the others.
    weighted = rows.sort("origin", "horizon", "product_group").with_columns(
        weight=pl.col("reference").sqrt() / pl.col("reference").sqrt().mean()
    )
    return fit_quantiles(
        weighted,
        MODEL_INPUTS,
        "ratio",
        weight="weight",
        quantiles=QUANTILES,
        parameters=PARAMETERS,
        rounds=ROUNDS,
        seed=seed,
        compute=compute,
    )
