"""Tells people when a run fails, when a check fails, and when it is well again: a line in the log, and a POST to a webhook.

Once for each change of state: what was told is not told again by the next run. No state is kept here: what failed before is read from
Dagster's runs and checks. An alert that cannot be delivered never fails anything.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from logging import Logger
from types import MappingProxyType
from typing import Any

import dagster as dg

from lakehouse_assets.platform.orchestration.checks import NOT_EVALUATED
from lakehouse_assets.platform.orchestration.planned import KEPT, settle
from lakehouse_assets.platform.orchestration.recording import try_to_record
from lakehouse_assets.platform.orchestration.run import reason_of
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.settings import Settings

_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
_TRIES, _SECONDS_BETWEEN, _SECONDS_FOR_AN_ANSWER = 3, 1.0, 10


@dataclass(frozen=True)
class Alert:
    """What changed with one run.

    Attributes:
        run_id: The run.
        job: Its job.
        failed_steps: By step that fails since this run, why.
        failed_checks: Checks that fail since this run: table, check, severity, description.
        recovered: Steps and checks that failed before this run and do not any more.
    """

    run_id: str
    job: str
    failed_steps: dict[str, str] = field(default_factory=dict)
    failed_checks: list[dict[str, str]] = field(default_factory=list)
    recovered: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.failed_steps or self.failed_checks or self.recovered)

    @property
    def text(self) -> str:
        """All of it, a line each."""
        steps = [f"failed: {reason}" for reason in self.failed_steps.values()]
        checks = [f"{check['severity']}: {check['table']}, check {check['check']}: {check['description']}" for check in self.failed_checks]
        return "\n".join([f"run {self.run_id[:8]} of {self.job}", *steps, *checks, *(f"well again: {name}" for name in self.recovered)])

    def body(self) -> bytes:
        """The JSON that is posted; chat tools show its `text`."""
        content = {
            "source": "lakehouse-assets",
            "text": self.text,
            "run_id": self.run_id,
            "job": self.job,
            "failed_steps": self.failed_steps,
            "failed_checks": self.failed_checks,
            "recovered": self.recovered,
        }
        return json.dumps(content).encode()


def alert_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Alert:
    """What changed with a run that has ended, against the run of the same job before it and the last results of the checks before it."""
    failed, before = failed_steps(instance, run.run_id), _failed_before(instance, run)
    new = {step: reason for step, reason in failed.items() if step not in before}
    recovered = [step for step in before if step not in failed] if run.status == dg.DagsterRunStatus.SUCCESS else []
    checks = []
    for evaluation in _evaluations(instance, run.run_id):
        table, was_failing = ".".join(evaluation.asset_key.path), _failed_earlier(instance, evaluation, run.run_id)
        if not evaluation.passed and not was_failing:
            found = {"table": table, "check": evaluation.check_name, "severity": evaluation.severity.value}
            checks.append(found | {"description": evaluation.description or "failed"})
        elif evaluation.passed and was_failing:
            recovered.append(f"{table}, check {evaluation.check_name}")
    return Alert(run.run_id, run.job_name, new, checks, recovered)


def failed_steps(instance: dg.DagsterInstance, run_id: str) -> dict[str, str]:
    """By step that failed in a run, why; under an empty name, why the run failed without a step."""
    failed: dict[str, str] = {}
    for entry in instance.all_logs(run_id, of_type={dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}):
        event = entry.get_dagster_event()
        if event.is_step_failure:
            failed[event.step_key or ""] = reason_of(event).strip()
        elif not failed:
            failed[""] = event.message or "the run failed"
    return failed


def deliver(alert: Alert, webhook: str, log: Logger, pause: Callable[[float], None] = time.sleep) -> bool:
    """Write an alert into the log and post it, tried again after a pause; whether it was delivered or there is no webhook.

    Args:
        alert: What to tell.
        webhook: Address; empty: only the log is told.
        log: Where it is written.
        pause: Waits between two tries, for so many seconds.
    """
    log.warning(alert.text)
    if not webhook:
        return True
    for attempt in range(_TRIES):
        try:
            request = urllib.request.Request(webhook, alert.body(), {"Content-Type": "application/json"})  # noqa: S310 as it is set
            with urllib.request.urlopen(request, timeout=_SECONDS_FOR_AN_ANSWER):  # noqa: S310 as it is set
                return True
        except (OSError, ValueError) as error:  # an address may be a secret: it is not repeated
            log.warning("The alert could not be delivered (try %d of %d): %s", attempt + 1, _TRIES, type(error).__name__)
            if isinstance(error, ValueError):
                return False
        pause(_SECONDS_BETWEEN * 2**attempt)
    return False


def sensors(owners: Mapping[str, str] = MappingProxyType({})) -> list[dg.SensorDefinition]:
    """Look at each run that ended: give checks that were not evaluated their last results, write the run down, and alert.

    Args:
        owners: By table, who answers for it.
    """

    def look(context: dg.RunStatusSensorContext) -> None:
        settle(context.instance, context.dagster_run.run_id)
        try_to_record(context.instance, Lakehouse(str(Settings.load().tables)), owners, context.log)
        if alert := alert_of(context.instance, context.dagster_run):
            deliver(alert, Settings.load().alert_webhook, context.log)

    texts = {
        dg.DagsterRunStatus.FAILURE: ("alert_on_failure", "Alerts when a run or a check fails: log and LAKEHOUSE_ALERT_WEBHOOK."),
        dg.DagsterRunStatus.SUCCESS: ("alert_on_success", "Alerts when a check fails in a run that succeeds, and when something recovers."),
        dg.DagsterRunStatus.CANCELED: ("after_cancellation", "Gives checks that a canceled run did not evaluate their last results."),
    }
    return [
        dg.run_status_sensor(
            run_status=status, name=name, description=text, default_status=dg.DefaultSensorStatus.RUNNING, minimum_interval_seconds=10
        )(look)
        for status, (name, text) in texts.items()
    ]


def _failed_before(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, str]:
    """The steps that failed in the run of the same job that ended before this one."""
    records = instance.get_run_records(dg.RunsFilter(job_name=run.job_name, statuses=_ENDED), limit=20)
    ids = [record.dagster_run.run_id for record in records]
    earlier = ids[ids.index(run.run_id) + 1 :] if run.run_id in ids else []
    return failed_steps(instance, earlier[0]) if earlier else {}


def _evaluations(instance: dg.DagsterInstance, run_id: str) -> Iterable[Any]:
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        evaluation = entry.get_dagster_event().asset_check_evaluation_data
        if not {NOT_EVALUATED, KEPT} & evaluation.metadata.keys():
            yield evaluation


def _failed_earlier(instance: dg.DagsterInstance, evaluation: Any, run_id: str) -> bool:
    """Whether the check failed when it was evaluated last before this run."""
    records = instance.event_log_storage.get_asset_check_execution_history(evaluation.asset_check_key, limit=20)
    ids = [record.run_id for record in records]
    earlier = records[ids.index(run_id) + 1 :] if run_id in ids else []
    last = next((record.evaluation for record in earlier if isinstance(record.evaluation, dg.AssetCheckEvaluation)), None)
    return last is not None and not last.passed and NOT_EVALUATED not in last.metadata
