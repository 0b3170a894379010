"""What the state of a monitor calls failed has an alert open: in whatever windows and slices it failed, whenever alerts are read first."""

import itertools
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakehouse_assets import Drift
from lakehouse_assets.platform.declarations.monitors import AlertRule, Monitor, monitor
from lakehouse_assets.platform.monitoring import checkpoints, judgements, verdicts
from lakehouse_assets.platform.monitoring.alerts.log import AlertLog
from lakehouse_assets.platform.monitoring.alerts.machine import Entry
from lakehouse_assets.platform.monitoring.alerts.sources.verdicts import Verdicts
from lakehouse_assets.platform.monitoring.alerts.take import take
from lakehouse_assets.platform.quality.monitors import Verdict
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

LOGGER = logging.getLogger("test")
NOW = datetime.now(UTC)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
CITY = {"slice_key": "kind", "slice_value": "city"}
Window = tuple[bool | None, bool | None]
"""Whether the column is well, and its slice; None: too few rows to be tested."""
WINDOWS: list[Window] = list(itertools.product((True, False, None), repeat=2))
Evaluation = Sequence[tuple[int, Window]]
"""The windows that are judged together, by their day."""


def watching(number: int, **rule: int) -> Monitor:
    kind = Drift("at")
    return monitor(f"shop.monitors.m{number}", of="shop.silver.sales", kind=kind, severity="error", alert=AlertRule(**rule))


def verdicts_of(day: int, window: Window) -> list[Verdict]:
    begin = BEGIN + timedelta(days=day)
    about: dict[str, Any] = {"window_start": begin, "window_end": begin + timedelta(days=1), "granularity": "1d", "rows": 100}
    return [
        Verdict(good, f"day {day}", column_name="amount", **about, **part)
        for good, part in zip(window, ({}, CITY), strict=True)
        if good is not None
    ]


class Shop:
    """A lakehouse of which nothing is known but what monitors said."""

    def __init__(self, folder: str, monitors: Sequence[Monitor]) -> None:
        self.lakehouse, self.monitors, self.said = Lakehouse(folder), monitors, 0
        self.source = Verdicts(self.lakehouse, {one.name: one.alert for one in monitors}, monitors)

    def say(self, said: Sequence[Evaluation], ago: timedelta = timedelta(0)) -> None:
        """What each monitor says of some windows, in a commit."""
        self.said += 1
        at = NOW - ago + timedelta(minutes=self.said)
        told = [[one for day, window in windows for one in verdicts_of(day, window)] for windows in said]
        pairs = zip(self.monitors, told, strict=True)
        judgements.add(self.lakehouse, [judgements.Judgement(one, "id", self.said, at, "run", of) for one, of in pairs])

    def take(self) -> Sequence[Entry]:
        return take(AlertLog(self.lakehouse), [self.source], NOW, LOGGER).entries

    @property
    def failed(self) -> set[str]:
        return {name for name, rows in verdicts.latest(self.lakehouse, self.monitors).items() if verdicts.state_of(rows) == verdicts.FAILED}

    @property
    def open(self) -> Mapping[str, Entry]:
        return {one.key: one for one in AlertLog(self.lakehouse).snapshot().open_alerts()}

    @property
    def alerted(self) -> set[str]:
        """The monitors with an alert."""
        return {key.split(":")[1] for key in self.open}

    @property
    def stand(self) -> dict[str, tuple[Any, ...]]:
        return {key: (one.event, one.window, one.bad_windows, one.good_windows) for key, one in self.open.items()}


@pytest.mark.parametrize("resolve_after", [1, 2, 3])
def test_what_is_failed_has_an_alert_whenever_alerts_are_read_first(tmp_path, resolve_after):
    """Each three windows of a column and its slice: judged at once and then told, or judged and told one by one."""
    histories = list(itertools.product(WINDOWS, repeat=3))
    monitors = [watching(number, resolve_after=resolve_after) for number in range(len(histories))]
    at_once, one_by_one = Shop(f"{tmp_path}/at_once", monitors), Shop(f"{tmp_path}/one_by_one", monitors)
    at_once.say([list(enumerate(windows)) for windows in histories])
    told = at_once.take()
    for day in range(3):
        one_by_one.say([[(day, windows[day])] for windows in histories])
        one_by_one.take()
        assert one_by_one.failed <= one_by_one.alerted
    assert at_once.failed
    assert at_once.failed <= at_once.alerted
    assert at_once.failed == one_by_one.failed
    assert at_once.stand == one_by_one.stand
    assert {one.event for one in told} <= {"opened", "recovering", "relapsed"}, "what once was is not told"
    opened = [one.key for one in told if one.event == "opened"]
    assert len(opened) == len(set(opened))


@pytest.mark.parametrize("listens_from", [0, 1, 3, 5])
def test_windows_that_are_judged_again_or_late_leave_no_failure_without_an_alert(tmp_path, listens_from):
    drawn = random.Random(20)
    count, days, evaluations = 200, 5, 5
    monitors = [watching(number, resolve_after=1 + number % 3) for number in range(count)]
    shop = Shop(f"{tmp_path}/shop", monitors)
    for number in range(evaluations):
        said = []
        for _ in monitors:
            # A window that is judged again is tested again.
            chosen = sorted(drawn.sample(range(days), drawn.randint(0, 3)))
            said.append([(day, drawn.choice(WINDOWS)) for day in chosen])
        shop.say(said)
        if number >= listens_from:
            shop.take()
            assert shop.failed <= shop.alerted
    shop.take()
    assert shop.failed <= shop.alerted


ALONE: list[Window] = [(True, None), (False, None), (None, None)]


@pytest.mark.parametrize("resolve_after", [1, 2])
def test_what_is_well_resolves_nothing_where_a_newer_window_is_bad_as_before(tmp_path, resolve_after):
    """Three windows, and again two of them together with a newer one."""
    firsts = [first for first in itertools.product(ALONE, repeat=3) if [good for good, _ in first if good is not None][-1:] == [False]]
    histories = list(itertools.product(firsts, itertools.product(ALONE, repeat=3)))
    monitors = [watching(number, resolve_after=resolve_after) for number in range(len(histories))]
    shop = Shop(f"{tmp_path}/shop", monitors)
    shop.say([list(enumerate(first)) for first, _ in histories])
    shop.take()
    opened = shop.open
    shop.say([list(enumerate(again, 1)) for _, again in histories])
    told: dict[str, list[str]] = {}
    for entry in shop.take():
        told.setdefault(entry.key, []).append(entry.event)
    still = 0
    for one, (first, again) in zip(monitors, histories, strict=True):
        before = dict(enumerate(good for good, _ in first))
        after = before | {day: good for day, (good, _) in enumerate(again, 1) if good is not None}
        newest = max(day for day, good in before.items() if good is not None)
        if all(after[day] is not True for day in after if day >= newest):  # what is well after it is the end of a failure
            still += 1
            assert "resolved" not in told.get(f"monitor:{one.name}:amount", []), (first, again)
            assert shop.open[f"monitor:{one.name}:amount"].alert_id == opened[f"monitor:{one.name}:amount"].alert_id
    assert still
    assert shop.failed <= shop.alerted


def test_a_failure_from_long_ago_that_still_holds_is_told_and_one_that_is_over_is_not(tmp_path):
    shop = Shop(f"{tmp_path}/shop", [watching(1), watching(2)])
    shop.say([[(0, (False, False))], [(0, (False, None))]], ago=timedelta(days=40))
    shop.say([[], [(1, (True, None))]], ago=timedelta(days=39))
    assert [(one.key, one.event) for one in shop.take()] == [("monitor:shop.monitors.m1:amount", "opened")]
    assert shop.failed == {"shop.monitors.m1"}


def test_what_is_declared_counts_at_the_first_reading_too(tmp_path):
    """So many windows in a row have to be bad, and so many well, also where all are read at once."""
    shop = Shop(f"{tmp_path}/shop", [watching(1, consecutive=2), watching(2, consecutive=3), watching(3, resolve_after=3)])
    bad, well = (False, None), (True, None)
    shop.say([[(0, bad), (1, bad)], [(0, bad), (1, bad)], [(0, bad), (1, well), (2, well)]])
    shop.take()
    assert {key.split(":")[1]: one.event for key, one in shop.open.items()} == {
        "shop.monitors.m1": "opened",
        "shop.monitors.m3": "recovering",
    }
    shop.say([[(2, bad)], [(2, bad)], [(3, well)]])
    assert [(one.key.split(":")[1], one.event) for one in shop.take()] == [
        ("shop.monitors.m2", "opened"),
        ("shop.monitors.m3", "resolved"),
    ]


def test_a_kind_that_judges_all_each_time_is_as_its_newest_window_is(tmp_path):
    """As of the kinds that say all windows in each judgement."""

    class AllWindows(Drift):
        judges_changes = False

    monitors = [replace(watching(number), kind=AllWindows("at")) for number in range(len(WINDOWS) ** 2)]
    shop = Shop(f"{tmp_path}/shop", monitors)
    shop.say([list(enumerate(windows)) for windows in itertools.product(WINDOWS, repeat=2)])
    shop.take()
    assert shop.failed <= shop.alerted


def test_with_a_checkpoint_the_state_is_as_without(tmp_path, monkeypatch):
    """A slice that failed with its column is over with it, also after many commits about others."""
    shop = Shop(f"{tmp_path}/shop", [watching(1), watching(2)])
    shop.say([[(0, (False, False))], []])
    shop.say([[(1, (False, None))], []])
    shop.say([[(2, (True, None))], [(0, (True, None))]])
    log = shop.lakehouse.table(verdicts.TABLE).scan().collect()
    counting = verdicts._counting(log.lazy())
    of_all, of_counting = (verdicts.holding(rows, shop.monitors) for rows in (log.lazy(), verdicts._counting(counting)))
    assert {name: verdicts.state_of(rows) for name, rows in of_all.items()} == {one.name: "passed" for one in shop.monitors}
    assert of_counting == of_all


def test_a_reader_behind_a_checkpoint_knows_what_was_bad_when_it_read_last(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY", 1)
    shop = Shop(f"{tmp_path}/shop", [watching(1, resolve_after=1)])
    well, bad = (True, None), (False, None)
    shop.say([[(0, bad)]])
    shop.take()
    shop.say([[(2, bad)]])
    shop.take()
    shop.say([[(1, well), (2, bad)]])
    shop.say([[(day, well) for day in range(3, 4 + verdicts.SHOWN)]])
    assert [(one.event, one.window) for one in shop.take()] == [("resolved", BEGIN + timedelta(days=3))]
