"""Parity: what was answered is what batch says, and where it is not, the replay says why."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.champions import scorer_of
from lakehouse_assets.platform.serving.inference_log.records import InferenceRecord
from lakehouse_assets.platform.serving.parity import Parity, Replay
from lakehouse_assets_tests.platform.serving import till
from lakehouse_assets_tests.platform.serving.asking import Connection
from lakehouse_assets_tests.platform.serving.busy import ASKED, DECLARED, MADE, NOW, as_sent, is_ready, prepared, receipts, service_of
from lakehouse_assets_tests.platform.serving.till import listening


def replay(root: Root) -> Parity:
    roles = ASKED.roles({one.name: one for one in DECLARED})
    return Replay(ASKED, roles, root.lakehouse, lambda version: scorer_of(root.registry(), ASKED.model, version)).run()


@pytest.mark.timeout(180)
def test_logged_requests_are_replayed(settings):
    root = Root(settings)
    runner = prepared(root)
    service = service_of(root)
    assert replay(root).rows == 0
    coming = receipts(60, 70).with_columns(at=pl.lit(NOW + timedelta(minutes=2)) + pl.duration(seconds=pl.int_range(pl.len())))
    with listening(service) as address, Connection(address) as connection:
        till.until(lambda: is_ready(service))
        for row in coming.rows(named=True):  # each counts the ones before it
            status, answer = connection.post("/endpoints/busy", as_sent(row))
            assert status == 200, answer
            till.until(lambda: not service.engine.pusher._waiting)
        service.log.flush()

    # Nothing has come into the tables: scores are compared, features wait.
    before = replay(root)
    assert (before.rows, before.waiting, before.scores["equal"]) == (10, 10, 10)
    root.lakehouse.table("till.silver.receipts").append(coming)
    runner.run(MADE, run_id="second")
    found = replay(root)
    assert found.passed, found.text
    assert (found.rows, found.waiting, found.scores["equal"]) == (10, 0, 10)
    windows = {name: counts for name, counts in found.features.items() if name.startswith("shop_") and name != "shop_returns"}
    assert {name: counts["equal"] for name, counts in windows.items()} == dict.fromkeys(windows, 10)
    assert len(windows) == 6

    # A receipt is corrected: batch knows now what nobody knew when the answer was given.
    corrected = coming.head(1).with_columns(amount=pl.lit(99.0))
    root.lakehouse.table("till.silver.receipts").append(corrected)
    runner.run(MADE, run_id="third")
    late = replay(root)
    assert late.passed, late.text
    assert late.features["amount"]["late"] == 1
    assert "became known after the answer" in late.text

    # A receipt of an hour ago comes late: batch counts it in the windows of those after it, which is explained by nothing else.
    more = coming.head(1).with_columns(receipt=pl.lit("late"), at=pl.lit(NOW + timedelta(minutes=1)), amount=pl.lit(7.0))
    root.lakehouse.table("till.silver.receipts").append(more)
    runner.run(MADE, run_id="fourth")
    late = replay(root)
    assert late.passed, late.text
    assert late.features["shop_count_1h"]["late"] == 5

    # What was given is not what was known then: that something came late is no excuse.
    log = root.lakehouse.table(ASKED.name)
    wrong = log.scan().filter(pl.col("received_at") == pl.col("received_at").max()).collect()
    features = json.loads(wrong["features"].item()) | {"shop_count_1h": 77, "amount": 1.5}
    log.append(wrong.with_columns(pl.lit("wrong").alias("request_id"), pl.lit(json.dumps(features)).alias("features")))
    found = replay(root)
    assert (found.passed, found.features["shop_count_1h"]["different"], found.features["amount"]["different"]) == (False, 1, 1)
    assert "wrong" in found.requests


@pytest.mark.timeout(180)
def test_events_that_were_asked_about_and_never_came_are_told_apart(settings):
    root = Root(settings)
    runner = prepared(root)
    service = service_of(root)
    at = NOW + timedelta(minutes=2)
    coming = receipts(60, 64).with_columns(shop=pl.lit("a"), at=pl.lit(at) + pl.duration(seconds=pl.int_range(pl.len())))
    rows = [as_sent(row) for row in coming.rows(named=True)]
    with listening(service) as address, Connection(address) as connection:
        till.until(lambda: is_ready(service))
        assert connection.post("/endpoints/busy?dry_run=true", rows[0] | {"receipt": "never counted"})[0] == 200
        store = service.online._store
        (windows,) = [name for name in store.names() if name.endswith("/events")]
        before = len(list(store.items(windows)))
        assert connection.post("/endpoints/busy", rows[0] | {"receipt": "never came"})[0] == 200
        till.until(lambda: len(list(store.items(windows))) == before + 1)
        assert connection.post("/endpoints/busy", {"rows": rows[1:3]})[0] == 200
        service.log.flush()
    # Of the two rows of one request one comes: it counted the other one as well.
    root.lakehouse.table("till.silver.receipts").append(coming[2:3])
    runner.run(MADE, run_id="second")
    found = replay(root)
    assert found.passed, found.text
    assert (found.features["shop_count_1h"]["asked"], found.compared) == (1, 1), found.text
    assert "were asked about" in found.text


@pytest.mark.timeout(180)
def test_an_event_that_came_with_other_values_than_were_sent_is_late_and_dry_runs_are_left_out(settings):
    root = Root(settings)
    runner = prepared(root)
    service = service_of(root)
    coming = receipts(60, 62).with_columns(at=pl.lit(NOW + timedelta(minutes=2)) + pl.duration(seconds=pl.int_range(pl.len())))
    with listening(service) as address, Connection(address) as connection:
        till.until(lambda: is_ready(service))
        first, second = (as_sent(row) for row in coming.rows(named=True))
        assert connection.post("/endpoints/busy?dry_run=true", second)[0] == 200
        assert connection.post("/endpoints/busy", first | {"amount": 5.0})[0] == 200
        service.log.flush()
    # What was known when is not told apart: the table says that it knew it all along.
    root.lakehouse.table("till.silver.receipts").append(coming.with_columns(amount=pl.lit(6.0)))
    runner.run(MADE, run_id="second")
    found = replay(root)
    assert found.passed, found.text
    assert (found.rows, found.features["amount"]["late"]) == (1, 1), found.text


def test_full_rows_of_features_are_not_compared_with_the_tables(settings):
    root = Root(settings)
    prepared(root)
    service = service_of(root)
    row = receipts(59, 60).row(0, named=True)
    features = {"receipt": "r59", "at": row["at"].isoformat(), "amount": 1.0, "each": 1.0, "shop": "b", "has_note": False}
    features |= {f"shop_{name}_{window}": 1.0 for name in ("amount_sum", "amount_mean") for window in ("1h", "1d")}
    features |= {"shop_count_1h": 1, "shop_count_1d": 4, "shop_returns": 0.0}
    with listening(service) as address, Connection(address) as connection:
        till.until(lambda: is_ready(service))
        assert connection.post("/endpoints/busy", {"features": [features]})[0] == 200
        service.log.flush()
        found = replay(root)
        assert (found.passed, found.rows, found.full, found.compared) == (True, 1, 1, 0)
        assert "none of them compared" in found.text
        # Keys are answered from the tables, and are compared.
        assert connection.post("/endpoints/busy", {"keys": [{"receipt": "r59"}, {"receipt": "r3"}]})[0] == 200
        service.log.flush()
    found = replay(root)
    assert (found.passed, found.rows, found.compared, found.values) == (True, 3, 2, 2 * len(found.features)), found.text
    forms = root.lakehouse.table(ASKED.name).scan().select("form").collect().to_series().sort().to_list()
    assert forms == ["features", "keys", "keys"]


def test_what_differs_without_a_reason_is_told(settings):
    root = Root(settings)
    prepared(root)
    service = service_of(root)
    log = service.log
    row = receipts(59, 60).row(0, named=True)
    features = {"receipt": "r59", "at": row["at"], "amount": 1.0, "each": 1.0, "shop": "b", "has_note": False}
    features |= {f"shop_{name}_{window}": 1.0 for name in ("amount_sum", "amount_mean") for window in ("1h", "1d")}
    features |= {"shop_count_1h": 1, "shop_count_1d": 4, "shop_returns": 0.0}
    record = InferenceRecord(
        request_id="made-up",
        row=0,
        endpoint="busy",
        received_at=datetime.now(UTC),
        event_time=row["at"],
        key={"receipt": "r59"},
        model_name=ASKED.model.name,
        model_version=1,
        features=features,
        prediction={"receipt": "r59", "probability": 0.75, "decision": "1.0"},
    )
    log.append([record])
    assert log.flush()
    found = replay(root)
    assert not found.passed
    assert found.scores["different"] == 1
    assert found.features["amount"]["different"] == 1
    assert list(found.requests) == ["made-up"]
    assert "amount (1)" in found.text
    logged = json.loads(root.lakehouse.table(ASKED.name).scan().select("features").collect().item())
    assert logged["amount"] == 1.0
    assert log.release()
