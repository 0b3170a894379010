"""What this product declares before its predictions: the feature set, and the model that learns from it, with its test.

How features are computed is in `features`, how the model is trained in `model`.
"""

from datetime import date

import polars as pl

from lakehouse_assets import Trailing, feature_set, model
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.features.point_in_time import as_first_known
from lakehouse_assets.platform.modelling.metrics import coverage, wape
from lakehouse_assets.platform.modelling.plots import backtest_plot
from lakehouse_assets.platform.modelling.quantile import QuantileModel, load_quantile_model
from lakehouse_assets.platform.modelling.result import HistoryTooShort, Training
from lakehouse_assets.platform.modelling.splits import anchored_origins
from lakehouse_assets.platform.storage.known_at import KNOWN_AT, as_known
from lakehouse_assets.products.revenue_forecast import model as forecasting
from lakehouse_assets.products.revenue_forecast.contracts import DailyFeatures
from lakehouse_assets.products.revenue_forecast.features import FEATURE_LOOKBACK, HORIZONS, KEY, LOOKBACK, MODEL_INPUTS, daily_features
from lakehouse_assets.products.revenue_forecast.model import BASELINES

FEATURES = "revenue_forecast.features.daily_statistics"
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
    features = features.collect().lazy()
    origins, last = _origins(features)
    # The champion learns from late invoices too: it forecasts what comes, and is held against nothing that they tell of.
    newest = features.select(pl.col(KNOWN_AT).max()).collect().item()
    trained = forecasting.train(features, last, seed=seed, compute=Local(), outcomes_known_at=newest)
    tested = forecasting.backtest(features, origins, seed=seed, compute=Local())
    compared = ("p50", *BASELINES)
    scores = [wape("actual", name).alias(f"wape_{name}") for name in compared]
    by_origin = tested.group_by("origin").agg(wape("actual", name) for name in compared).rename({"p50": "model"})
    parts = {"by_group": ["product_group"], "by_horizon": ["horizon"], "by_group_and_horizon": ["product_group", "horizon"]}
    return Training(
        model=trained,
        loader="lakehouse_assets.platform.modelling.quantile:load_quantile_model",
        packages=("lightgbm", "numpy", "polars"),
        input_example=forecasting.rows_from(as_first_known(features, KEY), last).head(5).select(MODEL_INPUTS),
        backtest=tested.rename({"p50": "model"}),
        row=("origin", "day", "product_group"),
        baselines=tuple(BASELINES),
        parameters={**forecasting.PARAMETERS, "rounds": forecasting.ROUNDS, "cutoff": last, "origins": len(origins)},
        metrics=tested.select(*scores, coverage("actual", "p10", "p90")).row(0, named=True),
        breakdowns={name: tested.group_by(by).agg(wape=wape("actual", "p50")).sort(by) for name, by in parts.items()},
        plots={"backtest": backtest_plot(by_origin, model="model", baselines=tuple(BASELINES))},
    )


def score(trained: QuantileModel, features: pl.LazyFrame) -> pl.DataFrame:
    """The forecast of the 28 days after the newest known day, with the newest values known."""
    last = as_known(features, KEY).select(pl.col("day").max()).collect().item()
    recent = features.filter(pl.col("day") > last - LOOKBACK)
    return forecasting.forecast(trained, as_known(recent, KEY).collect().lazy(), last)


def _origins(features: pl.LazyFrame) -> tuple[list[date], date]:
    """The origins that a training is tested on, and the last day of all."""
    first, last = as_known(features, KEY).select(first=pl.col("day").min(), last=pl.col("day").max()).collect().row(0)
    days = (last - first).days + 1 if first else 0
    origins = anchored_origins(last, count=_MOST_ORIGINS, step=HORIZONS, horizons=HORIZONS) if days else []
    usable = [origin for origin in origins if (origin - first).days + 1 >= forecasting.LEAST_DAYS]
    if len(usable) < _LEAST_ORIGINS:
        needed = forecasting.LEAST_DAYS + HORIZONS * (_LEAST_ORIGINS + 1)
        raise HistoryTooShort(
            f"{needed} days of revenue are needed to train a model and to test it on {_LEAST_ORIGINS} origins, and there are {days}. "
            f"Land {max(needed - days, 1)} more days of invoices."
        )
    return usable, last
