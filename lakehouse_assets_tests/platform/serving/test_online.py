"""With the real online store: a request says what batch says, and windows count what was asked before."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from lakehouse_assets import ClassPrior, Labels, LogLoss, TimeFolds, endpoint, model, open_lakehouse, predictions, window_features
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.platform.registry.decisions import ModelDecisions
from lakehouse_assets.platform.serving.online import StoreOnline
from lakehouse_assets.platform.serving.service import Service
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.registry.example import training
from lakehouse_assets_tests.platform.serving import till
from lakehouse_assets_tests.platform.serving.asking import Connection
from lakehouse_assets_tests.platform.serving.till import listening, until

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
DECLARED = (till.receipts, till.of_receipts, in_shops, till.of_shops, returned, scored, ASKED)
CATALOG = Catalog(DECLARED, frozenset({"till.silver.receipts", "till.gold.paid"}))


def receipts(first: int, last: int) -> pl.DataFrame:
    rows = [
        {"receipt": f"r{number}", "at": NOW - timedelta(minutes=13 * (last - number)), "shop": "ab"[number % 2], "amount": 0.1 * number,
         "items": 1 + number % 3, "note": None}
        for number in range(first, last)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=till.receipts.schema)


def as_sent(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"at": row["at"].isoformat()}


MADE = (till.receipts.name, till.of_receipts.name, in_shops.name, till.of_shops.name)


def busy(settings: Settings) -> tuple[Root, Runner, Service]:
    """A root with sixty receipts and a champion, and a service of it that is not started yet."""
    root = Root(settings)
    gold = root.lakehouse.table("till.silver.receipts")
    gold.create(till.receipts.schema)
    gold.append(receipts(0, 60))
    runner = Runner(CATALOG, root.lakehouse, root.ingestion, root.registry, 1)
    runner.run(MADE, run_id="first")
    decisions = ModelDecisions(root.lakehouse.table(returned.name), returned.name, root.registry(), "test")
    decisions.create()
    example = pl.DataFrame({name: [1.0 if name == "amount" else None] for name in returned.examples.inputs})
    features = {name: FeatureVersion.of(root.lakehouse.table(name)) for name in MADE[1:]}
    nothing = {"tables": [], "parameters": {}, "files": {}, "breakdowns": {}}
    logged = training(model_name=returned.name, predictor=till.constant(0.5), input_example=example, features=features, **nothing)
    decisions.promote(decisions.registry.log_training(logged).version, "For a test.")
    reader = open_lakehouse(settings=settings, declarations=DECLARED, notice=lambda _: None).context.reader
    return root, runner, Service(root, CATALOG, reader, StoreOnline(root, {one.name: one for one in DECLARED}), reload_seconds=0.05)


def until_ready(service: Service) -> None:
    """Wait until the champion is loaded and the online store is filled."""
    until(lambda: service.served["busy"].versions is not None)
    until(lambda: len(service.online.synced()) == 2 and None not in service.online.synced().values())


@pytest.mark.timeout(180)
def test_a_request_says_what_the_table_says_and_windows_count_what_was_asked(settings):
    root, runner, service = busy(settings)
    with listening(service) as address, Connection(address) as connection:
        until_ready(service)
        # What is in the tables already counts once.
        stored = receipts(40, 60)
        status, answer = connection.post("/endpoints/busy", {"rows": [as_sent(row) for row in stored.rows(named=True)]})
        assert status == 200, answer
        runner.run([scored.name], run_id="scored")
        table = root.lakehouse.table(scored.name).scan().collect()
        told = pl.DataFrame(answer["predictions"]).select("receipt", "probability", "decision")
        expected = stored.select("receipt").join(table, on="receipt", how="left", maintain_order="left").select(told.columns)
        assert told.equals(expected)
        by_keys = connection.post("/endpoints/busy", {"keys": [{"receipt": "r50"}]})[1]["predictions"][0]
        assert by_keys["probability"] == told.filter(receipt="r50")["probability"].item()

        # New ones are counted by those that follow, before any table has them.
        counts = []
        for number in range(3):
            row = {"receipt": f"new{number}", "at": NOW.isoformat(), "shop": "new", "amount": 10.0, "items": 1, "note": None}
            prediction = connection.post("/endpoints/busy", row)[1]["predictions"][0]
            assert prediction["features"] == {"missing": [till.of_shops.name]}
            counts.append(float(prediction["decision"]))
            until(lambda: not service.engine.pusher._waiting)
        assert counts[0] == 10.0
        until(lambda: float(connection.post("/endpoints/busy", row)[1]["predictions"][0]["decision"]) == 30.0)
