"""The model's inputs: for each origin and each day after it what was known at the origin, in units of the series' own level.

`forecast_rows` is the one source of inputs for training and prediction. The model itself does not belong here.
"""

from collections.abc import Mapping, Sequence

import polars as pl

from lakehouse_assets.platform.modelling.forecasting.known_days import KnownDays
from lakehouse_assets.platform.modelling.forecasting.series import (
    ACTIVE_DAYS,
    CAPPED_WEEKDAY_WEEKS,
    COUNT_DAYS,
    DAY,
    EARLIER_WEEKS,
    LEVEL,
    LEVEL_DAYS,
    MEDIAN_DAYS,
    NAIVE,
    REFERENCE,
    SEASON,
    TOTAL_CAPPED_WEEKDAY_WEEKS,
    VALUE,
    WEEKDAY_WEEKS,
    WINDOW_WEEKS,
    YEAR,
    Series,
    window_average,
)
from lakehouse_assets.platform.modelling.forecasting.statistics import mean_in_order
from lakehouse_assets.platform.modelling.horizons import same_weekday, with_horizons

# Ratios to the level of a series that hardly has any say nothing: its level counts as this share of the total.
SMALLEST_SHARE = 0.003
# A day that seems sure to be closed keeps a small reference: the model learns from ratios to it.
SMALLEST_OPENNESS = 0.05
# A season that was seen once is believed up to this factor; and of a rise, which may have been one large customer's or come at another
# time this year, only a share, by its logarithm. What falls, falls because days are closed, and that comes back.
_MOST_SEASON = 3.0
_RISE_BELIEVED = 0.5
_WEEKDAY_SHAPE = (0.05, 5.0)


def _ratio(value: str | pl.Expr, unit: str) -> pl.Expr:
    number = pl.col(value) if isinstance(value, str) else value
    return pl.when(pl.col(unit) > 0).then(number / pl.col(unit))


def calendar_inputs(series: Series) -> dict[str, pl.Expr]:
    """What is known in advance of the day that is forecast."""
    day = pl.col(DAY)
    return {
        "weekday": day.dt.weekday(),
        "day_of_month": day.dt.day(),
        "month": day.dt.month(),
        "holiday": series.is_holiday(day),
        "before_holiday": series.is_holiday(day + pl.duration(days=1)),
        "after_holiday": series.is_holiday(day - pl.duration(days=1)),
        "year_end": series.is_year_end(day),
    }


def _of_level(columns: Sequence[str], *, prefix: str = "") -> dict[str, pl.Expr]:
    return {f"{column}_ratio": _ratio(prefix + column, "level") for column in columns}


def _of_total(columns: Sequence[str], unit: str, *, prefix: str = "") -> dict[str, pl.Expr]:
    return {f"{column}_ratio": _ratio(prefix + column, unit) for column in columns}


# The series at the origin, and all together, without a unit.
ORIGIN_INPUTS: Mapping[str, pl.Expr] = {
    "total_share": _ratio("level", "total_level_28"),
    **{f"active_share_{days}": pl.col(f"active_share_{days}") for days in ACTIVE_DAYS},
    **_of_level([f"median_{days}" for days in MEDIAN_DAYS]),
    **_of_level(["deviation_28"]),
    **_of_level([f"level_{days}" for days in LEVEL_DAYS if days != 28]),
    **_of_level([f"capped_level_{days}" for days in LEVEL_DAYS]),
    "same_weekday_ratio": _ratio(f"last_{VALUE}", "level"),
    **{f"same_weekday_{weeks}_ratio": _ratio(f"weeks_{weeks}_{VALUE}", "level") for weeks in EARLIER_WEEKS},
    **_of_level([f"weekday_{weeks}" for weeks in WEEKDAY_WEEKS], prefix="last_"),
    **_of_level([f"capped_weekday_{weeks}" for weeks in CAPPED_WEEKDAY_WEEKS], prefix="last_"),
    **{f"count_level_{days}_ratio": _ratio(f"count_level_{days}", "count_level_28") for days in COUNT_DAYS if days != 28},
    "count_level_28": pl.col("count_level_28"),
    "value_per_count": _ratio(_ratio("level", "count_level_28") * pl.col("total_count_level_28"), "total_level_28"),
    "open_days_28": pl.col("open_days_28"),
    **_of_total([f"total_level_{days}" for days in LEVEL_DAYS if days != 28], "total_level_28"),
    **_of_total([f"total_weekday_{weeks}" for weeks in WEEKDAY_WEEKS], "total_level_28", prefix="last_"),
    **_of_total([f"total_capped_level_{days}" for days in LEVEL_DAYS if days != 28], "total_capped_level_28"),
    **_of_total([f"total_capped_weekday_{weeks}" for weeks in TOTAL_CAPPED_WEEKDAY_WEEKS], "total_capped_level_28", prefix="last_"),
    "season": _ratio("then_month_level_28", "then_origin_level_28"),
    "week_season": _ratio("then_week_total_level_7", "then_origin_total_level_28"),
    "month_season": _ratio("then_month_total_level_28", "then_origin_total_level_28"),
    "year_growth": _ratio("total_level_28", "then_origin_total_level_28"),
    "capped_season": _ratio("then_month_capped_level_28", "then_origin_capped_level_28"),
    "capped_week_season": _ratio("then_week_capped_level_7", "then_origin_capped_level_28"),
    "total_capped_week_season": _ratio("then_week_total_capped_level_7", "then_origin_total_capped_level_28"),
    "total_capped_month_season": _ratio("then_month_total_capped_level_28", "then_origin_total_capped_level_28"),
    "capped_year_growth": _ratio("total_capped_level_28", "then_origin_total_capped_level_28"),
}
MODEL_INPUTS = (
    "horizon",
    *("weekday", "day_of_month", "month", "holiday", "before_holiday", "after_holiday", "year_end"),
    "expected_open",
    *ORIGIN_INPUTS,
)
"""What the boosters see."""
MONEY_INPUTS = (REFERENCE, LEVEL, NAIVE, *(window_average(weeks) for weeks in WINDOW_WEEKS))
"""In the unit of the value: what the model's numbers are ratios to, and plain forecasts that a model has to beat."""
INPUTS = (*MODEL_INPUTS, SEASON, *MONEY_INPUTS)


def forecast_rows(known: KnownDays, series: Series) -> pl.LazyFrame:
    """The model's inputs for every origin and each of the days after it.

    Every value comes from a row that was known at the end of the origin and is not after it, or from the calendar.

    Args:
        known: Rows of `daily_features`.
        series: What they are.

    Returns:
        One row for each `by`, `origin` and `horizon` with the `day` that is forecast and `INPUTS`: `reference`, a plain forecast that is
        never negative, the season in it, the `level` of the series, zero where it has none above zero, and the plain forecasts, zero
        where the series does not reach back far enough. Ratios are null where history does not reach back far enough.
    """
    origin, day = pl.col("origin"), pl.col(DAY)
    weekdays = [
        *(f"weekday_{weeks}" for weeks in WEEKDAY_WEEKS),
        *(f"capped_weekday_{weeks}" for weeks in CAPPED_WEEKDAY_WEEKS),
        *(f"total_weekday_{weeks}" for weeks in WEEKDAY_WEEKS),
        *(f"total_capped_weekday_{weeks}" for weeks in TOTAL_CAPPED_WEEKDAY_WEEKS),
        *(window_average(weeks) for weeks in WINDOW_WEEKS),
        "weekday_open",
        VALUE,
    ]
    levels = ["level_28", "capped_level_28", "total_level_28", "total_capped_level_28"]
    earlier_days = {
        "last_": (same_weekday(), weekdays),
        # A trailing mean that is read half its length later is centred: the 28 days around a day end 14 days after it.
        "then_week_": (day - pl.duration(days=YEAR - 3), ["capped_level_7", "total_level_7", "total_capped_level_7"]),
        "then_fortnight_": (day - pl.duration(days=YEAR - 7), ["total_capped_level_14"]),
        "then_month_": (day - pl.duration(days=YEAR - 14), levels),
        "then_origin_": (origin - pl.duration(days=YEAR), levels),
        **{f"weeks_{weeks}_": (same_weekday(weeks - 1), [VALUE]) for weeks in EARLIER_WEEKS},
    }
    rows = with_horizons(known.origins.rename({DAY: "origin"}), series.horizon)
    for prefix, (earlier, columns) in earlier_days.items():
        rows = known.join(rows, earlier, columns, prefix=prefix)
    calendar = calendar_inputs(series)
    plain = {
        NAIVE: pl.col(f"last_{VALUE}").fill_null(0),
        **{window_average(weeks): pl.col(f"last_{window_average(weeks)}").fill_null(0) for weeks in WINDOW_WEEKS},
    }
    return (
        rows.with_columns(value.alias(name) for name, value in calendar.items())
        .pipe(_with_reference)
        .select(
            *series.by,
            "origin",
            "horizon",
            DAY,
            *calendar,
            "expected_open",
            SEASON,
            REFERENCE,
            pl.col(LEVEL).fill_null(0),
            **ORIGIN_INPUTS,
            **plain,
        )
    )


def _with_reference(rows: pl.LazyFrame) -> pl.LazyFrame:
    """A plain forecast: the series' level, shaped like the week and season of all together, on the days that are expected to be open.

    Single large days hardly move it: levels are of capped days, and a median is one of them.
    """
    special = pl.when("year_end").then("year_end_open").when("holiday").then("holiday_open").otherwise(1)
    week = _ratio("last_total_capped_weekday_13", "total_capped_level_91").fill_null(1).clip(*_WEEKDAY_SHAPE)
    # The season of last year: the days around the day that is forecast against those before the origin.
    fortnight = pl.col("then_fortnight_total_capped_level_14")
    around = (pl.coalesce("then_week_total_capped_level_7", fortnight) + fortnight) / 2
    last_year = _ratio(around, "then_origin_total_capped_level_28").fill_null(1).clip(1 / _MOST_SEASON, _MOST_SEASON)
    season = pl.when(last_year > 1).then(last_year**_RISE_BELIEVED).otherwise(last_year)
    level = mean_in_order([pl.col("capped_level_14"), pl.col("capped_level_28"), pl.col("median_28")])
    least = SMALLEST_SHARE * pl.col("total_level_91")
    opening = pl.max_horizontal("expected_open", SMALLEST_OPENNESS)
    return (
        rows.with_columns(
            season.alias(SEASON),
            expected_open=special * pl.col("last_weekday_open"),
            level=pl.max_horizontal("level_28", least, 0.0),
            plain_level=pl.max_horizontal(level, least, 0.0),
        )
        .with_columns(level=pl.when(pl.col("level") > 0).then("level"))
        .with_columns((pl.col("plain_level") * week * pl.col(SEASON) * opening).fill_null(0).clip(0).alias(REFERENCE))
    )
