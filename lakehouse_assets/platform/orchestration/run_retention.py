"""Old runs leave Dagster's databases, with their events, logs and files, once the system tables have them.

What is still shown or asked for stays: the newest materialization of each asset and partition, the newest result of each check, the
newest runs of each job, and every run that has not ended. How runs get into the system tables is in `recording`.
"""

import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from logging import Logger
from pathlib import Path
from typing import Any, Final

import dagster as dg
import sqlalchemy as sql
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, AssetEventTagsTable, SqlEventLogStorageTable
from dagster._core.storage.runs.schema import RunsTable, RunTagsTable

from lakehouse_assets.platform.monitoring.system import system_log
from lakehouse_assets.platform.orchestration.recording import ENDED, record_ended
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

# Alerts compare a run with the one of its job before it, and the sensor looks at some more.
_KEPT_OF_A_JOB: Final = 8
_LASTING: Final = (dg.DagsterEventType.ASSET_MATERIALIZATION.value, dg.DagsterEventType.ASSET_OBSERVATION.value)
_EVALUATED: Final = ("SUCCEEDED", "FAILED")
_FREE_SHARE, _FREE_PAGES = 0.25, 256
_SECONDS_TO_WAIT: Final = 5.0


@dataclass(frozen=True)
class Keep:
    """Since when runs are kept, by their end (UTC).

    Attributes:
        runs: In Dagster's databases.
        recorded: In the system tables.
    """

    runs: datetime
    recorded: datetime

    @classmethod
    def days(cls, now: datetime, runs: int, recorded: int) -> "Keep":
        """So many days before a moment."""
        return cls(now - timedelta(days=runs), now - timedelta(days=recorded))


@dataclass(frozen=True)
class Deleted:
    """What went.

    Attributes:
        runs: How many.
        bytes_freed: Of files of the databases and of logs.
    """

    runs: int
    bytes_freed: int


def forget_old_runs(instance: dg.DagsterInstance, lakehouse: Lakehouse, owners: Mapping[str, str], keep: Keep, log: Logger) -> Deleted:
    """Write down every run that has ended, and delete the old ones; where that fails, the next call does it, and nobody fails of it.

    Args:
        instance: Where they were run.
        lakehouse: Has the system tables.
        owners: By table, who answers for it.
        keep: Which runs are old.
        log: Told what went wrong.
    """
    try:
        record_ended(instance, lakehouse, owners, kept=keep.recorded)
        return delete_old_runs(instance, lakehouse, keep)
    except Exception as error:  # noqa: BLE001 whatever it is, old runs are in nobody's way
        log.warning("Old runs are still in Dagster's databases: %s", error)
        return Deleted(0, 0)


def delete_old_runs(instance: dg.DagsterInstance, lakehouse: Lakehouse, keep: Keep) -> Deleted:
    """Delete the old runs. One that is not written down, and should be, is kept.

    It may die at any moment: the next call does the rest.

    Args:
        instance: Where they were run.
        lakehouse: Has the system tables.
        keep: Which runs are old.
    """
    folder, before = Path(instance.root_directory), keep.runs
    size, old = _size(folder), _old_runs(instance, lakehouse, keep)
    for run_id in old:
        _delete(instance, folder, run_id)
    known = {record.dagster_run.run_id for record in instance.get_run_records()}
    for path in sorted((folder / "history" / "runs").glob("*-*.db")):  # of a run that was begun to be deleted
        if path.stem not in known and path.stat().st_mtime < before.timestamp():
            _delete(instance, folder, path.stem)
    _delete_what_belongs_to_no_run(instance, folder, before)
    for database in (folder / "history" / "runs.db", folder / "history" / "runs" / "index.db", folder / "schedules" / "schedules.db"):
        _shrink(database)
    return Deleted(len(old), max(size - _size(folder), 0))


def _old_runs(instance: dg.DagsterInstance, lakehouse: Lakehouse, keep: Keep) -> list[str]:
    """The runs that may go, the oldest first."""
    found, newest, recorded = [], Counter[str](), system_log.run_ids(lakehouse)
    for record in instance.get_run_records(dg.RunsFilter(statuses=ENDED)):
        run = record.dagster_run
        newest[run.job_name] += 1
        ended = record.update_timestamp.astimezone(UTC)
        is_settled = run.run_id in recorded or ended < keep.recorded
        if ended < keep.runs and is_settled and newest[run.job_name] > _KEPT_OF_A_JOB:
            found.append(run.run_id)
    return found[::-1]


def _delete(instance: dg.DagsterInstance, folder: Path, run_id: str) -> None:
    _keep_what_is_newest(instance, run_id)
    instance.delete_run(run_id)
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    for name in (f"{run_id}.db-wal", f"{run_id}.db-shm", f"{run_id}.db"):  # the database last: by it the rest is found
        (folder / "history" / "runs" / name).unlink(missing_ok=True)
    with suppress(OSError):  # it is not empty, or never was
        (folder / "storage" / run_id).rmdir()


def _keep_what_is_newest(instance: dg.DagsterInstance, run_id: str) -> None:
    """Make the newest materializations of assets and partitions, where they are of this run, events without a run, which stay."""
    events, storage = SqlEventLogStorageTable.c, _database(instance)
    with storage.index_connection() as connection:
        own = sql.select(events.asset_key).where(events.run_id == run_id, events.dagster_event_type.in_(_LASTING))
        newest = _newest(events.id, events.dagster_event_type, events.asset_key, events.partition).where(
            events.dagster_event_type.in_(_LASTING), events.asset_key.in_(own)
        )
        mine = sql.update(SqlEventLogStorageTable).where(events.run_id == run_id, events.id.in_(newest.scalar_subquery()))
        connection.execute(mine.values(run_id=RUNLESS_RUN_ID))


def _delete_what_belongs_to_no_run(instance: dg.DagsterInstance, folder: Path, before: datetime) -> None:
    """Old results of checks, events without a run, and tags, as far as newer ones have taken their place."""
    moment = before.astimezone(UTC).replace(tzinfo=None)  # as the databases have it
    events, checks = SqlEventLogStorageTable.c, AssetCheckExecutionsTable.c
    with _database(instance).index_connection() as connection:
        of_checks = _newest(checks.id, checks.asset_key, checks.check_name, checks.partition).where(checks.execution_status.in_(_EVALUATED))
        old_checks = sql.and_(checks.evaluation_event_timestamp < moment, checks.id.not_in(of_checks.scalar_subquery()))
        connection.execute(sql.delete(AssetCheckExecutionsTable).where(old_checks))
        of_events = _newest(events.id, events.dagster_event_type, events.asset_key, events.partition)
        old_events = sql.and_(events.run_id == RUNLESS_RUN_ID, events.timestamp < moment, events.id.not_in(of_events.scalar_subquery()))
        connection.execute(
            sql.delete(AssetEventTagsTable).where(AssetEventTagsTable.c.event_id.in_(sql.select(events.id).where(old_events)))
        )
        connection.execute(sql.delete(SqlEventLogStorageTable).where(old_events))
    runs: Any = instance.run_storage
    with runs.connect() as connection:
        connection.execute(sql.delete(RunTagsTable).where(RunTagsTable.c.run_id.not_in(sql.select(RunsTable.c.run_id))))
    if (folder / "history" / "runs" / f"{RUNLESS_RUN_ID}.db").exists():  # a database of its own, which is asked for nothing that is old
        with _database(instance).run_connection(RUNLESS_RUN_ID) as connection:
            connection.execute(sql.delete(SqlEventLogStorageTable).where(events.timestamp < moment))


def _newest(number: Any, *by: Any) -> Any:
    return sql.select(sql.func.max(number)).group_by(*by)


def _database(instance: dg.DagsterInstance) -> Any:
    return instance.event_log_storage


def _shrink(path: Path) -> None:
    """Give the pages of a database of SQLite that are free back to the disk, where they are many and nobody uses it right now."""
    if not path.exists():
        return
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(path, timeout=_SECONDS_TO_WAIT)) as connection:
        (free,), (pages,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("freelist_count", "page_count"))
        if free > _FREE_PAGES and free > _FREE_SHARE * pages:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # gone since
            total += path.stat().st_size if path.is_file() else 0
    return total
