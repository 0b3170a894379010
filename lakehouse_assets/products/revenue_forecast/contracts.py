"""What the tables of `revenue_forecast` promise. How their rows come about is in `features`, `model` and `predictions`.

Money is in pounds. A level is net revenue for each day on which the shop was open.
"""

from datetime import date
from typing import Any

import polars as pl

from lakehouse_assets import Contract, Timestamp, column, rule


def _level(days: int, whose: str) -> Any:
    return column(nullable=True, description=f"{whose} level over the last {days} days.")


class DailyFeatures(Contract):
    """What was known of a product group at the end of a day."""

    product_group: str = column(key=True, description="Group of products.")
    day: date = column(key=True, description="The day at whose end this was known.")
    known_at: Timestamp = column(description="From when on this was known: the midnight after the day, later if it was revised.")
    net: float = column(description="Net revenue of the day.")
    shop_net: float = column(description="Net revenue of the day over all groups.")
    shop_open: bool = column(description="Whether any group had an order.")
    open_days_28: float = column(nullable=True, description="Open days among the last 28.")
    weekday_open: float = column(nullable=True, description="Share of the last weeks in which the shop was open on this weekday.")
    bank_holiday_open: float = column(nullable=True, description="Share of the bank holidays of the last year on which the shop was open.")
    christmas_open: float = column(
        nullable=True, description="Share of the days around Christmas in the last year on which the shop was open."
    )
    level_7: float = _level(7, "The group's")
    level_14: float = _level(14, "The group's")
    level_28: float = _level(28, "The group's")
    level_56: float = _level(56, "The group's")
    level_91: float = _level(91, "The group's")
    level_182: float = _level(182, "The group's")
    weekday_4: float = column(nullable=True, description="The group's mean on this weekday over the last 4 weeks.")
    weekday_8: float = column(nullable=True, description="The group's mean on this weekday over the last 8 weeks.")
    median_28: float = column(nullable=True, description="Median over the open days of the last 28.")
    deviation_28: float = column(nullable=True, ge=0, description="Standard deviation over the open days of the last 28.")
    sold_share_91: float = column(nullable=True, description="Share of the open days of the last 91 on which the group had an order.")
    shop_level_7: float = _level(7, "The shop's")
    shop_level_14: float = _level(14, "The shop's")
    shop_level_28: float = _level(28, "The shop's")
    shop_level_56: float = _level(56, "The shop's")
    shop_level_91: float = _level(91, "The shop's")
    shop_level_182: float = _level(182, "The shop's")
    shop_weekday_4: float = column(nullable=True, description="The shop's mean on this weekday over the last 4 weeks.")
    shop_weekday_8: float = column(nullable=True, description="The shop's mean on this weekday over the last 8 weeks.")

    known_after_the_day = rule("a day is known when it has ended", pl.col("known_at").dt.date() > pl.col("day"))


class RevenueForecast(Contract):
    """What the champion expected of a product group's net revenue on one day to come."""

    as_of: date = column(key=True, description="The last day that the forecast knew.")
    day: date = column(description="The day that it is about.")
    horizon: int = column(key=True, in_range={"min_value": 1, "max_value": 28}, description="Days from `as_of` to `day`.")
    product_group: str = column(key=True, description="Group of products.")
    p10: float = column(description="Revenue stays below this one time in ten.")
    p50: float = column(description="As likely more as less.")
    p90: float = column(description="Revenue exceeds this one time in ten.")
    model_name: str = column(description="Registered model.")
    model_version: int = column(key=True, ge=1, description="Its version.")
    feature_version: int = column(ge=0, description="Delta version of the feature set that was scored.")
    scored_at: Timestamp = column(description="When it was scored.")

    quantiles_do_not_cross = rule("p10 <= p50 <= p90", (pl.col("p10") <= pl.col("p50")) & (pl.col("p50") <= pl.col("p90")))
    day_is_ahead = rule("day = as_of + horizon", pl.col("day") == pl.col("as_of") + pl.duration(days=pl.col("horizon")))
