"""The forecast of a daily series as functions of its feature table: train up to a day, forecast from a day, and test by a backtest.

They put examples and learners together. How a declared model is tested and trained is in `modelling.evaluation`.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import partial

import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import Learner, Predictor
from lakehouse_assets.platform.modelling.forecasting.direct import DirectForecast
from lakehouse_assets.platform.modelling.forecasting.examples import SeriesExamples
from lakehouse_assets.platform.modelling.forecasting.inputs import forecast_rows
from lakehouse_assets.platform.modelling.forecasting.known_days import at_each_origin
from lakehouse_assets.platform.modelling.forecasting.model import MEAN
from lakehouse_assets.platform.modelling.forecasting.series import DAY, NAIVE, VALUE, Series, window_average
from lakehouse_assets.platform.modelling.quantile import quantile_name

BASELINES: Mapping[str, str] = {"seasonal_naive": NAIVE, "seasonal_window_average": window_average(4)}
"""Names of the baselines of a backtest, and the inputs that they are."""


def train(
    features: pl.LazyFrame,
    series: Series,
    cutoff: date,
    *,
    seed: int,
    compute: Compute,
    learner: Learner | None = None,
    outcomes_known_at: datetime | None = None,
) -> Predictor:
    """Train on what was known at the end of each day up to `cutoff`, and on nothing that became known later, unless that is asked for.

    Args:
        features: Rows of `daily_features` with all revisions; days after the cutoff are not used.
        series: What they are.
        cutoff: Last day of the training period.
        seed: The same seed and features give the same model, byte for byte.
        compute: Where to train.
        learner: What learns; None: `DirectForecast(series)`.
        outcomes_known_at: Outcomes up to the cutoff are learnt as they were known then; None: at the midnight (UTC) that ends the cutoff,
            so that a forecast from there can be held against what came.

    Raises:
        NotEnoughData: There are too few days: see the learner's `fit`.
    """
    examples = SeriesExamples(series, "")
    midnight = datetime.combine(cutoff + timedelta(days=1), time(), UTC)
    rows = examples.rows(lambda _: features.filter(pl.col(series.time) <= cutoff), outcomes_known_at or midnight)
    return (learner or DirectForecast(series)).fit(examples.training(rows), seed=seed, compute=compute)


def forecast(model: Predictor, rows: pl.DataFrame, series: Series) -> pl.DataFrame:
    """The predictions of some rows of examples.

    Returns:
        `as_of`, `day`, `horizon`, the columns of `by`, the quantiles and `mean` in the unit of the values, sorted by series and day.
    """
    rows = rows.sort("origin", *series.key)
    keys = rows.select(pl.col("origin").alias("as_of"), DAY, "horizon", *series.by)
    return keys.hstack(model.predict(rows.select(model.inputs)))


def rows_from(features: pl.LazyFrame, series: Series, origins: Sequence[date]) -> pl.DataFrame:
    """`forecast_rows` of some origins as each of them knew it, sorted by series and day.

    Raises:
        ValueError: The features have no row of one of the days.
    """
    known = features.filter(pl.col(series.time) <= max(origins)).collect()
    rows = forecast_rows(at_each_origin(known, series), series).filter(pl.col("origin").is_in(origins)).collect()
    if missing := sorted({*origins} - {*rows["origin"]}):
        raise ValueError(f"no features of {missing[0]}: bring the feature table up to that day, or forecast from an earlier one")
    return rows.sort("origin", *series.key)


def backtest(
    features: pl.LazyFrame, series: Series, origins: Sequence[date], *, seed: int, compute: Compute, learner: Learner | None = None
) -> pl.DataFrame:
    """Forecasts from several origins, each by a model that knows what was known at the end of its origin, with outcome and baselines.

    Args:
        features: Rows of `daily_features` with all revisions.
        series: What they are.
        origins: Last day that each forecast may see.
        seed: Of the trainings.
        compute: Where to train.
        learner: See `train`.

    Returns:
        `origin`, `day`, `horizon`, the columns of `by`, `actual`, the quantiles, `mean`, and `BASELINES`, for the days whose outcome is
        known. A baseline is zero where its series does not reach back far enough.
    """
    features = features.collect().lazy()
    examples = SeriesExamples(series, "")
    everything = examples.rows(lambda _: features)
    rows = rows_from(features, series, origins)

    tested = partial(_from_origin, features, rows, series, seed, compute, learner)
    forecasts = pl.concat(compute.map(tested, origins)).rename({"as_of": "origin"})
    key = [*examples.key]
    actual = everything.filter(pl.col("origin").is_in(origins)).select(*key, pl.col(VALUE).alias("actual")).collect()
    plain = rows.select(*key, **{name: pl.col(column) for name, column in BASELINES.items()})
    quantiles = [quantile_name(quantile) for quantile in series.quantiles]
    return (
        forecasts.join(plain, on=key)
        .join(actual, on=key)
        .select("origin", DAY, "horizon", *series.by, "actual", *quantiles, MEAN, *BASELINES)
        .sort("origin", *series.key)
    )


def _from_origin(  # noqa: PLR0917
    features: pl.LazyFrame, rows: pl.DataFrame, series: Series, seed: int, compute: Compute, learner: Learner | None, origin: date
) -> pl.DataFrame:
    """What a model says that knows what was known at the end of its origin."""
    model = train(features, series, origin, seed=seed, compute=compute, learner=learner)
    return forecast(model, rows.filter(pl.col("origin") == origin), series)
