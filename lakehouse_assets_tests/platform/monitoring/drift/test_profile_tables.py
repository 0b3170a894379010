"""The tables of profiles and drift: written window by window they are what a computation of everything would write.

The suite tries a sample; `python -m benchmarks.sweeps` tries everything.
"""

import json
import logging
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lakehouse_assets import Drift, monitor
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.monitors import AlertRule, Monitor
from lakehouse_assets.platform.monitoring import verdicts
from lakehouse_assets.platform.monitoring.alerts.log import AlertLog
from lakehouse_assets.platform.monitoring.alerts.machine import NOTIFIED
from lakehouse_assets.platform.monitoring.alerts.sources.verdicts import Verdicts
from lakehouse_assets.platform.monitoring.alerts.take import take
from lakehouse_assets.platform.monitoring.drift.drift_log import DRIFTS_SCHEMA
from lakehouse_assets.platform.monitoring.drift.profile_tables import Profiled, update_profiles
from lakehouse_assets.platform.monitoring.drift.watched_rows import TableRows
from lakehouse_assets.platform.monitoring.kinds.drift_kind import Learnt, learnt_from
from lakehouse_assets.platform.monitoring.profiling.groups import Groups
from lakehouse_assets.platform.monitoring.retraining import evidence
from lakehouse_assets.platform.pipeline.model_training import digest_of
from lakehouse_assets.platform.registry.ledger import LEDGER_SCHEMA
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.types import TIMESTAMP
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.monitoring.accuracy.judging import evaluation
from lakehouse_assets_tests.platform.monitoring.drift.newest_rows import latest
from lakehouse_assets_tests.platform.monitoring.kiosk import SILVER, sales
from lakehouse_assets_tests.platform.orchestration.level import level_model

START = datetime(2026, 3, 1, tzinfo=UTC)
LATER = START + timedelta(days=30)
"""After all windows."""
SCHEMA = pl.Schema({"at": TIMESTAMP, "day": pl.Date(), "kind": pl.String(), "amount": pl.Float64()})
A_DAY = 60


def rows(days: list[int], seed: int = 1, factor: float = 1) -> pl.DataFrame:
    random = np.random.default_rng([seed, *(day + 100 for day in days)])
    at = [START + timedelta(days=day, minutes=20 * number) for day in days for number in range(A_DAY)]
    frame = pl.DataFrame(
        {"at": at, "amount": random.lognormal(size=len(at)) * factor, "kind": pl.Series(random.integers(0, 3, len(at))).cast(pl.String)}
    )
    return frame.with_columns(day=pl.col("at").dt.date()).select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())


BASE = rows([day - 100 for day in range(30)])


def profiled(lake: Lakehouse, monitor: str) -> Profiled:
    return Profiled(monitor, TableRows(lake.table("shop.silver.orders")), Groups("at", "1d", ("kind",)), BASE.lazy, "base@1")


def newest(lake: Lakehouse, monitor: str) -> list[pl.DataFrame]:
    order = ["window_start", "slice_key", "slice_value", "column_name"]
    return [
        frame.drop("monitor", "table_version", "evaluated_at", "sequence", "date").sort(
            order + (["drift_type"] if "drift_type" in frame.columns else [])
        )
        for frame in latest(lake, monitor)
    ]


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "replace", "delete"]), st.lists(st.integers(0, 6), min_size=1, max_size=3, unique=True)),
    min_size=1,
    max_size=5,
)


@sweeps.examples(3, 40)
@given(STEPS)
def test_window_by_window_is_the_same_as_all_at_once(tmp_path_factory, steps):
    lake = Lakehouse(str(tmp_path_factory.mktemp("lake")))
    table = lake.table("shop.silver.orders")
    table.create(SCHEMA, ("day",))
    for number, (what, days) in enumerate(steps):
        if what == "add":
            table.append(rows(days, number))
        else:
            scope = {"day": [(START + timedelta(days=day)).date() for day in days]}
            table.replace(rows(days, number, 100) if what == "replace" else SCHEMA.to_frame(), scope)
        update_profiles(lake, profiled(lake, "each"), LATER)
    update_profiles(lake, profiled(lake, "once"), LATER)
    for incremental, full in zip(newest(lake, "each"), newest(lake, "once"), strict=True):
        assert_frame_equal(incremental, full, abs_tol=1e-9)


def test_what_has_not_changed_is_not_profiled_again(tmp_path):
    lake = Lakehouse(str(tmp_path))
    table = lake.table("shop.silver.orders")
    table.create(SCHEMA, ("day",))
    table.append(rows(list(range(5))))
    first = update_profiles(lake, profiled(lake, "m"), LATER)
    assert first["window_start"].n_unique() == 5
    assert update_profiles(lake, profiled(lake, "m"), LATER).is_empty()
    versions = [lake.table(name).version() for name in ("platform.monitoring.profiles", "platform.monitoring.drift")]
    assert versions == [1, 1]
    table.append(rows([2], 9, 100))
    second = update_profiles(lake, profiled(lake, "m"), LATER)
    assert sorted({start.day for start in second["window_start"]}) == [3, 4]
    alarms = second.filter("drifted", pl.col("column_name") == "amount", pl.col("slice_key").is_null())
    assert alarms.filter(drift_type="BASELINE")["window_start"].dt.day().to_list() == [3]
    profiles = lake.table("platform.monitoring.profiles").scan().filter(pl.col("table_version") == 2).collect()
    assert set(profiles["window_start"].dt.day()) == {3}
    # Another baseline or other windows are another computation.
    other = Profiled("m", TableRows(table), Groups("at", "1d"), BASE.lazy, "base@2")
    assert update_profiles(lake, other, LATER)["window_start"].n_unique() == 5


def test_a_table_of_drift_of_an_earlier_release_gains_the_columns_that_it_lacks(tmp_path):
    lake = Lakehouse(str(tmp_path))
    table, drifts = lake.table("shop.silver.orders"), lake.table(platform_tables.DRIFT)
    drifts.create({name: dtype for name, dtype in DRIFTS_SCHEMA.items() if not name.startswith("domain_")}, ("date",))
    table.create(SCHEMA, ("day",))
    table.append(rows([1, 2]))
    update_profiles(lake, profiled(lake, "m"), LATER)
    assert drifts.scan().filter(pl.col("domain_classifier_auc").is_null()).select(pl.len()).collect().item() > 0


def test_two_runs_at_once_write_each_window_once(tmp_path):
    lake = Lakehouse(str(tmp_path))
    table = lake.table("shop.silver.orders")
    table.create(SCHEMA, ("day",))
    table.append(rows([1, 2]))
    mine = profiled(lake, "m")

    def meanwhile() -> pl.LazyFrame:
        update_profiles(lake, profiled(lake, "m"), LATER)
        return BASE.lazy()

    object.__setattr__(mine, "baseline", meanwhile)
    update_profiles(lake, mine, LATER)
    assert lake.table("platform.monitoring.profiles").scan().select(pl.len()).collect().item() == latest(lake, "m")[0].height


# --- the monitor


def test_a_wrong_unit_is_a_verdict_of_its_column_and_window(tmp_path):
    lake = Lakehouse(str(tmp_path))
    table = lake.table("shop.silver.orders")
    table.create(SCHEMA, ("day",))
    table.append(BASE)
    table.append(rows([1, 2]))
    table.append(rows([3], 3, 100))
    watched = monitor("shop.monitors.moved", of="shop.silver.orders", kind=Drift("at", against="shop.silver.orders@1"))
    given = evaluation(lake, LATER).judge(watched).verdicts
    assert evaluation(lake, LATER).judge(watched).verdicts == given, "it is said until it is stored"
    evaluation(lake, LATER).run([watched])
    bad = [one for one in given if one.passed is False]
    assert {(one.column_name, one.window_start) for one in bad} == {("amount", START + timedelta(days=3))}
    assert {one.numbers["compared_with"] for one in bad} == {"BASELINE", "CONSECUTIVE"}
    for one in bad:
        assert one.metric == "ks_test"
        assert one.value is not None
        assert one.threshold is not None
        assert one.false_alarm_rate is not None
        assert one.value > one.threshold
        assert one.false_alarm_rate <= 0.01
    assert {one.window_start for one in given if one.passed} >= {START + timedelta(days=1), START + timedelta(days=2)}
    assert evaluation(lake, LATER).judge(watched).verdicts == ()


def events(lake: Lakehouse, watched: Monitor, now: datetime) -> list[tuple[str, str]]:
    """What alerts are told after an evaluation at a moment."""
    evaluation(lake, now).run([watched])
    taken = take(AlertLog(lake), [Verdicts(lake, {watched.name: watched.alert})], now, logging.getLogger("test"))
    return [(entry.key, entry.event) for entry in taken.entries if entry.event in NOTIFIED]


def test_alerts_of_columns_and_slices_resolve_when_they_are_well_again(tmp_path):
    lake = Lakehouse(str(tmp_path))
    table = lake.table("shop.silver.orders")
    table.create(SCHEMA, ("day",))
    table.append(pl.concat([rows([day - 100 for day in range(16)], 10 + part) for part in range(3)]))
    watched = monitor(
        "shop.monitors.moved", of="shop.silver.orders", kind=Drift("at", slices=("kind",), against="shop.silver.orders@1"), owner="team:a"
    )
    hours = (LATER + timedelta(hours=number) for number in range(100))

    def day(number: int, broken: pl.Expr | None = None) -> list[tuple[str, str]]:
        new = pl.concat([rows([number], number + 1_000 * part) for part in range(3)])
        table.append(new if broken is None else new.with_columns(amount=broken))
        return events(lake, watched, next(hours))

    assert day(1) == []
    of_slice = "monitor:shop.monitors.moved:amount:kind=1"
    broken = pl.when(pl.col("kind") == "1").then(pl.col("amount") * 100).otherwise("amount")
    opened = dict(day(2, broken))
    assert opened[of_slice] == "opened"
    whole = {"monitor:shop.monitors.moved", "monitor:shop.monitors.moved:amount"}
    assert set(opened) <= {of_slice, *whole}, "other slices are well"
    assert day(3, broken) == [], "it is told once"
    # The day of the return differs from the day before, and agrees with the baseline.
    assert [day(4), day(5)] == [[], []], "it may come back"
    assert sorted(day(6)) == sorted((key, "resolved") for key in opened), "and it is told once"
    assert day(7) == []
    assert day(8) == []
    assert dict(day(9, broken))[of_slice] == "opened"


def in_a_row(bad: list[bool], consecutive: int, resolve_after: int) -> list[str]:
    """What is told of a column whose windows come so."""
    told, count, good, is_open = [], 0, 0, False
    for one in bad:
        count, good = (count + 1, 0) if one else (0, good + 1)
        if is_open and good >= resolve_after:
            told.append("resolved")
            is_open = False
        elif not is_open and count >= consecutive:
            told.append("opened")
            is_open = True
    return told


@sweeps.examples(1, 30)
@given(
    st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(1, 3),
)
@example([[True], [False], [True, False, True], [True, True, False]], 3, 1)
@example([[True], [False], [True, False, False], [False, True, False], [False], [False, True]], 1, 3)
@example([[True], [False], [False], [True], [False, False], [True]], 1, 2)
def test_so_many_windows_in_a_row_open_an_alert_and_so_many_quiet_ones_resolve_it(tmp_path_factory, batches, consecutive, resolve_after):
    """Bad and quiet windows in any order, several of them between two evaluations; a training is asked for by the same ones."""
    lake = Lakehouse(str(tmp_path_factory.mktemp("lake")))
    table = lake.table("shop.silver.orders")
    table.create(SCHEMA, ("day",))
    table.append(BASE)
    rule = AlertRule(consecutive=consecutive, cool_down=timedelta(days=9_999), resolve_after=resolve_after)
    watched = monitor("shop.monitors.moved", of=table.name, kind=Drift("at", against=f"{table.name}@1"), alert=rule)
    source, told, number = Verdicts(lake, {watched.name: rule}), [], 0
    # What was before anybody listened is not told.
    evaluation(lake, LATER - timedelta(hours=1)).run([watched])
    assert take(AlertLog(lake), [source], LATER - timedelta(hours=1), logging.getLogger("test")).entries == []
    for hour, batch in enumerate(batches):
        for is_bad in batch:
            number += 1
            table.append(rows([number], 7, 100 if is_bad else 1))
        now = LATER + timedelta(hours=hour)
        evaluation(lake, now).run([watched])
        told += take(AlertLog(lake), [source], now, logging.getLogger("test")).entries
    bad = [one for batch in batches for one in batch]
    of_column = [entry.event for entry in told if entry.key.endswith(":amount") and entry.event in NOTIFIED]
    assert of_column == in_a_row(bad, consecutive, resolve_after)
    asks = evidence.failing(lake.table(verdicts.TABLE).scan().collect(), {watched.name: rule}, None)
    in_the_end = len(bad) >= consecutive and all(bad[-consecutive:])
    assert ("amount" in {row["column_name"] for row in asks}) is in_the_end
    state = verdicts.state_of(verdicts.latest(lake, [watched])[watched.name])
    assert state == ("failed" if bad[-1] else "passed")


def test_a_late_row_of_a_quiet_window_hides_no_drift(tmp_path):
    lake = Lakehouse(str(tmp_path))
    table = lake.table("shop.silver.orders")
    table.create(SCHEMA, ("day",))
    table.append(BASE)
    table.append(rows([1, 2, 3, 4]))
    table.append(rows([5], 3, 100))
    watched = monitor("shop.monitors.moved", of="shop.silver.orders", kind=Drift("at", against="shop.silver.orders@1"))
    for late in (None, 1, 3):
        if late is not None:
            table.append(rows([late], 9).head(1))
        (found,) = evaluation(lake, LATER).run([watched])
        assert {one.column_name for one in found.verdicts if one.passed is False} == {"amount"}
        assert verdicts.state_of(verdicts.latest(lake, [watched])[watched.name]) == "failed"
    table.append(rows([6]))
    (found,) = evaluation(lake, LATER).run([watched])
    assert not any(one.passed is False for one in found.verdicts)


@pytest.mark.parametrize(("least_rows", "is_told"), [(1, True), (10_000, False)])
def test_drift_of_fewer_rows_than_the_rule_asks_for_is_no_alert_and_others_name_window_rows_and_averages(tmp_path, least_rows, is_told):
    lake = Lakehouse(str(tmp_path))
    table = lake.table("shop.silver.orders")
    table.create(SCHEMA, ("day",))
    table.append(BASE)
    table.append(rows([3], 3, 100))
    watched = monitor("shop.monitors.moved", of="shop.silver.orders", kind=Drift("at", against="shop.silver.orders@1"))
    rule = AlertRule(least_rows=least_rows)
    evaluation(lake, LATER).run([watched])
    found = take(AlertLog(lake), [Verdicts(lake, {watched.name: rule})], LATER, logging.getLogger("test")).entries
    of_amount = [entry for entry in found if entry.key == "monitor:shop.monitors.moved:amount"]
    assert bool(of_amount) is is_told
    for entry in of_amount:
        day = table.scan().filter(pl.col("day") == (START + timedelta(days=3)).date()).collect()
        assert entry.rows == day.height
        assert entry.text.splitlines()[-1].startswith(f"On {START + timedelta(days=3):%Y-%m-%d}: amount drifted from ")
        assert f"On average it is {day['amount'].mean():.4g}, before it was " in entry.text


def test_a_joint_change_is_a_verdict_of_the_table_and_resolves(tmp_path):
    lake, random = Lakehouse(str(tmp_path)), np.random.default_rng(1)
    table = lake.table("shop.silver.pairs")
    table.create({"at": TIMESTAMP, "left": pl.Float64(), "right": pl.Float64()})

    def add(first: int, count: int, together: float) -> None:
        at = [START + timedelta(days=first + day, minutes=number) for day in range(count) for number in range(1_000)]
        left, noise = random.normal(size=(2, len(at)))
        right = together * left + np.sqrt(1 - together**2) * noise
        table.append(pl.DataFrame({"at": at, "left": left, "right": right}, schema_overrides={"at": TIMESTAMP}))

    add(-100, 12, 0.9)
    watched = monitor(
        "shop.monitors.pairs", of="shop.silver.pairs", kind=Drift("at", against="shop.silver.pairs@1"), alert=AlertRule(resolve_after=1)
    )
    assert events(lake, watched, LATER) == []
    add(0, 1, 0.0)
    assert events(lake, watched, LATER + timedelta(hours=1)) == [("monitor:shop.monitors.pairs", "opened")]
    [alert] = AlertLog(lake).alerts()
    assert "by left (" in alert["text"] or "by right (" in alert["text"]
    assert alert["value"] > alert["threshold"] > 0.5
    add(1, 1, 0.9)
    assert events(lake, watched, LATER + timedelta(hours=2)) == [("monitor:shop.monitors.pairs", "resolved")]


def test_columns_that_came_went_or_changed_and_values_not_seen_before_are_named(tmp_path):
    lake = Lakehouse(str(tmp_path))
    old, table = lake.table("shop.silver.old"), lake.table("shop.silver.orders")
    old.create({**SCHEMA, "gone": pl.Int64(), "same": pl.Int64()}, ("day",))
    old.append(BASE.with_columns(gone=pl.lit(1, pl.Int64), same=pl.lit(1, pl.Int64)))
    table.create({**SCHEMA, "came": pl.Int64(), "same": pl.Float64()}, ("day",))
    other = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("9")).otherwise("kind")
    table.append(rows([1], 5).with_columns(kind=other, came=pl.lit(1, pl.Int64), same=pl.lit(1.0)))
    watched = monitor("shop.monitors.moved", of="shop.silver.orders", kind=Drift("at", slices=("kind",), against="shop.silver.old@1"))
    bad = [one for one in evaluation(lake, LATER).judge(watched).verdicts if one.passed is False and not one.slice_key]
    evaluation(lake, LATER).run([watched])
    texts = {one.column_name: one.text for one in bad if one.metric == "schema_change"}
    assert texts == {
        "gone": "gone is missing against the baseline.",
        "came": "came was added against the baseline.",
        "same": "same changed its type: Int64 became Float64 against the baseline.",
    }
    [unseen] = [one for one in bad if one.column_name == "kind"]
    assert unseen.text.endswith("50 % of its values are others than before: 9.")
    assert unseen.numbers["percent_unseen"] == pytest.approx(50)
    assert not [one for one in evaluation(lake, LATER).judge(watched).verdicts if one.metric == "schema_change"], "said once"


def test_a_history_with_too_many_windows_starts_with_the_newest_ones_and_says_so(tmp_path):
    lake = Lakehouse(str(tmp_path))
    table = lake.table("shop.silver.orders")
    table.create(SCHEMA)
    few = pl.concat([rows([day], day).head(2) for day in range(2_100)])
    table.append(few)
    said: list[str] = []
    asked = replace(profiled(lake, "m"), groups=Groups("at", "1d"), warn=said.append)
    now = START + timedelta(days=2_200)
    found = update_profiles(lake, asked, now)
    newest_day = few["at"].max()
    assert len(said) == 1
    assert said[0].startswith("Only the newest 1,000 of 2,100 windows were profiled")
    assert found["window_start"].n_unique() == 1_000
    assert newest_day - found["window_start"].max() < timedelta(days=1)
    table.append(rows([2_101], 1))
    assert (
        update_profiles(lake, replace(profiled(lake, "m"), groups=Groups("at", "1d"), warn=said.append), now)["window_start"].n_unique()
        == 1
    )
    assert len(said) == 1


def test_without_a_champion_and_a_baseline_nothing_is_evaluated(tmp_path):
    lake = Lakehouse(str(tmp_path))
    lake.table("shop.silver.orders").create(SCHEMA, ("day",))
    (verdict,) = evaluation(lake, LATER).judge(monitor("shop.monitors.moved", of="shop.silver.orders", kind=Drift("at"))).verdicts
    assert verdict.passed is None
    assert "no model that learns from shop.silver.orders has a champion" in verdict.text


def test_a_baseline_without_rows_is_said_to_have_none(tmp_path):
    lake = Lakehouse(str(tmp_path))
    stored = lake.table("shop.silver.orders")
    stored.create({**SCHEMA, "_file": pl.String()}, ("day",))
    stored.append(BASE.with_columns(_file=pl.lit("a.csv")))
    moved = monitor("shop.monitors.moved", of=stored.name, kind=Drift("at", against=f"{stored.name}@0"))
    texts = {one.text for one in evaluation(lake, LATER).judge(moved).verdicts}
    assert texts
    assert all("the baseline has no rows" in text or "the baseline has 0 windows" in text for text in texts), texts


def test_the_baseline_is_what_the_champion_learnt_from(tmp_path):
    lake = Lakehouse(str(tmp_path))
    ledger = lake.table("shop.models.returns")
    assert learnt_from(lake, ledger.name, "shop.silver.orders") is None
    ledger.create(LEDGER_SCHEMA)
    decisions = [(1, 1, 1), (2, 2, 1), (3, 3, 3), (4, 4, 3)]
    rows = [
        {"sequence": at, "version": version, "champion": champion, "training_tables": f'{{"shop.silver.orders": {10 * version}}}'}
        for at, version, champion in decisions
    ]
    ledger.append(pl.DataFrame(rows, schema=LEDGER_SCHEMA))
    assert learnt_from(lake, ledger.name, "shop.silver.orders") == Learnt(ledger.name, 30, None)
    assert learnt_from(lake, ledger.name, "shop.silver.others") is None


def test_a_table_that_was_created_again_is_not_what_the_champion_learnt_from(tmp_path):
    lake = Lakehouse(str(tmp_path))
    stored, ledger = lake.table("shop.silver.orders"), lake.table(level_model.name)
    stored.create(SCHEMA, ("day",))
    stored.append(BASE)
    ledger.create(LEDGER_SCHEMA)
    learnt = {"training_tables": json.dumps({stored.name: 1}), "training_table_digests": json.dumps({stored.name: digest_of(stored, 1)})}
    ledger.append(pl.DataFrame([{"sequence": 1, "version": 1, "champion": 1, **learnt}], schema=LEDGER_SCHEMA))
    moved = monitor("shop.monitors.moved", of=stored.name, kind=Drift("at"))
    (verdict, *_) = evaluation(lake, LATER, (level_model,)).judge(moved).verdicts
    assert verdict.passed
    shutil.rmtree(stored.uri)
    stored.create(SCHEMA, ("day",))
    stored.append(BASE)
    (verdict, *_) = evaluation(lake, LATER, (level_model,)).judge(moved).verdicts
    assert verdict.passed is None
    assert "learnt from version 1 of shop.silver.orders, which was deleted and created again since" in verdict.text
    assert f"`lakehouse train {level_model.name} --force`" in verdict.text


@pytest.mark.parametrize("trained_again", [(), (0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_the_baseline_is_of_the_first_champion_that_learnt_from_the_table_as_it_is(tmp_path, trained_again):
    """Three models of one table, of which some were trained again since it was deleted and created again."""
    lake = Lakehouse(str(tmp_path))
    models = [replace(level_model, name=f"shop.models.m{number}") for number in range(3)]
    stored = lake.table("shop.silver.orders")

    def create(version: int) -> str:
        stored.create(SCHEMA, ("day",))
        for _ in range(version):
            stored.append(BASE)
        return json.dumps({stored.name: digest_of(stored, version)})

    versions = dict.fromkeys(range(3), 1)
    digests = dict.fromkeys(versions, create(1))
    shutil.rmtree(stored.uri)
    again = create(2)
    for number in trained_again:
        versions[number], digests[number] = 2, again
    for number, one in enumerate(models):
        ledger = lake.table(one.name)
        ledger.create(LEDGER_SCHEMA)
        learnt = {"training_tables": json.dumps({stored.name: versions[number]}), "training_table_digests": digests[number]}
        ledger.append(pl.DataFrame([{"sequence": 1, "version": 1, "champion": 1, **learnt}], schema=LEDGER_SCHEMA))
    moved = monitor("shop.monitors.moved", of=stored.name, kind=Drift("at"))
    said = evaluation(lake, LATER, models).judge(moved).verdicts
    if trained_again:
        assert said[0].passed
    else:
        assert [one.passed for one in said] == [None]
        assert "the champion of shop.models.m0 learnt from version 1" in said[0].text


@pytest.mark.parametrize(
    ("given", "said"), [({"every": "daily"}, "is no length of a window"), ({"against": "a.b.c@x"}, "is a version, as in TABLE@3")]
)
def test_what_a_monitor_of_drift_cannot_mean_is_refused(given, said):
    with pytest.raises(DeclarationError, match=said):
        Drift("at", **given)


def test_columns_that_the_table_lacks_are_refused():
    wrong = monitor("kiosk.monitors.x", of=sales, kind=Drift("dya", slices=("shop",)))
    assert len(list(wrong.problems_with({SILVER: sales}))) == 2
