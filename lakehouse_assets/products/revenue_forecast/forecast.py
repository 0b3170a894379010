"""The forecast of the shop's daily revenue, by product group, for the next four weeks."""

from datetime import timedelta

import polars as pl

from lakehouse_assets import Retrain, endpoint, forecast

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
    # It is trained weekly as it is; a season that came early does not wait until then.
    retrain=Retrain(on=("revenue_forecast.monitors.accuracy",), cool_down=timedelta(days=3)),
)

revenue_endpoint = endpoint("revenue", predictions=revenue.predictions)
