"""What this product declares before its predictions: the feature set, and the model that learns from it.

How features are computed is in `features`, how the model is trained in `model`; here both are declared, and a training is put together
with its test.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl

from lakehouse_assets import Trailing, feature_set, model
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.features.point_in_time import as_first_known
from lakehouse_assets.platform.modelling import metrics, plots
from lakehouse_assets.platform.modelling.quantile import load_quantile_model
from lakehouse_assets.platform.modelling.result import HistoryTooShort, Training
from lakehouse_assets.platform.modelling.splits import anchored_origins
from lakehouse_assets.platform.storage.known_at import as_known
from lakehouse_assets.products.revenue_forecast import model as forecasting
from lakehouse_assets.products.revenue_forecast.contracts import DailyFeatures
from lakehouse_assets.products.revenue_forecast.features import (
    FEATURE_LOOKBACK,
    HORIZONS,
    LOOKBACK,
    MODEL_INPUTS,
    daily_features,
    forecast_rows,
)

FEATURES = "revenue_forecast.features.daily_statistics"
KEY = ("product_group", "day")
# What the shop sells; carriage, fees and the like are revenue, but nobody plans them by product group.
_GOODS = ("base", "add-on")
_MOST_ORIGINS, _LEAST_ORIGINS = 5, 2


@feature_set(
    FEATURES,
    contract=DailyFeatures,
    entity=("product_group",),
    event_time="day",
    kind=Trailing("day", lookback=FEATURE_LOOKBACK),
    inputs={"revenue": "sales.gold.daily_revenue"},
)
def daily_statistics(revenue: pl.LazyFrame) -> pl.LazyFrame:
    """What was known of each product group at the end of each day; what was revised later is a row of its own, as it became known."""
    return daily_features(revenue.filter(pl.col("component").is_in(_GOODS)))


@model("revenue_forecast.models.daily_revenue", features=FEATURES, load=load_quantile_model)
def daily_revenue_model(features: pl.LazyFrame, seed: int) -> Training:
    """One LightGBM model of net revenue for all product groups and each of the next 28 days, with a band for eight days in ten."""
    return fit(features, seed)


def fit(features: pl.LazyFrame, seed: int) -> Training:
    """Train on the whole history, and test the same training on origins whose outcome is known.

    Args:
        features: The feature set with all revisions. The model learns from what was known on the day, and what really came.
        seed: Of the training.

    Raises:
        HistoryTooShort: There are too few days to train and to test on.
    """
    revisions = features.collect().lazy()
    known = as_first_known(revisions, KEY).collect().lazy()

    def outcomes(day: date | None) -> pl.LazyFrame:
        at = None if day is None else datetime.combine(day + timedelta(days=1), time(), UTC)
        return as_known(revisions, KEY, at).select(*KEY, "net")

    last = known.select(pl.col("day").max()).collect().item()
    origins = _origins(known, last)
    tested = forecasting.backtest(known, origins, seed=seed, compute=Local(), outcomes_known_at=outcomes)
    trained = forecasting.train(known, last, seed=seed, compute=Local(), outcomes=outcomes(None))
    scores = [metrics.wape("actual", name).alias(name) for name in ("p50", *forecasting.BASELINES)]
    whole = tested.select(*scores, metrics.coverage("actual", "p10", "p90")).row(0, named=True)
    return Training(
        model=trained,
        loader="lakehouse_assets.platform.modelling.quantile:load_quantile_model",
        packages=("lightgbm", "numpy", "polars"),
        input_example=forecast_rows(known).filter(pl.col("origin") == last).head(5).select(MODEL_INPUTS).collect(),
        backtest=tested.rename({"p50": "model"}),
        row=("origin", "day", "product_group"),
        baselines=forecasting.BASELINES,
        parameters={**forecasting.PARAMETERS, "rounds": forecasting.ROUNDS, "cutoff": last, "origins": len(origins)},
        metrics={f"wape_{name}": value for name, value in whole.items() if name != "coverage"} | {"coverage": whole["coverage"]},
        breakdowns={
            "by_group": tested.group_by("product_group").agg(metrics.wape("actual", "p50").alias("wape")).sort("product_group"),
            "by_horizon": tested.group_by("horizon").agg(metrics.wape("actual", "p50").alias("wape")).sort("horizon"),
            "by_group_and_horizon": tested.group_by("product_group", "horizon")
            .agg(metrics.wape("actual", "p50").alias("wape"))
            .sort("product_group", "horizon"),
        },
        plots={"backtest": _picture(tested)},
    )


def _picture(tested: pl.DataFrame) -> bytes:
    scores = tested.group_by("origin").agg(metrics.wape("actual", name) for name in ("p50", *forecasting.BASELINES))
    return plots.backtest_plot(scores.rename({"p50": "model"}), model="model", baselines=forecasting.BASELINES)


def score(trained: Any, features: pl.LazyFrame) -> pl.DataFrame:
    """The forecast of the 28 days after the newest known day, with the newest values known."""
    last = features.select(pl.col("day").max()).collect().item()
    recent = features.filter(pl.col("day") > last - LOOKBACK)
    return forecasting.forecast(trained, as_known(recent, KEY).collect().lazy(), last)


def _origins(known: pl.LazyFrame, last: date) -> list[date]:
    first = known.select(pl.col("day").min()).collect().item()
    origins = [] if first is None else anchored_origins(last, count=_MOST_ORIGINS, step=HORIZONS, horizons=HORIZONS)
    usable = [origin for origin in origins if (origin - first).days + 1 >= forecasting.LEAST_DAYS]
    if len(usable) < _LEAST_ORIGINS:
        days = 0 if first is None else (last - first).days + 1
        needed = forecasting.LEAST_DAYS + HORIZONS * (_LEAST_ORIGINS + 1)
        raise HistoryTooShort(
            f"{needed} days of revenue are needed to train a model and to test it on {_LEAST_ORIGINS} origins, and there are {days}. "
            f"Land {max(needed - days, 1)} more days of invoices."
        )
    return usable
