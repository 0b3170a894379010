"""Of a time for which the store has cut what it kept, a look-up never says `ok` for what is not the value of a join as of then.

The suite tries a sample; `python -m benchmarks.sweeps` tries everything.
"""

import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
from hypothesis import HealthCheck, example, given

from lakehouse_assets.platform.features.online.codecs import moment
from lakehouse_assets.platform.features.online.embedded import EmbeddedStore
from lakehouse_assets.platform.features.online.lookup import OnlineFeatures, ServedSet
from lakehouse_assets.platform.features.online.readers import events_of
from lakehouse_assets.platform.features.online.redis_store import RedisStore
from lakehouse_assets.platform.features.online.store import OnlineStore, SetState
from lakehouse_assets.platform.features.online.sync import sync
from lakehouse_assets.platform.features.point_in_time import FeatureRows, join_as_of
from lakehouse_assets.platform.storage.known_at import of_version
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.features.online.test_sync import World, histories
from lakehouse_assets_tests.platform.features.online.worlds import EVENTS, NEEDS, PAYMENTS, cards, foreign, hours, prices, values

SETS = [ServedSet(cards, None, "card_"), ServedSet(foreign, None, "foreign_"), ServedSet(prices)]
ASKED = [
    {"id": 1_000 + 10 * half + place, "card": card, "paid_at": hours(half / 2 + 0.1), "amount": 1.5, "device": device, "country": country}
    for half in range(0, 64, 5)
    for place, (card, device, country) in enumerate([("a", "x", "home"), ("b", "x", "abroad"), ("new", "a", "abroad")])
]


def expected(world: World) -> list[dict[str, Any]]:
    """What a join gives to each of the events, if it came alone after what the tables have."""
    tables = {PAYMENTS: world.events.scan().collect(), prices.name: of_version(world.prices.scan().collect().lazy(), 1)}
    found = []
    for event in ASKED:
        own = pl.DataFrame([event], EVENTS)
        events = pl.concat([tables[PAYMENTS], own]).lazy()
        sides = []
        for one in SETS:
            this = one.feature
            rows = tables[this.name] if this is prices else this.function(events)
            sides.append(FeatureRows(this.name, rows, this.entity, this.event_time, this.ttl, this.defaults, one.prefix, this.columns))
        found.append(join_as_of(own.with_columns(pl.col("paid_at").alias("at")), sides, at="at", when_known=False).rows.row(0, named=True))
    return found


def check(store: OnlineStore, folder: Path, history: list[Any]) -> None:
    world = World(folder)
    for (what, given_), is_synced in history:
        world.do(what, given_)
        for feature in (cards, foreign, prices) if is_synced else ():
            sync(store, world.lakehouse, feature, NEEDS)
    for feature in (cards, foreign, prices):
        sync(store, world.lakehouse, feature, NEEDS)
    looked = OnlineFeatures(store, SETS, PAYMENTS, schema=EVENTS).features(ASKED, [event["paid_at"] for event in ASKED])
    state = SetState.read(store.read([], [events_of(cards.name)]).states[0])
    assert state is not None
    for place, (event, wanted) in enumerate(zip(ASKED, expected(world), strict=True)):
        for one in SETS:
            name, columns = one.feature.name, [one.prefix + column for column in one.feature.columns]
            status = looked.status[name][place]
            if status == "ok":
                assert {column: looked.columns[column][place] for column in columns} == {column: wanted[column] for column in columns}
            # The newest event that any sync saw: it may be gone since.
            elif one.feature is cards and state.newest is not None and event["paid_at"] >= moment(state.newest) - NEEDS.keep:
                raise AssertionError(f"{event} is not too old, and its windows are said to be {status}")


def added(*rows: tuple[str, int]) -> tuple[str, list[tuple[str, int, float]]]:
    return ("add", [(card, half, 1.0) for card, half in rows])


CUT = [(added(("a", 2), ("a", 8), ("b", 3)), True), (added(("a", 50), ("b", 30)), True)]
PRUNED = [(added(("a", 8), ("b", 3)), True), (added(("b", 60)), True), (added(("a", 4)), True)]
GONE = [(added(("a", 8), ("a", 30), ("a", 59)), True), (("delete", 0), True), (added(("a", 10)), True)]


@sweeps.examples(2, 40, suppress_health_check=list(HealthCheck))
@example(CUT)
@example(PRUNED)
@example(GONE)
@given(histories)
def test_what_is_looked_up_is_what_a_join_gives_or_is_not_said_to_be(history: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddedStore(Path(folder) / "online.db")
        check(store, Path(folder) / "root", history)
        store.close()


@sweeps.examples(1, 20, suppress_health_check=list(HealthCheck))
@example(CUT)
@example(PRUNED)
@example(GONE)
@given(histories)
def test_the_same_on_a_server(redis_server: Any, history: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = RedisStore(redis_server.address, f"{uuid4().hex}:")
        check(store, Path(folder) / "root", history)
        store.close()


def test_a_request_that_is_older_than_what_is_kept_is_told_so(store: OnlineStore, tmp_path: Path) -> None:
    lakehouse, start = Lakehouse(str(tmp_path / "root")), hours(0)
    events = lakehouse.table(PAYMENTS)
    events.create(EVENTS)
    rows = [(number, "a", hours(number), 1.0, "x", "home") for number in range(48)]
    events.append(pl.DataFrame(rows, EVENTS, orient="row"))
    table = lakehouse.table(prices.name)
    table.create(values(prices, []).schema)
    seen = [{"device": "x", "seen_at": row[2], "known_at": row[2], "price": 1.0, "maker": "m", "pieces": 1} for row in rows]
    table.append(values(prices, seen))
    for feature in (cards, prices):
        sync(store, lakehouse, feature, NEEDS)
    features = OnlineFeatures(store, [ServedSet(cards), ServedSet(prices)], PAYMENTS)

    def status(at: datetime) -> list[str]:
        event = {"id": 99, "card": "a", "paid_at": at, "amount": 1.0, "device": "x", "country": "home"}
        return [found[0] for found in features.features([event], [at]).status.values()]

    assert status(start + timedelta(hours=47, minutes=30)) == ["ok", "ok"]
    assert status(start + timedelta(hours=44, minutes=30)) == ["ok", "ok"]
    assert status(start + timedelta(hours=30)) == ["expired", "expired"]
