"""No answer is ever given features of another meaning than its model has learnt: whatever changes, and while it changes."""

import json
from datetime import timedelta

import polars as pl
import pytest

from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.online import sync_online
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets_tests.platform.serving import busy, till
from lakehouse_assets_tests.platform.serving.asking import under_load
from lakehouse_assets_tests.platform.serving.busy import MADE, NOW, as_sent, is_ready, prepared, receipts
from lakehouse_assets_tests.platform.serving.till import listening, until

LEARNT = {1: 0.1, 2: 0.9}
"""By version of the model what it has learnt that shops are like."""


@pytest.mark.timeout(240)
def test_a_version_is_given_what_it_has_learnt_while_functions_champions_and_challengers_change(settings):
    root = Root(settings)
    prepared(root)
    lakehouse = root.lakehouse
    decisions = busy.decisions_of(root)
    runner = Runner(busy.AFTER, lakehouse, root.ingestion, root.registry, 1)
    service = busy.shared_service_of(root)
    asked = [as_sent(row | {"receipt": f"asked {row['receipt']}", "at": NOW}) for row in receipts(40, 60).rows(named=True)]

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
        number = busy.trained(root, "2")
        busy.challenge(root, number)
        until(lambda: busy.versions_of(service) == (1, 2))
        sync_by_hand()
        decisions.promote(number, "For a test.")
        until(lambda: busy.versions_of(service)[0] == 2)
        sync_by_hand()
        decisions.rollback()
        until(lambda: busy.versions_of(service)[0] == 1)

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
