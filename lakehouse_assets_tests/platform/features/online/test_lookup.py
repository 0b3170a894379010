"""What serving is told equals a join of the tables as of the request's time, and no store that is away makes it fail.

The suite tries a sample; `python -m benchmarks.sweeps` tries everything.
"""

import sqlite3
import tempfile
import time
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets import window_features
from lakehouse_assets.platform.features.online import window_reader
from lakehouse_assets.platform.features.online.codecs import codec
from lakehouse_assets.platform.features.online.embedded import EmbeddedStore
from lakehouse_assets.platform.features.online.lookup import Looked, OnlineFeatures, ServedSet
from lakehouse_assets.platform.features.online.redis_store import RedisStore
from lakehouse_assets.platform.features.online.store import OnlineStore
from lakehouse_assets.platform.features.online.sync import sync
from lakehouse_assets.platform.features.point_in_time import FeatureRows, join_as_of
from lakehouse_assets.platform.storage.known_at import of_version
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.features.online.worlds import EVENTS, NEEDS, PAYMENTS, cards, foreign, hours, makers, prices, values

SETS = [ServedSet(cards, None, "card_"), ServedSet(foreign), ServedSet(prices), ServedSet(makers, None, "maker_")]
NAMES = [one.prefix + column for one in SETS for column in one.feature.columns]
NOW = hours(200)
"""The time of all requests: Jan 9, 8 o'clock."""

DEVICES, MAKERS = ["x", "y"], ["m", "n"]
payments = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]),
        st.integers(0, 40),
        st.sampled_from([None, 1.25, 0.1, -3.0]),
        st.sampled_from(DEVICES),
        st.sampled_from(["home", "abroad"]),
    ),
    max_size=10,
)
priced = st.lists(
    st.tuples(
        st.sampled_from(DEVICES),
        st.integers(0, 20),
        st.integers(0, 3),
        st.booleans(),
        st.sampled_from([None, 1.5, 2.5]),
        st.sampled_from(MAKERS),
    ),
    max_size=8,
    unique_by=lambda row: row[:3],
)
made = st.lists(
    st.tuples(st.sampled_from(MAKERS), st.integers(7, 9), st.integers(0, 2), st.booleans()), max_size=6, unique_by=lambda row: row[:3]
)
ASKED = [
    {"id": 1000 + place, "card": card, "paid_at": NOW, "amount": amount, "device": device, "country": country}
    for place, (card, amount, device, country) in enumerate(
        [
            ("a", 0.7, "x", "home"),
            ("b", None, "y", "abroad"),
            (None, 1.0, "x", "home"),
            ("new", 2.0, "new", "home"),
            ("a", 0.7, "y", "home"),
            ("a", 2.5, "x", "abroad"),
            ("b", -1.0, "y", "abroad"),
        ]
    )
]
ASKED[6]["id"] = 1  # a stored event is sent again, with other values
BURST = [event | {"paid_at": hours(200 - before)} for event, before in zip(ASKED, (0, 0.5, 0.5, 0, 1, 0.25, 2), strict=True)]


def event_rows(given_: list[tuple]) -> pl.DataFrame:
    rows = [(number, card, hours(180 + half / 2), *rest) for number, (card, half, *rest) in enumerate(given_)]
    return pl.DataFrame(rows, EVENTS, orient="row")


def price_rows(given_: list[tuple]) -> pl.DataFrame:
    names = ["device", "seen_at", "known_at", "is_retracted", "price", "maker", "pieces"]
    rows = [
        (one, hours(190 + half / 2), hours(100 + revision), gone, price, maker, half) for one, half, revision, gone, price, maker in given_
    ]
    return values(prices, [dict(zip(names, row, strict=True)) for row in rows])


def maker_rows(given_: list[tuple]) -> pl.DataFrame:
    names = ["maker", "day", "known_at", "is_retracted", "share", "since", "founded"]
    rows = [
        (one, date(2024, 1, day), hours(100 + revision), gone, day / 3, date(1999, 1, day) if revision else None, hours(day / 7))
        for one, day, revision, gone in given_
    ]
    return values(makers, [dict(zip(names, row, strict=True)) for row in rows])


def fill(lakehouse: Lakehouse, tables: dict[str, pl.DataFrame]) -> None:
    for name, rows in tables.items():
        lakehouse.table(name).create(rows.schema)
        lakehouse.table(name).append(rows)


def joined(asked: list[dict[str, Any]], tables: dict[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """The rows of events that came together after what the tables have, or in place of it."""
    own = pl.DataFrame(asked, EVENTS)
    events = pl.concat([tables[PAYMENTS].join(own, on="id", how="anti"), own]).lazy()
    rows = {prices.name: of_version(tables[prices.name].lazy(), 1), makers.name: of_version(tables[makers.name].lazy(), 1)}
    rows |= {one.name: one.function(events) for one in (cards, foreign)}
    sides = []
    for one in SETS:
        this = one.feature
        how = (this.entity, this.event_time, this.ttl, this.defaults, one.prefix, this.columns)
        sides.append(FeatureRows(this.name, rows[this.name], *how))
    return join_as_of(own.with_columns(pl.col("paid_at").alias("at")), sides, at="at").rows.select(NAMES).rows(named=True)


def check(store: OnlineStore, tables: dict[str, pl.DataFrame], folder: Path) -> None:
    lakehouse = Lakehouse(str(folder / uuid4().hex))
    fill(lakehouse, tables)
    for one in SETS:
        sync(store, lakehouse, one.feature, replace(NEEDS, keep=timedelta(days=1)))  # so that nothing is cut
    features = OnlineFeatures(store, SETS, PAYMENTS, schema=EVENTS)
    for asked in (ASKED, BURST):
        alone, together, times = [joined([event], tables)[0] for event in asked], joined(asked, tables), [one["paid_at"] for one in asked]
        for many in (1, 1_000):  # rows from which on windows are worked out by column
            with mock.patch.object(window_reader, "_MANY_ROWS", many):
                assert as_rows(features.features(asked, times)) == alone
                assert as_rows(features.features(asked[:1], times[:1])) == alone[:1]
                # Those of one request count each other, and none of another one, whatever is looked up together.
                assert as_rows(features.features(asked, times, [len(asked)])) == together
                both = features.features([*asked, *asked[1:3]], [*times, *times[1:3]], [len(asked), 1, 1])
                assert as_rows(both) == [*together, *alone[1:3]]


def as_rows(looked: Looked) -> list[dict[str, Any]]:
    """What was looked up for each event."""
    return [dict(zip(NAMES, row, strict=True)) for row in zip(*(looked.columns[name] for name in NAMES), strict=True)]


def some_tables(history: list[tuple], priced_: list[tuple], made_: list[tuple]) -> dict[str, pl.DataFrame]:
    return {PAYMENTS: event_rows(history), prices.name: price_rows(priced_), makers.name: maker_rows(made_)}


@sweeps.examples(4, 60)
@given(payments, priced, made)
def test_looked_up_is_what_a_join_gives(history: list[tuple], priced_: list[tuple], made_: list[tuple]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddedStore(Path(folder) / "online.db")
        check(store, some_tables(history, priced_, made_), Path(folder))
        store.close()


SHOP = some_tables(
    [("a", 39, 1.25, "x", "abroad"), ("a", 40, 0.1, "y", "home"), ("b", 10, 5.0, "y", "abroad"), ("b", 30, None, "x", "home")],
    [("x", 20, 0, False, 1.5, "m"), ("x", 18, 0, False, 2.5, "n"), ("y", 2, 0, False, 2.5, "n"), ("x", 20, 1, True, 1.5, "m")],
    [("m", 9, 0, False), ("n", 8, 0, False), ("n", 8, 1, False)],
)


def test_looked_up_is_what_a_join_gives_in_either_store(store: OnlineStore, tmp_path: Path) -> None:
    check(store, SHOP, tmp_path)


def test_a_late_request_whose_own_event_does_not_count_is_not_told_that_there_was_none(store: OnlineStore, tmp_path: Path) -> None:
    # The first event is cut, as the second one is newer by more than the windows and what is kept; the request is before that one.
    tables = some_tables([("a", 14, 1.25, "y", "abroad"), ("a", 39, 1.25, "y", "abroad")], [], [])
    lakehouse = Lakehouse(str(tmp_path / "root"))
    fill(lakehouse, tables)
    sync(store, lakehouse, foreign, NEEDS)
    looked = OnlineFeatures(store, [ServedSet(foreign)], PAYMENTS, schema=EVENTS)
    at = hours(199)
    assert joined([ASKED[4] | {"paid_at": at}], tables)[0]["count_6h"] == 1
    for many in (1, 1_000):
        with mock.patch.object(window_reader, "_MANY_ROWS", many):
            assert looked.features([ASKED[4] | {"paid_at": at}], [at]).status[foreign.name] == ["expired"]
            assert looked.features([ASKED[4] | {"card": "new"}], [NOW]).status[foreign.name] == ["missing"]


def test_a_row_is_stamped_and_its_absence_said(store: OnlineStore, tmp_path: Path) -> None:
    lakehouse = Lakehouse(str(tmp_path / "root"))
    fill(lakehouse, SHOP)
    features = OnlineFeatures(store, SETS, PAYMENTS, schema=EVENTS)
    before = features.features(ASKED[:1], [NOW])
    assert before.status[prices.name] == ["missing"]
    assert before.synced_at[prices.name] is None
    assert before.columns["price"] == [9.5]

    for one in SETS:
        sync(store, lakehouse, one.feature, NEEDS)
    looked = features.features(ASKED[:2], [NOW] * 2)  # the sets are found though they were not there a moment ago
    assert looked.status == {
        cards.name: ["ok", "ok"],
        foreign.name: ["ok", "ok"],
        prices.name: ["ok", "expired"],
        makers.name: ["expired", "missing"],
    }
    stamp = looked.stamps[prices.name][0]
    assert stamp is not None
    assert (stamp.event_time, stamp.known_at, stamp.version) == (hours(199), hours(100), 1)
    # Its own event does not count, so the row is that of the last one that did.
    assert [looked.stamps[one.name][0].event_time for one in (cards, foreign)] == [NOW, hours(199.5)]
    assert looked.synced_at[prices.name] is not None


def test_a_pushed_event_counts_once(store: OnlineStore, tmp_path: Path) -> None:
    lakehouse = Lakehouse(str(tmp_path / "root"))
    fill(lakehouse, SHOP)
    features = OnlineFeatures(store, [ServedSet(cards)], PAYMENTS)
    features.push(ASKED[:1])  # the store knows nothing of the set yet
    sync(store, lakehouse, cards, NEEDS)
    next_one = ASKED[0] | {"id": 2000}
    assert features.features([next_one], [NOW]).columns["count_2h"] == [3]
    features.push(ASKED[:1])
    features.push(ASKED[:1])
    assert features.features([next_one], [NOW]).columns["count_2h"] == [4]
    assert features.features(ASKED[:1], [NOW]).columns["count_2h"] == [3]  # asked again, it is not counted twice
    lakehouse.table(PAYMENTS).append(pl.DataFrame(ASKED[:1], EVENTS).with_columns(amount=pl.lit(100.0)))
    sync(store, lakehouse, cards, NEEDS)
    looked = features.features([next_one], [NOW])
    assert (looked.columns["count_2h"], looked.columns["amount_max_2h"]) == ([4], [100.0])  # the table is right


def test_a_pushed_event_that_no_table_has_goes_after_what_is_kept(store: OnlineStore, tmp_path: Path) -> None:
    lakehouse, needs = Lakehouse(str(tmp_path / "root")), replace(NEEDS, keep=timedelta(milliseconds=50))
    fill(lakehouse, SHOP)
    sync(store, lakehouse, cards, needs)
    features = OnlineFeatures(store, [ServedSet(cards)], PAYMENTS)
    features.push([ASKED[0], ASKED[3]])
    confirmed = ASKED[0] | {"id": 3000}
    features.push([confirmed])
    lakehouse.table(PAYMENTS).append(pl.DataFrame([confirmed], EVENTS))
    sync(store, lakehouse, cards, needs)
    time.sleep(0.06)
    found = features.features([one | {"id": 4000 + place} for place, one in enumerate(ASKED[:4])], [NOW] * 4)
    assert [found.columns["count_2h"][place] for place in (0, 3)] == [4, 1]
    sync(store, lakehouse, cards, needs)
    assert [item.pushed for _, item in store.items(f"{cards.name}/events")] == [0] * 4
    assert not list(store.items(f"{cards.name}/events", codec(("",)).encode(["new"])))


def test_an_event_that_was_sent_with_other_entities_counts_where_the_table_has_it(store: OnlineStore, tmp_path: Path) -> None:
    lakehouse = Lakehouse(str(tmp_path / "root"))
    fill(lakehouse, SHOP)
    sync(store, lakehouse, cards, NEEDS)
    features = OnlineFeatures(store, [ServedSet(cards)], PAYMENTS)
    features.push([ASKED[0] | {"card": card} for card in ("a", "b", "new", "other")])
    asked = [ASKED[0] | {"id": 2000, "card": card} for card in ("a", "b", "new", "other")]
    assert features.features(asked, [NOW] * 4).columns["count_2h"] == [4, 2, 2, 2]
    lakehouse.table(PAYMENTS).append(pl.DataFrame([ASKED[0] | {"card": "new"}], EVENTS))
    sync(store, lakehouse, cards, NEEDS)
    assert features.features(asked, [NOW] * 4).columns["count_2h"] == [3, 1, 2, 1]


def test_a_set_of_windows_of_other_events_is_looked_up(store: OnlineStore, tmp_path: Path) -> None:
    lakehouse = Lakehouse(str(tmp_path / "root"))
    rows = cards.function(SHOP[PAYMENTS].lazy()).collect().to_dicts()
    fill(lakehouse, {cards.name: values(cards, rows)})
    sync(store, lakehouse, cards, replace(NEEDS, events=("shop.gold.calls",)))
    features = OnlineFeatures(store, [ServedSet(cards)], "shop.gold.calls")
    assert features.features([{"card": "a"}], [NOW]).columns["count_2h"] == [2]


def test_a_set_of_windows_is_served_to_requests_about_its_events_and_about_others_at_once(store: OnlineStore, tmp_path: Path) -> None:
    lakehouse = Lakehouse(str(tmp_path / "root"))
    rows = cards.function(SHOP[PAYMENTS].lazy()).collect().to_dicts()
    fill(lakehouse, {**SHOP, cards.name: values(cards, rows)})
    for _ in range(2):
        sync(store, lakehouse, cards, replace(NEEDS, events=("shop.gold.calls", PAYMENTS)))
        of_calls = OnlineFeatures(store, [ServedSet(cards)], "shop.gold.calls")
        assert of_calls.features([{"card": "a"}], [NOW]).columns["count_2h"] == [2]
        of_payments = OnlineFeatures(store, [ServedSet(cards)], PAYMENTS)
        assert of_payments.features(ASKED[:1], [NOW]).columns["count_2h"] == [3]


def test_events_that_a_process_with_other_code_keeps_are_not_taken(store: OnlineStore, tmp_path: Path) -> None:
    lakehouse = Lakehouse(str(tmp_path / "root"))
    fill(lakehouse, SHOP)
    sync(store, lakehouse, cards, NEEDS)
    ours = OnlineFeatures(store, [ServedSet(cards)], PAYMENTS)
    assert ours.features(ASKED[:1], [NOW]).columns["count_2h"] == [3]
    other = window_features(
        cards.name, of=PAYMENTS, entity=("card",), time="paid_at", windows=("2h", "6h"), values={"*": ("count",)},
        where=pl.col("country") == "abroad",
    )  # fmt: skip
    sync(store, lakehouse, other, NEEDS)
    looked = ours.features(ASKED[:1], [NOW])
    assert (looked.status[cards.name], looked.columns["count_2h"]) == (["missing"], [None])


def test_the_end_of_a_date_counts(store: OnlineStore, tmp_path: Path) -> None:
    lakehouse = Lakehouse(str(tmp_path / "root"))
    fill(lakehouse, SHOP)
    sync(store, lakehouse, prices, NEEDS)
    features = OnlineFeatures(store, [ServedSet(prices)], PAYMENTS)
    asked = [date(2024, 1, 9), date(2024, 1, 8)]
    looked = features.features([{"device": "x"}] * 2, asked)
    labels = pl.DataFrame({"device": ["x", "x"], "at": asked})
    rows = FeatureRows(prices.name, of_version(SHOP[prices.name].lazy(), 1), ("device",), "seen_at", prices.ttl, prices.defaults)
    assert looked.columns["price"] == join_as_of(labels, [rows], at="at").rows["price"].to_list()


# --- a store that is away


def test_a_server_that_is_away_gives_what_was_read_last(redis_server: Any, tmp_path: Path) -> None:
    store, lakehouse = RedisStore(redis_server.address, f"{uuid4().hex}:"), Lakehouse(str(tmp_path / "root"))
    fill(lakehouse, SHOP)
    for one in SETS:
        sync(store, lakehouse, one.feature, NEEDS)
    features = OnlineFeatures(store, SETS, PAYMENTS, schema=EVENTS)
    before = features.features(ASKED[:1], [NOW])
    redis_server.stop()
    try:
        during = features.features([ASKED[0], ASKED[3]], [NOW] * 2)
        assert {name: found[0] for name, found in during.columns.items()} == {name: found[0] for name, found in before.columns.items()}
        assert during.columns["price"][1] == 9.5
        assert {status for its in during.status.values() for status in its} == {"unavailable"}
        features.push(ASKED[:1])
    finally:
        redis_server.start()
    features._quiet_until = time.monotonic()  # a second later
    after = features.features(ASKED[:1], [NOW])
    assert after.status[prices.name] == ["missing"]  # the server forgot all, and the sync fills it again
    assert after.synced_at[prices.name] is None
    sync(store, lakehouse, prices, NEEDS)
    assert features.features(ASKED[:1], [NOW]).columns["price"] == before.columns["price"]
    store.close()


@pytest.mark.parametrize("damage", ["text", "folder", "cut"])
def test_a_damaged_file_gives_defaults_and_says_so(damage: str, tmp_path: Path) -> None:
    path, lakehouse = tmp_path / "online.db", Lakehouse(str(tmp_path / "root"))
    if damage == "text":
        path.write_text("this is no database, but a text that is long enough to be one" * 100)
    elif damage == "folder":
        path.mkdir()
    else:
        fill(lakehouse, SHOP)
        store = EmbeddedStore(path)
        sync(store, lakehouse, prices, NEEDS)
        store.close()
        path.write_bytes(path.read_bytes()[:5000])
    looked = OnlineFeatures(EmbeddedStore(path), SETS, PAYMENTS, schema=EVENTS).features(ASKED[:1], [NOW])
    assert looked.status[prices.name] == ["unavailable"]
    assert looked.columns["price"] == [9.5]


def test_a_file_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    path, lakehouse = tmp_path / "online.db", Lakehouse(str(tmp_path / "root"))
    fill(lakehouse, SHOP)
    store = EmbeddedStore(path)
    sync(store, lakehouse, prices, NEEDS)
    features = OnlineFeatures(store, [ServedSet(prices)], PAYMENTS)
    first = features.features(ASKED[:1], [NOW])
    for file in tmp_path.glob("online.db*"):
        file.unlink()
    sync(EmbeddedStore(path), lakehouse, prices, NEEDS)
    time.sleep(1.1)  # a reader looks once a second whether its file is still the one of this name
    again = features.features(ASKED[:1], [NOW])
    assert again.columns == first.columns
    assert again.synced_at[prices.name] > first.synced_at[prices.name]


@pytest.mark.parametrize(
    "wrong", [{"card": 7}, {"card": ["a"]}, {"paid_at": "now"}, {"amount": "much"}, {"country": 3}, {"device": None}, {}]
)
def test_no_event_makes_it_fail_nor_another_event_suffer(wrong: dict[str, Any], store: OnlineStore, tmp_path: Path) -> None:
    lakehouse = Lakehouse(str(tmp_path / "root"))
    fill(lakehouse, SHOP)
    for one in SETS:
        sync(store, lakehouse, one.feature, NEEDS)
    features = OnlineFeatures(store, SETS, PAYMENTS, schema=EVENTS)
    events = [ASKED[0], ASKED[0] | wrong if wrong else {}, ASKED[1]]
    looked = features.features(events, [NOW] * 3)
    features.push(events[1:2])
    right = features.features([ASKED[0], ASKED[1]], [NOW] * 2)
    assert {name: (found[0], found[2]) for name, found in looked.columns.items()} == {
        name: tuple(found) for name, found in right.columns.items()
    }


def test_a_push_that_has_to_wait_does_not_take_the_look_up_away(tmp_path: Path) -> None:
    lakehouse, store = Lakehouse(str(tmp_path / "root")), EmbeddedStore(tmp_path / "online.db")
    fill(lakehouse, SHOP)
    sync(store, lakehouse, cards, NEEDS)
    features = OnlineFeatures(store, [ServedSet(cards)], PAYMENTS)
    other = sqlite3.connect(tmp_path / "online.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # as a sync that writes
    features.push(ASKED[:1])
    assert features.features([ASKED[0] | {"id": 7}], [NOW]).status[cards.name] == ["ok"]
    other.execute("ROLLBACK")
    other.close()


def test_keys_give_the_row_of_the_newest_event_whatever_else_they_name_for_as_long_as_it_lives(store: OnlineStore, tmp_path: Path) -> None:
    lakehouse = Lakehouse(str(tmp_path / "root"))
    rows = [(1, "a", hours(192.5), 1.0, "x", "home"), (2, "a", hours(193), 2.0, "x", "home"), (3, "b", NOW, 1.0, "x", "home")]
    fill(lakehouse, {PAYMENTS: pl.DataFrame(rows, EVENTS, orient="row")})
    for _ in range(2):
        sync(store, lakehouse, cards, NEEDS)
    features = OnlineFeatures(store, [ServedSet(cards)], PAYMENTS)
    keys = [{"card": "a"}, {"card": "a", "id": 2}, {"card": "a", "id": 77}, {"card": "b"}]
    looked = features.features(keys, [NOW] * 4)
    # Seven hours ago, within eight, though the store keeps no more than three hours beyond the windows.
    assert looked.status[cards.name] == ["ok"] * 4
    assert looked.columns["count_6h"] == [2, 2, 2, 1]
    later = NOW + timedelta(hours=2)
    assert features.features(keys[:1], [later]).status[cards.name] == ["expired"]
