"""What is watched about the orders that are scored."""

from lakehouse_assets import Drift, Volume, monitor
from lakehouse_assets.products.order_fraud import features
from lakehouse_assets.products.order_fraud.orders import orders

orders_as_usual = monitor(
    "order_fraud.monitors.orders_as_usual",
    of=orders,
    kind=Volume(time="paid_at"),
    owner="team:risk",
    description="About as many orders were paid yesterday as on the same weekdays before: what is not there is not scored either.",
)

orders_drift = monitor(
    "order_fraud.monitors.orders_drift",
    of=features.orders,
    # A day has too few orders to tell a change from chance.
    kind=Drift("paid_at", every="1w"),
    owner="team:risk",
    description="What is known of an order by itself is distributed as when the champion learnt, and as in the week before.",
)
