"""Parity: what was answered is what batch says, and where it is not, the replay says why."""

import json
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from lakehouse_assets import Full, feature_set
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.features.online.store import Batch, Put, Retention, SetState, TakenOver
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.champions import scorer_of
from lakehouse_assets.platform.serving.inference_log.records import InferenceRecord
from lakehouse_assets.platform.serving.parity import MOST_ROWS, Replay
from lakehouse_assets.platform.serving.parity_found import Parity
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets_tests.platform.serving import till
from lakehouse_assets_tests.platform.serving.asking import Connection
from lakehouse_assets_tests.platform.serving.busy import (
    ASKED,
    CATALOG,
    DECLARED,
    MADE,
    NOW,
    as_sent,
    is_ready,
    prepared,
    receipts,
    service_of,
)
from lakehouse_assets_tests.platform.serving.till import listening


def replay(root: Root, most: int = MOST_ROWS) -> Parity:
    roles = ASKED.roles({one.name: one for one in DECLARED})
    return Replay(ASKED, roles, root.lakehouse, lambda version: scorer_of(root.registry(), ASKED.model, version)).run(most)


@pytest.mark.timeout(180)
def test_logged_requests_are_replayed(settings, monkeypatch):
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

    # Tables are read once for all rows, however many of them something came late for.
    scans = Counter[int]()
    scan = Table.scan

    def counted_scan(table: Table, *args: Any, **options: Any) -> pl.LazyFrame:
        scans[most] += 1
        return scan(table, *args, **options)

    monkeypatch.setattr(Table, "scan", counted_scan)
    for most in (4, 9):
        assert replay(root, most).features["shop_count_1h"]["late"] == most // 2
    assert scans[4] == scans[9]
    monkeypatch.undo()

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


def claimed(store: Any, name: str) -> int:
    """A claim of a set, as another sync would have it."""
    claims: list[int] = []

    def claims_it() -> bool:
        with suppress(TakenOver):
            claims.append(store.begin(name, 60.0))
        return bool(claims)

    till.until(claims_it)
    return claims[0]


@feature_set(till.of_shops.name, contract=till.ShopFeatures, entity=("shop",), event_time="at", kind=Full(), ttl=timedelta(days=30),
             inputs={"rows": "till.gold.receipts"}, defaults={"returns": 0.5})  # fmt: skip
def counted(rows: pl.LazyFrame) -> pl.LazyFrame:
    """A value that every receipt of the shop changes."""
    return rows.group_by("shop").agg(pl.col("at").max(), pl.col("at").max().alias("known_at"), (pl.len() / 1000).alias("returns"))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("lost", ["all of it", "what came last"])
def test_only_what_came_after_the_version_of_the_store_is_stale(settings, lost):
    """A store that has lost what its sync had brought is no store that was behind."""
    root = Root(settings)
    runner = prepared(root, catalog=Catalog(tuple(counted if one is till.of_shops else one for one in DECLARED), CATALOG.external))
    service = service_of(root)
    store = service.online._store
    at = NOW - timedelta(minutes=1)
    coming = receipts(60, 70).with_columns(shop=pl.lit("a"), at=pl.lit(at) + pl.duration(seconds=pl.int_range(pl.len())))
    silver = root.lakehouse.table("till.silver.receipts")

    def ask(row: pl.DataFrame) -> dict:
        status, answer = connection.post("/endpoints/busy", as_sent(row.row(0, named=True)))
        assert status == 200, answer
        service.log.flush()
        return answer["predictions"][0]

    def behind() -> bool:
        states = [SetState.read(store.read([], [name]).states[0]) for name in held]
        return any(state.cursor < root.lakehouse.table(state.table).version() for state in states)

    with listening(service) as address, Connection(address) as connection:
        till.until(lambda: is_ready(service))
        held = [name for name in store.names() if name.endswith("/events") or "@" in name]
        assert len(held) == 2
        (values,) = [name for name in held if "@" in name]
        entity, item = next((entity, item) for entity, item in store.items(values) if b"a" in entity)
        # Another sync holds both sets for a while, and two receipts come into the tables meanwhile.
        claims = {name: claimed(store, name) for name in held}
        silver.append(coming[:2])
        runner.run(MADE, run_id="second")
        assert behind()
        assert "features" not in ask(coming[2:3])
        for name, claim in claims.items():
            store.renew(name, claim, 0)
        till.until(lambda: not behind())
        # The store loses what it had of the shop, all of it or what came last, and its sync has passed that version.
        left = [] if lost == "all of it" else [Put(entity, item.time, item.id, item.time, item.payload)]
        store.write(values, claimed(store, values), Batch(replaced={entity: left}), Retention(2**60, one_before=False, now=0))
        assert ask(coming[3:4]).get("features") == ({"missing": [till.of_shops.name]} if lost == "all of it" else None)
    silver.append(coming[2:4])
    runner.run(MADE, run_id="third")
    found = replay(root)
    assert not found.passed
    assert found.compared == 2
    assert found.features["shop_count_1h"] == {"stale": 1, "equal": 1}
    assert found.features["shop_returns"] == {"stale": 1, "different": 1}, found.text


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
    print(root.lakehouse.table(ASKED.name).scan().select("status", "features", "received_at").collect().to_dicts())
    print(root.lakehouse.table(till.of_shops.name).scan().sort("shop", "at", "known_at").collect().to_dicts())
    print(found)
    assert not found.passed
    assert found.scores["different"] == 1
    assert found.features["amount"]["different"] == 1
    assert list(found.requests) == ["made-up"]
    assert "amount (1)" in found.text
    logged = json.loads(root.lakehouse.table(ASKED.name).scan().select("features").collect().item())
    assert logged["amount"] == 1.0
    assert log.release()
