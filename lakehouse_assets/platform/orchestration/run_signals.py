"""What Dagster recorded, as signals of alerts: steps, runs and checks of the runs that ended, and assets that were not refreshed in time.

Runs are consumed once, in the order of the numbers of the events with which they ended (`consumed_ends`). What is an alert is decided in
`monitoring.alerts`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Final

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.storage.event_log.base import AssetRecord

from lakehouse_assets.platform.declarations.check_names import FILES_CHECK, NOT_EVALUATED
from lakehouse_assets.platform.declarations.monitors import Severity
from lakehouse_assets.platform.monitoring.alerts.machine import Entry
from lakehouse_assets.platform.monitoring.alerts.signals import Reading, Signal, newest_by_key
from lakehouse_assets.platform.orchestration.consumed_ends import REMEMBERED, Consumed
from lakehouse_assets.platform.orchestration.existing import SELECTION
from lakehouse_assets.platform.orchestration.planned import KEPT, settle
from lakehouse_assets.platform.orchestration.step_errors import told
from lakehouse_assets.platform.orchestration.steps import key_of

RUNS_AT_ONCE: Final = 100
"""So many runs are consumed in one tick."""
_FIRST_RUNS: Final = 30
"""Of the runs that ended before anybody listened, so many are looked at."""
# The event comes first, then the state of the run; a process that dies in between must not hold up the runs behind it.
_END_WRITTEN_WITHIN: Final = timedelta(minutes=10)
_ENDS: Final = (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED)
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
        newest = max((record.storage_id for record in self._ends(None, 1)), default=None)
        if newest is None:
            return Reading()
        consumed = Consumed.read(watermark)
        if consumed.newest is None or newest < consumed.newest:  # Dagster's database is another one
            return self._read_first(watermark, now)
        records = self._ends(consumed.floor, RUNS_AT_ONCE + REMEMBERED)
        new = self._written([record for record in records if not consumed.has(record.storage_id)], now)[:RUNS_AT_ONCE]
        if not new:
            return Reading()
        late = [record for record in new if record.storage_id < consumed.newest]
        # Of runs that appear only now and ended before others, what these say nothing newer of is told.
        before = [record for record in records if record.storage_id > new[0].storage_id and consumed.has(record.storage_id)] if late else []
        in_order = sorted([*late, *before], key=lambda record: record.storage_id)
        signals = newest_by_key(self._of(in_order)) + self._of(new[len(late) :])
        return Reading(signals, consumed.with_all([record.storage_id for record in new]).cursors(watermark))

    def _read_first(self, watermark: Callable[[str], int | None], now: datetime) -> Reading:
        records = self._written(self._ends(None, _FIRST_RUNS), now)
        consumed = Consumed.nothing(self._left_out(records)).with_all([record.storage_id for record in records])
        return Reading(newest_by_key(self._of(records)), consumed.cursors(watermark) if records else [])

    def _written(self, records: Sequence[dg.EventLogRecord], now: datetime) -> list[dg.EventLogRecord]:
        """Those before the first whose run is still being written as ended: the event comes first."""

        def is_written(record: dg.EventLogRecord) -> bool:
            run = self.instance.get_run_by_id(record.run_id)
            return run is None or run.is_finished or now - _moment(record.event_log_entry.timestamp) >= _END_WRITTEN_WITHIN

        return list(takewhile(is_written, records))

    def _of(self, records: Sequence[dg.EventLogRecord]) -> list[Signal]:
        signals = list[Signal]()
        for record in records:
            run = self.instance.get_run_by_id(record.run_id)
            if run is not None:
                settle(self.instance, run.run_id)
                signals += self._signals(run, record.event_log_entry)
        return signals

    @staticmethod
    def _left_out(records: Sequence[dg.EventLogRecord]) -> int:
        """Up to which number runs are left out that ended before anybody listened; 0: none is."""
        numbers: dict[str | None, list[int]] = {}
        for record in records:
            numbers.setdefault(record.event_log_entry.get_dagster_event().event_type_value, []).append(record.storage_id)
        return max((min(of) - 1 for of in numbers.values() if len(of) >= _FIRST_RUNS), default=0)

    def _ends(self, after: int | None, limit: int) -> list[dg.EventLogRecord]:
        """The events with which runs ended, oldest first: those after a number, or with None the newest ones; at most so many of each kind.

        Of a kind that has more, and so of all, none is given that is newer than what was read of it.
        """
        found, until = list[dg.EventLogRecord](), None
        for kind in _ENDS:
            filters = dg.RunStatusChangeRecordsFilter(kind, after_storage_id=after)
            result = self.instance.fetch_run_status_changes(filters, limit=limit, ascending=after is not None)
            found += result.records
            if after is not None and len(result.records) == limit:
                last = result.records[-1].storage_id
                until = last if until is None else min(until, last)
        ordered = sorted(found, key=lambda record: record.storage_id)
        return [record for record in ordered if until is None or record.storage_id <= until]

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
        text = told(event) if event.is_step_failure else "It succeeded."
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
