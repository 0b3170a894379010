"""What is watched about the forecast."""

from lakehouse_assets import Volume, monitor
from lakehouse_assets.products.revenue_forecast.forecast import revenue

groups_forecast = monitor(
    "revenue_forecast.monitors.groups_forecast",
    of=revenue.predictions,
    kind=Volume(time="as_of"),
    description="As many days and product groups are forecast as before: a group that vanishes from the forecast shows here.",
)
