"""The small product of `till` with the real online store: windows over receipts, and what is known of shops."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from lakehouse_assets import (
    ClassPrior,
    Feed,
    Full,
    Labels,
    LogLoss,
    TimeFolds,
    endpoint,
    feature_set,
    feed,
    model,
    open_lakehouse,
    predictions,
    window_features,
)
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.platform.registry.decisions import ModelDecisions
from lakehouse_assets.platform.registry.ledger import Verdict
from lakehouse_assets.platform.serving.online import StoreOnline
from lakehouse_assets.platform.serving.service import Service
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.registry.example import training
from lakehouse_assets_tests.platform.serving import till
from lakehouse_assets_tests.platform.serving.asking import PATIENT

NOW = datetime.now(UTC).replace(microsecond=0)
in_shops = window_features(
    "till.features.in_shops", of="till.gold.receipts", entity=("shop",), time="at", windows=("1h", "1d"),
    values={"*": ("count",), "amount": ("sum", "mean")},
)  # fmt: skip
returned = model(
    "till.models.busy",
    description="Whether a receipt is paid back.",
    labels=Labels("till.gold.paid", entity=("receipt",), at="at", target="returned", settled=timedelta(days=30)),
    features=(till.of_receipts, in_shops, till.of_shops),
    prefixes={in_shops.name: "shop_", till.of_shops.name: "shop_"},
    learner=ClassPrior("binary"),
    split=TimeFolds(),
    metric=LogLoss(),
)


@predictions("till.predictions.busy", contract=till.Score, model=returned, features=till.of_receipts.name,
             key=("receipt", "model_version"), row_for_row=True)  # fmt: skip
def scored(champion: Any, features: pl.LazyFrame) -> pl.LazyFrame:
    """How busy a shop is, as a probability."""
    busy = (pl.col("shop_count_1h") / (pl.col("shop_count_1d") + pl.col("shop_returns"))).clip(0, 1).alias("probability")
    return features.select("receipt", busy, pl.format("{}", pl.col("shop_amount_sum_1d")).alias("decision"))


ASKED = endpoint("busy", predictions=scored)
PUSHED = feed("till.bronze.pushed", Feed("pushed", headers=(("receipt", "amount"),), row_id="receipt", format="jsonl"), "Receipts.")
DECLARED = (till.receipts, till.of_receipts, in_shops, till.of_shops, returned, scored, ASKED, PUSHED)
CATALOG = Catalog(DECLARED, frozenset({"till.silver.receipts", "till.gold.paid"}))


@feature_set(till.of_shops.name, contract=till.ShopFeatures, entity=("shop",), event_time="at", kind=Full(), ttl=timedelta(days=30),
             inputs={"rows": "till.gold.receipts"}, defaults={"returns": 0.5})  # fmt: skip
def changed(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The same columns, which mean something else."""
    return rows.group_by("shop").agg(pl.col("at").max(), pl.col("at").max().alias("known_at"), pl.lit(0.9).alias("returns"))


AFTER = Catalog(tuple(changed if one is till.of_shops else one for one in DECLARED), CATALOG.external)
"""The product after a function of it has changed."""


def receipts(first: int, last: int) -> pl.DataFrame:
    rows = [
        {"receipt": f"r{number}", "at": NOW - timedelta(minutes=13 * (last - number)), "shop": "ab"[number % 2], "amount": 0.1 * number,
         "items": 1 + number % 3, "note": None}
        for number in range(first, last)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=till.receipts.schema)


def as_sent(row: dict[str, Any]) -> dict[str, Any]:
    """A receipt as JSON has it."""
    return row | {"at": row["at"].isoformat()}


MADE = (till.receipts.name, till.of_receipts.name, in_shops.name, till.of_shops.name)
"""The tables that models are made of."""


def prepared(root: Root, count: int = 60, catalog: Catalog = CATALOG) -> Runner:
    """Fill the tables of a root and promote a model; a runner of the product."""
    gold = root.lakehouse.table("till.silver.receipts")
    gold.create(till.receipts.schema)
    gold.append(receipts(0, count))
    runner = Runner(catalog, root.lakehouse, root.ingestion, root.registry, 1)
    runner.run(MADE, run_id="first")
    decisions_of(root).create()
    decisions_of(root).promote(trained(root, "1"), "For a test.")
    return runner


def decisions_of(root: Root) -> ModelDecisions:
    """What was decided about the versions of the model."""
    return ModelDecisions(root.lakehouse.table(returned.name), returned.name, root.registry(), "test")


def trained(root: Root, fingerprint: str) -> int:
    """Log a version of the model that has learnt what the tables have now; nobody asks for it yet."""
    features = {name: FeatureVersion.of(root.lakehouse.table(name)) for name in MADE[1:]}
    example = pl.DataFrame({name: [1.0 if name == "amount" else None] for name in returned.examples.inputs})
    nothing: dict[str, Any] = {"tables": [], "parameters": {}, "files": {}, "breakdowns": {}}
    made = training(
        model_name=returned.name, predictor=till.constant(0.5), input_example=example, features=features, fingerprint=fingerprint, **nothing
    )
    return decisions_of(root).registry.log_training(made).version


def challenge(root: Root, version: int) -> None:
    """Make a version challenger."""
    decisions = decisions_of(root)
    state = decisions.sync()
    kept = Verdict(decision="kept as challenger", reasons=["For a test."])
    assert decisions.record(state, kept, version, aliases=state.aliases.challenge(version))


def declared(_: Settings) -> Catalog:
    """The catalog, for a process of the service."""
    return CATALOG


def service_of(root: Root, **options: Any) -> Service:
    """A service with the online store that the settings name."""
    reader = open_lakehouse(settings=root.settings, declarations=DECLARED, notice=lambda _: None).context.reader
    return Service(root, CATALOG, reader, StoreOnline(root.settings), reload_seconds=0.05, **({"limits": PATIENT} | options))


def shared_service_of(root: Root) -> Service:
    """A service that was started before the function changed; the challenger answers half of the keys."""
    asked = endpoint("busy", predictions=scored, challenger=0.5)
    catalog = Catalog(tuple(asked if one is ASKED else one for one in DECLARED), CATALOG.external)
    made = service_of(root)
    return Service(root, catalog, made.reader, made.online, made.limits, reload_seconds=0.05)


def versions_of(service: Service) -> tuple[int, int | None]:
    """The versions of champion and challenger that answer; 0: none does."""
    now = service.served["busy"].versions
    return (0, None) if now is None else (now.champion.champion.version, now.challenger and now.challenger.champion.version)


def is_ready(service: Service) -> bool:
    """Whether a version answers and the store knows all tables."""
    lookups = service.served["busy"].lookups
    synced = None if lookups is None else lookups.synced()
    return synced is not None and len(synced) == 2 and None not in synced.values()
