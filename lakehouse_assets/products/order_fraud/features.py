"""What is known when an order is paid: of itself, of its card, device and customer, and of the country that it comes from."""

from datetime import timedelta

import polars as pl

from lakehouse_assets import ByKey, feature_set, window_features
from lakehouse_assets.products.order_fraud.contracts import OrderFeatures

_OF = "order_fraud.gold.orders"
_WINDOWS = ("1h", "1d", "30d")
_MONTH = timedelta(days=30)


@feature_set(
    "order_fraud.features.orders",
    contract=OrderFeatures,
    entity=("invoice",),
    event_time="paid_at",
    kind=ByKey("invoice"),
    inputs={"orders": _OF},
    owner="team:risk",
)
def orders(orders: pl.LazyFrame) -> pl.LazyFrame:
    """What an order says by itself: worked out from the order alone, in a request as in a table."""
    return orders.select(
        "invoice",
        "paid_at",
        "card",
        "device",
        "customer_id",
        "ip_country",
        "amount",
        "method",
        "account_age",
        "lines",
        "units",
        "dearest",
        "resale_share",
        known_at=pl.col("paid_at"),
        abroad=pl.col("ip_country") != pl.col("billing_country"),
        has_account=pl.col("customer_id").is_not_null(),
        hour=pl.col("paid_at").dt.hour().cast(pl.Int64),
    )


cards = window_features(
    "order_fraud.features.cards",
    of=_OF,
    entity=("card",),
    personal=("card",),
    time="paid_at",
    windows=_WINDOWS,
    values={"*": ("count",), "customer_id": ("distinct",), "device": ("distinct",), "ip_country": ("distinct",)},
    types={"customer_id": str, "device": str, "ip_country": str},
    ttl=_MONTH,
    owner="team:risk",
)

devices = window_features(
    "order_fraud.features.devices",
    of=_OF,
    entity=("device",),
    personal=("device",),
    time="paid_at",
    windows=_WINDOWS,
    values={"*": ("count",), "card": ("distinct",), "customer_id": ("distinct",)},
    types={"card": str, "customer_id": str},
    ttl=_MONTH,
    owner="team:risk",
)

customers = window_features(
    "order_fraud.features.customers",
    of=_OF,
    entity=("customer_id",),
    time="paid_at",
    windows=_WINDOWS,
    values={"*": ("count",), "amount": ("mean",), "card": ("distinct",), "device": ("distinct",), "ip_country": ("distinct",)},
    types={"card": str, "device": str, "ip_country": str},
    ttl=_MONTH,
    owner="team:risk",
)

countries = window_features(
    "order_fraud.features.countries",
    of=_OF,
    entity=("ip_country",),
    time="paid_at",
    windows=_WINDOWS,
    # A level, as the number of orders, would tell how large the shop was then, and not what is odd about an order.
    values={"amount": ("mean",)},
    every="1h",
    ttl=_MONTH,
    owner="team:risk",
)
