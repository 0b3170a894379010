"""The model's inputs: for each origin and each day after it what was known at the origin, in units of the series' own level.

`forecast_rows` is the one source of inputs for training and prediction. The model itself does not belong here.
"""

from collections.abc import Mapping
from datetime import date, datetime

import polars as pl

from lakehouse_assets.platform.features.point_in_time import as_first_known
from lakehouse_assets.platform.modelling.forecasting.series import DAY, LEVEL_DAYS, VALUE, WEEKDAY_WEEKS, YEAR, Series
from lakehouse_assets.platform.modelling.horizons import join_day, same_weekday, with_horizons
from lakehouse_assets.platform.storage.known_at import as_known

# Ratios to the level of a series that hardly has any say nothing: its level counts as this share of the total.
SMALLEST_SHARE = 0.003
# A day that seems sure to be closed keeps a small reference: the model learns from ratios to it.
SMALLEST_OPENNESS = 0.05


def _ratio(value: str, unit: str) -> pl.Expr:
    return pl.when(pl.col(unit) > 0).then(pl.col(value) / pl.col(unit))


def calendar_inputs(series: Series) -> dict[str, pl.Expr]:
    """What is known in advance of the day that is forecast."""
    day = pl.col(DAY)
    return {
        "weekday": day.dt.weekday(),
        "holiday": series.is_holiday(day),
        "before_holiday": series.is_holiday(day + pl.duration(days=1)),
        "after_holiday": series.is_holiday(day - pl.duration(days=1)),
        "year_end": series.is_year_end(day),
    }


# The series at the origin, and all together, without a unit.
ORIGIN_INPUTS: Mapping[str, pl.Expr] = {
    "total_share": _ratio("level", "total_level_28"),
    "active_share_91": pl.col("active_share_91"),
    "median_ratio": _ratio("median_28", "level"),
    "deviation_ratio": _ratio("deviation_28", "level"),
    **{f"level_ratio_{days}": _ratio(f"level_{days}", "level") for days in LEVEL_DAYS if days != 28},
    "same_weekday_ratio": _ratio(f"last_{VALUE}", "level"),
    **{f"weekday_ratio_{weeks}": _ratio(f"last_weekday_{weeks}", "level") for weeks in WEEKDAY_WEEKS},
    "season": _ratio("then_month_level_28", "then_origin_level_28"),
    "open_days_28": pl.col("open_days_28"),
    **{f"total_level_ratio_{days}": _ratio(f"total_level_{days}", "total_level_28") for days in LEVEL_DAYS if days != 28},
    **{f"total_weekday_ratio_{weeks}": _ratio(f"last_total_weekday_{weeks}", "total_level_28") for weeks in WEEKDAY_WEEKS},
    "week_season": _ratio("then_week_total_level_7", "then_origin_total_level_28"),
    "month_season": _ratio("then_month_total_level_28", "then_origin_total_level_28"),
    "year_growth": _ratio("total_level_28", "then_origin_total_level_28"),
}
MODEL_INPUTS = (
    "horizon",
    *("weekday", "holiday", "before_holiday", "after_holiday", "year_end"),
    "expected_open",
    *ORIGIN_INPUTS,
)


def forecast_rows(features: pl.LazyFrame, series: Series) -> pl.LazyFrame:
    """The model's inputs for every origin and each of the days after it.

    Every value comes from a row of `features` that is not after the origin, or from the calendar.

    Args:
        features: Rows of `daily_features`, one a series and day.
        series: What they are.

    Returns:
        One row for each `by`, `origin` and `horizon` with the `day` that is forecast, `reference`, a plain forecast of its value that is
        never negative, and `MODEL_INPUTS`. Ratios are null where history does not reach back far enough.
    """
    known, origin, day = series.opened(features), pl.col("origin"), pl.col(DAY)
    weekday = [*(f"{total}weekday_{weeks}" for total in ("", "total_") for weeks in WEEKDAY_WEEKS), "weekday_open", VALUE]
    earlier_days = {
        "last_": (same_weekday(), weekday),
        # A trailing mean that is read half its length later is centred: the 28 days around a day end 14 days after it.
        "then_week_": (day - pl.duration(days=YEAR - 3), ["total_level_7"]),
        "then_month_": (day - pl.duration(days=YEAR - 14), ["level_28", "total_level_28"]),
        "then_origin_": (origin - pl.duration(days=YEAR), ["level_28", "total_level_28"]),
    }
    rows = with_horizons(known.rename({DAY: "origin"}), series.horizon)
    for prefix, (earlier, columns) in earlier_days.items():
        rows = join_day(rows, known, earlier, columns, by=series.by, prefix=prefix)
    calendar = calendar_inputs(series)
    return (
        rows.with_columns(value.alias(name) for name, value in calendar.items())
        .pipe(_with_reference)
        .select(*series.by, "origin", "horizon", DAY, "reference", *calendar, "expected_open", **ORIGIN_INPUTS)
    )


def training_rows(features: pl.LazyFrame, series: Series, cutoff: date, *, outcomes_known_at: datetime) -> pl.LazyFrame:
    """`forecast_rows` with their outcome, for the days up to `cutoff`: what was known on the day, and what really came.

    Args:
        features: Rows of `daily_features` with all revisions.
        series: What they are.
        cutoff: Last day of the training period.
        outcomes_known_at: Outcomes are the values as they were known then, late rows included.

    Returns:
        The columns of `forecast_rows`, `value` of the day that was forecast, and `ratio`, the value in units of the reference; rows without
        a reference are left out.
    """
    day = pl.col(series.time)
    outcomes = as_known(features, series.stored_key, outcomes_known_at).filter(day <= cutoff).pipe(series.opened)
    return (
        forecast_rows(as_first_known(features.filter(day < cutoff), series.stored_key), series)
        .join(outcomes.select(*series.key, VALUE), on=series.key)
        .filter(pl.col("reference") > 0)
        .with_columns(ratio=pl.col(VALUE) / pl.col("reference"))
    )


def _with_reference(rows: pl.LazyFrame) -> pl.LazyFrame:
    """A plain forecast: the series' level, shaped like the week and season of all together, on the days that are expected to be open."""
    special = pl.when("year_end").then("year_end_open").when("holiday").then("holiday_open").otherwise(1)
    week = _ratio("last_total_weekday_8", "total_level_56").fill_null(1)
    # Half of last year's rise or fall, on the scale of logarithms: seasons return, but not to the letter.
    season = ORIGIN_INPUTS["week_season"].fill_null(1).clip(1 / 3, 3).sqrt()
    opening = pl.max_horizontal("expected_open", SMALLEST_OPENNESS)
    return rows.with_columns(
        expected_open=special * pl.col("last_weekday_open"),
        level=pl.max_horizontal("level_28", SMALLEST_SHARE * pl.col("total_level_91"), 0.0),
    ).with_columns(reference=(pl.col("level") * week * season * opening).fill_null(0).clip(0))
