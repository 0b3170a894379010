"""What the forecast knows of a product group: trailing statistics at the end of each day, and the model's inputs made of them.

`daily_features` looks back only. `forecast_rows` joins an origin to the days that it forecasts and adds what is known of those days in
advance: the calendar, the same weekday before the origin, the same season last year. It is the one source of inputs for training and
prediction. The model itself does not belong here.
"""

from datetime import date, timedelta

import polars as pl

from lakehouse_assets.platform.modelling.calendar import is_holiday

HORIZONS = 28
YEAR = 364  # days: the same weekday a year ago
LOOKBACK = timedelta(days=YEAR + HORIZONS)  # inputs of an origin are made of no older rows
LEVEL_DAYS = (7, 14, 28, 56, 91, 182)
DAYS_BACK = 366  # a year, so that every holiday has been seen once
FEATURE_LOOKBACK = timedelta(days=DAYS_BACK)  # features of a day are made of no older revenue
WEEKDAY_WEEKS = (4, 8)

# Ratios to the level of a group that hardly sells say nothing: its level counts as this share of the shop's.
SMALLEST_SHARE = 0.003
# A day on which the shop seems sure to be closed keeps a small reference: the model learns from ratios to it.
SMALLEST_OPENNESS = 0.05

_RATIO_DAYS = tuple(days for days in LEVEL_DAYS if days != 28)
MODEL_INPUTS = (
    "horizon",
    # the day that is forecast
    "weekday",
    "bank_holiday",
    "before_bank_holiday",
    "after_bank_holiday",
    "christmas_break",
    "expected_open",
    # the group at the origin, in units of its level over 28 days
    "shop_share",
    "sold_share_91",
    "median_ratio",
    "deviation_ratio",
    *(f"level_ratio_{days}" for days in _RATIO_DAYS),
    "same_weekday_ratio",
    *(f"weekday_ratio_{weeks}" for weeks in WEEKDAY_WEEKS),
    "group_season",
    # the shop at the origin, in units of its level over 28 days
    "open_days_28",
    *(f"shop_level_ratio_{days}" for days in _RATIO_DAYS),
    *(f"shop_weekday_ratio_{weeks}" for weeks in WEEKDAY_WEEKS),
    "week_season",
    "month_season",
    "year_growth",
)


def daily_features(daily: pl.LazyFrame) -> pl.LazyFrame:
    """Trailing statistics of every product group at the end of every day.

    A level is revenue per open day: days on which no group has an order do not count.

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
        .join(sold.with_columns(last_day=pl.col("day")), on=["product_group", "day"], how="left")
        .sort("product_group", "day")
        .with_columns(pl.col("net", "orders").fill_null(0), pl.col("last_day").forward_fill().over("product_group"))
    )
    shop = series.group_by("day").agg(_amount("net").alias("shop_net"), (pl.col("orders").sum() > 0).alias("shop_open")).sort("day")
    group = {
        **{f"level_{days}": _per_open_day(pl.col("net"), days) for days in LEVEL_DAYS},
        **{f"weekday_{weeks}": _per_open_weekday("net", weeks) for weeks in WEEKDAY_WEEKS},
        "median_28": pl.when("shop_open").then("net").rolling_median(28, min_samples=5),
        "deviation_28": _deviation(pl.when("shop_open").then("net"), 28, least=5),
        "sold_share_91": _per_open_day((pl.col("orders") > 0).cast(pl.Float64), 91),
    }
    return (
        # Before its first day nobody knew of the group; one that has not sold for a year is gone.
        series.filter(pl.col("day") - pl.col("last_day") < FEATURE_LOOKBACK)
        .join(_shop_features(shop), on="day")
        .sort("product_group", "day")
        .with_columns(value.over("product_group").alias(name) for name, value in group.items())
        .with_columns((pl.col("day").cast(pl.Datetime("us", "UTC")) + pl.duration(days=1)).alias("known_at"))
        .drop("orders", "last_day")
    )


def forecast_rows(features: pl.LazyFrame, horizons: int = HORIZONS) -> pl.LazyFrame:
    """The model's inputs for every origin and each of the days after it.

    Every value comes from a row of `features` that is not after the origin, or from the calendar.

    Args:
        features: Rows of `daily_features`.
        horizons: Number of days ahead, 1 to 28.

    Returns:
        One row per `product_group`, `origin` and `horizon` with the `day` that is forecast, `reference`, a plain forecast of its revenue
        that is never negative, and `MODEL_INPUTS`. Ratios are null where history does not reach back far enough.

    Raises:
        ValueError: `horizons` is out of range.
    """
    if not 1 <= horizons <= HORIZONS:
        raise ValueError(f"a forecast reaches 1 to {HORIZONS} days ahead, not {horizons}")
    origin, day, horizon = pl.col("origin"), pl.col("day"), pl.col("horizon")
    rows = (
        features.rename({"day": "origin"})
        .join(pl.LazyFrame({"horizon": range(1, horizons + 1)}, schema={"horizon": pl.Int32}), how="cross")
        .with_columns(day=origin + pl.duration(days=horizon))
    )
    weekday = [*(f"{shop}weekday_{weeks}" for shop in ("", "shop_") for weeks in WEEKDAY_WEEKS), "weekday_open", "net"]
    rows = _join_day(rows, features, day - pl.duration(days=(horizon + 6) // 7 * 7), "last_", weekday)
    # A trailing mean that is read half its length later is centred: the 28 days around a day end 14 days after it.
    rows = _join_day(rows, features, day - pl.duration(days=YEAR - 3), "then_week_", ["shop_level_7"])
    rows = _join_day(rows, features, day - pl.duration(days=YEAR - 14), "then_month_", ["level_28", "shop_level_28"])
    rows = _join_day(rows, features, origin - pl.duration(days=YEAR), "then_origin_", ["level_28", "shop_level_28"])
    return (
        rows.with_columns(_calendar(day))
        .with_columns(_reference())
        .with_columns(_ratios())
        .select("product_group", "origin", "horizon", "day", "reference", *MODEL_INPUTS[1:])
    )


def training_rows(features: pl.LazyFrame, cutoff: date, horizons: int = HORIZONS, outcomes: pl.LazyFrame | None = None) -> pl.LazyFrame:
    """`forecast_rows` with their outcome, for the days up to `cutoff`.

    Args:
        features: Rows of `daily_features`.
        cutoff: Last day of the training period.
        horizons: Days ahead, at most 28.
        outcomes: `product_group`, `day` and `net` where revenue is known better than the features have it, as after late invoices.

    Returns:
        The columns of `forecast_rows`, `net` of the day that was forecast, and `ratio`, net in units of the reference; rows without a
        reference are left out.
    """
    outcome = (features if outcomes is None else outcomes).filter(pl.col("day") <= cutoff).select("product_group", "day", "net")
    return (
        forecast_rows(features.filter(pl.col("day") < cutoff), horizons)
        .join(outcome, on=["product_group", "day"])
        .filter(pl.col("reference") > 0)
        .with_columns(ratio=pl.col("net") / pl.col("reference"))
    )


def _amount(column: str) -> pl.Expr:
    """A sum of money that is the same to the last bit in whatever order it was added up."""
    return pl.col(column).cast(pl.Float64).sum().round(4)


def _per_open_day(value: pl.Expr, days: int) -> pl.Expr:
    """Mean of the last days, closed days left out; null where all were closed."""
    open_days = pl.col("shop_open").cast(pl.Int32).rolling_sum(days, min_samples=1)
    # Rolling sums of floats differ in their last digits from run to run; amounts are rounded to a ten-thousandth, so whole ones are exact.
    total = (value * 10_000).round().cast(pl.Int64).rolling_sum(days, min_samples=1) / 10_000
    return pl.when(open_days > 0).then(total / open_days)


def _deviation(value: pl.Expr, days: int, *, least: int) -> pl.Expr:
    """Standard deviation over the last days, null below `least` values; from sums of whole pennies, exact wherever a series begins."""
    pennies = (value * 100).round().cast(pl.Int64)
    count = pennies.is_not_null().cast(pl.Int64).rolling_sum(days, min_samples=1)
    total = pennies.fill_null(0).rolling_sum(days, min_samples=1).cast(pl.Float64)
    squares = (pennies * pennies).fill_null(0).rolling_sum(days, min_samples=1).cast(pl.Float64)
    variance = (squares - total * total / count) / (count - 1)
    return pl.when(count >= least).then(variance.clip(0).sqrt() / 100)


def _per_open_weekday(column: str, weeks: int) -> pl.Expr:
    """Mean of the same weekday in the last weeks, the day itself included, closed days left out; null where all were closed."""
    while_open = pl.when("shop_open").then(column)
    return pl.mean_horizontal(while_open.shift(7 * week) for week in range(weeks))


def _shop_features(shop: pl.LazyFrame) -> pl.LazyFrame:
    """Trailing statistics of all groups together, and how often the shop was open on days like this; `shop` is sorted by day."""
    day, is_open = pl.col("day"), pl.col("shop_open").cast(pl.Float64)
    bank_holiday, christmas_break = is_bank_holiday(day), is_christmas_break(day)

    def open_share(kind: pl.Expr) -> pl.Expr:
        # One day open and one day closed are assumed before the first is seen.
        seen = kind.cast(pl.Int32)
        opened = (pl.col("shop_open").cast(pl.Int32) * seen).rolling_sum(DAYS_BACK, min_samples=1)
        return (opened + 1) / (seen.rolling_sum(DAYS_BACK, min_samples=1) + 2)

    regular_open = pl.when(~bank_holiday & ~christmas_break).then(is_open)
    return shop.with_columns(
        *(_per_open_day(pl.col("shop_net"), days).alias(f"shop_level_{days}") for days in LEVEL_DAYS),
        *(_per_open_weekday("shop_net", weeks).alias(f"shop_weekday_{weeks}") for weeks in WEEKDAY_WEEKS),
        is_open.rolling_sum(28, min_samples=1).alias("open_days_28"),
        pl.mean_horizontal(regular_open.shift(7 * week) for week in range(8)).fill_null(1).alias("weekday_open"),
        open_share(bank_holiday & ~christmas_break).alias("bank_holiday_open"),
        open_share(christmas_break).alias("christmas_open"),
    )


def _join_day(rows: pl.LazyFrame, features: pl.LazyFrame, day: pl.Expr, prefix: str, columns: list[str]) -> pl.LazyFrame:
    """Columns that the features of the same group had on an earlier day, with a prefix."""
    then = features.select("product_group", pl.col("day").alias("_then"), pl.col(columns).name.prefix(prefix))
    return rows.with_columns(_then=day).join(then, on=["product_group", "_then"], how="left").drop("_then")


def is_bank_holiday(day: pl.Expr) -> pl.Expr:
    """Whether a date is a bank holiday where the shop is, in England."""
    return is_holiday(day, "GB", "ENG")


def is_christmas_break(day: pl.Expr) -> pl.Expr:
    """Whether a date lies between 24 December and 3 January, when a shop may close whatever the calendar says."""
    month, number = day.dt.month(), day.dt.day()
    return ((month == 12) & (number >= 24)) | ((month == 1) & (number <= 3))


def _calendar(day: pl.Expr) -> list[pl.Expr]:
    """What is known of a day in advance."""
    return [
        day.dt.weekday().alias("weekday"),
        is_bank_holiday(day).alias("bank_holiday"),
        is_bank_holiday(day + pl.duration(days=1)).alias("before_bank_holiday"),
        is_bank_holiday(day - pl.duration(days=1)).alias("after_bank_holiday"),
        is_christmas_break(day).alias("christmas_break"),
    ]


def _ratio(value: str, unit: str) -> pl.Expr:
    return pl.when(pl.col(unit) > 0).then(pl.col(value) / pl.col(unit))


def _reference() -> list[pl.Expr]:
    """A plain forecast: the group's level, shaped like the shop's week and season, on the days that the shop is expected to open."""
    special = pl.when("christmas_break").then("christmas_open").when("bank_holiday").then("bank_holiday_open").otherwise(1)
    expected_open = special * pl.col("last_weekday_open")
    level = pl.max_horizontal("level_28", SMALLEST_SHARE * pl.col("shop_level_91"), 0.0)
    week = _ratio("last_shop_weekday_8", "shop_level_56").fill_null(1)
    # Half of last year's rise or fall, on the scale of logarithms: seasons return, but not to the letter.
    season = _ratio("then_week_shop_level_7", "then_origin_shop_level_28").fill_null(1).clip(1 / 3, 3).sqrt()
    return [
        expected_open.alias("expected_open"),
        level.alias("level"),
        (level * week * season * pl.max_horizontal(expected_open, SMALLEST_OPENNESS)).fill_null(0).clip(0).alias("reference"),
    ]


def _ratios() -> list[pl.Expr]:
    """The inputs without a unit."""
    ratios = {
        "shop_share": _ratio("level", "shop_level_28"),
        "median_ratio": _ratio("median_28", "level"),
        "deviation_ratio": _ratio("deviation_28", "level"),
        **{f"level_ratio_{days}": _ratio(f"level_{days}", "level") for days in _RATIO_DAYS},
        "same_weekday_ratio": _ratio("last_net", "level"),
        **{f"weekday_ratio_{weeks}": _ratio(f"last_weekday_{weeks}", "level") for weeks in WEEKDAY_WEEKS},
        "group_season": _ratio("then_month_level_28", "then_origin_level_28"),
        **{f"shop_level_ratio_{days}": _ratio(f"shop_level_{days}", "shop_level_28") for days in _RATIO_DAYS},
        **{f"shop_weekday_ratio_{weeks}": _ratio(f"last_shop_weekday_{weeks}", "shop_level_28") for weeks in WEEKDAY_WEEKS},
        "week_season": _ratio("then_week_shop_level_7", "then_origin_shop_level_28"),
        "month_season": _ratio("then_month_shop_level_28", "then_origin_shop_level_28"),
        "year_growth": _ratio("shop_level_28", "then_origin_shop_level_28"),
    }
    return [value.alias(name) for name, value in ratios.items()]
