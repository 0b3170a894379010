"""With the real online store: a request says what batch says, and windows count what was asked before."""

from datetime import timedelta

import polars as pl
import pytest

from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets_tests.platform.serving import till
from lakehouse_assets_tests.platform.serving.asking import Connection
from lakehouse_assets_tests.platform.serving.busy import MADE, NOW, as_sent, in_shops, is_ready, prepared, receipts, scored, service_of
from lakehouse_assets_tests.platform.serving.till import listening, until


@pytest.mark.timeout(180)
def test_a_request_says_what_the_table_says_and_windows_count_what_was_asked(settings):
    root = Root(settings)
    runner = prepared(root)
    service = service_of(root)
    with listening(service) as address, Connection(address) as connection:
        until(lambda: is_ready(service))
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

        # Of a time before what is kept the windows were cut, and the answer says so.
        old = as_sent(stored.row(0, named=True) | {"receipt": "old", "at": NOW - timedelta(hours=40)})
        said = connection.post("/endpoints/busy?dry_run=true", old)[1]["predictions"][0]
        assert said["features"] == {"expired": [in_shops.name, till.of_shops.name]}

        told = connection.get(f"/features/{till.of_shops.name}?key=a")[1]["rows"]
        assert [(row["shop"], row["returns"]) for row in told] == [("a", 0.1)]
        assert connection.get(f"/features/{till.of_shops.name}")[0] == 422
        assert connection.get("/features/none?key=a")[0] == 404

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


@pytest.mark.timeout(180)
def test_rows_of_one_request_count_each_other_as_if_all_of_them_had_landed(settings):
    root = Root(settings)
    runner = prepared(root)
    service = service_of(root)
    new = pl.DataFrame(
        [
            {"receipt": f"n{number}", "at": NOW - timedelta(minutes=number % 7), "shop": "abc"[number % 3], "amount": 0.1 + number,
             "items": 1, "note": None}
            for number in range(30)
        ],
        schema=till.receipts.schema,
    )  # fmt: skip
    with listening(service) as address, Connection(address) as connection:
        until(lambda: is_ready(service))
        status, answer = connection.post("/endpoints/busy", {"rows": [as_sent(row) for row in new.rows(named=True)]})
        assert status == 200, answer
    root.lakehouse.table("till.silver.receipts").append(new)
    runner.run([*MADE, scored.name], run_id="landed")
    table = root.lakehouse.table(scored.name).scan().collect()
    told = pl.DataFrame(answer["predictions"]).select("receipt", "decision")
    expected = new.select("receipt").join(table, on="receipt", how="left", maintain_order="left").select(told.columns)
    assert told.equals(expected)
    assert max(map(float, told["decision"])) > 100  # sums of a growing window, and not each receipt by itself
