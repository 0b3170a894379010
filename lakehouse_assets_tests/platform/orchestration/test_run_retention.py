"""Dagster's databases stay as small as the days that they keep. What is still asked for stays; no run goes before it is written down."""

import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from logging import getLogger
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import StepMaterializationData

from lakehouse_assets.client.client import open_lakehouse
from lakehouse_assets.platform.operations import run_records
from lakehouse_assets.platform.orchestration import run_retention
from lakehouse_assets.platform.orchestration.instance import instance as instance_of
from lakehouse_assets.platform.orchestration.planned import last_result
from lakehouse_assets.platform.orchestration.recording import record_ended
from lakehouse_assets.platform.orchestration.run_retention import Keep, delete_old_runs, forget_old_runs
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.running import tables_of

START = datetime(2026, 1, 1, 6, tzinfo=UTC)
CHECK = dg.AssetCheckKey(dg.AssetKey(["shop", "silver", "daily"]), "fine")
ONCE = dg.AssetKey(["shop", "silver", "once"])
PARTITIONED = dg.AssetKey(["shop", "silver", "by_day"])


@pytest.fixture
def instance(settings) -> Iterator[dg.DagsterInstance]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        with instance_of(settings) as opened:
            yield opened


def run(instance: dg.DagsterInstance, key: dg.AssetKey, at: datetime, *, partition: str | None = None, job: str = "daily") -> str:
    """A run of a moment with a materialization and, of the table with a check, its result: as Dagster stores them."""
    done = dg.DagsterRun(job_name=job, run_id=str(uuid.uuid4()), status=dg.DagsterRunStatus.SUCCESS, tags={"day": f"{at:%F}"})
    instance.add_run(done)
    history = Path(instance.root_directory, "history")
    _copy_empty_database(instance, history / "runs", done.run_id)
    made = dg.AssetMaterialization(key, metadata={"text": "x" * 2_000}, partition=partition, tags={"dagster/data_version": "1"})
    _report(instance, done, dg.DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(made))
    if key == CHECK.asset_key:
        _report(instance, done, dg.DagsterEventType.ASSET_CHECK_EVALUATION, dg.AssetCheckEvaluation(key, CHECK.name, passed=True))
    instance.report_dagster_event(dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, job), done.run_id)
    logs = Path(instance.root_directory, "storage", done.run_id, "compute_logs")
    logs.mkdir(parents=True)
    (logs / "step.err").write_text("x" * 1_000)
    moment = at.strftime("%Y-%m-%d %H:%M:%S.%f")
    with closing(sqlite3.connect(history / "runs.db")) as runs, runs:
        runs.execute(
            "UPDATE runs SET update_timestamp = ?, create_timestamp = ?, start_time = ?, end_time = ? WHERE run_id = ?",
            (moment, moment, at.timestamp(), at.timestamp() + 1, done.run_id),
        )
    with closing(sqlite3.connect(history / "runs" / "index.db")) as index, index:
        index.execute("UPDATE event_logs SET timestamp = ? WHERE run_id = ?", (moment, done.run_id))
        index.execute("UPDATE asset_check_executions SET evaluation_event_timestamp = ? WHERE run_id = ?", (moment, done.run_id))
    return str(done.run_id)


def _report(instance: dg.DagsterInstance, of: dg.DagsterRun, kind: dg.DagsterEventType, data: object) -> None:
    instance.report_dagster_event(dg.DagsterEvent(kind.value, of.job_name, step_key="step", event_specific_data=data), of.run_id)


def _copy_empty_database(instance: dg.DagsterInstance, folder: Path, run_id: str) -> None:
    """Dagster takes most of a second to make the database of a run."""
    empty = folder.parent / "empty.db"
    if not empty.exists():
        with instance.event_log_storage.run_connection("first-run"):
            pass
        with closing(sqlite3.connect(folder / "first-run.db")) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (folder / "first-run.db").rename(empty)
        for path in folder.glob("first-run.db-*"):
            path.unlink()
    shutil.copyfile(empty, folder / f"{run_id}.db")
    instance.event_log_storage._initialized_dbs.add(run_id)


def forget(instance, settings, now: datetime, days: int = 30) -> int:
    return forget_old_runs(instance, tables_of(settings), {}, Keep.days(now, days, 1_000), getLogger("test")).runs


def databases(instance: dg.DagsterInstance) -> set[str]:
    """The runs that have a database."""
    return {path.stem for path in Path(instance.root_directory, "history", "runs").glob("*-*.db")}


def size(instance: dg.DagsterInstance) -> int:
    with closing(sqlite3.connect(Path(instance.root_directory, "history", "runs", "index.db"))) as index:
        index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return sum(path.stat().st_size for path in Path(instance.root_directory).rglob("*.*") if path.suffix in {".db", ".err"})


def test_forty_days_take_no_more_room_than_the_days_that_are_kept(instance, settings):
    """Runs, events, results of checks, tags, logs and files: after the days that are kept nothing grows any more."""
    run(instance, ONCE, START, job="once")
    sizes, counts = {}, {}
    for day in range(40):
        now = START + timedelta(days=day)
        run(instance, CHECK.asset_key, now)
        if day % 10 == 9:
            forget(instance, settings, now, days=10)
            sizes[day], counts[day] = size(instance), len(databases(instance))
    assert sizes[39] < 1.2 * sizes[19]
    assert counts[39] == counts[19] == 12  # eleven days, and the newest run of the other job
    with closing(sqlite3.connect(Path(instance.root_directory, "history", "runs", "index.db"))) as index:
        assert index.execute("SELECT count(*) FROM asset_check_executions").fetchone() == (11,)
    with closing(sqlite3.connect(Path(instance.root_directory, "history", "runs.db"))) as runs:
        assert runs.execute("SELECT count(DISTINCT run_id) FROM run_tags").fetchone() == (12,)
    assert len(list(Path(instance.root_directory, "storage").iterdir())) == 12
    recorded = tables_of(settings).table("platform.system.runs").scan().collect()
    assert recorded.height == recorded["run_id"].n_unique() == 41


def test_what_is_still_asked_for_stays(instance, settings):
    """The newest materialization of each asset and partition and the newest result of each check, with metadata and data versions."""
    run(instance, ONCE, START)
    partitions = [f"2026-01-0{day}" for day in (1, 2, 3)]
    for partition in [*partitions, *partitions]:
        run(instance, PARTITIONED, START, partition=partition)
    run(instance, CHECK.asset_key, START)
    before = {key: instance.get_latest_materialization_event(key) for key in (ONCE, PARTITIONED, CHECK.asset_key)}
    now = START + timedelta(days=100)
    for _ in range(run_retention._KEPT_OF_A_JOB):
        run(instance, dg.AssetKey("other"), now)
    assert forget(instance, settings, now) == 8
    for key, event in before.items():
        kept = instance.get_latest_materialization_event(key)
        assert kept is not None
        assert kept.dagster_event.event_specific_data == event.dagster_event.event_specific_data
        assert kept.timestamp == event.timestamp
    assert instance.get_materialized_partitions(PARTITIONED) == set(partitions)
    records = instance.fetch_materializations(PARTITIONED, limit=10).records
    assert len(records) == 3, "of each partition the newest alone"
    result = last_result(instance, CHECK)
    assert result is not None
    assert result.passed


def test_a_run_that_is_not_written_down_or_has_not_ended_stays(instance, settings):
    ended = [run(instance, CHECK.asset_key, START + timedelta(days=day)) for day in range(12)]
    waiting = dg.DagsterRun(job_name="daily", run_id=str(uuid.uuid4()), status=dg.DagsterRunStatus.STARTED)
    instance.add_run(waiting)
    now = START + timedelta(days=400)
    assert delete_old_runs(instance, tables_of(settings), Keep.days(now, 0, 1_000)).runs == 0
    assert record_ended(instance, tables_of(settings), {}) == 12
    assert delete_old_runs(instance, tables_of(settings), Keep.days(now, 0, 1_000)).runs == 12 - run_retention._KEPT_OF_A_JOB
    left = {one.run_id for one in instance.get_runs()}
    assert left == {waiting.run_id, *ended[-run_retention._KEPT_OF_A_JOB :]}


@pytest.mark.parametrize("died_at", sweeps.of(["delete_run", "unlink"], ["delete_run", "delete_events", "delete_logs", "unlink"]))
def test_a_crash_while_runs_are_deleted_is_made_good_by_the_next_time(instance, settings, monkeypatch, died_at):
    for day in range(12):
        run(instance, CHECK.asset_key, START + timedelta(days=day))
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
    files = databases(instance)
    assert files == {one.run_id for one in instance.get_runs()}
    assert len(files) == run_retention._KEPT_OF_A_JOB
    with closing(sqlite3.connect(Path(instance.root_directory, "history", "runs", "index.db"))) as index:
        assert {run_id for (run_id,) in index.execute("SELECT DISTINCT run_id FROM event_logs")} - files <= {""}
    assert tables_of(settings).table("platform.system.runs").count() == 12


def test_a_database_that_is_in_use_fails_nothing(instance, settings, caplog):
    """As while another process deletes, or somebody copies it."""
    for day in range(12):
        run(instance, CHECK.asset_key, START + timedelta(days=day))
    now = START + timedelta(days=400)
    with closing(sqlite3.connect(Path(instance.root_directory, "history", "runs.db"))) as runs:
        runs.execute("BEGIN EXCLUSIVE")
        assert forget(instance, settings, now) == 0
    assert "database is locked" in caplog.text
    assert forget(instance, settings, now) == 12 - run_retention._KEPT_OF_A_JOB


def test_runs_that_dagster_has_no_more_are_listed_from_the_system_tables(settings, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", "")
    with instance_of(settings) as opened:
        ended = [run(opened, CHECK.asset_key, START + timedelta(days=day)) for day in range(12)]
        listed = open_lakehouse(settings=settings, declarations=[]).runs.list
        before = listed(11)
        assert forget(opened, settings, START + timedelta(days=400)) == 12 - run_retention._KEPT_OF_A_JOB
    after = listed(11)
    assert [one["run_id"] for one in before] == [one["run_id"] for one in after] == ended[:0:-1]
    assert after == before


def test_the_command_deletes_old_runs_too(settings, monkeypatch):
    """Where nobody runs the schedules."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    with instance_of(settings) as opened:
        for day in range(12):
            run(opened, CHECK.asset_key, START + timedelta(days=day))
        home = settings.dagster_home
        assert [run_records.has_runs_before(home, START + timedelta(seconds=second)) for second in (0, 1)] == [False, True]
        open_lakehouse(settings=settings, declarations=[]).maintenance()
        assert len(opened.get_runs()) == run_retention._KEPT_OF_A_JOB
    assert tables_of(settings).table("platform.system.runs").count() == 12


def test_a_run_that_is_older_than_the_system_tables_keep_is_deleted_and_not_written_down(instance, settings):
    """Each night it would come in, and go again."""
    for day in range(12):
        run(instance, CHECK.asset_key, START + timedelta(days=day))
    keep = Keep.days(START + timedelta(days=400), 30, 100)
    assert forget_old_runs(instance, tables_of(settings), {}, keep, getLogger("test")).runs == 12 - run_retention._KEPT_OF_A_JOB
    assert tables_of(settings).table("platform.system.runs").count() == 0
