"""The system tables say of each run what happened in it, once, whoever writes it down, however often, and whatever died in between."""

import os
import re
import shutil
import time
from logging import getLogger
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.platform.declarations.monitors import Verdict, monitor
from lakehouse_assets.platform.monitoring.system import system_log, system_tables
from lakehouse_assets.platform.orchestration.monitors import MONITORS_SUFFIX, watched_by
from lakehouse_assets.platform.orchestration.recording import record_ended, sensor, try_to_record
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets_tests.platform.monitoring import kiosk
from lakehouse_assets_tests.platform.orchestration.club import Club
from lakehouse_assets_tests.running import tables_of

OWNERS = {"club.silver.members": "team:members"}


@pytest.fixture
def club(settings):
    with dg.DagsterInstance.ephemeral() as instance:
        opened = Club(settings, instance)
        opened.land("members", ("a", 30), ("b", -1), ("c", 60))
        opened.land("visits", ("d", 70), ("e", 5))
        yield opened


def rows(settings, name: str) -> pl.DataFrame:
    return tables_of(settings).table(f"platform.system.{name}").scan().collect()


def record(club) -> int:
    return record_ended(club.instance, tables_of(club.settings), OWNERS)


def test_a_run_its_steps_and_its_checks_are_written_down_as_they_were(club):
    done = club.run()
    assert record(club) == 1
    run = rows(club.settings, "runs").row(0, named=True)
    assert (run["run_id"], run["status"], run["job"], run["steps"], run["steps_failed"], run["reason"]) == (
        done.run_id, "success", "selection", 4, 0, None,
    )  # fmt: skip
    assert run["date"] == run["ended_at"].date()
    steps = {row["table"]: row for row in rows(club.settings, "steps").iter_rows(named=True)}
    assert set(steps) == {"club.silver.members", "club.gold.members", "club.silver.visits", "club.gold.visits"}
    members = steps["club.silver.members"]
    assert (members["owner"], members["product"], members["status"], members["attempts"]) == ("team:members", "club", "success", 1)
    counts = [members[name] for name in ("rows_in", "rows_written", "rows_updated", "rows_duplicate", "rows_quarantined")]
    assert counts == [3, 2, 0, 0, 1]
    assert members["version_before"] is None
    table = tables_of(club.settings).table("club.silver.members")
    assert members["version_after"] == table.version()
    checks = rows(club.settings, "checks").filter(pl.col("table") == "club.silver.members")
    young = checks.row(by_predicate=pl.col("check") == "young", named=True)
    assert (young["passed"], young["severity"], young["rows_broken"], young["owner"]) == (False, "warn", 1, "team:members")
    assert run["checks_failed"] == rows(club.settings, "checks").filter(~pl.col("passed")).height
    kept = tables_of(club.settings).table("platform.tables.commits").scan().filter(run_id=done.run_id).collect()
    assert set(kept["table"]) >= set(steps)


def test_what_a_step_used_is_what_the_operating_system_and_the_tables_say(club):
    """Bytes written are those of the data files that lie there; bytes read are at least those of what it read."""
    names = [f"n{number}" for number in range(50_000)]
    club.land("members", *((name, 20) for name in names))
    club.run()
    record(club)
    members = rows(club.settings, "steps").row(by_predicate=pl.col("table") == "club.silver.members", named=True)
    lakehouse = tables_of(club.settings)

    def size(table: Table) -> int:
        return int(pl.DataFrame(table.now().get_add_actions())["size_bytes"].sum())

    assert members["bytes_written"] == size(lakehouse.table("club.silver.members")) + size(
        lakehouse.table("club.silver.members__quarantine")
    )
    assert members["bytes_read"] >= size(lakehouse.table("club.bronze.members"))
    assert 0 < members["cpu"] < 60 * os.cpu_count()
    assert 10_000_000 < members["peak_memory"] < 10**12
    assert 0 < members["duration"] < 600


@pytest.mark.parametrize("watched", [kiosk.SILVER, f"{kiosk.SILVER}__quarantine"])
def test_a_step_of_monitors_has_the_table_that_is_watched_its_owner_and_what_it_used(settings, watched):
    kiosk.land(settings, (1, kiosk.DAY, 5), (2, kiosk.DAY, -1))
    says = monitor("kiosk.monitors.says", of=watched, kind=kiosk.Says((Verdict(passed=True, text="all is well"),)))
    job = kiosk.defs_of(settings, says, tables=(kiosk.sales,)).get_repository_def().get_job("refresh")
    with dg.DagsterInstance.ephemeral() as instance:
        assert job.execute_in_process(instance=instance, resources=resources(settings)).success
        record_ended(instance, tables_of(settings), {kiosk.SILVER: "team:kiosk"})
    steps = rows(settings, "steps")
    step = steps.row(by_predicate=pl.col("step").str.ends_with("__monitors"), named=True)
    assert (step["table"], step["owner"], step["product"]) == (watched, "team:kiosk", "kiosk")
    assert step["cpu"] > 0


@pytest.mark.parametrize("table", ["kiosk.silver.sales", "kiosk.silver.sales__quarantine"])
def test_the_table_of_a_step_is_known_by_its_name_alone(table):
    assert watched_by(table.replace(".", "__") + MONITORS_SUFFIX) == table
    assert watched_by(table.replace(".", "__")) == table


def test_nothing_is_written_twice(club):
    club.run()
    assert record(club) == 1
    before = {table.name: rows(club.settings, table.name.rsplit(".", 1)[1]) for table in system_tables.WRITTEN}
    assert record(club) == record(club) == 0
    club.run()
    assert record(club) == 1
    for table in system_tables.WRITTEN:
        after = rows(club.settings, table.name.rsplit(".", 1)[1])
        assert after.filter(pl.col("run_id").is_in(before[table.name]["run_id"].unique().implode())).equals(
            before[table.name], null_equal=True
        )
    assert rows(club.settings, "runs")["run_id"].n_unique() == 2


@pytest.mark.parametrize("died_after", ["checks", "steps"])
def test_a_crash_between_two_tables_loses_nothing_and_writes_nothing_twice(club, monkeypatch, died_after):
    club.run()
    append = system_log._append

    def dying(lakehouse, of, *rows):
        done = append(lakehouse, of, *rows)
        if of.name.endswith(died_after):
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(system_log, "_append", dying)
    with pytest.raises(KeyboardInterrupt):
        record(club)
    monkeypatch.undo()
    assert record(club) == 1
    steps, checks = rows(club.settings, "steps"), rows(club.settings, "checks")
    assert steps.select("run_id", "step").is_unique().all()
    assert checks.select("run_id", "table", "check").is_unique().all()
    assert (rows(club.settings, "runs").height, steps.height) == (1, 4)


def test_runs_of_before_are_caught_up_and_a_run_under_way_is_left_alone(club):
    first, second = club.run(), club.run()
    club.instance.create_run_for_job(club.job())
    assert record(club) == 2
    assert set(rows(club.settings, "runs")["run_id"]) == {first.run_id, second.run_id}


def ended(club, days: float) -> str:
    """A run that ended, on a machine whose clock goes so many days wrong."""
    run = club.instance.create_run_for_job(club.job())
    event = dg.DagsterEvent(dg.DagsterEventType.RUN_FAILURE.value, run.job_name, message="It was killed.")
    club.instance.report_dagster_event(event, run.run_id, timestamp=time.time() + days * 86_400)
    return run.run_id


def test_a_wrong_clock_hides_no_run(club):
    """Order is that of the events: by clocks, a run of tomorrow would hide those of today, and one of last month would be over long ago."""
    for days in (0, 40, 0, -40, -400):
        run_id = ended(club, days)
        assert record(club) == 1
        assert run_id in rows(club.settings, "runs")["run_id"].to_list()
    assert record(club) == 0


def test_what_an_earlier_release_wrote_down_is_not_written_twice_and_what_it_missed_is(club):
    """Its tables have rows and no watermark."""
    first = [ended(club, 0), ended(club, 40)]
    assert record(club) == 2
    table = tables_of(club.settings).table(system_tables.RUNS.name)
    written = table.scan().collect()
    shutil.rmtree(table.uri)
    table.create(system_tables.RUNS.schema, ("date",))
    table.append(written)
    missed = ended(club, -40)
    assert record(club) == 1
    assert rows(club.settings, "runs")["run_id"].sort().to_list() == sorted([*first, missed])
    assert rows(club.settings, "runs")["run_id"].is_unique().all()


def test_with_another_database_of_dagster_all_its_runs_are_written_down(club, settings):
    for _ in range(3):
        ended(club, 0)
    assert record(club) == 3
    with dg.DagsterInstance.ephemeral() as instance:
        other = Club(settings, instance)
        run_id = ended(other, 0)
        assert record(other) == 1
        assert record(other) == 0
    assert run_id in rows(settings, "runs")["run_id"].to_list()


def test_more_runs_than_are_read_at_once_are_written_down(club, monkeypatch):
    monkeypatch.setattr("lakehouse_assets.platform.orchestration.ended_runs.RUNS_AT_ONCE", 2)
    for _ in range(5):
        ended(club, 0)
    assert record(club) == 5
    assert record(club) == 0


def test_a_failed_run_says_why_without_values_of_rows(club):
    club.run()
    club.land("members", ("f", 200), ("g", -1))
    failed = club.run()
    record(club)
    run = rows(club.settings, "runs").row(by_predicate=pl.col("run_id") == failed.run_id, named=True)
    assert run["status"] == "failure"
    assert run["steps_failed"] == 1
    assert "club.silver.members" in run["reason"]
    steps = {row["table"]: row for row in rows(club.settings, "steps").filter(run_id=failed.run_id).iter_rows(named=True)}
    assert steps["club.silver.members"]["status"] == "failure"
    assert steps["club.silver.members"]["cpu"] > 0
    assert steps["club.gold.members"]["status"] == "skipped"
    assert steps["club.gold.members"]["started_at"] is None
    assert steps["club.gold.visits"]["status"] == "success"


def test_an_error_that_is_not_ours_is_named_by_its_kind_and_place_alone(settings):
    @dg.asset(key_prefix=["club", "silver"])
    def plain() -> None:
        raise RuntimeError("the guest is Ann Miller")

    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([plain], instance=instance, raise_on_error=False)
        record_ended(instance, tables_of(settings), {})
    [reason] = rows(settings, "runs")["reason"]
    assert re.fullmatch(r"RuntimeError at \S*test_recording\.py:\d+: see the log of the run", reason)
    assert rows(settings, "steps")["table"].to_list() == ["club.silver.plain"]


@pytest.mark.parametrize(
    ("key", "table"),
    [
        (["visits"], "plain.assets.visits"),
        (["club", "visits"], "club.assets.visits"),
        (["AB", "visits"], "AB.assets.visits"),
        (["a", "b", "c", "d"], "a.b.c.d"),
    ],
)
def test_plain_assets_are_written_down_whatever_they_are_called(settings, key, table):
    @dg.asset(key=key, check_specs=[dg.AssetCheckSpec("fine", asset=dg.AssetKey(key))])
    def plain():
        yield dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True)])

    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([plain], instance=instance)
        assert record_ended(instance, tables_of(settings), {table: "team:guests"}) == 1
    for name in ("steps", "checks"):
        (row,) = rows(settings, name).iter_rows(named=True)
        assert (row["table"], row["owner"]) == (table, "team:guests")


def test_a_run_that_died_has_the_steps_that_it_was_in(club):
    """A step that was killed has no end of its own; what was not begun was skipped."""
    job = club.job()
    run = club.instance.create_run_for_job(job)
    club.instance.report_engine_event("begins", run)
    step = next(iter(job.all_node_defs)).name
    started = dg.DagsterEvent(dg.DagsterEventType.STEP_START.value, job.name, step_key=step)
    club.instance.report_dagster_event(started, run.run_id)
    club.instance.report_run_failed(run, "Its process ended before the run did.")
    assert record(club) == 1
    row = rows(club.settings, "runs").row(0, named=True)
    assert (row["status"], row["reason"]) == ("failure", "Its process ended before the run did.")
    assert rows(club.settings, "steps").filter(step=step)["status"].to_list() == ["interrupted"]


def test_two_processes_that_write_down_the_same_runs_write_each_once(club):
    """As the command and a sensor do at the same moment."""
    from concurrent.futures import ThreadPoolExecutor

    for _ in range(3):
        club.run()
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda _: record(club), range(4)))
    assert sum(written) == 3
    for name, key in (("runs", ["run_id"]), ("steps", ["run_id", "step"]), ("checks", ["run_id", "table", "check"])):
        assert rows(club.settings, name).select(key).is_unique().all()


def test_the_sensor_on_ended_runs_writes_them_down(club):
    """Under `lakehouse dev`, where runs end in processes of their own."""
    done = club.run()
    look, named = sensor(OWNERS, 30), {"lakehouse": resources(club.settings)["lakehouse"]}
    said = [look.evaluate_tick(dg.build_sensor_context(club.instance, resources=named)).skip_message for _ in range(2)]
    assert said == ["1 run written down.", "0 runs written down."]
    assert rows(club.settings, "runs")["run_id"].to_list() == [done.run_id]
    assert "team:members" in rows(club.settings, "steps")["owner"].to_list()


def test_what_cannot_be_written_down_fails_nothing_and_comes_with_the_next_run(club, caplog):
    ended(club, 0)
    record(club)
    table = tables_of(club.settings).table(system_tables.RUNS.name)
    last = Path(table.uri) / "_delta_log" / f"{table.version():020}.json"
    whole = last.read_text()
    last.write_text("")
    ended(club, 0)
    try_to_record(club.instance, tables_of(club.settings), {}, getLogger("test"))
    assert "platform.system.runs cannot be opened" in caplog.text
    last.write_text(whole)
    ended(club, 0)
    assert record(club) == 2
