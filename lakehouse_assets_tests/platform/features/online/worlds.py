"""A small shop whose tables change: payments, windows of cards over them, and prices that are looked up. Nothing is computed here by the
platform: tables are written as the engine writes them, so that a test can do to them whatever happens.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from lakehouse_assets import Contract, Timestamp, column, feature_set, window_features
from lakehouse_assets.platform.declarations.computed_kinds import ByKey
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.features.online.codecs import EPOCH
from lakehouse_assets.platform.features.online.forms import Needs
from lakehouse_assets.platform.features.online.store import OnlineStore
from lakehouse_assets.platform.storage.known_at import OWN_COLUMNS

START = datetime(2024, 1, 1, tzinfo=UTC)
MOMENT = pl.Datetime("us", "UTC")
PAYMENTS = "shop.silver.payments"
EVENTS = pl.Schema({"id": pl.Int64, "card": pl.String, "paid_at": MOMENT, "amount": pl.Float64, "device": pl.String, "country": pl.String})

cards = window_features(
    "shop.features.cards",
    of=PAYMENTS,
    entity=("card",),
    time="paid_at",
    windows=("2h", "6h"),
    values={"*": ("count",), "amount": ("sum", "mean", "max"), "device": ("distinct", "last")},
    types={"device": str},
    ttl=timedelta(hours=8),
)
foreign = window_features(
    "shop.features.foreign",
    of=PAYMENTS,
    entity=("card", "device"),
    time="paid_at",
    windows=("6h",),
    values={"*": ("count",)},
    where=pl.col("country") != "home",
    defaults={"count_6h": 0},
)


class Prices(Contract):
    """What is known of a device."""

    device: str = column(key=True)
    seen_at: Timestamp = column(key=True)
    known_at: Timestamp
    price: float = column(nullable=True)
    maker: str
    pieces: int


class Makers(Contract):
    """What is known of a maker on a day."""

    maker: str = column(key=True)
    day: date = column(key=True)
    known_at: Timestamp
    share: float
    since: date = column(nullable=True)
    founded: Timestamp = column(nullable=True)


@feature_set(
    "shop.features.prices",
    contract=Prices,
    entity=("device",),
    event_time="seen_at",
    kind=ByKey("device"),
    inputs={"rows": PAYMENTS},
    ttl=timedelta(hours=6),
    defaults={"price": 9.5, "maker": "none"},
)
def prices(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Prices of devices."""
    return rows


@feature_set(
    "shop.features.makers",
    contract=Makers,
    entity=("maker",),
    event_time="day",
    kind=ByKey("maker"),
    inputs={"rows": PAYMENTS},
    ttl=timedelta(days=1),
)
def makers(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Makers of devices, whose name is a value of `prices`."""
    return rows


def stored_schema(feature: FeatureSet) -> pl.Schema:
    return pl.Schema({**feature.schema, **OWN_COLUMNS})


def values(feature: FeatureSet, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows of a feature table, with the columns that the platform adds."""
    own = {"is_retracted": False, "known_at_assumed": False, "feature_set_version": 1, "replaced_known_at": None}
    return pl.DataFrame([own | row for row in rows], stored_schema(feature))


NEEDS = Needs(key_of=lambda _: ("id",), keep=timedelta(hours=3))


def content(store: OnlineStore, feature: FeatureSet, *, back: timedelta = timedelta(days=10_000)) -> dict[str, list[Any]]:
    """All that the store has of a feature set, by the names of its sets."""
    del back
    return {name: list(store.items(name)) for name in store.names() if name.startswith(feature.name)}


def hours(number: float) -> datetime:
    return START + timedelta(hours=number)


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)
