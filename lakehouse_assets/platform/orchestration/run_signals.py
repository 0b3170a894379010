"""What Dagster recorded, as signals of alerts: steps, runs and checks of the runs that ended, and assets that were not refreshed in time.

Runs are consumed once, in the order of the numbers of the events with which they ended (`ended_runs`). What is an alert is decided in
`monitoring.alerts`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.storage.event_log.base import AssetRecord

from lakehouse_assets.platform.declarations.check_names import FILES_CHECK, NOT_EVALUATED
from lakehouse_assets.platform.declarations.monitors import Severity
from lakehouse_assets.platform.monitoring.alerts.machine import Entry
from lakehouse_assets.platform.monitoring.alerts.signals import Reading, Signal, newest_by_key
from lakehouse_assets.platform.orchestration.ended_runs import Consumed, Ends
from lakehouse_assets.platform.orchestration.existing import SELECTION
from lakehouse_assets.platform.orchestration.planned import KEPT, settle
from lakehouse_assets.platform.orchestration.step_errors import reason_of_failure
from lakehouse_assets.platform.orchestration.steps import key_of

_FIRST_RUNS: Final = 30
"""Of the runs that ended before anybody listened, so many are looked at."""
_RUN: Final = "run:"
_STEPS: Final = {dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE}
_TAKEN: Final = {*_STEPS, dg.DagsterEventType.ASSET_CHECK_EVALUATION}


@dataclass(frozen=True)
class EndedRuns:
    """The runs that ended, whoever started them.

    Checks that an ended run planned and did not evaluate are given their last results: see `planned.settle`.

    Attributes:
        instance: Where runs are recorded.
        owners: By table, who answers for it.
        elsewhere: Checks that others give signals of, as tables with the names of checks.
    """

    instance: dg.DagsterInstance
    owners: Mapping[str, str]
    elsewhere: Collection[tuple[str, str]] = ()

    name = "Dagster's runs"

    def read(self, watermark: Callable[[str], int | None], now: datetime) -> Reading:
        """See `Source.read`."""
        newest = self._ends.newest
        if newest is None:
            return Reading()
        consumed = Consumed.read(watermark)
        if consumed.newest is None or newest < consumed.newest:  # Dagster's database is another one
            return self._read_first(watermark, now)
        new, known = self._ends.after(consumed, now)
        if not new:
            return Reading()
        late = [record for record in new if record.storage_id < consumed.newest]
        # Of runs that appear only now and ended before others, what these say nothing newer of is told.
        before = [record for record in known if record.storage_id > new[0].storage_id] if late else []
        in_order = sorted([*late, *before], key=lambda record: record.storage_id)
        signals = newest_by_key(self._of(in_order)) + self._of(new[len(late) :])
        return Reading(signals, consumed.with_all([record.storage_id for record in new]).cursors(watermark))

    def _read_first(self, watermark: Callable[[str], int | None], now: datetime) -> Reading:
        records, left_out = self._ends.last(_FIRST_RUNS, now)
        consumed = Consumed.nothing(left_out).with_all([record.storage_id for record in records])
        return Reading(newest_by_key(self._of(records)), consumed.cursors(watermark) if records else [])

    @property
    def _ends(self) -> Ends:
        return Ends(self.instance)

    def _of(self, records: Sequence[dg.EventLogRecord]) -> list[Signal]:
        signals = list[Signal]()
        for record in records:
            run = self.instance.get_run_by_id(record.run_id)
            if run is not None:
                settle(self.instance, run.run_id)
                signals += self._signals(run, record.event_log_entry)
        return signals

    def _signals(self, run: dg.DagsterRun, end: dg.EventLogEntry) -> list[Signal]:
        """What a run that ended says of its steps, of the checks that it evaluated, and of itself.

        Args:
            run: The run.
            end: The event with which it ended: its state may not be written yet.
        """
        signals, has_failed_steps = list[Signal](), False
        for entry in self.instance.all_logs(run.run_id, of_type=_TAKEN):
            event, at = entry.get_dagster_event(), _moment(entry.timestamp)
            if event.event_type in _STEPS:
                has_failed_steps |= event.is_step_failure
                signals.append(self._step(event, at, run))
            else:
                signals += self._check(event.asset_check_evaluation_data, at, run)
        return [*signals, *self._run(run, end, has_failed_steps)]

    def _step(self, event: dg.DagsterEvent, at: datetime, run: dg.DagsterRun) -> Signal:
        # A step is named by its asset, with underscores for dots.
        name = (event.step_key or "").replace("__", ".")
        text = reason_of_failure(event) if event.is_step_failure else "It succeeded."
        return Signal(f"step:{name}", event.is_step_failure, at, text, "error", self._owner(name), run_id=run.run_id)

    def _run(self, run: dg.DagsterRun, end: dg.EventLogEntry, has_failed_steps: bool) -> Iterator[Signal]:  # noqa: FBT001
        """Whether the run came to its end: one whose process was killed fails without a step that failed. A canceled one says nothing."""
        event = end.get_dagster_event()
        if event.event_type is dg.DagsterEventType.RUN_CANCELED:
            return
        is_bad = event.event_type is dg.DagsterEventType.RUN_FAILURE and not has_failed_steps
        text = event.message or "It failed without a step that failed."
        job = SELECTION if run.job_name.startswith("__") else run.job_name
        yield Signal(f"{_RUN}{job}", is_bad, _moment(end.timestamp), text if is_bad else "A run came to its end.", run_id=run.run_id)

    def why_over(self, alert: Entry) -> str:
        """Why an open alert about a run is over, a sentence; empty if it is not, or that cannot be told.

        It is where the job has succeeded since, or all tables of the run were written since: also where no event of that was consumed.
        """
        dead = self.instance.get_run_record_by_id(alert.run_id) if alert.key.startswith(_RUN) and alert.run_id else None
        if dead is None:
            return ""
        run = dead.dagster_run
        if not run.job_name.startswith("__"):
            newest = self.instance.get_run_records(dg.RunsFilter(job_name=run.job_name, statuses=[dg.DagsterRunStatus.SUCCESS]), limit=1)
            if newest and newest[0].storage_id > dead.storage_id:
                return f"Job {run.job_name} has succeeded since, in run {newest[0].dagster_run.run_id[:8]}."
        keys = run.asset_selection or ()
        written = [self._run_that_wrote(record) for record in self.instance.get_asset_records(list(keys))] if keys else []
        if keys and len(written) == len(keys) and all(by is not None and by > dead.storage_id for by in written):
            return f"{'Its table was' if len(keys) == 1 else 'All its tables were'} written since."
        return ""

    def _run_that_wrote(self, record: AssetRecord) -> int | None:
        """The number of the run that wrote an asset last; runs are numbered as they are asked for."""
        last = record.asset_entry.last_materialization_record
        by = None if last is None else self.instance.get_run_record_by_id(last.run_id)
        return None if by is None else by.storage_id

    def _check(self, evaluation: dg.AssetCheckEvaluation, at: datetime, run: dg.DagsterRun) -> Iterator[Signal]:
        table = ".".join(evaluation.asset_key.path)
        is_elsewhere = evaluation.check_name == FILES_CHECK or (table, evaluation.check_name) in self.elsewhere
        if is_elsewhere or {NOT_EVALUATED, KEPT} & evaluation.metadata.keys():
            return
        text = evaluation.description or ("It passed." if evaluation.passed else "It failed.")
        severity: Severity = "error" if evaluation.severity is dg.AssetCheckSeverity.ERROR else "warn"
        key = f"check:{table}:{evaluation.check_name}"
        yield Signal(key, not evaluation.passed, at, text, severity, self._owner(table), run_id=run.run_id)

    def _owner(self, table: str) -> str:
        """Of a table, or of a step that does more about one, as `sales.silver.payments.monitors`."""
        return self.owners.get(table) or self.owners.get(table.rpartition(".")[0], "")


@dataclass(frozen=True)
class StaleAssets:
    """Assets that were not refreshed as their freshness policy demands, as Dagster's daemon has found.

    What is so now is said each time, so that an asset that stays stale is told again after the cool-down.

    Attributes:
        instance: Where that is recorded.
        owners: By table, who answers for it.
    """

    instance: dg.DagsterInstance
    owners: Mapping[str, str]

    name = "Dagster's freshness"

    def read(self, watermark: Callable[[str], int | None], now: datetime) -> Reading:  # noqa: ARG002 nothing is consumed
        """See `Source.read`."""
        return Reading(list(self._signals(now)))

    def _signals(self, now: datetime) -> Iterable[Signal]:
        for key, record in self.instance.get_freshness_state_records([key_of(name) for name in self.owners]).items():
            table, state = ".".join(key.path), record.freshness_state
            since = f"{record.updated_at:%Y-%m-%d %H:%M} UTC"
            is_bad = {FreshnessState.PASS: False, FreshnessState.WARN: True, FreshnessState.FAIL: True}.get(state)
            text = f"It was not refreshed as its freshness policy demands, since {since}." if is_bad else "It was refreshed."
            severity: Severity = "error" if state is FreshnessState.FAIL else "warn"
            yield Signal(f"freshness:{table}", is_bad, now, text, severity, self.owners[table])


def _moment(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)
