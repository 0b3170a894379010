"""Whatever happens to the tables, and wherever a sync dies, the store ends up with what a fresh sync gives.

The suite tries a sample; `python -m benchmarks.sweeps` tries everything.
"""

import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse_assets import window_features
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.features.online import sync as sync_module
from lakehouse_assets.platform.features.online.codecs import NotServable
from lakehouse_assets.platform.features.online.embedded import EmbeddedStore
from lakehouse_assets.platform.features.online.lookup import OnlineFeatures, ServedSet
from lakehouse_assets.platform.features.online.redis_store import RedisStore
from lakehouse_assets.platform.features.online.store import Batch, OnlineStore, Push, Put, Retention, SetState, StoreUnavailable, TakenOver
from lakehouse_assets.platform.features.online.sync import Synced, sync
from lakehouse_assets.platform.storage.commit import Commit
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion, begin
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.features.online.worlds import (
    EVENTS,
    NEEDS,
    PAYMENTS,
    cards,
    foreign,
    hours,
    prices,
    stored_schema,
    values,
)

OFTEN = Retention(10, one_before=False, now=1_000)
times = st.integers(0, 60)
added = st.tuples(
    st.just("add"), st.lists(st.tuples(st.sampled_from(["a", "b", None]), times, st.sampled_from([None, 1.0, 2.5])), min_size=1, max_size=4)
)
change = st.one_of(
    added,
    st.tuples(st.sampled_from(["delete", "revise", "retract", "later", "other card", "other amount"]), st.integers(0, 2)),
    st.tuples(st.just("restore"), st.integers(0, 3)),
    st.tuples(st.just("compact"), st.just(0)),
)
# After each change it is synced, or not.
histories = st.lists(st.tuples(change, st.booleans()), min_size=2, max_size=8)


class World:
    """A table of payments and one of prices, which change."""

    def __init__(self, folder: Path) -> None:
        self.lakehouse, self.number, self.revisions = Lakehouse(str(folder)), 0, 0
        self.events, self.prices = self.lakehouse.table(PAYMENTS), self.lakehouse.table(prices.name)
        self.events.create(EVENTS)
        self.prices.create(stored_schema(prices))

    def do(self, what: str, given_: Any) -> None:
        if what == "add":
            rows = []
            for card, half, amount in given_:
                self.number += 1
                rows.append((self.number, card, hours(half / 2), amount, "x", "home" if half % 2 else "abroad"))
            self.events.append(pl.DataFrame(rows, EVENTS, orient="row"))
            self.prices.append(values(prices, [self._price(row) for row in rows if row[1]]))
        elif what in {"revise", "retract"}:
            self._revise(given_, retract=what == "retract")
        elif what == "restore":
            for table in (self.events, self.prices):
                if table.version():
                    table.delta().restore(max(table.version() - 1 - given_, 0))
        elif what == "compact":
            for table in (self.events, self.prices):
                table.delta().optimize.compact()
        else:
            self._change(what, given_)

    def _change(self, what: str, number: int) -> None:
        set_ = {
            "later": {"paid_at": "paid_at + INTERVAL '5 hours'"},
            "other card": {"card": "'b'"},
            "other amount": {"amount": "7.25"},
        }
        column = "pieces" if what == "other amount" else "price"
        if what == "delete":
            self.events.delta().delete(f"id % 3 = {number}")
            self.prices.delta().delete(f"pieces % 3 = {number}")
        else:
            self.events.delta().update(updates=set_[what], predicate=f"id % 3 = {number}")
            self.prices.delta().update(updates={column: "7" if column == "pieces" else "7.25"}, predicate=f"pieces % 3 = {number}")

    def _revise(self, number: int, *, retract: bool) -> None:
        """Some prices are known otherwise from now on, or are gone."""
        self.revisions += 1
        rows = [row for row in self.prices.scan().collect().to_dicts() if row["pieces"] % 3 == number]
        known = {"known_at": hours(10_000 + self.revisions), "is_retracted": retract, "price": float(self.revisions)}
        if rows:
            newest = {(row["device"], row["seen_at"]): row | known for row in rows}
            self.prices.append(values(prices, list(newest.values())))

    def _price(self, row: tuple) -> dict[str, Any]:
        number, card, when, amount, *_ = row
        self.revisions += 1  # what comes later is known later, as the engine writes it
        return {
            "device": card,
            "seen_at": when,
            "known_at": hours(10_000 + self.revisions),
            "price": amount,
            "maker": "m",
            "pieces": number,
        }


def seen(store: OnlineStore, feature: FeatureSet, name: str) -> dict[bytes, list[Any]]:
    """What the store has for each entity, without what is over: when that goes is not the same for each sync."""
    state = SetState.read(store.read([], [name]).states[0])
    assert state is not None
    kept: dict[bytes, list[Any]] = {}
    for entity, item in store.items(name):
        kept.setdefault(entity, []).append(item)
    ttl = None if feature.ttl is None else feature.ttl // timedelta(microseconds=1)
    over = {cards.name: state.back, prices.name: state.back + (ttl or 0) + 86_400_000_000}.get(feature.name)
    newest = max((its[-1].time for its in kept.values()), default=0)
    # The newest that any sync saw may be gone since.
    until = max(newest, state.newest or 0, int((hours(40) - hours(0)).total_seconds()))
    return {entity: its for entity, its in kept.items() if over is None or its[-1].time > until - over}


def check(store: OnlineStore, fresh: OnlineStore, folder: Path, history: list[Any]) -> None:
    world = World(folder)
    for (what, given_), is_synced in history:
        world.do(what, given_)
        if is_synced:
            for feature in (cards, foreign, prices):
                sync(store, world.lakehouse, feature, NEEDS)
    for feature in (cards, foreign, prices):
        done = sync(store, world.lakehouse, feature, NEEDS)
        sync(fresh, world.lakehouse, feature, NEEDS)
        name = f"{feature.name}/events" if done[0].kept == "events" else f"{feature.name}@{done[0].feature_set_version or 0}"
        found, wanted = seen(store, feature, name), seen(fresh, feature, name)
        newest = [SetState.read(one.read([], [name]).states[0]).newest for one in (store, fresh)]
        if newest[0] == newest[1]:
            assert found == wanted
        else:  # an entity that was over at some time may be missing
            assert {entity: its for entity, its in wanted.items() if entity in found} == found


@sweeps.examples(8, 80)
@given(histories)
def test_a_store_that_was_synced_at_any_times_equals_a_fresh_one(history: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stores = [EmbeddedStore(Path(folder) / f"{name}.db") for name in ("often", "fresh")]
        check(*stores, Path(folder) / "root", history)
        for store in stores:
            store.close()


@sweeps.examples(3, 40)
@example([(("add", [("a", 0, None)]), True), (("add", [("a", 1, None), ("b", 18, None)]), False)])
@given(histories)
def test_the_same_holds_for_redis(redis_server: Any, history: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stores = [RedisStore(redis_server.address, f"{uuid4().hex}:") for _ in range(2)]
        check(*stores, Path(folder), history)
        for store in stores:
            store.close()


def some_world(folder: Path) -> World:
    world = World(folder)
    world.do("add", [("a", 2, 1.0), ("a", 5, 2.5), ("b", 3, None)])
    world.do("add", [("b", 9, 1.0), (None, 9, 1.0)])
    return world


def how(done: list[Synced]) -> list[tuple[str, str]]:
    return [(one.how, one.why) for one in done]


def test_only_changes_are_read(store: OnlineStore, tmp_path: Path) -> None:
    world = some_world(tmp_path)
    assert how(sync(store, world.lakehouse, cards, NEEDS)) == [("scan", "it was never synced")]
    first = sync(store, world.lakehouse, cards, NEEDS)[0]
    assert (first.how, first.rows, first.version) == ("nothing new", 0, world.events.version())
    world.do("add", [("a", 7, 1.0)])
    again = sync(store, world.lakehouse, cards, NEEDS)[0]
    assert (again.how, again.rows) == ("changes", 1)
    assert again.synced_at > first.synced_at
    assert how(sync(store, world.lakehouse, cards, replace(NEEDS, keep=timedelta(days=9)))) == [
        ("scan", "the declaration or a setting changed")
    ]
    assert how(sync(store, world.lakehouse, cards, replace(NEEDS, keep=timedelta(days=9)), full=True)) == [("scan", "asked for")]


def test_a_table_whose_log_is_gone_or_that_was_made_again_is_scanned(store: OnlineStore, tmp_path: Path) -> None:
    world = some_world(tmp_path / "a")
    sync(store, world.lakehouse, cards, NEEDS)
    world.do("add", [("a", 7, 1.0)])
    world.do("add", [("a", 8, 1.0)])
    world.events.delta().create_checkpoint()
    for version in range(world.events.version()):
        Path(world.events.uri, "_delta_log", f"{version:020d}.json").unlink()
    assert how(sync(store, world.lakehouse, cards, NEEDS)) == [("scan", "its changes cannot be read any more")]
    assert len(list(store.items(f"{cards.name}/events"))) == 6
    other = some_world(tmp_path / "b")
    assert how(sync(store, other.lakehouse, cards, NEEDS)) == [("scan", "the table was made again")]
    assert len(list(store.items(f"{cards.name}/events"))) == 4
    assert [one.how for one in sync(store, Lakehouse(str(tmp_path / "c")), cards, NEEDS)] == ["no table"]
    assert f"{cards.name}/events" not in store.names()


def test_versions_stand_side_by_side_while_they_are_needed(store: OnlineStore, tmp_path: Path) -> None:
    world = some_world(tmp_path)
    rows = world.prices.scan().collect()
    first, second = FeatureVersion(1, 11), FeatureVersion(2, 22)
    world.prices.append(rows.clear(), Commit(begin(world.prices, 11, lambda _: False)[1]))
    sync(store, world.lakehouse, prices, NEEDS)
    features = [OnlineFeatures(store, [ServedSet(prices, learnt)], PAYMENTS) for learnt in (None, first, second)]

    def told() -> list[Any]:
        return [one.features([{"device": "a"}], [hours(4)]).columns["price"][0] for one in features]

    assert told() == [2.5, 2.5, 9.5]
    newer = rows.with_columns(price=pl.lit(4.0), feature_set_version=pl.lit(2, pl.Int64))
    world.prices.append(newer, Commit(begin(world.prices, 22, lambda _: False)[1]))
    assert told() == [2.5, 2.5, 9.5]
    done = sync(store, world.lakehouse, prices, replace(NEEDS, learnt=[first]))
    assert [one.feature_set_version for one in done] == [2, 1]
    assert told() == [4.0, 2.5, 4.0]
    sync(store, world.lakehouse, prices, NEEDS)
    assert told() == [4.0, 9.5, 4.0]
    # A third one means what the first does: who has learnt that is led to it.
    third = rows.with_columns(price=pl.lit(2.5), feature_set_version=pl.lit(3, pl.Int64))
    world.prices.append(third, Commit(begin(world.prices, 11, lambda _: False)[1]))
    done = sync(store, world.lakehouse, prices, replace(NEEDS, learnt=[first, second]))
    assert [one.feature_set_version for one in done] == [3, 2]
    assert told() == [2.5, 2.5, 4.0]


def test_events_without_a_key_are_refused(store: OnlineStore, tmp_path: Path) -> None:
    world = some_world(tmp_path)
    with pytest.raises(NotServable, match=r"shop\.features\.cards.*shop\.silver\.payments have no key.*key=True"):
        sync(store, world.lakehouse, cards, replace(NEEDS, key_of=lambda _: ()))


def test_large_sets_are_read_part_by_part(store: OnlineStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    world.do("add", [(f"card {number % 40}", number % 30, 1.0) for number in range(200)])
    sync(store, world.lakehouse, cards, NEEDS)
    whole = list(store.items(f"{cards.name}/events"))
    monkeypatch.setattr(sync_module, "_ROWS_AT_ONCE", 30)
    monkeypatch.setattr(sync_module, "_ITEMS_AT_ONCE", 7)
    sync(store, world.lakehouse, cards, NEEDS, full=True)
    assert list(store.items(f"{cards.name}/events")) == whole
    for first in (0, 60):
        world.do("add", [(f"card {number % 40}", 60, 2.0) for number in range(first, first + 60)])
    sync(store, world.lakehouse, cards, NEEDS)
    by_changes = list(store.items(f"{cards.name}/events"))
    sync(store, world.lakehouse, cards, NEEDS, full=True)
    assert list(store.items(f"{cards.name}/events")) == by_changes


# --- crashes and races


def test_a_sync_that_began_before_can_write_no_more(store: OnlineStore) -> None:
    first = store.begin("set")
    second = store.begin("set")
    with pytest.raises(TakenOver):
        store.write("set", first, Batch([Put(b"a", 1, b"", 1, b"x")]), OFTEN)
    store.write("set", second, Batch([Put(b"a", 1, b"", 1, b"y")]), OFTEN)
    store.drop("set")
    third = store.begin("set")
    assert third not in {first, second}
    assert not list(store.items("set"))


def test_never_older_over_newer(store: OnlineStore) -> None:
    claim = store.begin("set")
    store.push([Push("none", [Put(b"a", 1, b"", 1, b"x")], OFTEN)])
    store.write("set", claim, Batch([Put(b"a", 5, b"", 7, b"newer")]), OFTEN)
    store.write("set", claim, Batch([Put(b"a", 5, b"", 6, b"older")]), OFTEN)
    store.push([Push("set", [Put(b"a", 5, b"", 6, b"older")], OFTEN)])
    assert [item.payload for _, item in store.items("set")] == [b"newer"]
    store.push([Push("set", [Put(b"a", 6, b"", 8, b"pushed")], OFTEN)])
    store.write("set", claim, Batch(replaced={b"a": [Put(b"a", 5, b"", 9, b"table")]}), OFTEN)
    assert [item.payload for _, item in store.items("set")] == [b"table", b"pushed"]
    store.write("set", claim, Batch([Put(b"a", 6, b"", 9, None)]), OFTEN)  # a retraction that is newer
    assert [item.payload for _, item in store.items("set")] == [b"table"]
    assert store.names() == ["set"]


def test_old_items_go(store: OnlineStore) -> None:
    claim = store.begin("set")
    puts = [Put(b"a", time_, b"%d" % time_, 1, b"x") for time_ in range(0, 40, 2)]
    store.write("set", claim, Batch([*puts, Put(b"b", 1, b"1", 1, b"x"), Put(b"a", 2_000, b"ahead", 1, b"x")]), OFTEN)
    assert [item.time for entity, item in store.items("set") if entity == b"a"] == [30, 32, 34, 36, 38, 2_000]
    store.write("set", claim, Batch(expired=20), OFTEN)
    assert {entity for entity, _ in store.items("set")} == {b"a"}
    store.push([Push("set", [Put(b"a", time_, b"%d" % time_, 0, b"x") for time_ in range(100, 140, 2)], OFTEN)])
    assert len(list(store.items("set", b"a"))) == 6 + 5
    before = Retention(10, one_before=True, now=1_000)
    other = store.begin("other")
    store.write("other", other, Batch([Put(b"a", time_, b"", 1, b"x") for time_ in (1, 5, 9, 25)]), before)
    assert [item.time for _, item in store.items("other")] == [9, 25]


def test_two_syncs_at_once_end_with_what_one_gives(store: OnlineStore, tmp_path: Path) -> None:
    world = some_world(tmp_path)
    done: list[str] = []

    def go() -> None:
        for _ in range(6):
            done.extend(one.how for one in sync(store, world.lakehouse, cards, NEEDS, full=True))

    threads = [threading.Thread(target=go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(5):
        world.do("add", [("a", number, 1.0)])
    for thread in threads:
        thread.join()
    sync(store, world.lakehouse, cards, NEEDS)
    assert len(done) == 18
    assert "scan" in done
    found = list(store.items(f"{cards.name}/events"))
    sync(store, world.lakehouse, cards, NEEDS, full=True)
    assert found == list(store.items(f"{cards.name}/events"))


CHILD = """
import sys
from pathlib import Path
from lakehouse_assets.platform.features.online import sync as module
from lakehouse_assets.platform.features.online.embedded import EmbeddedStore
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.platform.features.online.worlds import NEEDS, cards

module._ITEMS_AT_ONCE, module._LEASE_SECONDS = 5, 0.5
store = EmbeddedStore(Path(sys.argv[2]))
print("begins", flush=True)
while True:
    module.sync(store, Lakehouse(sys.argv[1]), cards, NEEDS, full=sys.argv[3] == "full")
"""


def test_a_sync_that_is_killed_anywhere_leaves_nothing_wrong(tmp_path: Path) -> None:
    world = World(tmp_path / "root")
    path, name = tmp_path / "online.db", f"{cards.name}/events"
    for round_ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, world.lakehouse.root, str(path), "full" if round_ % 2 else "changes"], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        for number in range(4):
            world.do("add", [(f"card {number}", 30 + round_, 1.0) for number in range(20)])
            world.do("delete", number)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        store, fresh = EmbeddedStore(path), EmbeddedStore(tmp_path / f"fresh {round_}.db")
        sync(store, world.lakehouse, cards, NEEDS, wait=60)
        sync(fresh, world.lakehouse, cards, NEEDS)
        assert list(store.items(name)) == list(fresh.items(name))
        store.close()


class Dying(EmbeddedStore):
    """A store whose process dies before one of its writes."""

    writes = 1_000

    def write(self, name: str, claim: int, batch: Batch, retention: Retention) -> None:
        self.writes -= 1
        if self.writes < 0:
            raise InterruptedError
        super().write(name, claim, batch, retention)


@pytest.mark.parametrize("writes", range(6))
def test_rows_that_were_written_before_a_sync_died_do_not_stay(writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, store, name = some_world(tmp_path / "root"), Dying(tmp_path / "online.db"), f"{cards.name}/events"
    sync(store, world.lakehouse, cards, NEEDS)
    world.do("add", [(f"card {number}", 12, 1.0) for number in range(9)])
    monkeypatch.setattr(sync_module, "_ITEMS_AT_ONCE", 2)
    store.writes = writes
    with suppress(InterruptedError):
        sync(store, world.lakehouse, cards, NEEDS)
    world.events.delta().delete("id % 2 = 0")
    store.writes = 1_000
    sync(store, world.lakehouse, cards, NEEDS)
    fresh = EmbeddedStore(tmp_path / "fresh.db")
    sync(fresh, world.lakehouse, cards, NEEDS)
    assert list(store.items(name)) == list(fresh.items(name))


class DyingServerStore(RedisStore):
    """A store whose process dies before one of its transactions."""

    at_once = 2
    transactions = 1_000

    def _changing(self, name: str, claim: int) -> AbstractContextManager[Any]:
        self.transactions -= 1
        if self.transactions < 0:
            raise InterruptedError
        return super()._changing(name, claim)


@pytest.mark.parametrize("transactions", range(8))
def test_what_a_server_was_given_in_parts_before_a_sync_died_does_not_stay(transactions: int, redis_server: Any, tmp_path: Path) -> None:
    world, store, name = some_world(tmp_path / "root"), DyingServerStore(redis_server.address, f"{uuid4().hex}:"), f"{cards.name}/events"
    sync(store, world.lakehouse, cards, NEEDS)
    world.do("add", [(f"card {number}", 12, 1.0) for number in range(9)])
    store.transactions = transactions
    with suppress(InterruptedError):
        sync(store, world.lakehouse, cards, NEEDS)
    world.events.delta().delete("id % 2 = 0")
    store.transactions = 1_000
    sync(store, world.lakehouse, cards, NEEDS)
    fresh = EmbeddedStore(tmp_path / "fresh.db")
    sync(fresh, world.lakehouse, cards, NEEDS)
    assert list(store.items(name)) == list(fresh.items(name))
    store.close()


def test_a_store_that_cannot_be_written_says_what_it_is(tmp_path: Path) -> None:
    world = some_world(tmp_path / "root")
    store = RedisStore("redis://user:secret@127.0.0.1:1/0", "x:")
    with pytest.raises(StoreUnavailable, match=r"redis://127\.0\.0\.1:1/0 cannot be used") as raised:
        sync(store, world.lakehouse, cards, NEEDS)
    assert "secret" not in str(raised.value)
    with pytest.raises(StoreUnavailable, match="is no address"):
        RedisStore("redis://127.0.0.1:port/0", "x:")


def test_a_set_about_everything_has_one_entity(store: OnlineStore, tmp_path: Path) -> None:
    world = some_world(tmp_path)
    of_all = window_features(
        "shop.features.all_cards",
        of=PAYMENTS,
        entity=("country",),
        time="paid_at",
        windows=("1h",),
        values={"card": ("distinct",)},
        types={"card": str},
    )
    sync(store, world.lakehouse, of_all, NEEDS)
    looked = OnlineFeatures(store, [ServedSet(of_all)], PAYMENTS).features(
        [{"id": 9, "card": "q", "paid_at": hours(2.5), "country": "home"}], [hours(2.5)]
    )
    assert looked.columns == {"card_distinct_1h": [2]}
