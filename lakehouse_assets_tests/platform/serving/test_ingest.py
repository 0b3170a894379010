"""The push door: rows that were accepted are in bronze once, whatever happens to the process, and errors say row and field."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lakehouse_assets.client import open_lakehouse
from lakehouse_assets.platform.declarations.feeds import feed
from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.ingestion.parse import parse
from lakehouse_assets.platform.ingestion.zone import LocalZone, Zone
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.serving.ingest import Ingest, Receipt
from lakehouse_assets.platform.serving.ingest_rows import FeedRows
from lakehouse_assets.platform.serving.outbox import OutboxBounds
from lakehouse_assets.platform.serving.outbox_store import OutboxUnavailable
from lakehouse_assets.platform.serving.refused import FieldError, Refused
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.ingestion.orders import Orders
from lakehouse_assets_tests.platform.serving.ingest_child import FEED

USUAL = OutboxBounds()


def pushing(root: Path, orders: Orders, bounds: OutboxBounds = USUAL) -> Ingest:
    return Ingest(root / "home", orders.ingestion.feed, lambda: orders.ingestion.zone, bounds)


def body(*rows: Any) -> bytes:
    return json.dumps(rows).encode()


@pytest.fixture(params=["jsonl", "csv"])
def orders(request: pytest.FixtureRequest, tmp_path: Path) -> Orders:
    return Orders.under(tmp_path, format=request.param, row_id="id")


# --- from a request to bronze


def test_each_id_is_in_bronze_once(tmp_path: Path, orders: Orders) -> None:
    ingest = pushing(tmp_path, orders)
    assert ingest.take(body({"id": "a", "value": "1"}, {"id": "b", "value": None})) == Receipt("orders", 2, 0)
    assert ingest.take(body({"id": "b", "value": None}, {"id": "c", "value": ""})) == Receipt("orders", 1, 1)
    assert ingest.land()
    assert ingest.take(body({"value": "1", "id": "a"})) == Receipt("orders", 0, 1)
    assert ingest.take(b'{"id": "d", "value": 1.10}\n{"id": "e", "value": 12345678901234567890.5}\n').accepted == 2
    assert ingest.land()
    assert ingest.close()
    orders.run()
    assert orders.rows() == [("a", "1"), ("b", None), ("c", ""), ("d", "1.10"), ("e", "12345678901234567890.5")]
    assert pushing(tmp_path, orders).take(body({"id": "a", "value": "1"})).accepted == 0


def test_equal_rows_under_other_keys_are_other_rows(tmp_path: Path) -> None:
    orders = Orders.under(tmp_path)
    ingest = pushing(tmp_path, orders)
    for key in ("first", "second", "first"):
        ingest.take(body({"id": "a", "value": "1"}), key)
        assert ingest.land()
    assert ingest.close()
    orders.run()
    assert orders.rows() == [("a", "1"), ("a", "1")]


def test_a_file_that_was_read_and_moved_is_not_read_again(tmp_path: Path) -> None:
    orders = Orders.under(tmp_path, row_id="id", archive=True)
    ingest = pushing(tmp_path, orders)
    ingest.take(body({"id": "a", "value": "1"}))
    put, names = orders.ingestion.zone.put, []

    class Dying(LocalZone):
        def put(self, source: Path, path: str, *, replace: bool = False) -> bool:
            put(source, path)
            names.append(path)
            raise ConnectionError("the process dies here")

    zone = Dying(orders.folder, orders.archive)
    ingest._outbox._zone = lambda: zone
    assert not ingest.land()
    assert ingest.state().trouble == "the process dies here"
    orders.run()
    assert not list(orders.folder.glob("*.jsonl"))  # in the archive
    ingest._outbox._zone = lambda: orders.ingestion.zone
    assert ingest.land()
    orders.run()
    assert orders.rows() == [("a", "1")]
    ingest.close()


def test_a_landing_zone_that_is_away_is_waited_for(tmp_path: Path) -> None:
    orders = Orders.under(tmp_path, row_id="id")
    is_away = True

    def zone() -> Zone:
        if is_away:
            raise ConnectionError("the bucket does not answer")
        return orders.ingestion.zone

    ingest = Ingest(tmp_path / "home", orders.ingestion.feed, zone, replace(USUAL, waiting_bytes=300_000))
    with pytest.raises(OutboxUnavailable, match="too many rows wait"):
        for number in range(1_000):
            ingest.take(body({"id": str(number), "value": "x" * 10_000}))
    assert not ingest.land()
    assert ingest.state().trouble == "the bucket does not answer"
    assert ingest.state().waiting == number
    is_away = False
    assert ingest.land()
    assert ingest.take(body({"id": "last", "value": None})).accepted == 1
    assert ingest.land()
    assert ingest.close()
    orders.run()
    assert len(orders.rows()) == number + 1


def test_ids_are_forgotten_after_their_time(tmp_path: Path) -> None:
    orders = Orders.under(tmp_path, row_id="id")
    ingest = pushing(tmp_path, orders, replace(USUAL, remembered_seconds=0))
    ingest.take(body({"id": "a", "value": "1"}))
    assert ingest.land()
    assert ingest.take(body({"id": "a", "value": "2"})).accepted == 1
    ingest.close()


def test_callers_at_once_share_commits_and_an_id_is_accepted_once(tmp_path: Path) -> None:
    orders = Orders.under(tmp_path, row_id="id")
    both = [pushing(tmp_path, orders, OutboxBounds(rows=10)) for _ in range(2)]

    def push(number: int) -> int:
        ingest = both[number % 2]
        accepted = ingest.take(body({"id": str(number // 4), "value": "x"})).accepted
        return accepted if ingest.land() else 0

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(push, range(200))) == 50
    assert all(ingest.close() for ingest in both)
    orders.run()
    assert sorted(int(name) for (name,) in orders.rows("id")) == list(range(50))


# --- kills


def test_what_was_accepted_before_a_kill_is_in_bronze_once(tmp_path: Path) -> None:
    def start(ids: str, dies: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "lakehouse_assets_tests.platform.serving.ingest_child", str(tmp_path), ids, dies]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def said(child: "subprocess.Popen[str]", seconds: float | None = None) -> set[int]:
        assert child.stdout is not None
        with child:
            first = child.stdout.readline()
            if seconds is not None:
                threading.Timer(seconds, child.kill).start()
            return {int(line) for line in (first + child.stdout.read()).rpartition("\n")[0].splitlines()}

    accepted = said(start("0-100000", "never"), 0.15)
    two = [start("0-60", "after-put"), start("50-120", "before-put")]  # at once, on one outbox
    accepted |= said(two[0]) | said(two[1])
    accepted |= said(start("0-130", "never"))  # who got no answer asks again
    assert accepted >= set(range(130))
    client = open_lakehouse(tmp_path, declarations=[feed("shop.bronze.payments", FEED, "Payments.", owner="team:test")])
    client.run()
    rows = client.table("shop.bronze.payments").scan().collect()
    assert rows["invoice"].is_duplicated().sum() == 0
    assert set(map(int, rows["invoice"])) >= accepted
    assert set(rows["amount"]) >= {f"{number}.10" for number in accepted}


# --- what is refused


def refused(ingest: Ingest, sent: bytes, key: str | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        ingest.take(sent, key)
    return caught.value


@pytest.mark.parametrize("spelled", ["vallue", "the value", "Valeu"])
def test_a_field_that_is_spelled_otherwise_is_named(tmp_path: Path, orders: Orders, spelled: str) -> None:
    ingest = pushing(tmp_path, orders)
    text = str(refused(ingest, body({"id": "a", spelled: "1"})))
    assert f"row 0 lacks the field 'value'; it has {spelled!r}: write that as 'value'" in text
    assert "row 0 lacks the field 'value'; send null if there is no value" in str(refused(ingest, body({"id": "a", "town": "1"})))
    ingest.close()


def test_errors_name_row_and_field_and_nothing_is_accepted(tmp_path: Path, orders: Orders) -> None:
    ingest = pushing(tmp_path, orders)
    error = refused(ingest, body({"id": "a", "value": "1"}, {"id": "b"}, {"id": None, "value": "2"}))
    assert [(one.row, one.field) for one in error.errors] == [(1, "value"), (2, "id")]
    assert error.status == 422
    assert ingest.take(body({"id": "a", "value": "1"})).accepted == 1
    error = refused(ingest, body({"id": "a", "value": "other"}))
    assert (error.status, error.errors[0].field) == (409, "id")
    assert "another row" in str(refused(ingest, body({"id": "z", "value": "1"}, {"id": "z", "value": "2"})))
    ingest.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"[]",
        b"nonsense",
        b"{",
        b'{"rows": 3}',
        b'{"rows": []}',
        b"[1]",
        b"[null]",
        b'["x"]',
        b"\xff\xfe",
        b'[{"id": "a", "id": "b", "value": 1}]',
        b'[{"id": "a", "value": NaN}]',
        b'[{"id": "a", "value": "\\ud800"}]',
        b"[" * 100_000,
        b'[{"id": "a", "value": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
        b'[{"id": "' + b"x" * 300 + b'", "value": 1}]',
        b'[{"id": "a", "value": "' + b"x" * 1_100_000 + b'"}]',
        b'[{"id": "a", "value": 1}' + b', {"id": "a", "value": 1}' * 10_000 + b"]",
    ],
    ids=lambda sent: repr(sent[:30]),
)
def test_a_hostile_body_is_refused(tmp_path: Path, sent: bytes) -> None:
    ingest = pushing(tmp_path, Orders.under(tmp_path, row_id="id"))
    assert refused(ingest, sent).status in {400, 413, 422}
    assert ingest.state().waiting == 0
    ingest.close()


def test_a_feed_without_an_id_needs_a_key(tmp_path: Path) -> None:
    ingest = pushing(tmp_path, Orders.under(tmp_path))
    assert refused(ingest, body({"id": "a", "value": "1"})).errors[0].field == "Idempotency-Key"
    assert ingest.take(body({"id": "a", "value": "1"}), "k").accepted == 1
    ingest.close()


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ({"format": "parquet"}, "JSON Lines or CSV"),
        ({"format": "csv"}, "row_id"),
        ({"snapshot": True}, "whole"),
        ({"pattern": "2026/*.csv"}, "pattern"),
    ],
)
def test_a_feed_that_cannot_take_rows_says_so(tmp_path: Path, policy: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        pushing(tmp_path, Orders.under(tmp_path, **policy))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(
    rows=[{"id": "0", "value": None, "VALUE": None}, {"id": "0", "VALUE": ""}], form="jsonl"
)  # a name that another row has for another column
@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from(["id", "value", "VALUE", "other"]), st.none() | st.text(max_size=8) | st.integers(), max_size=4),
        min_size=1,
        max_size=3,
    ),
    form=st.sampled_from(["jsonl", "csv"]),
)
def test_what_is_accepted_is_read_as_it_was_sent(tmp_path: Path, rows: list[dict[str, Any]], form: Any) -> None:
    declared = Feed("orders", headers=(("id", "value"),), format=form, row_id="id", encoding="cp1252" if len(rows) == 2 else None)
    feed_rows = FeedRows(declared)
    errors: list[FieldError] = []
    pushed = [feed_rows.row(number, msgspec.Raw(json.dumps(row).encode()), None, errors) for number, row in enumerate(rows)]
    assert all(row is not None for row in pushed) == (not errors)
    taken = [(row, sent) for row, sent in zip(pushed, rows, strict=True) if row is not None]
    if not taken:
        return
    path = tmp_path / f"{uuid4().hex}.{form}"  # no two files of a feed have one name
    path.write_bytes(feed_rows.content(3, [row.content for row, _ in taken]))
    with parse(path, columns=declared.columns, required=declared.headers, read_options=declared.read_options, file_format=form) as parsed:
        read = parsed.frame.select("id", "value").collect().rows()
    assert read == [(text(sent["id"]), text(sent["value"] if "value" in sent else sent["VALUE"])) for _, sent in taken]


def text(value: Any) -> str | None:
    return None if value is None else str(value)


def test_rows_land_in_a_bucket_once(tmp_path: Path, bucket: str) -> None:
    root = Root(Settings.load({"LAKEHOUSE_ROOT": bucket, "LAKEHOUSE_HOME": str(tmp_path)}))
    ingest = Ingest(tmp_path, FEED, lambda: root.zone(FEED.name), USUAL)
    ingest.take(body({"invoice": "1", "amount": "2"}))
    put, before = ingest._outbox._put, []

    def twice(content: bytes, name: str) -> None:
        put(content, name)
        before.append(name)
        if len(before) == 1:
            raise ConnectionError("the process dies here")

    ingest._outbox._put = twice  # type: ignore[method-assign]
    assert not ingest.land()  # the first put dies
    assert ingest.land()
    assert ingest.close()
    assert len(set(before)) == 1
    assert [file.path for file in root.zone(FEED.name).files()] == before[:1]
