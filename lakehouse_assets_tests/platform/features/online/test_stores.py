"""What the online stores promise whoever uses them, without tables: what a change costs others, and how files are opened."""

import sqlite3
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.features.online.embedded import EmbeddedStore
from lakehouse_assets.platform.features.online.redis_store import RedisStore
from lakehouse_assets.platform.features.online.statements import COPIES, ENDS, SAME, query, together
from lakehouse_assets.platform.features.online.store import Batch, Item, OnlineStore, Push, Put, Query, Retention

ALL = Retention(1_000_000, one_before=False, now=1_000)
KEY = "items USING PRIMARY KEY"


def plan(path: Path, text: str, columns: int, rows: int) -> list[str]:
    """How SQLite searches items for a statement."""
    connection = sqlite3.connect(path)

    def explain(text: str, given: list[object]) -> sqlite3.Cursor:
        return connection.execute(f"EXPLAIN QUERY PLAN {text}", given)

    steps = [str(step) for *_, step in together(explain, text, [(1,) * columns] * rows, 1)]
    connection.close()
    return [step.removeprefix("SEARCH ") for step in steps if "items" in step]


@pytest.mark.parametrize("rows", [1, 4, 256])
@pytest.mark.parametrize(
    ("text", "columns", "searches"),
    [
        (SAME["id"], 3, ["items USING INDEX by_id (set_id=? AND entity=? AND id=?)"]),
        (SAME["time"], 3, [f"{KEY} (set_id=? AND entity=? AND time=?)"]),
        (ENDS, 2, [f"{KEY} (set_id=? AND entity=?)", f"{KEY} (set_id=? AND entity=? AND time<?)"]),  # the first one is the least
        (COPIES, 2, ["items USING INDEX pushed_ids (set_id=? AND id=?)"]),
    ],
)
def test_no_statement_of_a_change_goes_through_all_items(text: str, columns: int, searches: list[str], rows: int, tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    EmbeddedStore(path).begin("set")
    assert plan(path, text, columns, rows) == searches


def test_a_look_up_goes_through_what_it_gives(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    EmbeddedStore(path).begin("set")
    connection = sqlite3.connect(path)
    steps: list[str] = []

    def explain(text: str, given: list[object]) -> sqlite3.Cursor:
        steps.extend(step for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {text}", given))
        return connection.execute(text, given)

    for only_last in (False, True):
        for count in (1, 4, 256):
            query(explain, 1, Query("set", [b"a"] * count, [0] * count, [9] * count, only_last))
    searches = {step for step in steps if "SEARCH i" in step}
    assert searches == {f"SEARCH {one} (set_id=? AND entity=? AND time{and_}" for one, and_ in SEARCHED}
    connection.close()


SEARCHED = [(KEY, ">? AND time<?)"), (KEY, "=?)"), ("its USING PRIMARY KEY", ">? AND time<?)")]


def test_a_file_of_an_earlier_run_gets_the_indexes_that_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    first = EmbeddedStore(path)
    first.write("set", first.begin("set"), Batch([Put(b"a", 1, b"1", 1, b"x")]), ALL)
    first.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP INDEX by_id")
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    store = EmbeddedStore(path)
    store.push([Push("set", [Put(b"a", 5, b"1", 2, b"y"), Put(b"b", 6, b"1", 2, b"z")], ALL)])
    assert list(store.items("set")) == [(b"a", Item(5, b"1", b"y", ALL.now)), (b"b", Item(6, b"1", b"z", ALL.now))]
    store.write("set", store.begin("set"), Batch([Put(b"b", 7, b"1", 3, b"table")]), ALL)
    assert list(store.items("set")) == [(b"b", Item(7, b"1", b"table"))]


def test_an_item_with_an_id_takes_the_place_of_that_with_its_id_and_of_no_other(store: OnlineStore) -> None:
    claim = store.begin("set")
    store.write("set", claim, Batch([Put(b"a", at, b"%d" % at, 1, b"x") for at in range(20)]), ALL)
    store.write("set", claim, Batch([Put(b"a", 40, b"7", 1, b"moved"), Put(b"b", 7, b"8", 1, b"x")]), ALL)
    times = [item.time for _, item in store.items("set", b"a")]
    assert times == [*range(7), *range(8, 20), 40]


def test_the_reader_that_makes_or_changes_a_file_waits_as_others_do(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    waits = []
    for _ in range(3):  # makes it, opens it, changes it
        store = EmbeddedStore(path)
        store.read([], [])
        waits.append(store._reader().execute("PRAGMA busy_timeout").fetchone())
        store.close()
        if len(waits) == 2:
            with sqlite3.connect(path) as connection:
                connection.execute("PRAGMA user_version = 2")
            connection.close()
    assert waits == [(50,)] * 3


def transactions(address: str, store: RedisStore, *writes: tuple[int, Batch]) -> list[list[str]]:
    """What the server did in each transaction while some batches were written."""
    done: list[list[str]] = []
    client = redis.Redis.from_url(address)
    with client.monitor() as monitor:
        for claim, batch in writes:
            store.write("set", claim, batch, ALL)
        store._writing.echo("over")
        for one in monitor.listen():
            if one["command"].startswith("ECHO"):
                break
            if one["command"] == "MULTI":
                done.append([])
            elif done:
                done[-1].append(one["command"])
    client.close()
    return done


def items(count: int, entities: int) -> dict[bytes, list[Put]]:
    found: dict[bytes, list[Put]] = {}
    for number in range(count):
        entity = b"%d" % (number % entities)
        found.setdefault(entity, []).append(Put(entity, number, b"%d" % number, 1, b"x"))
    return found


@pytest.mark.parametrize("entities", [1, 40, 2_600])
@pytest.mark.parametrize("replaces", [True, False])
def test_no_transaction_of_a_server_does_much_so_that_others_are_served_in_between(
    redis_server: Any, entities: int, replaces: bool
) -> None:
    store = RedisStore(redis_server.address, f"{uuid4().hex}:")
    claim, new = store.begin("set"), items(2_600, entities)
    puts = [put for its in new.values() for put in its]
    batch = Batch(replaced=new, state=b"state") if replaces else Batch(puts, state=b"state")
    done = transactions(redis_server.address, store, (claim, batch), (claim, batch))
    assert max(sum(command.startswith("HSET") for command in one) for one in done) <= store.at_once + 1
    assert len(done) >= 2 * 6
    said = [any(command.endswith("states set state") for command in one) for one in done]
    assert said == ([False] * (len(done) // 2 - 1) + [True]) * 2
    assert len(list(store.items("set"))) == 2_600
    store.close()


def test_a_small_change_is_one_transaction(redis_server: Any) -> None:
    store = RedisStore(redis_server.address, f"{uuid4().hex}:")
    claim, new = store.begin("set"), items(300, 100)
    gone = {b"gone %d" % number: list[Put]() for number in range(store.at_once - 300)}
    assert len(transactions(redis_server.address, store, (claim, Batch([], new | gone, state=b"state")))) == 1
    store.close()


one_put = st.builds(
    lambda entity, at, stamp: Put(entity, at, b"%d" % at, stamp, b"%d" % stamp),
    st.sampled_from([b"a", b"b"]),
    st.integers(0, 30),
    st.integers(0, 3),
)
puts_of_ids = st.lists(one_put, max_size=9, unique_by=lambda put: (put.entity, put.id))
changes = st.lists(st.tuples(st.sampled_from(["put", "replace", "push"]), puts_of_ids), max_size=6)


@settings(max_examples=25, deadline=None)
@given(changes, st.sampled_from([Retention(12, one_before=False, now=25), Retention(8, one_before=True, now=25)]))
def test_a_store_that_writes_in_parts_ends_as_one_that_writes_at_once(
    redis_server: Any, changes: list[tuple[str, list[Put]]], retention: Retention
) -> None:
    stores = [RedisStore(redis_server.address, f"{uuid4().hex}:") for _ in range(2)]
    stores[1].at_once = 2
    found = []
    for store in stores:
        claim = store.begin("set")
        for what, puts in changes:
            if what == "push":
                store.push([Push("set", puts, retention)])
            elif what == "put":
                store.write("set", claim, Batch(puts), retention)
            else:
                replaced = {put.entity: [one for one in puts if one.entity == put.entity] for put in puts}
                store.write("set", claim, Batch(replaced=replaced), retention)
        found.append(list(store.items("set")))
        store.close()
    assert found[0] == found[1]
