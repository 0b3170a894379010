"""Dagster's databases stay as small as the days that they keep, and what is still asked for stays: no run goes before it is written down."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from logging import getLogger
from pathlib import Path

import dagster as dg
import pytest

from lakehouse_assets.platform.orchestration import run_retention
from lakehouse_assets.platform.orchestration.instance import instance as instance_of
from lakehouse_assets.platform.orchestration.planned import last_result
from lakehouse_assets.platform.orchestration.recording import record_ended
from lakehouse_assets.platform.orchestration.run_retention import delete_old_runs, forget_old_runs
from lakehouse_assets_tests.running import tables_of

START = datetime(2026, 1, 1, 6, tzinfo=UTC)
CHECK = dg.AssetCheckKey(dg.AssetKey(["shop", "silver", "daily"]), "fine")
ONCE = dg.AssetKey(["shop", "silver", "once"])
PARTITIONED = dg.AssetKey(["shop", "silver", "by_day"])


@dg.asset(key=CHECK.asset_key, check_specs=[dg.AssetCheckSpec("fine", asset=CHECK.asset_key)])
def daily() -> Iterator[object]:
    """A table that is refreshed every day."""
    yield dg.MaterializeResult(metadata={"text": "x" * 2_000}, check_results=[dg.AssetCheckResult(passed=True)])


@dg.asset(key=ONCE)
def once() -> None:
    """A table that is refreshed once."""


@dg.asset(key=PARTITIONED, partitions_def=dg.DailyPartitionsDefinition(start_date="2026-01-01", end_date="2027-01-01"))
def by_day() -> None:
    """A table with a partition a day."""


@pytest.fixture
def instance(settings) -> Iterator[dg.DagsterInstance]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        with instance_of(settings) as opened:
            yield opened


def run(instance: dg.DagsterInstance, asset: dg.AssetsDefinition, at: datetime, partition: str | None = None) -> str:
    """A run that its databases say to be of a moment."""
    done = dg.materialize([asset], instance=instance, partition_key=partition, tags={"day": f"{at:%F}"})
    moment, history = at.strftime("%Y-%m-%d %H:%M:%S.%f"), Path(instance.root_directory, "history")
    with closing(sqlite3.connect(history / "runs.db")) as runs, runs:
        runs.execute(
            "UPDATE runs SET update_timestamp = ?, create_timestamp = ?, start_time = ?, end_time = ? WHERE run_id = ?",
            (moment, moment, at.timestamp(), at.timestamp() + 1, done.run_id),
        )
    with closing(sqlite3.connect(history / "runs" / "index.db")) as index, index:
        index.execute("UPDATE event_logs SET timestamp = ? WHERE run_id = ?", (moment, done.run_id))
        index.execute("UPDATE asset_check_executions SET evaluation_event_timestamp = ? WHERE run_id = ?", (moment, done.run_id))
    return str(done.run_id)


def forget(instance, settings, now: datetime, days: int = 30) -> int:
    return forget_old_runs(instance, tables_of(settings), {}, now - timedelta(days=days), getLogger("test")).runs


def size(instance: dg.DagsterInstance) -> int:
    with closing(sqlite3.connect(Path(instance.root_directory, "history", "runs", "index.db"))) as index:
        index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return sum(path.stat().st_size for path in Path(instance.root_directory).rglob("*") if path.is_file() and path.suffix not in {"-wal", "-shm"})


def test_two_hundred_days_take_no_more_room_than_the_days_that_are_kept(instance, settings):
    """Runs, events, results of checks, tags, logs and files: after 100 days nothing grows any more."""
    run(instance, once, START)
    sizes, counts = {}, {}
    for day in range(200):
        now = START + timedelta(days=day)
        run(instance, daily, now)
        if day % 10 == 9:
            forget(instance, settings, now)
            sizes[day] = size(instance)
            counts[day] = len(list(Path(instance.root_directory, "history", "runs").glob("*-*.db")))
    assert sizes[199] < 1.2 * sizes[99]
    assert counts[199] == counts[99] <= 45
    with closing(sqlite3.connect(Path(instance.root_directory, "history", "runs", "index.db"))) as index:
        assert index.execute("SELECT count(*) FROM asset_check_executions").fetchone()[0] <= 45
    with closing(sqlite3.connect(Path(instance.root_directory, "history", "runs.db"))) as runs:
        assert runs.execute("SELECT count(DISTINCT run_id) FROM run_tags").fetchone()[0] <= 45
    recorded = tables_of(settings).table("platform.system.runs").scan().collect()
    assert recorded.height == recorded["run_id"].n_unique() == 201


def test_what_is_still_asked_for_stays(instance, settings):
    """The newest materialization of each asset and partition, and the newest result of each check, with their metadata and data versions."""
    run(instance, once, START)
    for day in range(3):
        run(instance, by_day, START + timedelta(days=day), f"2026-01-0{day + 1}")
    run(instance, daily, START)
    before = {key: instance.get_latest_materialization_event(key) for key in (ONCE, PARTITIONED, CHECK.asset_key)}
    now = START + timedelta(days=100)
    for number in range(10):
        run(instance, once, now + timedelta(minutes=number)) if number == -1 else None
    for job_run in range(9):  # the newest of a job stay, so others come
        run(instance, dg.asset(key=["shop", "silver", f"other_{job_run}"])(lambda: None), now)
    assert forget(instance, settings, now) == 5
    for key, event in before.items():
        kept = instance.get_latest_materialization_event(key)
        assert kept is not None
        assert kept.dagster_event.event_specific_data == event.dagster_event.event_specific_data
        assert kept.timestamp == event.timestamp
    assert instance.get_materialized_partitions(PARTITIONED) == {"2026-01-01", "2026-01-02", "2026-01-03"}
    result = last_result(instance, CHECK)
    assert result is not None
    assert result.passed
    assert instance.get_latest_data_version_record(ONCE) is not None if hasattr(instance, "get_latest_data_version_record") else True


def test_a_run_that_is_not_written_down_or_has_not_ended_stays(instance, settings):
    first = [run(instance, daily, START + timedelta(days=day)) for day in range(12)]
    waiting = instance.create_run_for_job(dg.Definitions(assets=[daily]).resolve_implicit_global_asset_job_def())
    now = START + timedelta(days=400)
    assert delete_old_runs(instance, tables_of(settings), now).runs == 0
    assert record_ended(instance, tables_of(settings), {}) == 12
    assert delete_old_runs(instance, tables_of(settings), now).runs == 12 - run_retention._KEPT_OF_A_JOB
    left = {one.run_id for one in instance.get_runs()}
    assert left == {waiting.run_id, *first[-run_retention._KEPT_OF_A_JOB :]}


@pytest.mark.parametrize("died_at", ["delete_run", "delete_events", "delete_logs", "unlink"])
def test_a_crash_while_runs_are_deleted_is_made_good_by_the_next_time(instance, settings, monkeypatch, died_at):
    for day in range(12):
        run(instance, daily, START + timedelta(days=day))
    now = datetime.now(UTC) + timedelta(days=400)
    where = {
        "delete_run": instance.run_storage,
        "delete_events": instance.event_log_storage,
        "delete_logs": instance.compute_log_manager,
        "unlink": Path,
    }[died_at]

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, died_at, dies)
    with pytest.raises(KeyboardInterrupt):
        forget(instance, settings, now)
    monkeypatch.undo()
    forget(instance, settings, now)
    files = {path.stem for path in Path(instance.root_directory, "history", "runs").glob("*-*.db")}
    assert files == {one.run_id for one in instance.get_runs()}
    assert len(files) == run_retention._KEPT_OF_A_JOB
    with closing(sqlite3.connect(Path(instance.root_directory, "history", "runs", "index.db"))) as index:
        assert {run_id for (run_id,) in index.execute("SELECT DISTINCT run_id FROM event_logs")} - files <= {""}
    assert tables_of(settings).table("platform.system.runs").count() == 12


def test_a_database_that_is_in_use_fails_nothing(instance, settings, caplog, monkeypatch):
    run(instance, daily, START)

    def fails(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(run_retention, "delete_old_runs", fails)
    assert forget(instance, settings, START) == 0
    assert "no space left" in caplog.text
