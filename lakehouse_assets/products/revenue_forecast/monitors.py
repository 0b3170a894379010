"""What is watched about the forecast."""

from lakehouse_assets import ResidualDrift, Volume, monitor
from lakehouse_assets.products.revenue_forecast.forecast import revenue

groups_forecast = monitor(
    "revenue_forecast.monitors.groups_forecast",
    of=revenue.predictions,
    kind=Volume(time="as_of"),
    description="As many days and product groups are forecast as before: a group that vanishes from the forecast shows here.",
)

revenue_residuals = monitor(
    "revenue_forecast.monitors.residuals",
    of=revenue.predictions,
    kind=ResidualDrift(every="1w"),
    description="What the shop takes is as far from the forecast as in the tests of the champion, whatever the season.",
)
