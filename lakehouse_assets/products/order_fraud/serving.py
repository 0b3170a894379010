"""Orders are scored within a request, as they are paid."""

from datetime import timedelta

from lakehouse_assets import endpoint
from lakehouse_assets.products.order_fraud.fraud import scored_orders

order_scores = endpoint(
    "order_fraud",
    predictions=scored_orders,
    event="order_fraud.gold.orders",
    # Features that follow the orders by more than this are said to be stale.
    stale_after=timedelta(hours=2),
    owner="team:risk",
)
