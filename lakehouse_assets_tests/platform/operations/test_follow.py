"""Micro-batches: files become rows within seconds, each once, whatever fails or dies meanwhile."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Queue
from typing import ClassVar

import polars as pl
import pytest

from lakehouse_assets import Contract, Feed, Full, Upsert, column, conform, feed, monitor, open_lakehouse, table, text, whole_number
from lakehouse_assets.client import Client
from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.monitors import MonitorKind, Verdict, Watched
from lakehouse_assets.platform.operations.follow import Follower, MicroBatch, follow
from lakehouse_assets.platform.operations.pending import reason_of
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.running import land_text, tables_of

PROJECT = Path(__file__).parents[3]
BRONZE, SILVER, TOTALS, OTHER = "shop.bronze.sales", "shop.silver.sales", "shop.gold.totals", "shop.gold.broken"


class Sale(Contract):
    """A sale."""

    id: int = column(key=True)
    shop: str = column()
    units: int = column(ge=0)


class Total(Contract):
    """Units of a shop."""

    shop: str = column(key=True)
    units: int = column()


sales_feed = feed(BRONZE, Feed("sales", headers=(("id", "shop", "units"),)), "Sales.")


@table(SILVER, contract=Sale, kind=Upsert(("id",)), inputs={"rows": BRONZE})
def sales(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales."""
    return conform(rows, id=whole_number("id"), shop=text("shop"), units=whole_number("units"))


@table(TOTALS, contract=Total, kind=Full(), inputs={"sales": SILVER})
def totals(sales: pl.LazyFrame) -> pl.LazyFrame:
    """Units by shop."""
    return sales.group_by("shop").agg(pl.col("units").sum())


class Fails:
    """Whether the table that fails does so now."""

    now = True


@table(OTHER, contract=Total, kind=Full(), inputs={"sales": SILVER})
def broken(sales: pl.LazyFrame) -> pl.LazyFrame:
    """Units by shop, when it works."""
    if Fails.now:
        raise ValueError("the rates are not there yet")
    return sales.group_by("shop").agg(pl.col("units").sum())


@pytest.fixture
def lakehouse(settings: Settings) -> Client:
    return open_lakehouse(settings=settings, declarations=(sales_feed, sales, totals), notice=lambda _: None)


def land(settings: Settings, number: int) -> None:
    rows = "".join(f"{number * 10 + row},{'ab'[row % 2]},{row}\n" for row in range(10))
    land_text(settings, "sales", f"sales_{number:03}.csv", f"id,shop,units\n{rows}")


def follower_of(lakehouse: Client, *names: str) -> Follower:
    return Follower.of(lakehouse.context.root, lakehouse.context.loaded.catalog, names)


def test_a_batch_takes_what_is_new_and_nothing_twice(lakehouse, settings):
    land(settings, 0)
    follower = follower_of(lakehouse)
    first = follower.batch()
    assert first is not None
    assert first.rows == {BRONZE: 10, SILVER: 10, TOTALS: 2}
    assert first.failed == {}
    assert follower.batch() is None
    land(settings, 1)
    second = follower.batch()
    assert second is not None
    assert second.rows == {BRONZE: 10, SILVER: 10, TOTALS: 2}
    assert lakehouse.table(SILVER).scan().select("id").collect()["id"].sort().to_list() == [*range(20)]
    assert lakehouse.run() is None, "a run of Dagster finds nothing left to do"


def test_only_what_the_named_tables_are_made_of_is_followed(lakehouse, settings):
    land(settings, 0)
    assert [one.name for one in follower_of(lakehouse, SILVER).declarations] == [BRONZE, SILVER]
    done = follower_of(lakehouse, SILVER).batch()
    assert done is not None
    assert set(done.rows) == {BRONZE, SILVER}
    with pytest.raises(LookupError, match=r"shop\.gold\.totals"):
        lakehouse.follow(["shop.gold.total"])


def test_what_another_process_changed_is_noticed(lakehouse, settings, monkeypatch):
    follower = follower_of(lakehouse)
    land(settings, 0)
    follower.batch()
    land(settings, 1)
    follower_of(lakehouse, SILVER).batch()  # as a run of another process
    monkeypatch.setattr("lakehouse_assets.platform.operations.follow.EVERYTHING_SECONDS", 0.0)
    done = follower.batch()
    assert done is not None
    assert done.rows == {TOTALS: 2}


@pytest.mark.parametrize("taken", [(BRONZE,), (BRONZE, SILVER), (BRONZE, SILVER, TOTALS)])
def test_what_another_process_did_between_the_look_and_the_step_is_not_counted(lakehouse, settings, monkeypatch, taken):
    """One that was faster has written the rows: they are its own, and what reads them is brought up to date all the same."""
    other, looks = follower_of(lakehouse, taken[-1]), list[str]()

    def looked_at(root, one):
        reason = reason_of(root, one)
        if not looks:
            looks.append(one.name)
            faster = other.batch()
            assert faster is not None
            assert set(faster.rows) == {*taken}
        return reason

    monkeypatch.setattr("lakehouse_assets.platform.operations.follow.reason_of", looked_at)
    follower_of(lakehouse).batch()  # the tables are made
    looks.clear()
    land(settings, 0)
    done = follower_of(lakehouse).batch()
    left = {BRONZE: 10, SILVER: 10, TOTALS: 2}.keys() - {*taken}
    assert (done.rows if done else {}) == {name: {SILVER: 10, TOTALS: 2}[name] for name in left}


def test_the_counts_of_two_followers_are_together_what_was_written(lakehouse, settings):
    stop, counted = threading.Event(), list[MicroBatch]()
    threads = [threading.Thread(target=lambda: follow(follower_of(lakehouse, SILVER), 0.01, counted.append, stop.wait)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(8):
        land(settings, number)
        time.sleep(0.05)
    deadline = time.monotonic() + 60
    while not lakehouse.table(SILVER).exists() or lakehouse.table(SILVER).count() < 80:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    for name in (BRONZE, SILVER):
        assert sum(batch.rows.get(name, 0) for batch in counted) == lakehouse.table(name).count() == 80, name


def test_rows_that_went_are_counted(lakehouse, settings, monkeypatch):
    monkeypatch.setattr("lakehouse_assets.platform.operations.follow.EVERYTHING_SECONDS", 0.0)
    follower = follower_of(lakehouse)
    land(settings, 0)
    follower.batch()
    tables_of(settings).table(SILVER).delta().delete("shop = 'a'")
    done = follower.batch()
    assert done is not None
    assert done.rows == {TOTALS: 1}


def test_a_table_that_fails_is_told_of_and_tried_again_and_the_others_go_on(settings, monkeypatch):
    monkeypatch.setattr("lakehouse_assets.platform.operations.follow._FIRST_RETRY", 0.05)
    monkeypatch.setattr(Fails, "now", True)
    lakehouse = open_lakehouse(settings=settings, declarations=(sales_feed, sales, totals, broken), notice=lambda _: None)
    follower = follower_of(lakehouse)
    land(settings, 0)
    done = follower.batch()
    assert done is not None
    assert set(done.rows) == {BRONZE, SILVER, TOTALS}
    assert done.failed == {OTHER: f"{OTHER}: the rates are not there yet"}
    monkeypatch.setattr(Fails, "now", False)
    time.sleep(0.06)
    again = follower.batch()
    assert again is not None
    assert again.rows == {OTHER: 2}
    assert again.failed == {}


def test_following_ends_when_it_is_told_to(lakehouse, settings):
    land(settings, 0)
    stop, batches = threading.Event(), list[MicroBatch]()
    thread = threading.Thread(target=lambda: follow(follower_of(lakehouse), 0.05, batches.append, stop.wait))
    thread.start()
    land(settings, 1)
    deadline = time.monotonic() + 60
    while lakehouse.table(SILVER).exists() is False or lakehouse.table(SILVER).count() < 20:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    assert sum(batch.rows.get(SILVER, 0) for batch in batches) == 20


PRODUCT = """
import polars as pl
from lakehouse_assets import Contract, Feed, Upsert, column, conform, feed, table, text, whole_number

class Sale(Contract):
    '''A sale.'''
    id: int = column(key=True)
    shop: str = column()

sales_feed = feed("shop.bronze.sales", Feed("sales", headers=(("id", "shop", "units"),)), "Sales.")

@table("shop.silver.sales", contract=Sale, kind=Upsert(("id",)), inputs={"rows": "shop.bronze.sales"})
def sales(rows: pl.LazyFrame) -> pl.LazyFrame:
    '''Sales.'''
    return conform(rows, id=whole_number("id"), shop=text("shop"))
"""


def test_a_killed_follower_leaves_nothing_out_and_nothing_twice(settings, tmp_path):
    folder = tmp_path / "mine" / "shop"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "tables.py").write_text(PRODUCT)
    own = {"LAKEHOUSE_ROOT": str(settings.root), "LAKEHOUSE_PRODUCTS": str(tmp_path / "mine")}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    command = [sys.executable, "-m", "lakehouse_assets.cli", "run", "--follow", "shop", "--json"]
    landed, batches = 0, list[dict]()
    for kill_after in sweeps.of((0.15, None), (0.0, 0.15, 0.3, None)):
        land(settings, landed)
        landed += 1
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT, env=clean | own) as process:
            assert process.stdout is not None
            batches.append(json.loads(process.stdout.readline()))  # what waited
            for _ in range(3):
                land(settings, landed)
                landed += 1
                if kill_after is None:
                    batches.append(json.loads(process.stdout.readline()))
                else:
                    time.sleep(kill_after)
            process.kill() if kill_after is not None else process.terminate()
        assert process.returncode == (-9 if kill_after is not None else 128 + 15)
    stored = tables_of(settings).table(SILVER).scan().collect()
    assert stored["id"].sort().to_list() == [*range(landed * 10)]
    assert tables_of(settings).table(BRONZE).count() == landed * 10
    assert all(not batch["failed"] for batch in batches)


# --- monitors


@dataclass(frozen=True)
class Counts(MonitorKind):
    """Says how many rows there are, as soon as it may."""

    may: threading.Event
    asked: "Queue[datetime]"

    word: ClassVar[str] = "counts"

    @property
    def demands(self) -> str:
        """See `MonitorKind.demands`."""
        return "There are rows."

    @property
    def often(self) -> timedelta:
        """See `MonitorKind.often`."""
        return timedelta(minutes=5)

    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        """See `MonitorKind.evaluate`."""
        self.asked.put(watched.now)
        assert self.may.wait(60)
        rows = watched.lakehouse.table(watched.monitor.of).count()
        return [Verdict(passed=rows < 15, text=f"There are {rows} rows.", rows=rows)]


def wait_for(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_monitors_are_evaluated_beside_the_batches_and_hold_none_up(settings, monkeypatch):
    may, asked = threading.Event(), Queue[datetime]()
    watched = monitor("shop.monitors.counts", of=sales, kind=Counts(may, asked))
    lakehouse = open_lakehouse(settings=settings, declarations=(sales_feed, sales, totals, watched), notice=pytest.fail)
    now = [datetime(2026, 3, 2, 8, tzinfo=UTC)]
    monkeypatch.setattr(clock, "now", lambda: now[0])
    batches: list[MicroBatch] = []
    steps = iter(
        [
            lambda: land(settings, 1),  # while the monitor is still evaluated
            may.set,
            lambda: None,
            lambda: now.append(now.pop() + timedelta(minutes=5)),
            lambda: None,
        ]
    )

    def wait(_: float) -> bool:
        step = next(steps, None)
        if step is not None:
            assert wait_for(lambda: not asked.empty()), "it is evaluated at the start"
            if may.is_set():
                for thread in threading.enumerate():
                    if thread.name == "monitors":
                        thread.join(60)
            step()
        return step is None

    land(settings, 0)
    lakehouse.follow(on_batch=batches.append, wait=wait)
    assert [one.rows[SILVER] for one in batches] == [10, 10]
    said = tables_of(settings).table("platform.monitoring.verdicts").scan().sort("sequence").collect()
    own = said.filter(monitor=watched.name)
    assert [*asked.queue] == [datetime(2026, 3, 2, 8, tzinfo=UTC), datetime(2026, 3, 2, 8, 5, tzinfo=UTC)]
    assert own["passed"].to_list() == [False, False], "of the rows then and now"
    assert f"{SILVER}.volume" in said["monitor"].to_list(), "those that tables imply too"
