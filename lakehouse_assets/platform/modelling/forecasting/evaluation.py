"""A training of a daily forecast with its test, as registry and gate take it, and the scores of a champion.

How it learns is in `training`.
"""

from datetime import date

import polars as pl

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.features.point_in_time import as_first_known
from lakehouse_assets.platform.modelling.forecasting.inputs import MODEL_INPUTS
from lakehouse_assets.platform.modelling.forecasting.series import DAY, Series
from lakehouse_assets.platform.modelling.forecasting.training import BASELINES, PARAMETERS, ROUNDS, backtest, forecast, rows_from, train
from lakehouse_assets.platform.modelling.metrics import coverage, wape
from lakehouse_assets.platform.modelling.plots import backtest_plot
from lakehouse_assets.platform.modelling.quantile import MEDIAN, QuantileModel, quantile_name
from lakehouse_assets.platform.modelling.result import HistoryTooShort, Training
from lakehouse_assets.platform.modelling.splits import anchored_origins
from lakehouse_assets.platform.storage.known_at import KNOWN_AT, as_known

_MEDIAN = quantile_name(MEDIAN)
_MOST_ORIGINS, _LEAST_ORIGINS = 5, 2


def train_and_test(features: pl.LazyFrame, series: Series, seed: int) -> Training:
    """One LightGBM model of all series and days ahead, and what models of the last origins would have forecast.

    Raises:
        HistoryTooShort: There are too few days, or only zeros, to train and to test; it says how many days are missing.
    """
    features = features.collect().lazy()
    origins, last = _origins(features, series)
    # The champion learns from late rows too: it forecasts what comes, and is held against nothing that they tell of.
    newest = features.select(pl.col(KNOWN_AT).max()).collect().item()
    trained = train(features, series, last, seed=seed, compute=Local(), outcomes_known_at=newest)
    tested = backtest(features, series, origins, seed=seed, compute=Local())
    if not tested["actual"].abs().sum():
        raise HistoryTooShort(
            f"{series.value} is 0 on all days after {origins[0]} on which a model would be tested: there is nothing to measure errors "
            "against. Land days with other values."
        )
    compared = (_MEDIAN, *BASELINES)
    scores = [wape("actual", name).alias(f"wape_{name}") for name in compared]
    by_origin = tested.group_by("origin").agg(wape("actual", name) for name in compared).rename({_MEDIAN: "model"})
    parts: dict[str, list[str]] = {"by_group": [*series.by]} if series.by else {}
    parts |= {"by_horizon": ["horizon"]} | ({"by_group_and_horizon": [*series.by, "horizon"]} if series.by else {})
    lowest, highest = (quantile_name(series.quantiles[end]) for end in (0, -1))
    return Training(
        model=trained,
        loader="lakehouse_assets.platform.modelling.quantile:load_quantile_model",
        packages=("lightgbm", "numpy", "polars"),
        input_example=rows_from(as_first_known(features, series.stored_key), series, last).head(5).select(MODEL_INPUTS),
        backtest=tested.rename({_MEDIAN: "model"}),
        row=("origin", DAY, *series.by),
        baselines=tuple(BASELINES),
        parameters={**PARAMETERS, "rounds": ROUNDS, "cutoff": last, "origins": len(origins)},
        metrics=tested.select(*scores, coverage("actual", lowest, highest)).row(0, named=True),
        breakdowns={name: tested.group_by(by).agg(wape=wape("actual", _MEDIAN)).sort(by) for name, by in parts.items()},
        plots={"backtest": backtest_plot(by_origin, model="model", baselines=tuple(BASELINES))},
    )


def score(trained: QuantileModel, features: pl.LazyFrame, series: Series) -> pl.DataFrame:
    """The forecast of the days after the newest known one, with the newest values known: as `forecast`, without rows if there is no day."""
    day = pl.col(series.time)
    last = as_known(features, series.stored_key).select(day.max()).collect().item()
    if last is None:
        quantiles = {quantile_name(quantile): pl.Float64 for quantile in series.quantiles}
        return pl.DataFrame(
            schema={"as_of": pl.Date, DAY: pl.Date, "horizon": pl.Int32, **dict.fromkeys(series.by, pl.String), **quantiles}
        )
    recent = features.filter(day > last - series.lookback)
    return forecast(trained, as_known(recent, series.stored_key).collect().lazy(), series, last)


def _origins(features: pl.LazyFrame, series: Series) -> tuple[list[date], date]:
    """The origins that a training is tested on, and the last day of all."""
    day = pl.col(series.time)
    first, last = as_known(features, series.stored_key).select(first=day.min(), last=day.max()).collect().row(0)
    days = (last - first).days + 1 if first else 0
    origins = anchored_origins(last, count=_MOST_ORIGINS, step=series.step, horizons=series.horizon) if days else []
    usable = [origin for origin in origins if (origin - first).days + 1 >= series.least_days]
    if len(usable) < _LEAST_ORIGINS:
        needed = series.least_days + series.horizon + series.step * _LEAST_ORIGINS
        raise HistoryTooShort(
            f"{needed} days of {series.value} are needed to train a model and to test it on {_LEAST_ORIGINS} origins, and there are "
            f"{days}. Land {max(needed - days, 1)} more days."
        )
    return usable, last
