"""What is watched about the orders that are scored."""

from lakehouse_assets import Volume, monitor
from lakehouse_assets.products.order_fraud.orders import orders

orders_as_usual = monitor(
    "order_fraud.monitors.orders_as_usual",
    of=orders,
    kind=Volume(time="paid_at"),
    owner="team:risk",
    description="About as many orders were paid yesterday as on the same weekdays before: what is not there is not scored either.",
)
