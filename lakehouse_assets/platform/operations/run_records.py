"""What Dagster recorded of runs and checks, read from the SQLite databases of a root without importing Dagster, which takes seconds.

Nothing is written here. That the tables are as they are read is held by a test against Dagster's own instance. Where Dagster keeps its
records elsewhere (a `storage` section in the root's dagster.yaml), they are not read.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lakehouse_assets.platform.declarations.check_names import NOT_EVALUATED
from lakehouse_assets.platform.storage.disk import reason
from lakehouse_assets.platform.storage.errors import DatabaseUnavailable

_RUNS, _OF_RUNS = Path("history", "runs.db"), Path("history", "runs")
_EVENTS = _OF_RUNS / "index.db"
_ERROR = "AssetCheckSeverity.ERROR"
_UNDER_WAY = ("STARTED", "STARTING", "CANCELING")
_ENDED = ("SUCCESS", "FAILURE", "CANCELED")


@dataclass(frozen=True)
class RecordedRun:
    """A run.

    Attributes:
        run_id: Its id.
        status: As Dagster calls it: SUCCESS, FAILURE, CANCELED, STARTED, …
        started_at: None before it started.
        ended_at: None before it ended.
    """

    run_id: str
    status: str
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True)
class AskedRun:
    """A run by what it was asked for.

    Attributes:
        run_id: Its id.
        status: As Dagster calls it.
        job: Its job.
        chosen: The tables that it was asked for; None: all of its job.
        tags: On it.
    """

    run_id: str
    status: str
    job: str
    chosen: frozenset[str] | None
    tags: Mapping[str, str]


@dataclass(frozen=True)
class FailedCheck:
    """A check that failed when it was evaluated last.

    Attributes:
        name: Of the check.
        stops: Whether it stops what is downstream (its severity is ERROR); else it warns.
        text: What it said.
    """

    name: str
    stops: bool
    text: str = ""


def last_run(home: Path) -> RecordedRun | None:
    """The run that was started last; None before the first.

    Args:
        home: The root's DAGSTER_HOME.
    """
    rows = _rows(home / _RUNS, "SELECT run_id, status, start_time, end_time FROM runs ORDER BY id DESC LIMIT 1")
    return next((RecordedRun(run_id, status, _moment(start), _moment(end)) for run_id, status, start, end in rows), None)


def runs_under_way(home: Path) -> list[str]:
    """The ids of the runs that have begun and not ended, newest first; those whose process is gone are among them.

    Args:
        home: The root's DAGSTER_HOME.
    """
    return [run_id for run_id, _ in _with_status(home, _UNDER_WAY)]


def has_runs_before(home: Path, moment: datetime) -> bool:
    """Whether there is a run that has ended before a moment (UTC).

    Args:
        home: The root's DAGSTER_HOME.
        moment: The moment.
    """
    marks, text = ", ".join("?" * len(_ENDED)), moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    query = f"SELECT 1 FROM runs WHERE status IN ({marks}) AND update_timestamp < ? LIMIT 1"  # noqa: S608
    return bool(_rows(home / _RUNS, query, *_ENDED, text))


def unfinished_or_tagged(home: Path, tag: str, value: str | None) -> list[AskedRun]:
    """The runs that have not ended, queued ones too, and those with a tag, newest first.

    Args:
        home: The root's DAGSTER_HOME.
        tag: The tag.
        value: Of the tag; None: only those that have not ended.
    """
    marks = ", ".join("?" * len(_ENDED))
    query = (
        f"SELECT run_body, status FROM runs WHERE status NOT IN ({marks}) "  # noqa: S608
        "OR run_id IN (SELECT run_id FROM run_tags WHERE key = ? AND value = ?) ORDER BY id DESC"
    )
    found = []
    for body, status in _rows(home / _RUNS, query, *_ENDED, tag, "" if value is None else value):
        run = json.loads(body)
        chosen = run.get("asset_selection")
        names = None if chosen is None else frozenset(".".join(key["path"]) for key in chosen["__frozenset__"])
        found.append(AskedRun(run["run_id"], status, run["pipeline_name"], names, run["tags"]))
    return found


def failures_of_the_last(home: Path) -> dict[str, str]:
    """The tables at which the run that ended last failed, with the reasons; empty if it did not fail.

    Args:
        home: The root's DAGSTER_HOME.
    """
    run_id, status = next(iter(_with_status(home, _ENDED)), ("", ""))
    if status != "FAILURE":
        return {}
    query = "SELECT step_key, event FROM event_logs WHERE dagster_event_type = 'STEP_FAILURE' ORDER BY id"
    rows = _rows(home / _OF_RUNS / f"{run_id}.db", query)
    # A step is named by its asset, with underscores for dots.
    return {str(step).replace("__", "."): _reason(json.loads(event)["dagster_event"]["event_specific_data"]) for step, event in rows}


def _reason(failure: Mapping[str, Any]) -> str:
    """Why a step failed: the text of the failure, or the innermost error without Dagster's messages around it."""
    if told := (failure["user_failure_data"] or {}).get("description"):
        return str(told)
    error = failure["error"] or {"message": "unknown"}
    while error.get("cause"):
        error = error["cause"]
    return str(error["message"]).strip()


def _with_status(home: Path, statuses: Collection[str]) -> list[tuple[str, str]]:
    """Ids and states of the runs that have one of these states, newest first."""
    marks = ", ".join("?" * len(statuses))
    return _rows(home / _RUNS, f"SELECT run_id, status FROM runs WHERE status IN ({marks}) ORDER BY id DESC", *statuses)  # noqa: S608


def failed_checks(home: Path, declared: Mapping[str, Collection[str]]) -> dict[str, list[FailedCheck]]:
    """By table, the checks that failed when they were last evaluated; those that a failed step left unevaluated are not among them.

    Args:
        home: The root's DAGSTER_HOME.
        declared: The names of the checks of each table; what is recorded of others is of a declaration that has changed.
    """
    rows = _rows(
        home / _EVENTS,
        "SELECT asset_key, check_name, evaluation_event FROM asset_check_executions WHERE id IN "
        "(SELECT MAX(id) FROM asset_check_executions GROUP BY asset_key, check_name) AND execution_status = 'FAILED' ORDER BY id",
    )
    failed: dict[str, list[FailedCheck]] = {}
    for key, name, event in rows:
        table = ".".join(json.loads(key))
        # A check that was only planned, because its step was skipped, has no event.
        evaluation = json.loads(event)["dagster_event"]["event_specific_data"] if event else None
        if name in declared.get(table, ()) and evaluation is not None and NOT_EVALUATED not in evaluation.get("metadata", {}):
            stops, text = evaluation["severity"]["__enum__"] == _ERROR, evaluation.get("description") or ""
            failed.setdefault(table, []).append(FailedCheck(name, stops, text))
    return failed


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _rows(path: Path, query: str, *arguments: str) -> list[Any]:
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(query, arguments).fetchall()
    except sqlite3.Error as error:
        if "no such table" in str(error):  # the first process of the root was killed while Dagster made its databases
            return []
        why = reason(error, path.parent) or str(error)
        raise DatabaseUnavailable(f"Dagster's database {path} cannot be used: {why}") from error
