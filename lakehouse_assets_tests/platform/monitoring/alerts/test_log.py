"""The log of alerts: events and watermarks are one commit, the second of two writers at once is refused, in a bucket too."""

import logging
import threading
from datetime import UTC, datetime

import pytest

from lakehouse_assets.platform.monitoring.alerts.log import COLUMNS, DELIVERIES_COLUMNS, DELIVERIES_SCHEMA, LOG, SCHEMA, AlertLog
from lakehouse_assets.platform.monitoring.alerts.machine import Entry, advance
from lakehouse_assets.platform.monitoring.alerts.signals import Reading, Signal
from lakehouse_assets.platform.monitoring.alerts.take import take
from lakehouse_assets.platform.storage.commit import Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.running import tables_of

NOW = datetime(2024, 3, 1, tzinfo=UTC)
LOGGER = logging.getLogger("test")


@pytest.fixture(params=["disk", "bucket"])
def log(request, settings) -> AlertLog:
    if request.param == "disk":
        return AlertLog(tables_of(settings))
    return AlertLog(Lakehouse(f"{request.getfixturevalue('bucket')}/tables"))


def entries(log: AlertLog, *keys: str) -> list[Entry]:
    snapshot = log.snapshot()
    return advance(snapshot.last(), [Signal(key, is_bad=True, at=NOW, text="text") for key in keys], snapshot.sequence)


def add(log: AlertLog, made: list[Entry], *cursors: Cursor, sequence: int = 0) -> None:
    log.append(made, cursors, lambda _: ["log"], NOW, sequence)


def test_a_commit_has_events_and_watermarks_and_is_taken_once(log):
    made = entries(log, "step:a", "step:b")
    add(log, made, Cursor("source", None, 7))
    for cursors in ((Cursor("source", None, 7),), (Cursor("source", None, 9),), ()):
        with pytest.raises(CursorMoved):
            add(log, made, *cursors)
    snapshot = log.snapshot()
    assert (snapshot.watermark("source"), snapshot.sequence) == (7, 2)
    assert list(snapshot.last().values()) == made
    assert [one.entry for one in snapshot.told_since(NOW)] == made
    add(log, [], Cursor("source", 7, 9))
    with pytest.raises(CursorMoved):
        add(log, [], Cursor("source", 7, 9))
    assert (log.snapshot().watermark("source"), log.snapshot().sequence) == (9, 2)
    add(log, entries(log, "step:c"), Cursor("source", 9, 2), sequence=2)
    assert log.snapshot().watermark("source") == 2, "a source may begin anew"


class Counted:
    """A source with numbers up to 20, of which each is a signal of its own, that is read three at a time."""

    name = "numbers"

    def __init__(self) -> None:
        self.begun = threading.Barrier(4)

    def read(self, watermark, now) -> Reading:
        before = watermark("numbers")
        first = 1 if before is None else before + 1
        numbers = range(first, min(first + 3, 21))
        if not numbers:
            return Reading()
        signals = [Signal(f"step:{number}", is_bad=True, at=NOW, text="text") for number in numbers]
        return Reading(signals, [Cursor("numbers", before, numbers[-1])])


def test_of_many_at_once_each_signal_is_consumed_once(log):
    failures: list[Exception] = []

    def work() -> None:
        try:
            source.begun.wait(60)
            while take(log, [source], NOW, LOGGER).entries:
                pass
        except Exception as error:  # noqa: BLE001 shown below
            failures.append(error)

    source = Counted()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    rows = log.lakehouse.table(LOG).scan().sort("sequence").collect()
    assert rows["sequence"].to_list() == list(range(1, 21))
    assert sorted(rows["key"]) == sorted(f"step:{number}" for number in range(1, 21))
    assert rows["alert_id"].n_unique() == 20


def test_each_column_is_described():
    assert list(COLUMNS) == SCHEMA.names()
    assert list(DELIVERIES_COLUMNS) == DELIVERIES_SCHEMA.names()
