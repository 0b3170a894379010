"""From Dagster's records to the system tables: every run that has ended is written down once, by whoever notices it first.

That is the command at the end of its run, a sensor, and maintenance before it deletes old ones; each also writes
down what others left, as after a crash. What a step used is in its events (`step_usage`); `system_log` writes each run once.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from logging import Logger
from typing import Any, Final

import dagster as dg
from dagster._core.storage.tags import BACKFILL_ID_TAG, SCHEDULE_NAME_TAG, SENSOR_NAME_TAG

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX
from lakehouse_assets.platform.declarations.check_names import NOT_EVALUATED
from lakehouse_assets.platform.monitoring.system import system_log
from lakehouse_assets.platform.monitoring.system.system_log import Recorded
from lakehouse_assets.platform.orchestration.ended_runs import Consumed, Ends
from lakehouse_assets.platform.orchestration.io_manager import stored_as
from lakehouse_assets.platform.orchestration.monitors import watched_by
from lakehouse_assets.platform.orchestration.planned import KEPT
from lakehouse_assets.platform.orchestration.run_control import GIT_TAG, LAUNCHED_BY_TAG, launched_by
from lakehouse_assets.platform.orchestration.step_errors import reason_of_failure
from lakehouse_assets.platform.orchestration.step_usage import MARK
from lakehouse_assets.platform.orchestration.table_partitions import SUFFIX
from lakehouse_assets.platform.pipeline import commit_statistics
from lakehouse_assets.platform.storage.errors import CommitConflict, CursorMoved, StorageError
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.retention import DATE
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.wording import counted

ENDED: Final = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_LONGEST_TEXT: Final = 2_000
_TYPE: Final = dg.DagsterEventType
_TYPES: Final = {
    _TYPE.STEP_START,
    _TYPE.STEP_RESTARTED,
    _TYPE.STEP_SUCCESS,
    _TYPE.STEP_FAILURE,
    _TYPE.STEP_SKIPPED,
    _TYPE.ASSET_MATERIALIZATION_PLANNED,
    _TYPE.ASSET_MATERIALIZATION,
    _TYPE.ASSET_CHECK_EVALUATION_PLANNED,
    _TYPE.ASSET_CHECK_EVALUATION,
    _TYPE.ENGINE_EVENT,
    _TYPE.RUN_FAILURE,
    _TYPE.RUN_CANCELED,
}
_STATES: Final = {_TYPE.STEP_SUCCESS: "success", _TYPE.STEP_FAILURE: "failure", _TYPE.STEP_SKIPPED: "skipped"}
_ROWS: Final = ("rows_in", "rows_written", "rows_updated", "rows_duplicate", "rows_quarantined")
_SUMMED: Final = ("cpu", "bytes_read", "bytes_written")


def record_ended(instance: dg.DagsterInstance, lakehouse: Lakehouse, owners: Mapping[str, str], *, kept: datetime | None = None) -> int:
    """Write down the runs that have ended since the last time, in the order in which they ended; how many these were.

    How far they were read is a watermark of the table of runs, which the commit of their rows advances.

    Args:
        instance: Where they were run.
        lakehouse: Has the system tables.
        owners: By table, who answers for it.
        kept: Runs that ended before are left out, as the system tables would not keep them (UTC); None: none is.

    Raises:
        CommitConflict: Other writers did not let this one through.
    """
    ends, count = Ends(instance), 0
    while True:
        watermark = system_log.watermark(lakehouse)
        consumed, newest = Consumed.read(watermark), ends.newest
        if newest is None:
            return count
        # The first time, and where Dagster's database is another one, some may be written down already.
        is_first = consumed.newest is None or newest < consumed.newest
        consumed = Consumed.nothing() if is_first else consumed
        new, _ = ends.after(consumed, clock.now())
        if not new:
            return count
        known = system_log.run_ids(lakehouse) if is_first else set[str]()
        found = [record for record in _ended(instance, new, known) if kept is None or record.update_timestamp.astimezone(UTC) >= kept]
        page = [_RunRecords.of(instance, record, owners) for record in found]
        with suppress(CommitConflict):  # the next one does it
            commit_statistics.record(lakehouse, _existing(lakehouse, {name for run in page for name in run.written}))
        recorded = Recorded(
            [run.row() for run in page], [row for run in page for row in run.steps()], [row for run in page for row in run.checks]
        )
        with suppress(CursorMoved):  # another process writes the same down: what it has left is read
            count += system_log.write(lakehouse, recorded, consumed.with_all([end.storage_id for end in new]).cursors(watermark))


def _ended(instance: dg.DagsterInstance, ends: Iterable[dg.EventLogRecord], known: Collection[str]) -> Iterator[dg.RunRecord]:
    """The runs of some events with which runs end, each once; one that was deleted meanwhile is not among them."""
    for run_id in dict.fromkeys(end.run_id for end in ends):
        record = None if run_id in known else instance.get_run_record_by_id(run_id)
        if record is not None and record.dagster_run.is_finished:
            yield record


def try_to_record(instance: dg.DagsterInstance, lakehouse: Lakehouse, owners: Mapping[str, str], log: Logger) -> None:
    """As `record_ended`, where nothing may fail of it: what could not be written down now is written down with the next run."""
    try:
        record_ended(instance, lakehouse, owners)
    except Exception as error:  # noqa: BLE001 whatever it is, the run is over and its tables are as they are
        log.warning("The system tables do not have the last run yet: %s", error)


def sensor(owners: Mapping[str, str], seconds: int) -> dg.SensorDefinition:
    """Writes down the runs of processes that did not do it themselves, as those of the web UI. On by default.

    Args:
        owners: By table, who answers for it.
        seconds: Between two ticks.
    """

    @dg.sensor(
        name="system_tables",
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"lakehouse"},
        description="Writes each run that has ended, its steps and its checks into the system tables, once.",
    )
    def system_tables(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        count = record_ended(context.instance, context.resources.lakehouse.open(), owners)
        return dg.SkipReason(f"{counted(count, 'run')} written down.")

    return system_tables


@dataclass
class _Step:
    """What the events of a run say of one of its steps."""

    key: str
    table: str = ""
    is_planned: bool = False
    state: str = ""
    attempts: int = 0
    started: float | None = None
    ended: float | None = None
    reason: str | None = None
    numbers: dict[str, Any] = field(default_factory=dict)

    def use(self, numbers: Mapping[str, Any]) -> None:
        """Take over what a try used."""
        again = "cpu" in self.numbers
        for name, value in numbers.items():
            if again and name in _SUMMED:
                self.numbers[name] = self.numbers.get(name, 0) + value
            elif again and name == "peak_memory":
                self.numbers[name] = max(self.numbers.get(name, 0), value)
            elif not (again and name == "version_before"):
                self.numbers[name] = value


@dataclass
class _RunRecords:
    """A run that has ended, with what its events say."""

    record: dg.RunRecord
    owners: Mapping[str, str]
    of_steps: dict[str, _Step] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    written: set[str] = field(default_factory=set)
    why: str | None = None

    @classmethod
    def of(cls, instance: dg.DagsterInstance, record: dg.RunRecord, owners: Mapping[str, str]) -> "_RunRecords":
        """Read the events of a run."""
        run = cls(record, owners)
        for entry in instance.all_logs(record.dagster_run.run_id, of_type=_TYPES):
            if entry.dagster_event is not None:
                run._take(entry.dagster_event, entry.timestamp)
        return run

    # --- reading events

    def _take(self, event: dg.DagsterEvent, at: float) -> None:
        step = self._step(event.step_key)
        match event.event_type:
            case _TYPE.ASSET_MATERIALIZATION_PLANNED if step is not None and not step.table:
                step.table = stored_as(event.asset_materialization_planned_data.asset_key).removesuffix(SUFFIX)
            case _TYPE.ASSET_CHECK_EVALUATION_PLANNED if step is not None:
                step.is_planned = True  # a step of checks alone materializes nothing
            case _TYPE.STEP_START | _TYPE.STEP_RESTARTED if step is not None:
                step.attempts += 1
                step.started = at if step.started is None else step.started
            case _TYPE.STEP_SUCCESS | _TYPE.STEP_FAILURE | _TYPE.STEP_SKIPPED if step is not None:
                step.state, step.ended = _STATES[event.event_type], at if step.attempts else None
                if event.event_type is _TYPE.STEP_FAILURE:
                    step.reason = reason_of_failure(event)
            case _TYPE.ASSET_MATERIALIZATION:
                self._materialized(event, step)
            case _TYPE.ASSET_CHECK_EVALUATION:
                self._checked(event.asset_check_evaluation_data, at)
            case _TYPE.ENGINE_EVENT if step is not None and MARK in event.engine_event_data.metadata:
                values = {name: value.value for name, value in event.engine_event_data.metadata.items()}
                step.table = str(values.pop(MARK))
                step.use(values)
                self.written |= {step.table, step.table + QUARANTINE_SUFFIX}
            case _TYPE.RUN_FAILURE | _TYPE.RUN_CANCELED:
                self.why = event.message

    def _step(self, key: str | None) -> _Step | None:
        return None if key is None else self.of_steps.setdefault(key, _Step(key))

    def _materialized(self, event: dg.DagsterEvent, step: _Step | None) -> None:
        made = event.step_materialization_data.materialization
        self.written.add(stored_as(made.asset_key).removesuffix(SUFFIX))
        if step is not None and _ROWS[1] in made.metadata:
            step.numbers |= {name: value for name in _ROWS if isinstance(value := made.metadata[name].value, int)}

    def _checked(self, evaluation: dg.AssetCheckEvaluation, at: float) -> None:
        if {NOT_EVALUATED, KEPT} & evaluation.metadata.keys():
            return
        table = stored_as(evaluation.asset_key)
        metadata = {name: value.value for name, value in evaluation.metadata.items()}
        self.checks.append(
            self._of_table(table)
            | {
                "check": evaluation.check_name,
                "passed": evaluation.passed,
                "severity": evaluation.severity.value.lower(),
                "text": _cut(evaluation.description),
                "rows_checked": _whole(metadata.get("rows_checked")),
                "rows_broken": _whole(metadata.get("rows_broken", metadata.get("values_missing"))),
                "at": _moment(at),
            }
        )

    # --- making rows

    def row(self) -> dict[str, Any]:
        """The row of the run."""
        run, record = self.record.dagster_run, self.record
        failed = [step for step in self.of_steps.values() if step.state == "failure"]
        reason = "; ".join(step.reason or "" for step in failed) or self.why
        return self._of_run() | {
            "job": "selection" if run.job_name.startswith("__") else run.job_name,
            "status": run.status.value.lower(),
            "trigger": _trigger(run.tags),
            "launched_by": launched_by(run.tags),
            "code": run.tags.get(GIT_TAG),
            "requested_at": record.create_timestamp.astimezone(UTC),
            "started_at": _moment(record.start_time),
            "ended_at": self._ended,
            "duration": None if record.start_time is None else self._ended.timestamp() - record.start_time,
            "steps": len(self._own_steps),
            "steps_failed": len(failed),
            "checks_failed": sum(not check["passed"] for check in self.checks),
            "reason": None if run.status is dg.DagsterRunStatus.SUCCESS else _cut(reason),
        }

    def steps(self) -> Iterator[dict[str, Any]]:
        """The rows of its steps."""
        for step in self._own_steps:
            state = step.state or ("interrupted" if step.attempts else "skipped")
            ended = step.ended if step.ended or not step.attempts else self._ended.timestamp()
            yield (
                self._of_table(step.table or watched_by(step.key))
                | step.numbers
                | {
                    "step": step.key,
                    "status": state,
                    "attempts": step.attempts,
                    "started_at": _moment(step.started),
                    "ended_at": _moment(ended),
                    "duration": None if ended is None or step.started is None else ended - step.started,
                    "reason": _cut(step.reason),
                }
            )

    @property
    def _own_steps(self) -> Sequence[_Step]:
        """The steps that were to do something; other events name a step too."""
        return [step for step in self.of_steps.values() if step.table or step.is_planned or step.attempts]

    @property
    def _ended(self) -> datetime:
        end = self.record.end_time
        return self.record.update_timestamp.astimezone(UTC) if end is None else datetime.fromtimestamp(end, UTC)

    def _of_run(self) -> dict[str, Any]:
        return {"run_id": self.record.dagster_run.run_id, DATE: self._ended.date()}

    def _of_table(self, table: str) -> dict[str, Any]:
        owner = self.owners.get(table.removesuffix(QUARANTINE_SUFFIX))
        return self._of_run() | {"table": table, "product": table.split(".", maxsplit=1)[0], "owner": owner}


def _existing(lakehouse: Lakehouse, names: Iterable[str]) -> Iterator[Table]:
    """Those of the names that are tables: a plain asset may be stored elsewhere, and called anything."""
    for name in sorted(names):
        with suppress(StorageError):
            table = lakehouse.table(name)
            if table.exists():
                yield table


def _trigger(tags: Mapping[str, str]) -> str:
    words = ((LAUNCHED_BY_TAG, "command"), (SENSOR_NAME_TAG, "sensor"), (SCHEDULE_NAME_TAG, "schedule"), (BACKFILL_ID_TAG, "backfill"))
    return next((word for tag, word in words if tag in tags), "web UI")


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
