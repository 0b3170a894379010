"""Checks that a run planned and did not evaluate, because their step was skipped or died: their last result stays on show.

Dagster shows such a check as failed, although nothing is known against its table. How a check is evaluated is in `checks`.
"""

import logging
from collections.abc import Iterable

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from lakehouse_assets.platform.orchestration.checks import NOT_EVALUATED, not_evaluated

KEPT = "not_evaluated_in_this_run"
"""Metadata of a result that is given again: why."""
_EVALUATED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


def last_result(instance: dg.DagsterInstance, check: dg.AssetCheckKey, before: int | None = None) -> dg.AssetCheckEvaluation | None:
    """The last evaluation of a check; None if there is none, or if the last one says that it could not be evaluated.

    Args:
        instance: Has the history of the check.
        check: The check.
        before: Only records with a smaller id count.
    """
    records = instance.event_log_storage.get_asset_check_execution_history(check, limit=1, cursor=before, status=_EVALUATED)
    evaluation = records[0].evaluation if records else None
    return evaluation if isinstance(evaluation, dg.AssetCheckEvaluation) and NOT_EVALUATED not in evaluation.metadata else None


def kept(instance: dg.DagsterInstance, check: dg.AssetCheckKey, why: str) -> dg.AssetCheckResult:
    """The result of a check that a run did not evaluate: the last one again, or a warning that there is none.

    Args:
        instance: Has the history of the check.
        check: The check.
        why: It was not evaluated.
    """
    return _again(last_result(instance, check), check, why)


def _again(last: dg.AssetCheckEvaluation | None, check: dg.AssetCheckKey, why: str) -> dg.AssetCheckResult:
    if last is None:
        return not_evaluated(check, why)
    return dg.AssetCheckResult(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=last.passed,
        severity=last.severity,
        description=last.description,
        metadata={**last.metadata, KEPT: why},
    )


def settle(instance: dg.DagsterInstance, run_id: str) -> list[dg.AssetCheckKey]:
    """Give each check that an ended run planned and did not evaluate its last result again; the checks that were given one.

    It may be called as often as one likes, by any process. A run that has not ended is left alone.
    """
    run = instance.get_run_by_id(run_id)
    if run is None or not run.is_finished:
        return []
    settled = []
    for check, step in _open(instance, run_id):
        last = last_result(instance, check)
        result = _again(last, check, f"run {run_id[:8]} ended with {run.status.value} before the step of this check was done")
        evaluation = dg.AssetCheckEvaluation(
            check.asset_key,
            check.name,
            passed=result.passed,
            severity=result.severity,
            description=result.description,
            metadata=result.metadata,
            target_materialization_data=None if last is None else last.target_materialization_data,
        )
        event = dg.DagsterEvent(
            dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
            run.job_name,
            step_key=step,
            event_specific_data=evaluation,
            message=f"Check {check.name} of {check.asset_key.to_user_string()} was not evaluated: it keeps its last result.",
        )
        instance.report_dagster_event(event, run_id, logging.INFO)
        settled.append(check)
    return settled


def _open(instance: dg.DagsterInstance, run_id: str) -> Iterable[tuple[dg.AssetCheckKey, str | None]]:
    """The checks that a run planned and did not evaluate, each with its step. Those of partitions are kept by partition, and left out."""
    wanted = {dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
    planned, evaluated = {}, set()
    for entry in instance.all_logs(run_id, of_type=wanted):
        event = entry.get_dagster_event()
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluated.add(event.asset_check_evaluation_data.asset_check_key)
        elif event.asset_check_planned_data.partitions_subset is None:
            planned[event.asset_check_planned_data.asset_check_key] = event.step_key
    return [(check, step) for check, step in planned.items() if check not in evaluated]
