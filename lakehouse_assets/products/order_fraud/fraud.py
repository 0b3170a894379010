"""How likely each order is fraud, and what to do about it: the model, and the table of its scores."""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import polars as pl

from lakehouse_assets import (
    Auc,
    AveragePrecision,
    CalibrationError,
    ClassPrior,
    Gate,
    GradientBoosting,
    Labels,
    LeakageLimits,
    LogLoss,
    NewestLimits,
    Retrain,
    RollingTime,
    model,
    predictions,
    reasons,
)
from lakehouse_assets.products.order_fraud import features
from lakehouse_assets.products.order_fraud.contracts import ACCEPT, REVIEW, OrderScore

# The bank has ten weeks to take a payment back.
SETTLED: Final = timedelta(days=70)
# Pounds for a person to look at an order. A fraud that is missed costs the order.
REVIEW_COST: Final = 8.0

_PREFIXES = {
    features.cards.name: "card_",
    features.devices.name: "device_",
    features.customers.name: "customer_",
    features.countries.name: "country_",
}

fraud = model(
    "order_fraud.models.order_fraud",
    description="How likely an order is paid by somebody else than the owner of the card.",
    labels=Labels(
        "order_fraud.gold.labels",
        entity=("invoice",),
        at="paid_at",
        target="is_fraud",
        known_at="reported_at",
        settled=SETTLED,
        otherwise=False,
        slices=("method", "billing_country"),
    ),
    features=(features.orders, features.cards, features.devices, features.customers, features.countries),
    prefixes=_PREFIXES,
    # Frauds are few: small trees that see some of the inputs learn the patterns and not the cases.
    learner=GradientBoosting(
        objective="binary", calibrated=True, learning_rate=0.03, num_leaves=5, min_data_in_leaf=10, feature_fraction=0.4
    ),
    split=RollingTime(every=timedelta(days=56), count=6, gap=SETTLED),
    metric=AveragePrecision(),
    metrics=(LogLoss(), Auc(), CalibrationError()),
    baselines={"fraud_share": ClassPrior()},
    gate=Gate(
        guards={"calibration_error": (None, 0.02)},
        # What is usual in a country moves with the seasons, and so tells new orders from old ones.
        leakage=LeakageLimits(drift=(math.inf, math.inf)),
        # Thieves change what they do. A model that has not seen the newest orders fails on them then: that is why it is trained again.
        newest=NewestLimits(against_usual=math.inf),
    ),
    # Patterns of fraud change between Mondays: charge backs that show it, and orders that are others, do not wait for the weekly training.
    retrain=Retrain(on=("order_fraud.monitors.accuracy", "order_fraud.monitors.orders_drift"), new_labels=2_000),
    owner="team:risk",
)

_OF = {"card": "on the card", "device": "on the device", "customer": "on the account", "country": "from the country"}
_WHAT = {
    "count": "orders",
    "amount_mean": "mean of the orders in pounds",
    "card_distinct": "cards",
    "device_distinct": "devices",
    "customer_id_distinct": "accounts",
    "ip_country_distinct": "countries",
}
_WITHIN = {"1h": "within an hour", "1d": "within a day", "30d": "within 30 days"}
WORDS: Final[Mapping[str, str]] = {
    f"{of}_{what}_{window}": f"{said} {of_said} {within}"
    for of, of_said in _OF.items()
    for what, said in _WHAT.items()
    for window, within in _WITHIN.items()
}
"""What people call the features of windows: `card_customer_id_distinct_1d` is `accounts on the card within a day`."""


@predictions(
    "order_fraud.predictions.orders",
    contract=OrderScore,
    model=fraud,
    features=features.orders.name,
    key=("invoice", "model_version"),
    row_for_row=True,
    owner="team:risk",
)
def scored_orders(champion: Any, features: pl.LazyFrame) -> pl.LazyFrame:
    """How likely each order is fraud; it is to be reviewed where that costs less on average than to let it pass, and why."""
    orders = features.collect()
    probability, amount = champion.model.predict(orders)["probability"], orders["amount"]
    is_held = probability * amount > (1 - probability) * REVIEW_COST
    decision = pl.Series("decision", [REVIEW if held else ACCEPT for held in is_held], pl.String)
    why = reasons(champion, orders, where=is_held, words=WORDS)
    return pl.LazyFrame([orders["invoice"], orders["paid_at"], amount, probability, decision, why])
