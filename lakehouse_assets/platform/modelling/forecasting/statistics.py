"""What is known of a series at the end of each day: trailing statistics that look back only. Model inputs are made of them in `inputs`.

Every number is the same to the last bit however rows are ordered and on any number of threads: rolling sums are of integers (see
`features.rolling`), and the few sums of floats add up in a fixed order.
"""

from collections.abc import Sequence

import polars as pl

from lakehouse_assets.platform.features.rolling import rolling_std, rolling_sum
from lakehouse_assets.platform.modelling.forecasting.series import (
    ACTIVE_DAYS,
    CAPPED_WEEKDAY_WEEKS,
    COUNT_DAYS,
    DAY,
    FEATURE_LOOKBACK,
    LEVEL_DAYS,
    MEDIAN_DAYS,
    TOTAL_CAPPED_WEEKDAY_WEEKS,
    VALUE,
    WEEKDAY_WEEKS,
    WINDOW_WEEKS,
    Series,
)

# One very large order says little about the weeks to come: a day counts up to so many medians of the last 28 open days. The sum of all
# series is steadier than each of them.
_CAP, _TOTAL_CAP = 4.0, 2.5
_LEAST_MEDIAN = 5  # open days


def daily_features(rows: pl.LazyFrame, series: Series) -> pl.LazyFrame:
    """Trailing statistics of every series at the end of every day.

    Args:
        rows: The columns of the series, as its table has them; any number of rows a day. A value that is no finite number counts as
            nothing, a series without a name as `unknown`.
        series: What they are.

    Returns:
        One row for each `by` and `time` from the first day of a series to the last day of all, days without a row included. A series
        without a row for `FEATURE_LOOKBACK` is left out until it has one again. `known_at` is the midnight (UTC) that ends the day.
    """
    happened = pl.lit(1) if series.count is None else pl.col(series.count)
    sums = (
        rows.select(
            pl.col(series.time).cast(pl.Date).alias(DAY),
            *(pl.col(name).cast(pl.String).fill_null("unknown") for name in series.by),
            _finite(pl.col(series.value)).alias(VALUE),
            happened.alias("count"),
        )
        .group_by(DAY, *series.by)
        .agg(_amount(VALUE), pl.col("count").sum())
    )
    days = sums.select(pl.date_ranges(pl.col(DAY).min(), pl.col(DAY).max()).alias(DAY).explode()).drop_nulls()
    daily = (
        series.crossed(sums, days)
        .join(sums.with_columns(last_day=pl.col(DAY)), on=series.key, how="left")
        .sort(series.key)
        .with_columns(pl.col(VALUE, "count").fill_null(0), series.each(pl.col("last_day").forward_fill()))
    )
    total = (
        daily.group_by(DAY).agg(total_value=_amount(VALUE), is_open=pl.col("count").sum() > 0, total_count=pl.col("count").sum()).sort(DAY)
    )
    medians = {f"median_{days}": _while_open(VALUE).rolling_median(days, min_samples=_LEAST_MEDIAN) for days in MEDIAN_DAYS}
    return (
        # Before its first day nobody knew of a series; one that has had nothing for a year is gone.
        daily.filter(pl.col(DAY) - pl.col("last_day") < FEATURE_LOOKBACK)
        .join(_total_features(total, series), on=DAY)
        .sort(series.key)
        .with_columns(series.each(value).alias(name) for name, value in medians.items())
        .with_columns(series.each(_per_open_day(pl.col(VALUE), days)).alias(f"level_{days}") for days in LEVEL_DAYS)
        .with_columns(capped=_capped(VALUE, "median_28", _CAP, floor="level_91"))
        .with_columns(series.each(value).alias(name) for name, value in _trailing().items())
        .with_columns(known_at=pl.col(DAY).cast(pl.Datetime("us", "UTC")) + pl.duration(days=1))
        .drop("count", "last_day", "capped")
        .pipe(series.stored)
    )


def _trailing() -> dict[str, pl.Expr]:
    """Statistics of one series, by its rows in order."""
    return {
        **{f"capped_level_{days}": _per_open_day(pl.col("capped"), days) for days in LEVEL_DAYS},
        **{f"weekday_{weeks}": _weekday_mean(_while_open(VALUE), weeks) for weeks in WEEKDAY_WEEKS},
        **{f"capped_weekday_{weeks}": _weekday_mean(_while_open("capped"), weeks) for weeks in CAPPED_WEEKDAY_WEEKS},
        **{f"window_average_{weeks}": _weekday_mean(pl.col(VALUE), weeks) for weeks in WINDOW_WEEKS},
        **{f"count_level_{days}": _per_open_day(pl.col("count"), days) for days in COUNT_DAYS},
        **{f"active_share_{days}": _per_open_day(pl.col("count") > 0, days) for days in ACTIVE_DAYS},
        "deviation_28": rolling_std(_while_open(VALUE), 28, min_samples=_LEAST_MEDIAN),
    }


def _finite(value: pl.Expr) -> pl.Expr:
    number = value.cast(pl.Float64)
    return pl.when(number.is_finite()).then(number)


def _amount(column: str) -> pl.Expr:
    """A sum that is the same to the last bit in whatever order it was added up."""
    return pl.col(column).sort().sum().round(4)


def _while_open(column: str) -> pl.Expr:
    return pl.when("is_open").then(column)


def _capped(value: str, median: str, cap: float, *, floor: str | None = None) -> pl.Expr:
    """The value between nothing and some medians; a series with many days of nothing may have its mean level."""
    highest = [cap * pl.col(median), *([pl.col(floor)] if floor else []), pl.lit(0.0)]
    return pl.when(pl.col(median).is_null()).then(value).otherwise(pl.col(value).clip(0.0, pl.max_horizontal(highest)))


def _per_open_day(value: pl.Expr, days: int) -> pl.Expr:
    """Sum over the last days for each of them that was open; null where none was."""
    open_days = rolling_sum(pl.col("is_open"), days)
    return pl.when(open_days > 0).then(rolling_sum(value, days) / open_days)


def _weekday_mean(value: pl.Expr, weeks: int) -> pl.Expr:
    """Mean of the same weekday in the last weeks, the day itself included, nulls left out."""
    return mean_in_order([value.shift(7 * week) for week in range(weeks)])


def mean_in_order(values: Sequence[pl.Expr]) -> pl.Expr:
    """The mean of some columns, nulls left out, added up one after the other: `pl.mean_horizontal` adds as its threads come."""
    total, count = pl.lit(0.0), pl.lit(0)
    for value in values:
        total, count = total + value.cast(pl.Float64).fill_null(0.0), count + value.is_not_null().cast(pl.Int32)
    return pl.when(count > 0).then(total / count)


def _total_features(total: pl.LazyFrame, series: Series) -> pl.LazyFrame:
    """Trailing statistics of all series together, and how often days like this were open; `total` is sorted by day."""
    day, is_open = pl.col(DAY), pl.col("is_open")
    holiday, year_end = series.is_holiday(day), series.is_year_end(day)

    def open_share(kind: pl.Expr) -> pl.Expr:
        # One day open and one day closed are assumed before the first is seen.
        year = FEATURE_LOOKBACK.days
        return (rolling_sum(is_open & kind, year) + 1) / (rolling_sum(kind, year) + 2)

    regular_open = pl.when(~holiday & ~year_end).then(is_open.cast(pl.Float64))
    return (
        total.with_columns(total_median_28=_while_open("total_value").rolling_median(28, min_samples=_LEAST_MEDIAN))
        .with_columns(total_capped=_capped("total_value", "total_median_28", _TOTAL_CAP))
        .with_columns(
            **{f"total_level_{days}": _per_open_day(pl.col("total_value"), days) for days in LEVEL_DAYS},
            **{f"total_capped_level_{days}": _per_open_day(pl.col("total_capped"), days) for days in LEVEL_DAYS},
            **{f"total_weekday_{weeks}": _weekday_mean(_while_open("total_value"), weeks) for weeks in WEEKDAY_WEEKS},
            **{f"total_capped_weekday_{weeks}": _weekday_mean(_while_open("total_capped"), weeks) for weeks in TOTAL_CAPPED_WEEKDAY_WEEKS},
            total_count_level_28=_per_open_day(pl.col("total_count"), 28),
            open_days_28=rolling_sum(is_open, 28),
            weekday_open=_weekday_mean(regular_open, 8).fill_null(1),
            holiday_open=open_share(holiday & ~year_end),
            year_end_open=open_share(year_end),
        )
        .drop("total_median_28", "total_capped", "total_count")
    )
