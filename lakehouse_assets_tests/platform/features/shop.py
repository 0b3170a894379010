"""A small shop for training sets: orders of which some are charged back, and what was known of their cards and of themselves."""

from datetime import UTC, datetime, timedelta

import polars as pl

from lakehouse_assets.platform.declarations.computed_kinds import ByKey
from lakehouse_assets.platform.declarations.features import feature_set
from lakehouse_assets.platform.features.labels import Labels
from lakehouse_assets.platform.features.training_set import LabelledExamples
from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

START = datetime(2024, 1, 1, tzinfo=UTC)
LABELS, ORDERS, CARDS = "fraud.gold.labels", "fraud.features.orders", "fraud.features.cards"
MOMENT = pl.Datetime("us", "UTC")


class Order(Contract):
    """What is known of an order when it is placed."""

    invoice: int = column(key=True)
    ordered_at: Timestamp = column(key=True)
    card: str
    amount: float
    country: str
    known_at: Timestamp


class Card(Contract):
    """What is known of a card."""

    card: str = column(key=True)
    seen_at: Timestamp = column(key=True)
    orders: int
    known_at: Timestamp


@feature_set(
    ORDERS, contract=Order, entity=("invoice",), event_time="ordered_at", kind=ByKey("invoice"), inputs={"rows": "fraud.silver.orders"}
)
def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Orders."""
    return rows


@feature_set(
    CARDS,
    contract=Card,
    entity=("card",),
    event_time="seen_at",
    kind=ByKey("card"),
    inputs={"rows": "fraud.silver.payments"},
    ttl=timedelta(days=200),
)
def cards(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Cards."""
    return rows


EXAMPLES = LabelledExamples(
    Labels(LABELS, entity=("invoice",), at="placed_at", target="is_fraud", known_at="reported_at", slices=("country",)), (orders, cards)
)


def frames(count: int = 400) -> dict[str, pl.DataFrame]:
    """The tables, by name."""
    hours = pl.int_range(count, eager=True)
    moments = pl.Series([START + timedelta(hours=hour) for hour in range(count)], dtype=MOMENT)
    drawn = hours.hash(3)
    base = pl.DataFrame({"invoice": hours, "placed_at": moments, "drawn": drawn})
    labels = base.select("invoice", "placed_at", is_fraud=pl.col("drawn") % 5 == 0, reported_at=pl.col("placed_at") + pl.duration(days=30))
    placed = base.select(
        "invoice",
        pl.col("placed_at").alias("ordered_at"),
        card=pl.format("card {}", pl.col("drawn") % 17),
        amount=(pl.col("drawn") % 1000).cast(pl.Float64) / 10,
        country=pl.when(pl.col("drawn") % 3 == 0).then(pl.lit("GB")).otherwise(pl.lit("DE")),
        known_at=pl.col("placed_at"),
        is_retracted=pl.lit(value=False),
        feature_set_version=pl.lit(1),
        replaced_known_at=pl.lit(None, MOMENT),
        known_at_assumed=pl.lit(value=False),
    )
    seen = placed.select(
        "card",
        pl.col("ordered_at").alias("seen_at"),
        orders=pl.col("invoice").cum_count().over("card").cast(pl.Int64),
        # Some payments are known days later: a join by event time alone would use them at once.
        known_at=pl.col("ordered_at") + pl.when(pl.col("invoice") % 4 == 0).then(pl.duration(days=3)).otherwise(pl.duration(minutes=5)),
        is_retracted=pl.lit(value=False),
        feature_set_version=pl.lit(1),
        replaced_known_at=pl.lit(None, MOMENT),
        known_at_assumed=pl.col("invoice") < 100,
    ).unique(["card", "seen_at"], maintain_order=True)
    return {LABELS: labels, ORDERS: placed, CARDS: seen}


def written(root: str, tables: dict[str, pl.DataFrame]) -> Lakehouse:
    """A lakehouse that has these tables."""
    lakehouse = Lakehouse(root)
    for name, rows in tables.items():
        lakehouse.table(name).create(dict(rows.schema))
        lakehouse.table(name).append(rows)
    return lakehouse
