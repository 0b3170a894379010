"""The forecast of the shop's daily revenue, by product group, for the next four weeks."""

import polars as pl

from lakehouse_assets import endpoint, forecast

revenue = forecast(
    "revenue_forecast",
    series="sales.gold.daily_revenue",
    time="day",
    value="net",
    by=("product_group",),
    # A day without an order is a day on which the shop was closed.
    count="orders",
    horizon=28,
    calendar="GB-ENG",
    # What the shop sells; carriage, fees and the like are revenue, but nobody plans them by product group.
    where=pl.col("component").is_in(["base", "add-on"]),
)

revenue_endpoint = endpoint("revenue", predictions=revenue.predictions)
