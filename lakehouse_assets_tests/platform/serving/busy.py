"""The small product of `till` with the real online store: windows over receipts, and what is known of shops."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from lakehouse_assets import (
    ClassPrior,
    Feed,
    Labels,
    LogLoss,
    TimeFolds,
    endpoint,
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
from lakehouse_assets.platform.serving.limits import Limits
from lakehouse_assets.platform.serving.online import StoreOnline
from lakehouse_assets.platform.serving.service import Service
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.registry.example import training
from lakehouse_assets_tests.platform.serving import till

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


def prepared(root: Root, count: int = 60) -> Runner:
    """Fill the tables of a root and promote a model; a runner of the product."""
    gold = root.lakehouse.table("till.silver.receipts")
    gold.create(till.receipts.schema)
    gold.append(receipts(0, count))
    runner = Runner(CATALOG, root.lakehouse, root.ingestion, root.registry, 1)
    runner.run(MADE, run_id="first")
    decisions = ModelDecisions(root.lakehouse.table(returned.name), returned.name, root.registry(), "test")
    decisions.create()
    example = pl.DataFrame({name: [1.0 if name == "amount" else None] for name in returned.examples.inputs})
    features = {name: FeatureVersion.of(root.lakehouse.table(name)) for name in MADE[1:]}
    nothing = {"tables": [], "parameters": {}, "files": {}, "breakdowns": {}}
    logged = training(model_name=returned.name, predictor=till.constant(0.5), input_example=example, features=features, **nothing)
    decisions.promote(decisions.registry.log_training(logged).version, "For a test.")

    return runner


def declared(_: Settings) -> Catalog:
    """The catalog, for a process of the service."""
    return CATALOG


def service_of(root: Root, **options: Any) -> Service:
    """A service with the online store that the settings name."""
    reader = open_lakehouse(settings=root.settings, declarations=DECLARED, notice=lambda _: None).context.reader
    patient = {"limits": Limits(seconds=10.0)}  # a busy machine is no outage
    return Service(root, CATALOG, reader, StoreOnline(root.settings), reload_seconds=0.05, **(patient | options))


def is_ready(service: Service) -> bool:
    """Whether a version answers and the store knows all tables."""
    lookups = service.served["busy"].lookups
    synced = None if lookups is None else lookups.synced()
    return synced is not None and len(synced) == 2 and None not in synced.values()
