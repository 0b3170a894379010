"""The log of alerts: events and watermarks are one commit, the second of two writers at once is refused, in a bucket too."""

import logging
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from deltalake import CommitProperties, Transaction

from lakehouse_assets.platform.declarations.monitors import AlertRule
from lakehouse_assets.platform.monitoring.alerts import delivery_log
from lakehouse_assets.platform.monitoring.alerts.log import COLUMNS, LOG, SCHEMA, AlertLog, open_ids
from lakehouse_assets.platform.monitoring.alerts.machine import Entry, advance
from lakehouse_assets.platform.monitoring.alerts.signals import Reading, Signal
from lakehouse_assets.platform.monitoring.alerts.take import take, why_source_is_over
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
    assert [one.entry for one in snapshot.notified_since(NOW)] == made
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


@dataclass(frozen=True)
class Given:
    """One signal that is given."""

    signal: Signal
    name: str = "given"

    def read(self, watermark, now) -> Reading:
        return Reading([self.signal])


# As the first release with alerts had it.
FIRST_SCHEMA = {name: dtype for name, dtype in SCHEMA.items() if name not in {"good_windows", "notified_at", "resolve_after"}}


def test_a_log_of_the_first_release_goes_on(tmp_path):
    log, rule = AlertLog(Lakehouse(str(tmp_path))), AlertRule(resolve_after=2, cool_down=timedelta(hours=5))
    [opened] = entries(log, "step:a")
    table = log.lakehouse.table(LOG)
    table.create(FIRST_SCHEMA, description="text")
    row = asdict(opened) | {"sinks": ["log"], "logged_at": NOW}
    frame = pl.DataFrame([{name: row[name] for name in FIRST_SCHEMA}], schema=FIRST_SCHEMA)
    table.write(None, lambda delta: table.write_rows(delta, frame, CommitProperties(app_transactions=[Transaction("entries", 1)])))
    assert [one["key"] for one in log.alerts(open_only=True)] == ["step:a"]
    assert open_ids(table.now()) == [opened.alert_id]

    def tick(hours: int, is_bad: bool) -> list[str]:
        signal = Signal("step:a", is_bad, NOW + timedelta(hours=hours), "text", rule=rule)
        return [entry.event for entry in take(log, [Given(signal)], signal.at, LOGGER).entries]

    assert tick(1, is_bad=True) == [], "it was said an hour ago"
    assert tick(6, is_bad=True) == ["repeated"]
    assert [tick(7, is_bad=False), tick(8, is_bad=False)] == [["recovering"], ["resolved"]]
    assert [one.entry.good_windows for one in log.snapshot().notified_since(NOW)] == [0, 0, 2]


def test_an_alert_that_recovers_is_shown_as_people_were_told_with_how_many_windows_are_good(tmp_path):
    log, rule = AlertLog(Lakehouse(str(tmp_path))), AlertRule(resolve_after=3)
    for hours, (is_bad, good) in enumerate([(True, 0), (False, 1), (False, 2), (True, 0), (False, 1)]):
        signal = Signal("step:a", is_bad, NOW + timedelta(hours=hours), "bad" if is_bad else "well", rule=rule)
        take(log, [Given(signal)], signal.at, LOGGER)
        [shown] = log.alerts(open_only=True)
        assert (shown["event"], shown["text"], shown["good_windows"], shown["is_open"]) == ("opened", "bad", good, True)
        assert shown["resolve_after"] == (3 if good else None)
        assert log.alerts() == [shown]


class Flaky:
    """A source that cannot be read at times."""

    def __init__(self, name: str, reads: Iterable[bool]) -> None:
        self.name, self._reads = name, iter(reads)

    def read(self, watermark, now) -> Reading:
        if not next(self._reads):
            raise OSError("database is locked")
        return Reading()


def test_a_source_that_fails_once_is_no_alert_and_one_that_is_gone_leaves_none_open(tmp_path):
    log = AlertLog(Lakehouse(str(tmp_path)))

    def tick(source: Flaky, second: int) -> list[str]:
        taken = take(log, [source], NOW + timedelta(seconds=second), LOGGER, why_over=lambda alert: why_source_is_over(alert, [source]))
        return [entry.event for entry in taken.entries if entry.event in ("opened", "resolved")]

    by_turns = Flaky("a file", [False, True] * 5)
    assert [tick(by_turns, second) for second in range(10)] == [[]] * 10
    broken = Flaky("a file", [False, False, False, True, False, True, True, False, False, False])
    assert [tick(broken, second) for second in range(10)] == [[], [], ["opened"], [], [], [], ["resolved"], [], [], ["opened"]]
    assert tick(Flaky("another file", [True]), 20) == ["resolved"]
    assert log.alerts(open_only=True) == []


def test_each_column_is_described():
    assert list(COLUMNS) == SCHEMA.names()
    assert list(delivery_log.COLUMNS) == delivery_log.SCHEMA.names()
