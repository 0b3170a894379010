"""The landing log is ordered by commits, and its state costs what is new: clocks that step back, states read in parts, cheap ticks."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.ingestion import bronze, feed_hint, file_state, landing, zone
from lakehouse_assets.platform.ingestion.file_state import EVENTS, FeedState
from lakehouse_assets.platform.storage import restore
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.platform.ingestion.orders import Orders


@pytest.fixture
def orders(tmp_path) -> Orders:
    return Orders.under(tmp_path)


@contextmanager
def clock_off(days: float) -> Iterator[None]:
    """Within this, the clock is off by so many days."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", lambda: datetime.now(UTC) + timedelta(days=days))
        yield


# --- the order of commits


def refused_then_read(orders: Orders) -> None:
    (orders.folder / "a.csv").write_bytes(b"")
    orders.run()
    with clock_off(-1):
        orders.write("a.csv", "1,x")
        orders.run()
    assert orders.last("a.csv") == (landing.READ, None)


def read_then_changed(orders: Orders) -> None:
    orders.write("a.csv", "1,x")
    orders.run()
    with clock_off(-1):
        orders.write("a.csv", "1,x", "2,y")
        orders.run()
    assert orders.last("a.csv")[0] == landing.CHANGED


def refused_then_requested(orders: Orders) -> None:
    strict = orders.with_policy(new_columns="refuse")
    strict.write("a.csv", "1,x,blue", header="id,value,colour")
    strict.run()
    with clock_off(-1):
        assert orders.with_policy(new_columns="rescue").ingestion.request_read("a.csv", reread=False, run_id="by hand") == landing.FOUND
        assert orders.last("a.csv")[0] == landing.FOUND
        assert orders.ingestion.waiting() == 1
    with clock_off(-2):
        orders.with_policy(new_columns="rescue").run()
    assert orders.last("a.csv") == (landing.READ, None)


def read_then_reread(orders: Orders) -> None:
    orders.write("a.csv", "1,x")
    orders.run()
    with clock_off(-1):
        orders.ingestion.request_read("a.csv", reread=True, run_id="by hand")
        orders.run()
    with clock_off(-2):
        orders.ingestion.request_read("a.csv", reread=True, run_id="by hand")
        orders.run()
    assert orders.last("a.csv") == (landing.READ, None)
    assert orders.rows() == [("1", "x")]


def read_then_archived(orders: Orders) -> None:
    orders.write("a.csv", "1,x")
    orders.run()
    with clock_off(-1):
        orders.with_policy(archive=True).run()
    assert orders.last("a.csv")[0] == landing.ARCHIVED
    with clock_off(-2):
        orders.write("a.csv", "1,z")
        orders.with_policy(archive=True).run()
    assert orders.rows() == [("1", "x"), ("1", "z")]
    assert {path.name for path in orders.archive.iterdir()} == {"a.csv", "a.2.csv"}


@pytest.mark.parametrize("history", [refused_then_read, read_then_changed, refused_then_requested, read_then_reread, read_then_archived])
def test_a_clock_that_steps_back_changes_nothing(orders, history):
    history(orders)
    assert orders.ingestion.waiting() == 0
    assert orders.run() == []
    # Also for a process that reads the log for the first time, and for the list of files.
    landing._states.clear()
    assert orders.ingestion.waiting() == 0
    row = landing.journal(orders.ingestion.log, "orders", "a.csv").row(-1, named=True)
    last = orders.last("a.csv")[0]
    assert last == (landing.ARCHIVED if row["archived_at"] else row["outcome"] or row["event"])


def test_an_outcome_that_changed_when_a_batch_was_taken_up_counts_though_the_clock_stepped_back(orders, monkeypatch):
    orders.write("a.csv", "1,x")
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(bronze, "append_stream", raising)
        orders.run()
    assert orders.last("a.csv")[0] == landing.READ
    (orders.folder / "a.csv").unlink()
    with clock_off(-1):
        orders.run()
    assert orders.last("a.csv")[0] == landing.REFUSED
    assert orders.ingestion.bronze.count() == 0


def raising(*_: object, **__: object) -> None:
    raise RuntimeError


def test_events_are_numbered_by_feed_in_the_order_of_their_commits_without_a_gap(orders):
    for number in range(3):
        orders.write(f"{number}.csv", f"{number},x")
        with clock_off(-number):
            orders.run()
    events = orders.ingestion.log.scan().collect().sort("event_number")
    assert events["event_number"].to_list() == list(range(1, 7))
    assert events["event"].to_list() == ["found", "read"] * 3
    assert events["path"].to_list() == [f"{number}.csv" for number in range(3) for _ in range(2)]


def test_a_request_by_hand_is_not_lost_to_a_discovery_of_as_many_files(orders):
    """Both give the next number; the one that comes second must not take the other's number for its own."""
    (orders.folder / "bad.csv").write_bytes(b"")
    orders.run()
    known = orders.ingestion.state()
    orders.write("new.csv", "1,x")
    orders.ingestion.discover("run")
    (orders.folder / "bad.csv").write_text("id,value\n2,y\n")
    row = {"path": "bad.csv", "event": landing.FOUND, "size": 5, "content_hash": "1"}
    with pytest.raises(landing.CursorMoved):
        landing._number(orders.ingestion.log, orders.ingestion.feed, [row], known, "by hand")
    orders.ingestion.request_read("bad.csv", reread=False, run_id="by hand")
    assert sorted(orders.run()) == [("bad.csv", 1), ("new.csv", 1)]


# --- the state, read in parts

EVENT_NAMES = [
    landing.FOUND,
    landing.REREAD,
    landing.DUPLICATE,
    landing.CHANGED,
    landing.IGNORED,
    landing.TOUCHED,
    landing.READ,
    landing.REFUSED,
    landing.ARCHIVED,
]
_HISTORIES = st.lists(st.tuples(st.sampled_from(EVENT_NAMES), st.sampled_from("abc"), st.sampled_from("xyz"), st.booleans()), max_size=14)


def events_of(history: list[tuple[str, str, str, bool]]) -> pl.DataFrame:
    """Events in the order of their numbers: outcomes and moves belong to the last number of the path."""
    last: dict[str, int] = {}
    rows = []
    for number, (event, path, content, flag) in enumerate(history, 1):
        if event in {landing.READ, landing.REFUSED, landing.ARCHIVED}:
            if path not in last:
                continue
        else:
            last[path] = max(last.values(), default=0) + 1
        at = datetime(2024, 1, 1, tzinfo=UTC) - timedelta(days=number)
        rows.append((path, last[path], number, event, None, 1, 1 if flag else None, at, content, at))
    return pl.DataFrame(rows, schema=EVENTS, orient="row")


@given(history=_HISTORIES, cut=st.integers(0, 14), turned=st.booleans())
@settings(max_examples=150, deadline=None)
def test_events_applied_in_parts_and_in_any_order_give_the_state_of_all_at_once(history, cut, turned):
    events = events_of(history)
    whole = FeedState.empty().apply(events.reverse() if turned else events)
    parts = FeedState.empty().apply(events.head(cut)).apply(events.tail(-cut) if cut else events)
    assert_frame_equal(parts.discoveries, whole.discoveries)
    assert_frame_equal(parts.latest.sort("path"), whole.latest.sort("path"))
    assert parts.of_paths(list("abc")) == whole.of_paths(list("abc"))
    assert_frame_equal(parts.ingested_contents(), whole.ingested_contents())
    assert whole.latest["event_number"].to_list() == [
        events.filter(pl.col("path") == path)["event_number"].max() for path in whole.latest["path"]
    ]


def test_a_process_reads_each_event_once(orders, monkeypatch):
    for number in range(5):
        orders.write(f"{number}.csv", f"{number},x")
    orders.run()
    orders.ingestion.state()
    applied = []
    apply = FeedState.apply
    monkeypatch.setattr(file_state.FeedState, "apply", lambda self, events: applied.append(events.height) or apply(self, events))
    assert orders.ingestion.waiting() == 0
    landing.latest(orders.ingestion.log)
    assert applied == []
    orders.write("new.csv", "9,x")
    orders.run()
    assert orders.ingestion.waiting() == 0
    assert applied == [1, 1]


def test_a_log_that_was_made_again_is_read_from_its_start(orders, tmp_path):
    orders.write("a.csv", "1,x")
    orders.run()
    (tmp_path / "tables" / "platform").rename(tmp_path / "tables" / "old")
    orders.write("b.csv", "2,y")
    ingestion = orders.ingestion
    landing.discover(ingestion.log, ingestion.zone, ingestion.feed, "run")
    assert orders.ingestion.state().discoveries["path"].to_list() == ["a.csv", "b.csv"]
    assert orders.events("b.csv") == ["found"]


# --- what a tick costs


def old(orders: Orders) -> None:
    """Give the folders a time from which on a change of theirs can be told."""
    for folder in (orders.folder, *(path for path in orders.folder.rglob("*") if path.is_dir())):
        os.utime(folder, (1_600_000_000, 1_600_000_000))


@pytest.fixture
def listings(monkeypatch) -> list[str]:
    """What was listed."""
    taken: list[str] = []
    listing = zone.LocalZone.listing
    monkeypatch.setattr(zone.LocalZone, "listing", lambda self: taken.append(self.folder.name) or listing(self))
    return taken


@pytest.fixture
def idle(orders, listings) -> Orders:
    """Twenty files that are read, and a tick that saw it."""
    for number in range(20):
        orders.write(f"deep/{number:02}.csv", f"{number},x", at=1_600_000_000 + number)
    orders.run()
    old(orders)
    assert orders.ingestion.waiting() == 0
    listings.clear()
    return orders


def test_a_folder_in_which_nothing_changed_is_not_listed_again(idle, listings):
    assert idle.ingestion.waiting() == 0
    assert listings == []


def add(orders: Orders) -> None:
    orders.write("deep/new.csv", "1,new")


def add_in_a_new_folder(orders: Orders) -> None:
    orders.write("deep/deeper/new.csv", "1,new")


def change_the_newest_in_place(orders: Orders) -> None:
    orders.write("deep/19.csv", "1,new", "2,new")


def rename_over_an_old_one(orders: Orders) -> None:
    orders.write("new.part", "1,new").rename(orders.folder / "deep/00.csv")


def request(orders: Orders) -> None:
    orders.ingestion.request_read("deep/03.csv", reread=True, run_id="by hand")


@pytest.mark.parametrize("change", [add, add_in_a_new_folder, change_the_newest_in_place, rename_over_an_old_one, request])
def test_what_changes_is_noticed_by_the_next_tick(idle, change):
    change(idle)
    assert idle.ingestion.waiting() == 1


def test_an_old_file_that_changed_in_place_is_noticed_when_the_folder_is_listed_again_and_by_every_run(idle, monkeypatch):
    idle.write("deep/00.csv", "1,new", "2,new")
    monkeypatch.setattr(feed_hint, "LIST_AGAIN_SECONDS", 0.0)
    assert idle.ingestion.waiting() == 1
    monkeypatch.undo()
    assert idle.ingestion.discover("run") == 1


def test_a_folder_that_changed_just_now_is_listed_again(idle, listings):
    """Two files may come within one step of the file system's clock."""
    add(idle)
    idle.run()
    listings.clear()
    assert idle.ingestion.waiting() == 0
    assert idle.ingestion.waiting() == 0
    assert len(listings) == 2


def test_a_folder_that_appears_later_is_noticed(tmp_path):
    orders = Orders.under(tmp_path)
    orders.folder.rmdir()
    assert orders.ingestion.waiting() == 0
    assert orders.ingestion.waiting() == 0
    orders.write("a.csv", "1,x")
    assert orders.ingestion.waiting() == 1


def test_a_table_that_was_restored_makes_its_files_pending(idle):
    version = idle.ingestion.bronze.version()
    add(idle)
    idle.run()
    old(idle)
    assert idle.ingestion.waiting() == 0
    plan = restore.plan(idle.ingestion.bronze, version)
    restore.restore(idle.ingestion.bronze, version, "by hand", plan.cursors)
    assert idle.ingestion.waiting() == 1


# --- files that are still being written


def test_a_file_that_was_modified_just_now_does_not_start_a_run(tmp_path):
    orders = Orders.under(tmp_path, settle_seconds=600)
    orders.write("a.csv", "1,x")
    orders.write("old.csv", "2,y", at=1_600_000_000)
    orders.write("from the future.csv", "3,z", at=time.time() + 86_400)
    assert sorted(orders.ingestion.pending()["path"]) == ["from the future.csv", "old.csv"]


def test_a_run_waits_for_a_file_that_was_modified_just_now(tmp_path):
    orders = Orders.under(tmp_path, settle_seconds=0.3)
    orders.write("a.csv", "1,x")
    assert orders.run() == [("a.csv", 1)]
    assert time.time() - (orders.folder / "a.csv").stat().st_mtime >= 0.3


def test_a_file_that_goes_on_growing_is_left_for_a_later_run(tmp_path, monkeypatch):
    orders = Orders.under(tmp_path, settle_seconds=0.3)
    growing = orders.write("growing.csv", "1,x")
    orders.write("whole.csv", "2,y")
    sleep = time.sleep

    def write_meanwhile(seconds: float) -> None:
        sleep(seconds)
        with growing.open("a") as file:
            file.write("3,z\n")

    monkeypatch.setattr(landing.time, "sleep", write_meanwhile)
    assert orders.run() == [("whole.csv", 1)]
    monkeypatch.undo()
    assert orders.run() == [("growing.csv", 2)]


# --- what became of the files


def test_the_files_whose_last_event_is_one_of_some(orders):
    (orders.folder / "bad.csv").write_bytes(b"")
    orders.write("changed.csv", "1,x")
    orders.write("good.csv", "2,x")
    orders.run()
    orders.write("changed.csv", "1,y", "2,y")
    orders.run()

    def paths(*events: str) -> list[str]:
        return sorted(landing.latest(orders.ingestion.log, events)["path"])

    assert paths(landing.REFUSED, landing.CHANGED) == ["bad.csv", "changed.csv"]
    assert paths(landing.ARCHIVED) == paths() == []
    assert sorted(landing.latest(orders.ingestion.log)["path"]) == ["bad.csv", "changed.csv", "good.csv"]


def test_a_log_that_is_not_there_has_no_files(tmp_path):
    log = Lakehouse(str(tmp_path)).table(landing.LOG)
    assert landing.latest(log).is_empty()
    assert landing.journal(log).is_empty()
    assert landing.state(log, "orders").discoveries.is_empty()
