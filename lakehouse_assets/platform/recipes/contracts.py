"""The contracts of a forecast, made of the columns of its series: of the feature set, and of the prediction table."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from itertools import pairwise
from types import new_class
from typing import Any

import polars as pl

from lakehouse_assets.platform.modelling.forecasting.model import MEAN
from lakehouse_assets.platform.modelling.forecasting.series import (
    ACTIVE_DAYS,
    CAPPED_WEEKDAY_WEEKS,
    COUNT_DAYS,
    DAY,
    LEVEL_DAYS,
    MEDIAN_DAYS,
    TOTAL_CAPPED_WEEKDAY_WEEKS,
    VALUE,
    WEEKDAY_WEEKS,
    WINDOW_WEEKS,
    Series,
)
from lakehouse_assets.platform.modelling.quantile import MEDIAN, quantile_name
from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column, rule
from lakehouse_assets.platform.quality.copied import copied
from lakehouse_assets.platform.storage.known_at import OWN_COLUMNS

Columns = Mapping[str, tuple[Any, Any]]


def features_contract(table: str, series: Series) -> type[Contract]:
    """What was known of each series at the end of a day; `table` has the values. Where these are personal, statistics of them are too."""

    def of_value(description: str, **options: Any) -> tuple[Any, Any]:
        return float, copied(column(description=description, **options), table, series.value)

    def number(description: str) -> tuple[Any, Any]:
        return of_value(description, nullable=True)

    whose = {"": f"{series.value} of the series", "total_": f"{series.value} of all series together"}
    columns: dict[str, tuple[Any, Any]] = {
        **{name: (str, copied(column(key=True), table, name)) for name in series.by},
        series.time: (date, copied(column(key=True, description="The day at whose end this was known."), table, series.time)),
        "known_at": (
            Timestamp,
            column(description="From when on this was known: the midnight after the day, later if it was revised."),
        ),
        series.value: of_value("Sum of the day."),
        "total_value": of_value(f"Sum of {series.value} over all series."),
        "is_open": (bool, column(description="Whether anything happened in any series.")),
        "open_days_28": (float, column(nullable=True, description="Open days among the last 28.")),
        "weekday_open": (float, column(nullable=True, description="Share of the last weeks that were open on this weekday.")),
        "holiday_open": (float, column(nullable=True, description="Share of the holidays of the last year that were open.")),
        "year_end_open": (float, column(nullable=True, description="Share of the days from 24 December to 3 January that were open.")),
    }
    for prefix, of in whose.items():
        capped_weeks = CAPPED_WEEKDAY_WEEKS if not prefix else TOTAL_CAPPED_WEEKDAY_WEEKS
        for days in LEVEL_DAYS:
            columns[f"{prefix}level_{days}"] = number(f"{of}: mean of the open days among the last {days}.")
            columns[f"{prefix}capped_level_{days}"] = number(f"{of}: the same of days that count up to some medians.")
        for weeks in WEEKDAY_WEEKS:
            columns[f"{prefix}weekday_{weeks}"] = number(f"{of}: mean of this weekday over the last {weeks} weeks.")
        for weeks in capped_weeks:
            columns[f"{prefix}capped_weekday_{weeks}"] = number(f"{of}: the same of days that count up to some medians, {weeks} weeks.")
    columns |= {
        **{f"median_{days}": number(f"Median of the open days among the last {days}.") for days in MEDIAN_DAYS},
        **{
            f"window_average_{weeks}": number(f"Mean of this weekday over the last {weeks} weeks, closed days too.")
            for weeks in WINDOW_WEEKS
        },
        **{f"count_level_{days}": _number(f"How much happened on an open day of the last {days}, on average.") for days in COUNT_DAYS},
        "total_count_level_28": _number("How much happened in all series on an open day of the last 28, on average."),
        "deviation_28": of_value("Standard deviation of the open days among the last 28.", nullable=True, ge=0),
        **{
            f"active_share_{days}": _number(f"Share of the open days among the last {days} on which the series had something.")
            for days in ACTIVE_DAYS
        },
    }
    known = rule("a day is known when it has ended", pl.col("known_at").dt.date() > pl.col(series.time))
    return _contract("DailyStatistics", f"What was known of {series.value} at the end of a day.", columns, {"known_after_the_day": known})


def _number(description: str) -> tuple[Any, Any]:
    return float, column(nullable=True, description=description)


def predictions_contract(table: str, series: Series) -> type[Contract]:
    """What the champion expected of each series on one day to come; `table` has the values.

    An estimate of what is personal is personal too.
    """

    def estimate(description: str) -> tuple[Any, Any]:
        return float, copied(column(description=description), table, series.value)

    columns: dict[str, tuple[Any, Any]] = {
        "as_of": (date, column(key=True, description="The last day that the forecast knew.")),
        series.time: (date, column(description="The day that it is about.")),
        "horizon": (
            int,
            column(key=True, in_range={"min_value": 1, "max_value": series.horizon}, description=f"Days from `as_of` to `{series.time}`."),
        ),
        **{name: (str, copied(column(key=True), table, name)) for name in series.by},
        **{quantile_name(one): estimate(_quantile(series.value, one)) for one in series.quantiles},
        MEAN: estimate(f"{series.value} on average: the sum of several days or series is the sum of their means."),
        "model_name": (str, column(description="Registered model.")),
        "model_version": (int, column(key=True, ge=1, description="Its version.")),
        "feature_version": (int, column(ge=0, description="Delta version of the feature set that was scored.")),
        "scored_at": (Timestamp, column(description="When it was scored.")),
    }
    names = [quantile_name(quantile) for quantile in series.quantiles]
    ahead = pl.col("as_of") + pl.duration(days=pl.col("horizon"))
    rules = {"day_is_ahead": rule(f"{series.time} = as_of + horizon", pl.col(series.time) == ahead)}
    if len(names) > 1:
        in_order = pl.all_horizontal(pl.col(lower) <= pl.col(upper) for lower, upper in pairwise(names))
        rules["quantiles_do_not_cross"] = rule(" <= ".join(names), in_order)
    return _contract("Forecast", f"What the champion expected of {series.value} on one day to come.", columns, rules)


def reserved(series: Series) -> frozenset[str]:
    """The names that columns of a series cannot have: those that the tables and the work on them add."""
    inside = {"origin", "count", "last_day", "reference", "level", "ratio", "weight", "actual", "model", "expected_open"}
    neutral = replace(series, time=DAY, value=VALUE, by=())
    added = {
        name for contract in (features_contract("", neutral), predictions_contract("", neutral)) for name in contract.to_schema().columns
    }
    return frozenset(added | inside | OWN_COLUMNS.keys())


def _quantile(value: str, quantile: float) -> str:
    if quantile == MEDIAN:
        return f"{value}: as likely more as less."
    return f"{value} stays below this {100 * quantile:g} times in a hundred."


def _contract(name: str, doc: str, columns: Columns, rules: Mapping[str, Any]) -> type[Contract]:
    annotations = {column: annotation for column, (annotation, _) in columns.items()}
    fields = {column: field for column, (_, field) in columns.items()}
    content = {"__annotations__": annotations, "__doc__": doc, "__module__": __name__, **fields, **rules}
    return new_class(name, (Contract,), exec_body=lambda namespace: namespace.update(content))
