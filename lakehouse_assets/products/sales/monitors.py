"""What is watched about the shop's tables, besides what their contracts say."""

from datetime import timedelta

from lakehouse_assets import AlertRule, Volume, monitor
from lakehouse_assets.products.sales.gold import daily_revenue
from lakehouse_assets.products.sales.silver import invoice_lines

lines_as_usual = monitor(
    "sales.monitors.lines_as_usual",
    of=invoice_lines,
    kind=Volume(time="invoiced_at"),
    description="A till that stays silent, or sends its invoices twice, shows here on the next day.",
)

revenue_as_usual = monitor(
    "sales.monitors.revenue_as_usual",
    of=daily_revenue,
    kind=Volume(time="day"),
    # One odd day is a bank holiday.
    alert=AlertRule(consecutive=2, cool_down=timedelta(days=3)),
    description="As many product groups and components have revenue as on the same weekdays before.",
)
