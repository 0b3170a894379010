"""What drift says is said once, of windows that are over, whatever dies in between and however much it is."""

import logging
import os
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from lakehouse_assets import Drift, monitor
from lakehouse_assets.platform.declarations.monitors import AlertRule, Monitor
from lakehouse_assets.platform.monitoring import verdicts
from lakehouse_assets.platform.monitoring.alerts.log import AlertLog
from lakehouse_assets.platform.monitoring.alerts.sources.verdicts import Verdicts
from lakehouse_assets.platform.monitoring.alerts.take import take
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.monitoring.accuracy.judging import evaluation
from lakehouse_assets_tests.platform.monitoring.drift.test_profile_tables import BASE, LATER, SCHEMA, START, rows
from lakehouse_assets_tests.platform.pipeline.orders import dying

NAME = "shop.silver.orders"
WATCHED = monitor("shop.monitors.moved", of=NAME, kind=Drift("at", against=f"{NAME}@1"))
DAY = timedelta(days=1)


def orders(lake: Lakehouse) -> Table:
    """A table whose first version is the baseline."""
    table = lake.table(NAME)
    table.create(SCHEMA, ("day",))
    table.append(BASE)
    return table


def said(lake: Lakehouse) -> list[tuple]:
    """The verdicts that are stored."""
    stored = lake.table(verdicts.TABLE).scan().collect()
    return sorted(stored.select("window_start", "column_name", "slice_value", "passed", "text").rows(), key=repr)


def told(lake: Lakehouse, watched: Monitor, now) -> list[tuple[str, str]]:
    """What alerts say after an evaluation."""
    evaluation(lake, now).run([watched])
    source = Verdicts(lake, {watched.name: watched.alert})
    return [(entry.key, entry.event) for entry in take(AlertLog(lake), [source], now, logging.getLogger("test")).entries]


def carry_out(order: dict[str, Any]) -> int:
    """An evaluation in a fork, which kills itself before or after one of its commits; how many these were."""
    with dying(order["at"], order["when"], lambda: os.kill(os.getpid(), signal.SIGKILL)) as commits:
        evaluation(Lakehouse(order["root"]), LATER).run([WATCHED])
    return commits()


def test_verdicts_of_an_evaluation_that_was_killed_are_said_by_the_next_one(tmp_path, forks):
    whole = Lakehouse(str(tmp_path / "whole"))
    orders(whole).append(pl.concat([rows([1, 2]), rows([3], 3, 100)]))
    shutil.copytree(whole.root, tmp_path / "before")
    last = forks[0](sys.modules[__name__], root=whole.root, at=0, when="after").result
    assert any(passed is False for *_, passed, _ in said(whole))
    # The last commits are those of drift, of profiles and of verdicts; before them baselines are cached.
    everywhere = [(at, when) for at in range(1, last + 1) for when in ("before", "after")]
    for at, when in sweeps.of([(last - 2, "after"), (last, "before"), (last, "after")], everywhere):
        killed = Lakehouse(str(tmp_path / f"{when} {at}"))
        shutil.copytree(tmp_path / "before", killed.root)
        assert forks[0](sys.modules[__name__], root=killed.root, at=at, when=when).signal == signal.SIGKILL
        for _ in range(2):
            evaluation(killed, LATER).run([WATCHED])
            assert said(killed) == said(whole)


def test_two_evaluations_of_two_versions_at_once_say_all_and_end_with_no_error(tmp_path):
    lake = Lakehouse(str(tmp_path))
    table = orders(lake)
    for day in range(1, 4):
        table.append(rows([day], day, 100 if day == 2 else 1))
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(evaluation(lake, LATER).run, [WATCHED])
            table.append(rows([day + 10], day))
            second = pool.submit(evaluation(lake, LATER).run, [WATCHED])
            assert not [one.error for done in (first, second) for one in done.result()[0].verdicts if one.error]
    evaluation(lake, LATER).run([WATCHED])
    bad = [(start, column) for start, column, _, passed, _ in said(lake) if passed is False]
    assert set(bad) == {(START + 2 * DAY, "amount")}


def test_many_evaluations_at_once_store_what_one_says(tmp_path):
    alone, together = Lakehouse(str(tmp_path / "alone")), Lakehouse(str(tmp_path / "together"))
    others = [monitor(f"shop.monitors.moved{number}", of=NAME, kind=WATCHED.kind) for number in range(2)]
    for lake in (alone, together):
        orders(lake)
    for new in (pl.concat([rows([1]), rows([6], 3, 100)]), rows([2])):
        for lake in (alone, together):
            lake.table(NAME).append(new)
        evaluation(alone, LATER).run([WATCHED])
        with ThreadPoolExecutor(6) as pool:
            done = [pool.submit(evaluation(Lakehouse(together.root), LATER).run, [one]) for one in [WATCHED, *others] * 2]
            assert not [one.error for run in done for one in run.result()[0].verdicts if one.error]
        stored = together.table(verdicts.TABLE).scan().collect()
        for one in (WATCHED, *others):
            own = stored.filter(monitor=one.name).select("window_start", "column_name", "slice_value", "passed", "text")
            assert sorted(own.rows(), key=repr) == said(alone)


def test_a_window_is_judged_once_it_is_over_and_once(tmp_path):
    """Weeks that differ within: the begin of one is no whole week."""
    lake, random = Lakehouse(str(tmp_path)), np.random.default_rng(1)
    table = lake.table(NAME)
    table.create({"at": TIMESTAMP, "amount": pl.Float64()})
    monday = START + DAY

    def week(first: int, days: range) -> pl.DataFrame:
        at = [monday + timedelta(days=7 * first + day, minutes=10 * part) for day in days for part in range(40)]
        values = [random.normal(moment.weekday()) for moment in at]
        return pl.DataFrame({"at": at, "amount": values}, schema={"at": TIMESTAMP, "amount": pl.Float64()})

    table.append(pl.concat([week(-52 + number, range(7)) for number in range(52)]))
    watched = monitor("shop.monitors.weeks", of=NAME, kind=Drift("at", every="1w", against=f"{NAME}@1"))
    evaluation(lake, monday).run([watched])
    for number in range(3):
        before = len(said(lake))
        for day in range(7):
            table.append(week(number, range(day, day + 1)))
            evaluation(lake, monday + timedelta(days=7 * number + day, hours=20)).run([watched])
            assert len(said(lake)) == before, "the week is not over"
        evaluation(lake, monday + timedelta(days=7 * number + 7)).run([watched])
        new = [row for row in said(lake) if row[0] == monday + timedelta(days=7 * number)]
        assert [row[3] for row in new] == [True], "judged when it ended, though no row came"


def test_rows_of_the_future_and_rows_that_went_leave_no_alert_open_or_deaf(tmp_path):
    lake = Lakehouse(str(tmp_path))
    table = orders(lake)
    evaluation(lake, START).run([WATCHED])
    table.append(rows([1]))
    table.append(rows([300], 3, 100))
    assert told(lake, WATCHED, START + 2 * DAY) == [], "it has not come yet"
    table.append(rows([2], 2, 100))
    key = "monitor:shop.monitors.moved:amount"
    assert (key, "opened") in told(lake, WATCHED, START + 3 * DAY)
    table.replace(SCHEMA.to_frame(), {"day": [(START + 2 * DAY).date()]})
    assert (key, "resolved") in told(lake, WATCHED, START + 3 * DAY + timedelta(hours=1))
    assert verdicts.state_of(verdicts.latest(lake, [WATCHED])[WATCHED.name]) == "passed"
    table.append(rows([3], 3, 100))
    assert (key, "opened") in told(lake, WATCHED, START + 4 * DAY)


def test_a_window_that_was_corrected_resolves_at_once_and_one_of_two_does_not(tmp_path):
    lake = Lakehouse(str(tmp_path))
    table, key = orders(lake), "monitor:shop.monitors.moved:amount"
    evaluation(lake, START).run([WATCHED])

    def day(number: int, factor: int, hour: int = 0) -> list[str]:
        """What is told of the column when a day has come, or comes again."""
        of_day = START + number * DAY
        table.replace(rows([number], number + hour, factor), {"day": [of_day.date()]})
        found = told(lake, WATCHED, of_day + timedelta(hours=25 + hour))
        return [event for of, event in found if of == key]

    assert day(1, 100) == ["opened"]
    assert day(1, 1, hour=1) == ["resolved"]
    assert day(2, 100) == ["opened"]
    assert day(3, 100) == ["repeated"]
    assert day(3, 1, hour=1) == ["recovering"], "the day before still drifts"
    assert day(4, 1) == ["recovering"]
    assert day(5, 1) == ["resolved"]


@pytest.mark.parametrize("is_deleted", sweeps.of([True], [False, True]))
def test_a_bad_day_that_is_corrected_or_deleted_after_good_ones_is_over_at_once(tmp_path, is_deleted):
    lake = Lakehouse(str(tmp_path))
    table, key = orders(lake), "monitor:shop.monitors.moved:amount"
    evaluation(lake, START).run([WATCHED])
    for number, (factor, event) in enumerate([(100, "opened"), (1, "recovering"), (1, "recovering")], start=1):
        table.append(rows([number], number, factor))
        assert (key, event) in told(lake, WATCHED, START + (number + 1) * DAY)
    table.replace(SCHEMA.to_frame() if is_deleted else rows([1], 5), {"day": [(START + DAY).date()]})
    assert (key, "resolved") in told(lake, WATCHED, START + 4 * DAY + timedelta(hours=1))
    for number in (4, 5):
        table.append(rows([number], number))
        assert key not in dict(told(lake, WATCHED, START + (number + 1) * DAY))
    assert AlertLog(lake).alerts(open_only=True) == []
    assert verdicts.not_over(lake, WATCHED.name) == {}


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_small_slice_that_failed_and_has_no_rows_since_is_gone_only_where_they_are(tmp_path, is_deleted):
    """A window with fewer rows than the rule asks for is no state: that nothing is known since does not say that its rows went."""
    lake, watched = Lakehouse(str(tmp_path)), replace(WATCHED, kind=replace(WATCHED.kind, slices=("kind",)), alert=AlertRule(least_rows=50))
    table, matter = orders(lake), ("kind", "0", "amount")
    evaluation(lake, START).run([watched])
    of_slice, bad = pl.col("kind") == "0", pl.col("amount") * 1_000
    table.append(rows([1]).with_columns(pl.when(of_slice).then(bad).otherwise("amount").alias("amount")))
    evaluation(lake, START + 2 * DAY).run([watched])
    assert matter in verdicts.not_over(lake, watched.name)
    table.append(rows([2]).filter(~of_slice))
    if is_deleted:
        table.replace(rows([1]).filter(~of_slice), {"day": [(START + DAY).date()]})
    evaluation(lake, START + 3 * DAY).run([watched])
    assert (matter in verdicts.not_over(lake, watched.name)) is not is_deleted
    texts = {text for _, column, value, passed, text in said(lake) if (column, value, passed) == ("amount", "0", True)}
    assert texts == ({"The rows in which amount drifted are gone."} if is_deleted else set())


@pytest.mark.parametrize(("rule", "good_before"), [(AlertRule(resolve_after=1), 1), (AlertRule(resolve_after=3, least_rows=10_000), 0)])
def test_an_alert_of_another_rule_is_over_by_the_one_that_holds(tmp_path, rule, good_before):
    lake = Lakehouse(str(tmp_path))
    table, key = orders(lake), "monitor:shop.monitors.moved:amount"
    evaluation(lake, START).run([WATCHED])
    events, changed = [], replace(WATCHED, alert=rule)
    for number in range(1, good_before + 5):
        table.append(rows([number], number, 100 if number == 1 else 1))
        found = told(lake, WATCHED if number <= good_before + 1 else changed, START + (number + 1) * DAY)
        events += [event for of, event in found if of == key]
    assert events == ["opened", *["recovering"] * good_before, "resolved"]
    assert AlertLog(lake).alerts(open_only=True) == []
    assert verdicts.state_of(verdicts.latest(lake, [changed])[changed.name]) == "passed"


def test_a_table_that_was_made_again_is_judged_by_its_own_windows(tmp_path):
    lake = Lakehouse(str(tmp_path))
    watched = monitor("shop.monitors.moved", of=NAME, kind=Drift("at", against="shop.silver.base@1"))
    base, table = lake.table("shop.silver.base"), lake.table(NAME)
    base.create(SCHEMA, ("day",))
    base.append(BASE)
    table.create(SCHEMA, ("day",))
    for day in (1, 2):
        table.append(rows([day]))
    table.append(rows([3], 3, 100))
    evaluation(lake, LATER).run([watched])
    assert verdicts.state_of(verdicts.latest(lake, [watched])[watched.name]) == "failed"
    shutil.rmtree(table.uri)
    again = lake.table(NAME)
    again.create(SCHEMA, ("day",))
    again.append(rows([1, 2]))
    evaluation(lake, LATER + DAY).run([watched])
    assert verdicts.state_of(verdicts.latest(lake, [watched])[watched.name]) == "passed"


def test_of_many_failures_what_resolves_is_said_and_what_is_left_out_is_counted(tmp_path):
    lake, random = Lakehouse(str(tmp_path)), np.random.default_rng(1)
    names = [f"c{number}" for number in range(12)]
    table = lake.table(NAME)
    table.create({"at": TIMESTAMP, **dict.fromkeys(names, pl.Float64())})

    def days(first: int, count: int, broken: list[str]) -> pl.DataFrame:
        at = [START + timedelta(days=first + day, minutes=20 * part) for day in range(count) for part in range(60)]
        values = {name: random.lognormal(size=len(at)) * (1_000 if name in broken else 1) for name in names}
        return pl.DataFrame({"at": at, **values}, schema_overrides={"at": TIMESTAMP})

    table.append(days(-40, 40, []))
    watched = monitor("shop.monitors.wide", of=NAME, kind=Drift("at", against=f"{NAME}@1"))
    evaluation(lake, START).run([watched])
    table.append(days(0, 1, ["c0"]))
    assert ("monitor:shop.monitors.wide:c0", "opened") in told(lake, watched, START + DAY)
    table.append(days(1, 60, names[1:]))
    now = START + timedelta(days=70)
    assert ("monitor:shop.monitors.wide:c0", "resolved") in told(lake, watched, now)
    (left_out,) = [text for *_, passed, text in said(lake) if passed is None and "are too many" in text]
    failed = [row for row in said(lake) if row[3] is False and row[0] > START]
    assert len(failed) == 500
    drifted = lake.table("platform.monitoring.drift").scan().filter("drifted", pl.col("window_start") > START).collect()
    assert drifted.height > 500
    assert f"{int(left_out.split()[0].replace(',', '')) - 500:,} of them" in left_out
    assert {row[1] for row in failed if row[0] == START + timedelta(days=60)} >= set(names[1:])
