"""No answer is ever given features of another meaning than its model has learnt: whatever changes, and while it changes."""

import json
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from lakehouse_assets import Full, endpoint, feature_set
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.online import sync_online
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.platform.registry.decisions import ModelDecisions
from lakehouse_assets.platform.registry.ledger import Verdict
from lakehouse_assets.platform.serving.service import Service
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets_tests.platform.registry.example import training
from lakehouse_assets_tests.platform.serving import busy, till
from lakehouse_assets_tests.platform.serving.asking import under_load
from lakehouse_assets_tests.platform.serving.busy import MADE, NOW, as_sent, is_ready, prepared, receipts, returned
from lakehouse_assets_tests.platform.serving.till import listening, until


@feature_set(till.of_shops.name, contract=till.ShopFeatures, entity=("shop",), event_time="at", kind=Full(), ttl=timedelta(days=30),
             inputs={"rows": "till.gold.receipts"}, defaults={"returns": 0.5})  # fmt: skip
def changed(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The same columns, which mean something else."""
    return rows.group_by("shop").agg(pl.col("at").max(), pl.col("at").max().alias("known_at"), pl.lit(0.9).alias("returns"))


LEARNT = {1: 0.1, 2: 0.9}
"""By version of the model what it has learnt that shops are like."""
AFTER = tuple(changed if one is till.of_shops else one for one in busy.DECLARED)


def service_of(root: Root) -> Service:
    """A service that was started before the function changed; the challenger answers half of the keys."""
    declared = [one for one in busy.DECLARED if one is not busy.ASKED]
    declared.append(endpoint("busy", predictions=busy.scored, challenger=0.5))
    made = busy.service_of(root)
    return Service(root, Catalog(tuple(declared), busy.CATALOG.external), made.reader, made.online, reload_seconds=0.05)


@pytest.mark.timeout(240)
def test_a_version_is_given_what_it_has_learnt_while_functions_champions_and_challengers_change(settings):
    root = Root(settings)
    prepared(root)
    lakehouse = root.lakehouse
    decisions = ModelDecisions(lakehouse.table(returned.name), returned.name, root.registry(), "test")
    runner = Runner(Catalog(AFTER, busy.CATALOG.external), lakehouse, root.ingestion, root.registry, 1)
    service = service_of(root)
    asked = [as_sent(row | {"receipt": f"asked {row['receipt']}", "at": NOW}) for row in receipts(40, 60).rows(named=True)]

    def trained() -> int:
        features = {name: FeatureVersion.of(lakehouse.table(name)) for name in MADE[1:]}
        example = pl.DataFrame({name: [1.0 if name == "amount" else None] for name in returned.examples.inputs})
        nothing: dict[str, Any] = {"tables": [], "parameters": {}, "files": {}, "breakdowns": {}}
        made = training(
            model_name=returned.name, predictor=till.constant(0.5), input_example=example, features=features, fingerprint="2", **nothing
        )
        return decisions.registry.log_training(made).version

    def versions() -> tuple[int, int | None]:
        now = service.served["busy"].versions
        return (0, None) if now is None else (now.champion.champion.version, now.challenger and now.challenger.champion.version)

    def sync_by_hand() -> None:
        store = service.online._store
        sync_online(store, lakehouse, busy.CATALOG, [till.of_shops], keep=timedelta(days=1))

    def change() -> None:
        """All that may happen, one after the other, while requests come."""
        more = receipts(60, 62).with_columns(at=pl.lit(NOW))
        lakehouse.table("till.silver.receipts").append(more)
        runner.run(MADE, run_id="changed")  # another version of the feature set, and the champion has learnt the first
        service.background.sync()
        sync_by_hand()
        number = trained()
        state = decisions.sync()
        kept = Verdict(decision="kept as challenger", reasons=["For a test."])
        assert decisions.record(state, kept, number, aliases=state.aliases.challenge(number))
        until(lambda: versions() == (1, 2))
        sync_by_hand()
        decisions.promote(number, "For a test.")
        until(lambda: versions()[0] == 2)
        sync_by_hand()
        decisions.rollback()
        until(lambda: versions()[0] == 1)

    with listening(service) as address:
        until(lambda: is_ready(service))
        answers = under_load(
            address, 2, lambda connection, number: connection.post("/endpoints/busy?dry_run=true", asked[number % len(asked)]), change
        )
        assert {status for status, _ in answers} == {200}
        assert service.log.flush()
    logged = lakehouse.table(busy.ASKED.name).scan().select("model_version", "features", "status").collect()
    given = {
        (version, json.loads(features)["shop_returns"], json.loads(status)[till.of_shops.name]["status"])
        for version, features, status in logged.iter_rows()
    }
    assert given == {(1, 0.1, "ok"), (2, 0.9, "ok")}
    assert {version for version, *_ in given} == set(LEARNT)
