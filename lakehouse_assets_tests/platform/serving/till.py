"""A small product with an endpoint: receipts that are scored, by what they say and by what is known of their shop."""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse_assets import (
    ByKey,
    Contract,
    Full,
    Labels,
    TimeFolds,
    Timestamp,
    Upsert,
    column,
    endpoint,
    feature_set,
    model,
    predictions,
    rule,
)
from lakehouse_assets import table as declare_table
from lakehouse_assets.client import open_lakehouse
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.modelling.learners.baselines import ClassPrior, Constant
from lakehouse_assets.platform.modelling.metrics import LogLoss
from lakehouse_assets.platform.modelling.targets import Target
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.registry.decisions import ModelDecisions
from lakehouse_assets.platform.serving.limits import Limits
from lakehouse_assets.platform.serving.server import server
from lakehouse_assets.platform.serving.service import Service
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.registry.example import training
from lakehouse_assets_tests.platform.serving.asking import PATIENT

AT = datetime(2024, 3, 1, 12, tzinfo=UTC)


class Receipt(Contract):
    """A receipt."""

    receipt: str = column(key=True)
    at: Timestamp
    shop: str
    amount: float = column(ge=0, le=1_000_000)
    items: int = column(ge=1)
    note: str = column(nullable=True, personal=True)
    few_for_little = rule("an item costs at most 10000", pl.col("amount") <= 10_000 * pl.col("items"))


class Paid(Contract):
    """Whether it was paid back."""

    receipt: str = column(key=True)
    at: Timestamp
    returned: bool


class ReceiptFeatures(Contract):
    """What the receipt says."""

    receipt: str = column(key=True)
    at: Timestamp = column(key=True)
    known_at: Timestamp
    amount: float
    each: float
    shop: str
    has_note: bool


class ShopFeatures(Contract):
    """What is known of the shop."""

    shop: str = column(key=True)
    at: Timestamp = column(key=True)
    known_at: Timestamp
    returns: float = column(nullable=True)


class Score(Contract):
    """How likely it is paid back."""

    receipt: str = column(key=True)
    probability: float = column(in_range={"min_value": 0, "max_value": 1})
    decision: str
    model_name: str
    model_version: int = column(key=True)
    feature_version: int
    scored_at: Timestamp


RECEIPTS = {"rows": "till.silver.receipts"}


@declare_table("till.gold.receipts", contract=Receipt, kind=Upsert(("receipt",)), inputs=RECEIPTS)
def receipts(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Receipts."""
    return rows


@feature_set("till.features.receipts", contract=ReceiptFeatures, entity=("receipt",), event_time="at", kind=ByKey("receipt"),
             inputs={"rows": "till.gold.receipts"})  # fmt: skip
def of_receipts(rows: pl.LazyFrame) -> pl.LazyFrame:
    """What each receipt says."""
    each = (pl.col("amount") / pl.col("items")).alias("each")
    return rows.select(
        "receipt", "at", pl.col("at").alias("known_at"), "amount", each, "shop", pl.col("note").is_not_null().alias("has_note")
    )


@feature_set("till.features.shops", contract=ShopFeatures, entity=("shop",), event_time="at", kind=Full(), ttl=timedelta(days=30),
             inputs={"rows": "till.gold.receipts"}, defaults={"returns": 0.5})  # fmt: skip
def of_shops(rows: pl.LazyFrame) -> pl.LazyFrame:
    """What is known of each shop."""
    return rows.group_by("shop").agg(pl.col("at").max(), pl.col("at").max().alias("known_at"), pl.lit(0.1).alias("returns"))


returned = model(
    "till.models.returned",
    description="Whether a receipt is paid back.",
    labels=Labels("till.gold.paid", entity=("receipt",), at="at", target="returned", settled=timedelta(days=30)),
    features=(of_receipts, of_shops),
    prefixes={"till.features.shops": "shop_"},
    learner=ClassPrior("binary"),
    split=TimeFolds(),
    metric=LogLoss(),
)


@predictions("till.predictions.receipts", contract=Score, model=returned, features="till.features.receipts",
             key=("receipt", "model_version"), row_for_row=True)  # fmt: skip
def scored(champion: Any, features: pl.LazyFrame) -> pl.LazyFrame:
    """How likely each receipt is paid back."""
    rows = features.collect()
    probability = champion.model.predict(rows.select(champion.model.inputs))["probability"]
    return (
        rows.select("receipt")
        .with_columns(probability, pl.when(probability > 0.5).then(pl.lit("hold")).otherwise(pl.lit("pass")).alias("decision"))
        .lazy()
    )


DECLARED = (receipts, of_receipts, of_shops, returned, scored)
INPUTS = pl.DataFrame(
    {"amount": [1.0, 20.0], "each": [1.0, 4.0], "shop": ["a", "b"], "has_note": [True, False], "shop_returns": [0.1, None]}
)


def constant(share: float) -> Constant:
    """A model that says the same of every receipt."""
    return Constant(Target("binary", (False, True)), (share,), "amount")


def receipt(number: int = 1, **changes: Any) -> dict[str, Any]:
    """An event as it is sent."""
    usual = {"receipt": f"r{number}", "at": "2024-03-01T12:00:00Z", "shop": "a", "amount": 20.0, "items": 4, "note": None}
    return usual | changes


@dataclass
class Memory:
    """An online store in memory: rows of shops, by shop."""

    shops: dict[str, float] = field(default_factory=lambda: {"a": 0.25})
    pushed: list[Mapping[str, Any]] = field(default_factory=list)
    synced_at: datetime | None = field(default_factory=lambda: datetime.now(UTC))
    status: str = "ok"
    seconds: float = 0.0

    def lookups(self, served: Any, versions: Mapping[str, int | None]) -> "Memory":
        return self

    def needed(self) -> dict[str, Any]:
        return {}

    def synced(self) -> dict[str, datetime | None]:
        return {of_shops.name: self.synced_at}

    def features(self, events: Sequence[Mapping[str, Any]], at: Sequence[Any], requests: Sequence[int] | None = None) -> "Found":
        time.sleep(self.seconds)
        known = [event["shop"] in self.shops for event in events]
        values = [self.shops.get(event["shop"], 0.5) for event in events]
        status = [self.status if one else "missing" for one in known]
        return Found({"shop_returns": values}, {of_shops.name: [None] * len(events)}, {of_shops.name: status}, self.synced(), {})

    def push(self, events: Sequence[Mapping[str, Any]]) -> None:
        self.pushed += events

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Found:
    """What the store in memory gives."""

    columns: Mapping[str, list[Any]]
    stamps: Mapping[str, list[Any]]
    status: Mapping[str, list[str]]
    synced_at: Mapping[str, datetime | None]
    tables: Mapping[str, str]


class Till:
    """A root of its own with versions of the model, and a service of it."""

    def __init__(self, settings: Settings) -> None:
        self.root = Root(settings)
        self.online = Memory()
        self.decisions = ModelDecisions(self.root.lakehouse.table(returned.name), returned.name, self.root.registry(), "test")
        self.decisions.create()
        self.root.lakehouse.table(receipts.name).create(receipts.schema)

    def add(self, predictor: Any, example: pl.DataFrame = INPUTS) -> int:
        """Log a version; nobody asks for it yet."""
        number = len(self.decisions.registry.versions(returned.name)) + 1
        nothing = {"tables": [], "features": {}, "parameters": {}, "files": {}, "breakdowns": {}}
        made = training(model_name=returned.name, predictor=predictor, input_example=example, fingerprint=f"f{number}", **nothing)
        return self.decisions.registry.log_training(made).version

    def promote(self, number: int) -> None:
        """Make it champion."""
        self.decisions.promote(number, "By hand.")

    def challenge(self, number: int) -> None:
        """Make it challenger."""
        from lakehouse_assets.platform.registry.ledger import Verdict

        state = self.decisions.sync()
        verdict = Verdict(decision="kept as challenger", reasons=["For a test."])
        assert self.decisions.record(state, verdict, number, aliases=state.aliases.challenge(number))

    def service(
        self,
        *,
        limits: Limits | None = None,
        tokens_needed: bool = False,
        alias_seconds: float = 5.0,
        declared: Sequence[Any] = DECLARED,
        **options: Any,
    ) -> Service:
        """A service that is not started yet, with one endpoint of these options."""
        asked = [endpoint("receipts", predictions=scored, event="till.gold.receipts", **options)] if options.pop("alone", True) else []
        catalog = Catalog((*declared, *asked), frozenset({"till.silver.receipts", "till.gold.paid"}))
        reader = open_lakehouse(settings=self.root.settings, declarations=catalog.declarations, notice=lambda _: None).context.reader
        return Service(
            self.root,
            catalog,
            reader,
            self.online,
            limits or PATIENT,
            tokens_needed,
            reload_seconds=0.05,
            alias_seconds=alias_seconds,
        )


@contextmanager
def listening(service: Service) -> Iterator[str]:
    """The service on a port of loopback, in a thread of this process; its address."""
    running = server(service.application(), "127.0.0.1", 0)
    thread = threading.Thread(target=asyncio.run, args=(running.serve(),), daemon=True)
    thread.start()
    until(lambda: running.started)
    try:
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def until(holds: Any, seconds: float = 60.0) -> None:
    """Wait until something holds."""
    last = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < last, "it never came true"
        time.sleep(0.01)


def settings_in(folder: Path) -> Settings:
    return Settings.load({"LAKEHOUSE_ROOT": str(folder / "root")})
