"""Whether the scores of orders are as good as they were when the model was chosen, as chargebacks come in."""

from lakehouse_assets import LiveAccuracy, monitor
from lakehouse_assets.products.order_fraud.contracts import REVIEW
from lakehouse_assets.products.order_fraud.fraud import scored_orders

# Frauds are few: a month has enough of them to tell a worse model from chance.
scores = monitor(
    "order_fraud.monitors.accuracy",
    of=scored_orders,
    kind=LiveAccuracy(every="1mo", against="evaluation", slices=("method",), positive=("decision", REVIEW)),
    owner="team:risk",
)
