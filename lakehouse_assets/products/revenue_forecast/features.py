"""What the forecast knows of a product group: trailing statistics at the end of each day, and the model's inputs made of them.

`daily_features` looks back only. `forecast_rows` joins an origin to the days it forecasts and adds what is known of those days in
advance: the calendar, the same weekday before the origin, the same season last year. It is the one source of inputs for training and
prediction. The model itself does not belong here.
"""

from datetime import date
from functools import reduce

import polars as pl

from lakehouse_assets.platform.training.holidays import is_bank_holiday, is_christmas_break

HORIZONS = 28
WEEK, YEAR = 7, 364  # 364 days: the same weekday a year ago
LEVEL_DAYS = (7, 14, 28, 56, 91, 182)
WEEKDAY_WEEKS = (4, 8)

# A group that sold next to nothing would otherwise be divided by next to nothing.
SMALLEST_SHARE = 0.003
# A day on which the shop seems sure to be closed still gets a small reference, so that the model can be wrong by no more than it learns.
SMALLEST_OPENNESS = 0.04

MODEL_INPUTS = (
    "horizon",
    "weekday",
    "origin_weekday",
    "day_of_month",
    "days_to_christmas",
    "bank_holiday",
    "before_bank_holiday",
    "after_bank_holiday",
    "christmas_break",
    "expected_open",
    "open_days_28",
    "sold_share_91",
    "shop_share",
    "median_ratio",
    "deviation_ratio",
    "last_weekday_ratio",
    "weekday_ratio_4",
    "weekday_ratio_8",
    *(f"level_ratio_{days}" for days in LEVEL_DAYS if days != 28),
    *(f"shop_level_ratio_{days}" for days in LEVEL_DAYS if days != 28),
    "shop_weekday_ratio_4",
    "shop_weekday_ratio_8",
    "last_year_week",
    "last_year_month",
    "last_year_group_month",
    "last_year_trend",
    "year_on_year",
)


def daily_features(daily: pl.LazyFrame) -> pl.LazyFrame:
    """Trailing statistics of every product group at the end of every day.

    Closed days (no group has an order) do not count in levels: a level is revenue per open day.

    Args:
        daily: Rows of `sales.gold.daily_revenue`: `day`, `product_group`, `net`, `orders`, any number of rows a day and group.

    Returns:
        One row per `product_group` and `day` from the first to the last day of `daily`, a day without sale included, with `known_at`,
        the midnight (UTC) that ends the day. Amounts are in the currency of `net`.
    """
    sold = daily.group_by("day", "product_group").agg(pl.col("net").cast(pl.Float64).sum(), pl.col("orders").sum())
    days = sold.select(pl.date_range(pl.col("day").min(), pl.col("day").max()).alias("day"))
    groups = sold.select(pl.col("product_group").unique())
    series = (
        groups.join(days, how="cross")
        .join(sold, on=["product_group", "day"], how="left")
        .with_columns(pl.col("net", "orders").fill_null(0))
        .join(_shop_features(days, sold), on="day")
        .sort("product_group", "day")
    )
    while_open = pl.when(pl.col("shop_open")).then(pl.col("net"))
    statistics = {
        **_levels("net", ""),
        **_weekday_means("net", ""),
        "median_28": while_open.rolling_median(28, min_samples=5),
        "deviation_28": while_open.rolling_std(28, min_samples=5),
        "sold_share_91": _per_open_day((pl.col("orders") > 0).cast(pl.Float64), 91),
    }
    return series.with_columns(
        pl.col("day").cast(pl.Datetime("us", "UTC")).dt.offset_by("1d").alias("known_at"),
        *(value.over("product_group").alias(name) for name, value in statistics.items()),
    ).drop("orders", "regular")


def forecast_rows(features: pl.LazyFrame, horizons: int = HORIZONS) -> pl.LazyFrame:
    """The model's inputs for every origin and each of the days after it.

    Everything is taken from rows of `features` not after the origin, and from the calendar.

    Args:
        features: Rows of `daily_features`.
        horizons: Days ahead, at most 28.

    Returns:
        One row per `product_group`, `origin` and `horizon`: `day`, the `reference` (a plain forecast in the currency of `net`, never
        negative) and `MODEL_INPUTS`; ratios are null where the history does not reach back.
    """
    if not 1 <= horizons <= HORIZONS:
        raise ValueError(f"horizons must be between 1 and {HORIZONS}, not {horizons}")
    day, origin, horizon = pl.col("day"), pl.col("origin"), pl.col("horizon")
    weeks_ahead = (horizon + WEEK - 1) // WEEK
    rows = (
        features.rename({"day": "origin"})
        .join(pl.LazyFrame({"horizon": range(1, horizons + 1)}, schema={"horizon": pl.Int32}), how="cross")
        .with_columns(pl.col("origin").dt.offset_by(pl.format("{}d", "horizon")).alias("day"))
    )
    rows = _with_earlier(rows, features, day - _days(weeks_ahead * WEEK), "same_weekday")
    # A trailing mean read some days later is a centred one: 28 days around the day last year end 14 days after it.
    rows = _with_earlier(rows, features, day - _days(YEAR - 3), "year_ago_week")
    rows = _with_earlier(rows, features, day - _days(YEAR - 14), "year_ago_month")
    rows = _with_earlier(rows, features, origin - _days(YEAR), "year_ago_origin")
    return (
        rows.with_columns(_calendar(day)).with_columns(_expected_open()).with_columns(_reference()).with_columns(_inputs())
    ).select("product_group", "origin", "horizon", "day", "reference", *(name for name in MODEL_INPUTS if name != "horizon"))
