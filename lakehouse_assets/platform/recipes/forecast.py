"""The recipe `forecast`: feature set, model and prediction table of a daily series, declared at once from the same pieces.

It only puts declarations together. How series are forecast is in `modelling.forecasting`.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations import places
from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError, Declares, require_once
from lakehouse_assets.platform.declarations.computed_kinds import Trailing
from lakehouse_assets.platform.declarations.features import FeatureSet, feature_set
from lakehouse_assets.platform.declarations.gates import Gate
from lakehouse_assets.platform.declarations.models import MODEL_VERSION, ModelDeclaration, Predictions, model, predictions
from lakehouse_assets.platform.declarations.retraining import Retrain
from lakehouse_assets.platform.modelling import plots
from lakehouse_assets.platform.modelling.forecasting.direct import DirectForecast
from lakehouse_assets.platform.modelling.forecasting.examples import SeriesExamples
from lakehouse_assets.platform.modelling.forecasting.plain import plain_forecasts
from lakehouse_assets.platform.modelling.forecasting.series import DAY, FEATURE_LOOKBACK, MOST_HORIZON, VALUE, Series
from lakehouse_assets.platform.modelling.forecasting.statistics import daily_features
from lakehouse_assets.platform.modelling.metrics import Bias, Coverage, MeanAbsoluteError, Pinball, Wape
from lakehouse_assets.platform.modelling.quantile import quantile_name
from lakehouse_assets.platform.modelling.splits import RollingOrigins
from lakehouse_assets.platform.recipes.contracts import features_contract, predictions_contract, reserved
from lakehouse_assets.platform.registry.ledger import last_decision
from lakehouse_assets.platform.storage.known_at import as_known

_NAME = re.compile(r"([a-z][a-z0-9_]*)(?:\.([a-z][a-z0-9_]*))?")
_CALENDAR = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")
_WHOLE_PERCENT = 1e-9

Read = Callable[[str], pl.LazyFrame]


@dataclass(frozen=True)
class Forecast(Declares):
    """What `forecast` declared.

    Attributes:
        series: What is forecast.
        features: The feature set: trailing statistics at the end of each day.
        model: The model.
        predictions: The prediction table.
    """

    series: Series
    features: FeatureSet
    model: ModelDeclaration
    predictions: Predictions

    @property
    def declarations(self) -> tuple[Declaration, ...]:
        """See `Declares.declarations`."""
        return (self.features, self.model, self.predictions)

    def newest(self, read: Read) -> pl.LazyFrame:
        """The rows of the champion's newest forecast, none without a champion; `read` gives the rows of a table by its name."""
        return _newest(self.predictions.name, self.model.name, read)


def forecast(
    name: str,
    *,
    series: str,
    time: str,
    value: str,
    by: tuple[str, ...] = (),
    horizon: int = 28,
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9),
    calendar: str | None = None,
    where: pl.Expr | None = None,
    count: str | None = None,
    gate: Gate = Gate(),  # noqa: B008 it is frozen
    retrain: Retrain | None = None,
    owner: str | None = None,
) -> Forecast:
    """Declare the forecast of a daily series: a feature set, a model and a prediction table.

    Assign it to a name in a module of the product. `lakehouse run` computes the feature set, `lakehouse train` trains the model, and its
    champion forecasts the days after the last one. A model becomes champion if it beats the same weekday of the last week, means of it over
    four and eight weeks, and a reference of level, week and season; until then the best of these forecasts.

    The model learns ratios to a series' own level, so the level has to be above zero; single days may be zero or negative. Some months have
    to be known before it can be trained and tested; until then the training says how many days are missing.

    Args:
        name: `product` or `product.name`. The tables are `product.features.name` and `product.predictions.name`, the model is
            `product.models.name`; without a name it is the last word of `series`.
        series: The table that has the values, any number of rows a day.
        time: Its column of dates.
        value: Its column of numbers, which are added up by day. A day without a row counts as zero.
        by: Its columns that tell several series apart, which are forecast together; texts, or what is written as one.
        horizon: Days that are forecast, 1 to 182.
        quantiles: Whole percents, ascending and symmetric around 0.5: the columns `p10`, `p50`, `p90`.
        calendar: Country whose public holidays the model knows, as the library `holidays` calls it, perhaps with a part of the country, as
            "GB" or "GB-ENG". None: no holidays.
        where: Which rows of the table count.
        count: Its column that says how much happened, such as a number of orders: a day on which it adds up to nothing is closed. None: a
            day without a row is closed.
        gate: What a challenger has to pass.
        retrain: What starts a training besides people and the weekly schedule.
        owner: Who answers for the tables; the product's team by default.

    Raises:
        DeclarationError: The declaration cannot be meant.

    Example::

        revenue = forecast(
            "revenue_forecast", series="sales.gold.daily_revenue", time="day", value="net", by=("product_group",), calendar="GB"
        )
    """
    product, last = _words(name, series)
    require_once(f"forecast {name!r}", "by", by)
    what = Series(time, value, tuple(by), count, horizon, tuple(quantiles), calendar)
    _check(name, series, what)
    # The parameters that they use are part of the code of the functions below: a change of one is a change of the table.
    rows_of = None if where is None else where.meta.serialize(format="json")
    made_by = partial(places.by_recipe, at=places.of_caller())
    made = partial(made_by, parameters=repr((what, rows_of)))
    names = {layer: f"{product}.{layer}.{last}" for layer in ("features", "models", "predictions")}
    key = what.stored_key

    def statistics(rows: pl.LazyFrame) -> pl.LazyFrame:
        return daily_features(rows if where is None else rows.filter(where), what)

    statistics.__doc__ = (
        f"What was known of {value} at the end of each day; what was revised later is a row of its own, as it became known."
    )
    features = feature_set(
        names["features"],
        contract=features_contract(series, what),
        entity=what.by,
        event_time=time,
        kind=Trailing(time, lookback=FEATURE_LOOKBACK),
        inputs={"rows": series},
        when_over=True,
        owner=owner,
    )(made_by(statistics, parameters=repr((time, value, by, count, rows_of))))

    each = f" for each {' and '.join(by)}" if by else ""
    examples = SeriesExamples(what, features.name, features.fingerprint)
    names_of = [quantile_name(quantile) for quantile in what.quantiles]
    bands = (Coverage(names_of[0], names_of[-1]),) if len(names_of) > 1 else ()
    trained = model(
        names["models"],
        description=f"{value}{each} on each of the next {horizon} days, as quantiles and as a mean.",
        examples=examples,
        learner=DirectForecast(what),
        split=RollingOrigins(horizon=horizon, step=what.step, least=what.least_days),
        metric=Wape(),
        metrics=(Bias(), MeanAbsoluteError(), Pinball(), *bands),
        baselines=plain_forecasts(what),
        # The plain forecasts are rules of one column.
        one_line_rule=False,
        gate=_of_own_inputs(gate),
        retrain=retrain,
        owner=owner,
    )

    def predict(champion: Any, features: pl.LazyFrame) -> pl.LazyFrame:
        rows = examples.newest(features).collect()
        keys = rows.select(pl.col("origin").alias("as_of"), pl.col(DAY).alias(time), pl.col("horizon").cast(pl.Int64), *by)
        return keys.hstack(champion.model.predict(rows)).lazy()

    def draw(read: Read) -> bytes:
        """The champion's newest forecast, and what came before it."""
        newest = _newest(names["predictions"], trained.name, read).collect()
        history = as_known(read(features.name), key).collect()
        return _plot(history, newest, what)

    predict.__doc__ = f"{value}{each}, {horizon} days ahead, as quantiles and as a mean, which is what adds up."
    predicted = predictions(
        names["predictions"],
        contract=predictions_contract(series, what),
        model=trained,
        features=features.name,
        key=("as_of", "horizon", *by, MODEL_VERSION),
        picture=draw,
        owner=owner,
    )(made(predict))
    return Forecast(what, features, trained, predicted)


def _of_own_inputs(gate: Gate) -> Gate:
    """The recipe makes all inputs itself, of what was known, and nobody can leave one out.

    One that tells the value alone is a regular series, season is no drift, and what goes with time is the calendar of the day that is
    forecast, or a series that grows: the model learns ratios to its level.
    """
    if gate.leakage is None:
        return gate
    never = (math.inf, math.inf)
    limits = replace(gate.leakage, determines=never, equals=never, drift=never, clock=never, identifier=never)
    return replace(gate, leakage=limits)


def _newest(table: str, ledger: str, read: Read) -> pl.LazyFrame:
    decision = last_decision(read(ledger))
    champion = pl.lit(decision["champion"] if decision else None, dtype=pl.Int64)
    forecasts = read(table).filter(pl.col(MODEL_VERSION) == champion)
    # Not the one of the latest day: that may be a day which its source took back.
    return forecasts.filter(pl.col("as_of") == pl.col("as_of").sort_by("scored_at", "as_of").last())


def _plot(history: pl.DataFrame, newest: pl.DataFrame, series: Series) -> bytes:
    label = pl.concat_str(series.by, separator=", ") if series.by else pl.lit(series.value)
    past, future = (frame.with_columns(series=label).rename({series.time: DAY}) for frame in (history, newest))
    names = [quantile_name(quantile) for quantile in series.quantiles]
    band = (names[0], names[-1])
    return plots.forecast_plot(past.select("series", DAY, series.value), future, value=series.value, by="series", quantiles=band)


def _words(name: str, series: str) -> tuple[str, str]:
    """The product and the last word of the names."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise DeclarationError(f"forecast {name!r}: write product or product.name in lower case, as in library.loans")
    if series.count(".") != 2:
        raise DeclarationError(f"forecast {name!r}: series={series!r} is no name of a table: write it as in sales.gold.daily_revenue")
    return found[1], found[2] or series.rpartition(".")[2]


def _check(name: str, table: str, series: Series) -> None:
    """Refuse what cannot be forecast.

    Raises:
        DeclarationError: With the parameter and the remedy.
    """
    where = f"forecast {name!r}"
    if not 1 <= series.horizon <= MOST_HORIZON:
        raise DeclarationError(f"{where}: horizon is a number of days from 1 to {MOST_HORIZON}, not {series.horizon}")
    percents = [100 * quantile for quantile in series.quantiles]
    whole = [round(percent) for percent in percents]
    if any(abs(a - b) > _WHOLE_PERCENT for a, b in zip(percents, whole, strict=True)) or not all(0 < percent < 100 for percent in whole):
        raise DeclarationError(f"{where}: quantiles are whole percents between 0 and 1, as 0.1, not {series.quantiles}")
    if whole != sorted({*whole}) or [100 - percent for percent in reversed(whole)] != whole or 50 not in whole:
        raise DeclarationError(f"{where}: quantiles ascend symmetrically around 0.5, as in (0.1, 0.5, 0.9), not {series.quantiles}")
    if series.calendar is not None and not _CALENDAR.fullmatch(series.calendar):
        raise DeclarationError(
            f"{where}: calendar={series.calendar!r} is no country: write its code, as 'GB', or 'GB-ENG' for a part of it"
        )
    taken = [series.time, series.value, *series.by]
    if len({*taken}) < len(taken):
        raise DeclarationError(f"{where}: time, value and by are different columns, not {', '.join(taken)}")
    own = ((series.time, DAY), (series.value, VALUE), *((column, "") for column in series.by))
    if clash := [column for column, inside in own if column in reserved(series) and column != inside]:
        raise DeclarationError(f"{where}: the forecast adds a column {clash[0]!r} itself: rename that of {table}")
