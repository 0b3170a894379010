"""What the forecast knows of a product group: trailing statistics at the end of each day, and the model's inputs made of them.

`daily_features` looks back only. `forecast_rows` is the one source of inputs for training and prediction. The model itself does not belong
here.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta

import polars as pl

from lakehouse_assets.platform.features.point_in_time import as_first_known
from lakehouse_assets.platform.features.rolling import rolling_std, rolling_sum
from lakehouse_assets.platform.modelling.calendar import is_holiday
from lakehouse_assets.platform.modelling.horizons import join_day, same_weekday, with_horizons
from lakehouse_assets.platform.storage.known_at import as_known

KEY = ("product_group", "day")
HORIZONS = 28
YEAR = 364  # days: the same weekday a year ago
LOOKBACK = timedelta(days=YEAR + HORIZONS)  # inputs of an origin are made of no older rows
FEATURE_LOOKBACK = timedelta(days=366)  # features of a day are made of no older revenue: every holiday has been seen once
LEVEL_DAYS = (7, 14, 28, 56, 91, 182)
WEEKDAY_WEEKS = (4, 8)

# Ratios to the level of a group that hardly sells say nothing: its level counts as this share of the shop's.
SMALLEST_SHARE = 0.003
# A day on which the shop seems sure to be closed keeps a small reference: the model learns from ratios to it.
SMALLEST_OPENNESS = 0.05


def is_bank_holiday(day: pl.Expr) -> pl.Expr:
    """Whether a date is a bank holiday where the shop is, in England."""
    return is_holiday(day, "GB", "ENG")


def is_christmas_break(day: pl.Expr) -> pl.Expr:
    """Whether a date lies between 24 December and 3 January, when a shop may close whatever the calendar says."""
    month, number = day.dt.month(), day.dt.day()
    return ((month == 12) & (number >= 24)) | ((month == 1) & (number <= 3))


def _ratio(value: str, unit: str) -> pl.Expr:
    return pl.when(pl.col(unit) > 0).then(pl.col(value) / pl.col(unit))


# What is known in advance of the day that is forecast.
CALENDAR_INPUTS: Mapping[str, Callable[[pl.Expr], pl.Expr]] = {
    "weekday": lambda day: day.dt.weekday(),
    "bank_holiday": is_bank_holiday,
    "before_bank_holiday": lambda day: is_bank_holiday(day + pl.duration(days=1)),
    "after_bank_holiday": lambda day: is_bank_holiday(day - pl.duration(days=1)),
    "christmas_break": is_christmas_break,
}
# The group at the origin, and the shop, without a unit.
ORIGIN_INPUTS: Mapping[str, pl.Expr] = {
    "shop_share": _ratio("level", "shop_level_28"),
    "sold_share_91": pl.col("sold_share_91"),
    "median_ratio": _ratio("median_28", "level"),
    "deviation_ratio": _ratio("deviation_28", "level"),
    **{f"level_ratio_{days}": _ratio(f"level_{days}", "level") for days in LEVEL_DAYS if days != 28},
    "same_weekday_ratio": _ratio("last_net", "level"),
    **{f"weekday_ratio_{weeks}": _ratio(f"last_weekday_{weeks}", "level") for weeks in WEEKDAY_WEEKS},
    "group_season": _ratio("then_month_level_28", "then_origin_level_28"),
    "open_days_28": pl.col("open_days_28"),
    **{f"shop_level_ratio_{days}": _ratio(f"shop_level_{days}", "shop_level_28") for days in LEVEL_DAYS if days != 28},
    **{f"shop_weekday_ratio_{weeks}": _ratio(f"last_shop_weekday_{weeks}", "shop_level_28") for weeks in WEEKDAY_WEEKS},
    "week_season": _ratio("then_week_shop_level_7", "then_origin_shop_level_28"),
    "month_season": _ratio("then_month_shop_level_28", "then_origin_shop_level_28"),
    "year_growth": _ratio("shop_level_28", "then_origin_shop_level_28"),
}
MODEL_INPUTS = ("horizon", *CALENDAR_INPUTS, "expected_open", *ORIGIN_INPUTS)


def daily_features(daily: pl.LazyFrame) -> pl.LazyFrame:
    """Trailing statistics of every product group at the end of every day.

    Args:
        daily: Columns `day`, `product_group`, `net` and `orders`, as in `sales.gold.daily_revenue`; any number of rows a group and day.

    Returns:
        One row per `product_group` and `day` from the group's first day in `daily` to the last day of all, days without a sale included.
        A group without a row for `FEATURE_LOOKBACK` is left out until it has one again. `known_at` is the midnight (UTC) that ends the
        day. Amounts are in the currency of `net`.
    """
    sold = daily.group_by("day", "product_group").agg(_amount("net"), pl.col("orders").sum())
    days = sold.select(pl.date_range(pl.col("day").min(), pl.col("day").max()).alias("day"))
    series = (
        sold.select("product_group")
        .unique()
        .join(days, how="cross")
        .join(sold.with_columns(last_day=pl.col("day")), on=KEY, how="left")
        .sort(KEY)
        .with_columns(pl.col("net", "orders").fill_null(0), pl.col("last_day").forward_fill().over("product_group"))
    )
    shop = series.group_by("day").agg(shop_net=_amount("net"), shop_open=pl.col("orders").sum() > 0).sort("day")
    while_open = pl.when("shop_open").then("net")
    group = {
        **{f"level_{days}": _per_open_day(pl.col("net"), days) for days in LEVEL_DAYS},
        **{f"weekday_{weeks}": _weekday_mean(while_open, weeks) for weeks in WEEKDAY_WEEKS},
        "median_28": while_open.rolling_median(28, min_samples=5),
        "deviation_28": rolling_std(while_open, 28, min_samples=5),
        "sold_share_91": _per_open_day(pl.col("orders") > 0, 91),
    }
    return (
        # Before its first day nobody knew of the group; one that has not sold for a year is gone.
        series.filter(pl.col("day") - pl.col("last_day") < FEATURE_LOOKBACK)
        .join(_shop_features(shop), on="day")
        .sort(KEY)
        .with_columns(value.over("product_group").alias(name) for name, value in group.items())
        .with_columns(known_at=pl.col("day").cast(pl.Datetime("us", "UTC")) + pl.duration(days=1))
        .drop("orders", "last_day")
    )


def forecast_rows(features: pl.LazyFrame, horizons: int = HORIZONS) -> pl.LazyFrame:
    """The model's inputs for every origin and each of the days after it.

    Every value comes from a row of `features` that is not after the origin, or from the calendar.

    Args:
        features: Rows of `daily_features`, one a group and day.
        horizons: Number of days ahead, 1 to 28.

    Returns:
        One row per `product_group`, `origin` and `horizon` with the `day` that is forecast, `reference`, a plain forecast of its revenue
        that is never negative, and `MODEL_INPUTS`. Ratios are null where history does not reach back far enough.

    Raises:
        ValueError: `horizons` is out of range.
    """
    if not 1 <= horizons <= HORIZONS:
        raise ValueError(f"a forecast reaches 1 to {HORIZONS} days ahead, not {horizons}")
    origin, day = pl.col("origin"), pl.col("day")
    weekday = [*(f"{shop}weekday_{weeks}" for shop in ("", "shop_") for weeks in WEEKDAY_WEEKS), "weekday_open", "net"]
    earlier_days = {
        "last_": (same_weekday(), weekday),
        # A trailing mean that is read half its length later is centred: the 28 days around a day end 14 days after it.
        "then_week_": (day - pl.duration(days=YEAR - 3), ["shop_level_7"]),
        "then_month_": (day - pl.duration(days=YEAR - 14), ["level_28", "shop_level_28"]),
        "then_origin_": (origin - pl.duration(days=YEAR), ["level_28", "shop_level_28"]),
    }
    rows = with_horizons(features.rename({"day": "origin"}), horizons)
    for prefix, (earlier, columns) in earlier_days.items():
        rows = join_day(rows, features, earlier, columns, by=["product_group"], prefix=prefix)
    return (
        rows.with_columns(known(day).alias(name) for name, known in CALENDAR_INPUTS.items())
        .pipe(_with_reference)
        .select("product_group", "origin", "horizon", "day", "reference", *CALENDAR_INPUTS, "expected_open", **ORIGIN_INPUTS)
    )


def training_rows(features: pl.LazyFrame, cutoff: date, horizons: int = HORIZONS, *, outcomes_known_at: datetime) -> pl.LazyFrame:
    """`forecast_rows` with their outcome, for the days up to `cutoff`: what was known on the day, and what really came.

    Args:
        features: Rows of `daily_features` with all revisions.
        cutoff: Last day of the training period.
        horizons: Days ahead, at most 28.
        outcomes_known_at: Outcomes are the revenue as it was known then, late invoices included.

    Returns:
        The columns of `forecast_rows`, `net` of the day that was forecast, and `ratio`, net in units of the reference; rows without a
        reference are left out.
    """
    outcomes = as_known(features, KEY, outcomes_known_at).filter(pl.col("day") <= cutoff).select(*KEY, "net")
    return (
        forecast_rows(as_first_known(features.filter(pl.col("day") < cutoff), KEY), horizons)
        .join(outcomes, on=KEY)
        .filter(pl.col("reference") > 0)
        .with_columns(ratio=pl.col("net") / pl.col("reference"))
    )


def _amount(column: str) -> pl.Expr:
    """A sum of money that is the same to the last bit in whatever order it was added up."""
    return pl.col(column).cast(pl.Float64).sum().round(4)


def _per_open_day(value: pl.Expr, days: int) -> pl.Expr:
    """Sum over the last days for each of them on which the shop was open; null where it never was."""
    open_days = rolling_sum(pl.col("shop_open"), days)
    return pl.when(open_days > 0).then(rolling_sum(value, days) / open_days)


def _weekday_mean(value: pl.Expr, weeks: int) -> pl.Expr:
    """Mean of the same weekday in the last weeks, the day itself included, nulls left out."""
    return pl.mean_horizontal(value.shift(7 * week) for week in range(weeks))


def _shop_features(shop: pl.LazyFrame) -> pl.LazyFrame:
    """Trailing statistics of all groups together, and how often the shop was open on days like this; `shop` is sorted by day."""
    day, is_open = pl.col("day"), pl.col("shop_open")
    bank_holiday, christmas_break = is_bank_holiday(day), is_christmas_break(day)

    def open_share(kind: pl.Expr) -> pl.Expr:
        # One day open and one day closed are assumed before the first is seen.
        year = FEATURE_LOOKBACK.days
        return (rolling_sum(is_open & kind, year) + 1) / (rolling_sum(kind, year) + 2)

    regular_open = pl.when(~bank_holiday & ~christmas_break).then(is_open.cast(pl.Float64))
    return shop.with_columns(
        **{f"shop_level_{days}": _per_open_day(pl.col("shop_net"), days) for days in LEVEL_DAYS},
        **{f"shop_weekday_{weeks}": _weekday_mean(pl.when(is_open).then("shop_net"), weeks) for weeks in WEEKDAY_WEEKS},
        open_days_28=rolling_sum(is_open, 28),
        weekday_open=_weekday_mean(regular_open, 8).fill_null(1),
        bank_holiday_open=open_share(bank_holiday & ~christmas_break),
        christmas_open=open_share(christmas_break),
    )


def _with_reference(rows: pl.LazyFrame) -> pl.LazyFrame:
    """A plain forecast: the group's level, shaped like the shop's week and season, on the days that the shop is expected to open."""
    special = pl.when("christmas_break").then("christmas_open").when("bank_holiday").then("bank_holiday_open").otherwise(1)
    week = _ratio("last_shop_weekday_8", "shop_level_56").fill_null(1)
    # Half of last year's rise or fall, on the scale of logarithms: seasons return, but not to the letter.
    season = ORIGIN_INPUTS["week_season"].fill_null(1).clip(1 / 3, 3).sqrt()
    opening = pl.max_horizontal("expected_open", SMALLEST_OPENNESS)
    return rows.with_columns(
        expected_open=special * pl.col("last_weekday_open"),
        level=pl.max_horizontal("level_28", SMALLEST_SHARE * pl.col("shop_level_91"), 0.0),
    ).with_columns(reference=(pl.col("level") * week * season * opening).fill_null(0).clip(0))
