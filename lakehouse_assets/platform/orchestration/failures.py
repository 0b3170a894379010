"""The last run of a root, if it failed: which steps, and why, from Dagster's history."""

import dagster as dg

from lakehouse_assets.platform.orchestration.instance import instance
from lakehouse_assets.platform.orchestration.run import reason_of
from lakehouse_assets.platform.orchestration.table_partitions import SUFFIX
from lakehouse_assets.settings import Settings

_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def failed_last(settings: Settings) -> dict[str, str]:
    """The tables at which the run that ended last failed, with the reasons; empty if it did not fail.

    Raises:
        DatabaseUnavailable: Dagster's databases cannot be opened.
    """
    with instance(settings) as opened:
        runs = opened.get_runs(dg.RunsFilter(statuses=_ENDED), limit=1)
        if not runs or runs[0].status != dg.DagsterRunStatus.FAILURE:
            return {}
        records = opened.get_records_for_run(runs[0].run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
        events = [record.event_log_entry.dagster_event for record in records]
        # A step is named by its asset, with underscores for dots.
        return {(event.step_key or "").removesuffix(SUFFIX).replace("__", "."): reason_of(event) for event in events if event is not None}
