"""Whether the forecast of revenue is better than last week's, as the days come in."""

from lakehouse_assets import LiveAccuracy, monitor
from lakehouse_assets.products.revenue_forecast.forecast import revenue

beats_last_week = monitor(
    "revenue_forecast.monitors.accuracy",
    of=revenue.predictions,
    kind=LiveAccuracy(every="1w", against="baseline", slices=("product_group",)),
)
