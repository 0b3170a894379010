"""Keys of stored events are answered from what batch knows: as the prediction table says, however old they are."""

import json
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets_tests.platform.serving import busy, till
from lakehouse_assets_tests.platform.serving.asking import Connection
from lakehouse_assets_tests.platform.serving.busy import ASKED, NOW, as_sent, in_shops, is_ready, prepared, receipts, scored, service_of
from lakehouse_assets_tests.platform.serving.till import listening, until


@pytest.mark.timeout(180)
def test_keys_say_what_the_prediction_table_says(settings):
    root = Root(settings)
    runner = prepared(root, 240)  # two days and four hours
    runner.run([scored.name], run_id="scored")
    table = root.lakehouse.table(scored.name).scan().select("receipt", "probability", "decision").collect()
    service = service_of(root)
    keys = [{"receipt": f"r{number}"} for number in (0, 1, 2, 40, 239, 3)]
    with listening(service) as address, Connection(address) as connection:
        until(lambda: is_ready(service))
        old = as_sent(receipts(0, 240).row(0, named=True))
        assert connection.post("/endpoints/busy", old)[1]["predictions"][0]["features"]["expired"] == [in_shops.name, till.of_shops.name]
        status, answer = connection.post("/endpoints/busy", {"keys": keys})
        assert status == 200, answer
        assert not any("features" in one for one in answer["predictions"])
        told = pl.DataFrame(answer["predictions"]).select(table.columns)
        assert told.equals(pl.DataFrame(keys).join(table, on="receipt", how="left", maintain_order="left"))

        # An event that is stored, and has no features yet; and one that is not stored.
        root.lakehouse.table(till.receipts.name).append(receipts(240, 241).with_columns(at=pl.lit(NOW)))
        status, answer = connection.post("/endpoints/busy", {"keys": [{"receipt": "r240"}, {"receipt": "r1"}]})
        assert (status, answer["errors"]) == (
            422,
            [{"row": 0, "field": "receipt", "message": f"{till.of_receipts.name} has no row for it"}],
        )
        status, answer = connection.post("/endpoints/busy", {"keys": [{"receipt": "r1"}, {"receipt": "none"}]})
        assert (status, answer["errors"]) == (422, [{"row": 1, "field": "receipt", "message": f"{till.receipts.name} has no row for it"}])
        assert connection.post("/endpoints/busy", {"keys": []})[0] == 422
        # That a table is not there is not the caller's fault.
        for gone in (till.receipts.name, till.of_receipts.name, till.of_shops.name):
            folder = Path(root.lakehouse.table(gone).uri)
            folder.rename(folder.with_suffix(".away"))
            status, answer = connection.post("/endpoints/busy", {"keys": [{"receipt": "r1"}]})
            assert (status, answer["errors"][0]["message"]) == (503, f"{gone} does not exist now: `lakehouse run {gone}` makes it")
            folder.with_suffix(".away").rename(folder)
        assert service.log.flush()
    logged = root.lakehouse.table(ASKED.name).scan().filter(pl.col("request") == '{"receipt":"r40"}').collect()
    assert json.loads(logged["key"].item()) == {"receipt": "r40"}
    assert json.loads(logged["features"].item())["shop_count_1d"] > 0


@pytest.mark.timeout(180)
def test_keys_that_the_challenger_answers_get_the_features_that_it_has_learnt(settings):
    root = Root(settings)
    runner = prepared(root)
    new = receipts(60, 100).with_columns(shop=pl.col("receipt"))  # of each shop something is known at the time of its receipt
    silver = root.lakehouse.table("till.silver.receipts")
    silver.append(new)
    runner.run(busy.MADE, run_id="more")
    silver.append(receipts(100, 101))  # a table is computed when something comes
    Runner(busy.AFTER, root.lakehouse, root.ingestion, root.registry, 1).run(busy.MADE, run_id="changed")
    busy.challenge(root, busy.trained(root, "2"))
    service = busy.shared_service_of(root)
    with listening(service) as address, Connection(address) as connection:
        until(lambda: busy.versions_of(service) == (1, 2))
        status, answer = connection.post("/endpoints/busy", {"keys": [{"receipt": name} for name in new["receipt"]]})
        assert status == 200, answer
        assert {one["variant"] for one in answer["predictions"]} == {"champion", "challenger"}
        assert service.log.flush()
    logged = root.lakehouse.table(ASKED.name).scan().select("model_version", "features").collect()
    assert {(version, json.loads(features)["shop_returns"]) for version, features in logged.iter_rows()} == {(1, 0.1), (2, 0.9)}
