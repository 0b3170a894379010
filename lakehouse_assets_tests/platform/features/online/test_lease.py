"""One sync at a time works on a set: others stand back while it works, and take over once it is gone."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.features.online import sync as sync_module
from lakehouse_assets.platform.features.online.embedded import EmbeddedStore
from lakehouse_assets.platform.features.online.lookup import OnlineFeatures, ServedSet
from lakehouse_assets.platform.features.online.redis_store import RedisStore
from lakehouse_assets.platform.features.online.store import Batch, OnlineStore, Retention, SetState, StoreUnavailable, TakenOver
from lakehouse_assets.platform.features.online.sync import Synced, sync
from lakehouse_assets_tests.platform.features.online.test_sync import OFTEN, World
from lakehouse_assets_tests.platform.features.online.worlds import NEEDS, PAYMENTS, cards, prices

NAME = f"{cards.name}/events"


def test_while_a_lease_is_in_force_no_other_begins(store: OnlineStore) -> None:
    first = store.begin("set", 60)
    for lease in (0, 60):
        with pytest.raises(TakenOver):
            store.begin("set", lease)
    store.begin("other", 60)
    store.write("set", first, Batch(), OFTEN)
    store.renew("set", first, 0)
    second = store.begin("set", 0.2)
    with pytest.raises(TakenOver):
        store.renew("set", first, 60)
    with pytest.raises(TakenOver):
        store.begin("set")
    time.sleep(0.3)
    third = store.begin("set", 60)
    with pytest.raises(TakenOver):
        store.write("set", second, Batch(), OFTEN)
    store.write("set", third, Batch(), OFTEN)
    store.drop("set")
    store.begin("set", 60)


class Killed(BaseException):
    """The process of a sync is gone: nothing of it happens any more, not even its `finally`."""


class Steered:
    """A store of one of several syncs, which waits for its turn before each call; a killed one calls nothing any more."""

    def __init__(self, store: OnlineStore, turn: Callable[[], None]) -> None:
        self._store, self._turn, self.is_dead = store, turn, False

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)
        if not callable(call):
            return call

        def turned(*args: Any, **named: Any) -> Any:
            if self.is_dead:
                raise TakenOver("it is dead")
            self._turn()
            return call(*args, **named)

        return turned


class Turns:
    """Lets two threads go on one call at a time, in a drawn order; at a drawn call one of them is killed."""

    def __init__(self, order: Iterator[int], dies_at: int | None) -> None:
        self.order, self.calls, self.dies_at = order, 0, dies_at
        self.changed = threading.Condition()
        self.waiting: set[int] = set()
        self.over: set[int] = set()
        self.turn: int | None = None

    def take(self, number: int, store: Steered) -> None:
        with self.changed:
            self.waiting.add(number)
            self.changed.notify_all()
            while self.turn != number:
                if self.waiting | self.over == {0, 1} and self.turn is None:
                    wanted = next(self.order, 0)
                    self.turn = wanted if wanted in self.waiting else next(iter(self.waiting))
                    self.changed.notify_all()
                    continue
                assert self.changed.wait(60)
            self.waiting.discard(number)
            self.turn = None
            self.calls += 1
            if number == 0 and self.calls == self.dies_at:
                store.is_dead = True
                raise Killed

    def end(self, number: int) -> None:
        with self.changed:
            self.over.add(number)
            self.changed.notify_all()


@pytest.fixture(scope="module", params=["embedded", "redis"])
def opened(request: pytest.FixtureRequest) -> Callable[[Path], OnlineStore]:
    if request.param == "embedded":
        return lambda folder: EmbeddedStore(folder / "online.db")
    address = request.getfixturevalue("redis_server").address
    return lambda _: RedisStore(address, f"{uuid4().hex}:")


@settings(max_examples=12, deadline=None)
@given(order=st.lists(st.integers(0, 1), max_size=60), dies_at=st.none() | st.integers(1, 12), full=st.booleans())
def test_of_two_syncs_that_are_interleaved_one_works_and_another_takes_over_when_it_is_killed(
    opened: Callable[[Path], OnlineStore], order: list[int], dies_at: int | None, full: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        world = World(Path(folder) / "root")
        world.do("add", [(f"card {number}", number, 1.0) for number in range(9)])
        store = opened(Path(folder))
        # In force for the whole of an example, unless its holder is killed: then it is over before the next one begins.
        patch.setattr(sync_module, "_LEASE_SECONDS", 1.0 if dies_at else 600.0)
        patch.setattr(sync_module, "_ITEMS_AT_ONCE", 3)
        turns, done = Turns(iter(order), dies_at), list[Synced]()

        def go(number: int) -> None:
            own = Steered(store, lambda: turns.take(number, own))
            try:
                for _ in range(2):
                    done.extend(sync(own, world.lakehouse, cards, NEEDS, full=full))  # type: ignore[arg-type]
            except Killed:
                pass
            finally:
                turns.end(number)

        threads = [threading.Thread(target=go, args=(number,)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        if dies_at is None:
            # Each that began to write came to its end, and the others wrote nothing.
            assert {one.how for one in done if one.rows} == {"scan"}
            assert {one.how for one in done if not one.rows} <= {"nothing new", "other process"}
        last = sync(store, world.lakehouse, cards, NEEDS, wait=30)[0]
        assert last.how in {"scan", "nothing new"}
        found = list(store.items(NAME))
        sync(store, world.lakehouse, cards, NEEDS, full=True)
        assert found == list(store.items(NAME))
        store.close()


def test_a_sync_that_works_for_longer_than_its_lease_keeps_it(store: OnlineStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "root")
    world.do("add", [(f"card {number}", number, 1.0) for number in range(9)])
    monkeypatch.setattr(sync_module, "_LEASE_SECONDS", 2.5)
    parts, others = sync_module._parts, []

    def slow(*given: Any) -> Iterator[Any]:
        until = time.monotonic() + 6
        while time.monotonic() < until:
            time.sleep(0.2)
            others.extend(one.how for one in sync(store, world.lakehouse, cards, NEEDS))
        yield from parts(*given)

    monkeypatch.setattr(sync_module, "_parts", slow)
    assert [one.how for one in sync(store, world.lakehouse, cards, NEEDS)] == ["scan"]
    assert {*others} == {"other process"}


def test_a_lease_is_renewed_again_after_the_store_was_away(store: OnlineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_module, "_LEASE_SECONDS", 0.3)
    renewed, again = list[float](), threading.Event()

    class Away:
        """A store that is away when the lease is renewed first."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def renew(self, name: str, claim: int, lease: float) -> None:
            renewed.append(lease)
            if len(renewed) == 1:
                raise StoreUnavailable("it is away")
            store.renew(name, claim, 60)
            again.set()

    with sync_module._leased(Away(), "set", 0.0):  # type: ignore[arg-type]
        assert again.wait(20)
        with pytest.raises(TakenOver):
            store.begin("set")


def test_until_when_the_store_knows_a_table_is_said_once_it_was_synced_to_the_end(store: OnlineStore, tmp_path: Path) -> None:
    world = World(tmp_path / "root")
    world.do("add", [("a", number, 1.0) for number in range(4)])
    features = OnlineFeatures(store, [ServedSet(cards), ServedSet(prices)], PAYMENTS)
    assert features.synced() == {cards.name: None, prices.name: None}

    class Dying:
        """Dies after the first write."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def write(self, name: str, claim: int, batch: Batch, retention: Retention) -> None:
            if batch.sweep:
                raise InterruptedError
            store.write(name, claim, batch, retention)

    with pytest.raises(InterruptedError):
        sync(Dying(), world.lakehouse, cards, NEEDS)  # type: ignore[arg-type]
    assert features.synced() == {cards.name: None, prices.name: None}
    for one in (cards, prices):
        sync(store, world.lakehouse, one, NEEDS)
    first = features.synced()
    assert first is not None
    assert None not in first.values()
    world.do("add", [("a", 5, 1.0)])
    with pytest.raises(InterruptedError):
        sync(Dying(), world.lakehouse, cards, NEEDS, full=True)  # type: ignore[arg-type]
    assert features.synced() == first
    assert SetState.read(store.read([], [NAME]).states[0]) is not None


def test_a_store_that_is_away_knows_of_nothing() -> None:
    away = RedisStore("redis://127.0.0.1:1/0", "x:")
    assert OnlineFeatures(away, [ServedSet(cards)], PAYMENTS).synced() is None
