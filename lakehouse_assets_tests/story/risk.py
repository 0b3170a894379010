"""A product that scores the orders of a simulated shop by their payments alone, and watches itself: small, so that weeks pass quickly."""

import math
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import polars as pl

from lakehouse_assets import (
    AlertRule,
    AveragePrecision,
    ByKey,
    ClassPrior,
    Contract,
    Gate,
    Labels,
    Linear,
    LiveAccuracy,
    LogLoss,
    NewestLimits,
    Retrain,
    RollingTime,
    Timestamp,
    column,
    feature_set,
    model,
    monitor,
    predictions,
    window_features,
)
from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.learning import Learner, Predictor, TrainingRows
from lakehouse_assets.products.order_fraud.orders import labels
from lakehouse_assets.products.sales import bronze, silver

ACCURACY, MODEL = "risk.monitors.accuracy", "risk.models.fraud"
SETTLED = timedelta(days=70)


@dataclass(frozen=True)
class Newest:
    """Learns from the newest rows alone: thieves do something else than a year ago.

    Attributes:
        learner: What is fitted.
        span: How long rows are learnt from.
    """

    learner: Learner
    span: timedelta

    def fit(self, training: TrainingRows, *, seed: int, compute: Compute) -> Predictor:
        """See `Learner.fit`."""
        newest = training.rows.filter(pl.col(training.at) > pl.col(training.at).max() - self.span)
        return self.learner.fit(replace(training, rows=newest), seed=seed, compute=compute)


class Paid(Contract):
    """What an order says by itself."""

    invoice: str = column(key=True)
    paid_at: Timestamp = column(key=True)
    known_at: Timestamp
    card: str = column(nullable=True, personal=True)
    device: str = column(personal=True)
    by_card: bool
    large: bool
    abroad: bool
    large_abroad: bool
    small_and_late: bool


class Score(Contract):
    """How likely an order is fraud."""

    invoice: str = column(key=True)
    paid_at: Timestamp
    probability: float
    model_name: str
    model_version: int = column(key=True)
    feature_version: int
    scored_at: Timestamp


@feature_set(
    "risk.features.orders",
    contract=Paid,
    entity=("invoice",),
    event_time="paid_at",
    kind=ByKey("invoice"),
    inputs={"payments": "sales.silver.payments"},
)
def orders(payments: pl.LazyFrame) -> pl.LazyFrame:
    """An order as it is paid."""
    by_card, abroad = pl.col("card").is_not_null(), pl.col("ip_country") != pl.col("billing_country")
    return payments.select(
        "invoice",
        "paid_at",
        "card",
        "device",
        known_at=pl.col("paid_at"),
        by_card=by_card,
        large=by_card & (pl.col("amount") > 700),
        abroad=abroad,
        large_abroad=by_card & abroad & (pl.col("amount") > 500),
        small_and_late=by_card & (pl.col("amount") < 180) & (pl.col("paid_at").dt.hour() >= 16),
    )


def _seen(entity: str, other: str) -> Any:
    return window_features(
        f"risk.features.{entity}s",
        of="sales.silver.payments",
        entity=(entity,),
        personal=(entity,),
        time="paid_at",
        windows=("1h", "1d"),
        values={"*": ("count",), other: ("distinct",)},
        types={other: str},
        ttl=timedelta(days=1),
    )


cards, devices = _seen("card", "customer_id"), _seen("device", "card")

fraud = model(
    MODEL,
    description="How likely an order is paid by somebody else than the owner of the card.",
    labels=Labels(
        labels.name, entity=("invoice",), at="paid_at", target="is_fraud", known_at="reported_at", settled=SETTLED, otherwise=False
    ),
    features=(orders, cards, devices),
    prefixes={cards.name: "card_", devices.name: "device_"},
    learner=Newest(Linear(objective="binary"), timedelta(days=42)),
    split=RollingTime(every=timedelta(days=14), count=6, gap=SETTLED),
    metric=AveragePrecision(),
    metrics=(LogLoss(),),
    baselines={"fraud_share": ClassPrior()},
    # As in order_fraud: what has changed is what it has to learn.
    gate=Gate(newest=NewestLimits(against_usual=math.inf)),
    retrain=Retrain(on=(ACCURACY,), cool_down=timedelta(days=7)),
)


@predictions(
    "risk.predictions.orders",
    contract=Score,
    model=fraud,
    features=orders.name,
    key=("invoice", "model_version"),
    row_for_row=True,
)
def scored(champion: Any, features: pl.LazyFrame) -> pl.LazyFrame:
    """How likely each order is fraud."""
    rows = features.collect()
    return pl.LazyFrame([rows["invoice"], rows["paid_at"], champion.model.predict(rows)["probability"]])


accuracy = monitor(
    ACCURACY,
    of=scored,
    kind=LiveAccuracy(every="1w"),
    severity="error",
    alert=AlertRule(consecutive=3),
    owner="team:risk",
)

CATALOG = Catalog(
    (
        bronze.payments,
        bronze.chargebacks,
        silver.payments,
        silver.chargebacks,
        labels,
        orders,
        cards,
        devices,
        fraud,
        scored,
        accuracy,
    ),
    frozenset(),
)
