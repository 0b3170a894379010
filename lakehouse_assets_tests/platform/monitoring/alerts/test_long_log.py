"""A tick of alerts reads what was logged lately, and knows every alert that is open, however long ago it was told.

What is read is told by files that are taken away: who needs them fails.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from lakehouse_assets.platform.declarations.monitors import AlertRule
from lakehouse_assets.platform.monitoring.alerts.log import ALERT_ID, LOG, RECENT, AlertLog, Snapshot, open_ids
from lakehouse_assets.platform.monitoring.alerts.signals import Reading, Signal
from lakehouse_assets.platform.monitoring.alerts.take import take
from lakehouse_assets.platform.monitoring.checkpoints import EVERY
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.platform_tables import BY_DAY
from lakehouse_assets.platform.storage.retention import delete_before

START = datetime(2025, 1, 1, tzinfo=UTC)
RULES = {"step:waits": AlertRule(consecutive=3), "step:long": AlertRule(cool_down=timedelta(days=9_999))}


@dataclass(frozen=True)
class Given:
    """Signals that are given."""

    signals: list[Signal]
    name: str = "given"

    def read(self, watermark, now) -> Reading:
        return Reading(self.signals)


def tick(log: AlertLog, day: int, **is_bad: bool) -> list[tuple[str, str]]:
    """A tick of a day with what is bad and what is not."""
    at = START + timedelta(days=day)
    signals = [
        Signal(f"step:{name}", is_bad=bad, at=at, text=f"day {day}", window=at, rule=RULES.get(f"step:{name}", AlertRule()))
        for name, bad in is_bad.items()
    ]
    return [(one.key, one.event) for one in take(log, [Given(signals)], at, logging.getLogger("test")).entries]


def test_a_tick_reads_what_was_logged_lately_and_misses_no_open_alert(tmp_path):
    lake = Lakehouse(str(tmp_path))
    log = AlertLog(lake)
    assert tick(log, 0, long=True, waits=True) == [("step:long", "opened"), ("step:waits", "pending")]
    assert tick(log, 1, waits=True) == [("step:waits", "pending")]
    for day in range(2, EVERY + 12):
        assert len(tick(log, day, daily=day % 2 == 0)) == 1
    whole = Snapshot(lake.table(LOG).now())
    files = sorted(Path(lake.table(LOG).uri).rglob("*.parquet"), key=lambda file: file.stat().st_mtime_ns)
    assert log.snapshot().last() == whole.last()
    known, listed = whole.last(), [one for one in log.alerts() if one["is_open"]]
    recent = log.alerts(limit=RECENT)
    assert recent == log.alerts()[:RECENT]
    for file in files[:-16]:
        file.unlink()
    assert log.snapshot().last() == known
    assert [one["key"] for one in listed] == ["step:long"]
    assert log.alerts(open_only=True) == listed
    assert log.alerts(limit=RECENT) == recent
    assert log.alerts(limit=3) == recent[:3]
    assert tick(log, EVERY + 12, long=True) == [], "it is open"
    assert tick(log, EVERY + 12, waits=True) == [("step:waits", "opened")], "the third bad one"
    assert tick(log, EVERY + 13, long=False) == [("step:long", "resolved")]
    assert tick(log, EVERY + 14) == []
    assert {one["key"] for one in log.alerts(open_only=True)} == {"step:waits"}
    assert lake.table(LOG).scan().filter(pl.col("sequence") > EVERY + 13).collect().height == 2


def test_what_retention_deleted_is_gone_whatever_the_checkpoint_has(tmp_path):
    lake = Lakehouse(str(tmp_path))
    log, table = AlertLog(lake), lake.table(LOG)
    tick(log, 0, long=True, waits=True, over=True)
    tick(log, 1, over=False)
    for day in range(2, EVERY + 12):
        tick(log, day, daily=day % 2 == 0)
    assert {"step:over", "step:waits", "step:long"} < {*log.snapshot().last()}
    assert delete_before(table, (START + timedelta(days=40)).date(), "run", BY_DAY[LOG], (ALERT_ID, open_ids)) > 40
    for until in (EVERY + 12, EVERY + 16, 2 * EVERY + 18):
        for later in range(day + 1, until):
            tick(log, later, daily=later % 2 == 0)
        day = until - 1
        known = log.snapshot().last()
        assert known == Snapshot(table.now()).last()
        assert {*known} == {"step:long", "step:daily"}, "an alert that is open stays"
        assert [one["key"] for one in log.alerts(open_only=True) if one["key"] != "step:daily"] == ["step:long"]
    assert tick(log, day + 1, waits=True) == [("step:waits", "pending")], "the first bad one that is known"
    assert tick(log, day + 2, long=False) == [("step:long", "resolved")]
