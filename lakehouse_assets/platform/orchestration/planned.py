"""Checks that a run planned and did not evaluate, because their step was skipped or died: their last result stays on show.

Dagster shows such a check as failed, although nothing is known against its table. How a check is evaluated is in `checks`.
"""

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from lakehouse_assets.platform.declarations.check_names import NOT_EVALUATED
from lakehouse_assets.platform.orchestration.checks import not_evaluated

KEPT = "not_evaluated_in_this_run"
"""Metadata of a result that is given again: why."""
_EVALUATED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


def last_result(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
    """The last evaluation of a check; None if there is none, or if the last one says that it could not be evaluated."""
    records = instance.event_log_storage.get_asset_check_execution_history(check, limit=1, status=_EVALUATED)
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

    The results belong to no run, so the log of the run ends with what went wrong in it. It may be called as often as one likes, by any
    process. A run that has not ended is left alone, and so is a check that another run has planned since.
    """
    run = instance.get_run_by_id(run_id)
    if run is None or not run.is_finished:
        return []
    settled = []
    for check in _open(instance, run_id):
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
        instance.report_runless_asset_event(evaluation)
        settled.append(check)
    return settled


def _open(instance: dg.DagsterInstance, run_id: str) -> list[dg.AssetCheckKey]:
    """The checks whose newest record is that a run planned them. Those of partitions are kept by partition, and left out."""
    planned = set()
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED):
        data = entry.get_dagster_event().asset_check_planned_data
        if data.partitions_subset is None:
            planned.add(data.asset_check_key)
    newest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(planned))
    waiting = [
        check for check, record in newest.items() if record.run_id == run_id and record.status == AssetCheckExecutionRecordStatus.PLANNED
    ]
    return sorted(waiting, key=lambda check: (check.asset_key, check.name))
