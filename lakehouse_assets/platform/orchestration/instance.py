"""Dagster's instance of one root: its home, the runs that are under way, the checks that failed last."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from sqlalchemy.exc import SQLAlchemyError

import lakehouse_assets
from lakehouse_assets.platform.orchestration.checks import NOT_EVALUATED
from lakehouse_assets.platform.storage.disk import reason
from lakehouse_assets.platform.storage.errors import DatabaseUnavailable
from lakehouse_assets.settings import Settings

PROJECT = Path(lakehouse_assets.__file__).parents[1]
_UNDER_WAY = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING]


@contextmanager
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance of a root.

    Raises:
        DatabaseUnavailable: Its databases cannot be opened: the disk is full or can only be read, or a file is damaged.
    """
    try:
        prepare_home(settings)
        with dg.DagsterInstance.get() as opened:
            yield opened
    except SQLAlchemyError as error:
        raise _unavailable(settings, error) from error


def _unavailable(settings: Settings, error: Exception) -> DatabaseUnavailable:
    why = reason(error, settings.dagster_home) or str(error).splitlines()[0]
    return DatabaseUnavailable(f"Dagster's databases under {settings.dagster_home} cannot be used: {why}")


def prepare_home(settings: Settings) -> None:
    """Create the root's DAGSTER_HOME with a copy of the project's dagster.yaml, which Dagster reads only there, and set the variable.

    Raises:
        DatabaseUnavailable: It cannot be written there.
    """
    home = settings.dagster_home.absolute()
    source, target = PROJECT / "dagster.yaml", home / "dagster.yaml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if source.exists() and (not target.exists() or target.read_bytes() != source.read_bytes()):
            shutil.copyfile(source, target.with_suffix(".part"))
            target.with_suffix(".part").replace(target)
    except OSError as error:
        raise _unavailable(settings, error) from error
    os.environ["DAGSTER_HOME"] = str(home)


def free_slots_of_ended_runs(opened: dg.DagsterInstance) -> None:
    """Free the pool slots that runs kept which have ended, as an interrupted one does: the next run would wait for them for ever."""
    for run_id in opened.event_log_storage.get_concurrency_run_ids():
        run = opened.get_run_by_id(run_id)
        if run is None or run.is_finished:
            opened.event_log_storage.free_concurrency_slots_for_run(run_id)


def runs_under_way(settings: Settings) -> list[str]:
    """The ids of the runs that are under way, as Dagster records them."""
    with instance(settings) as opened:
        return [run.run_id for run in opened.get_runs(dg.RunsFilter(statuses=_UNDER_WAY))]


def failed_checks(settings: Settings, assets: Iterable[dg.AssetsDefinition]) -> dict[str, list[str]]:
    """By table, the checks that failed when they were last evaluated; those that a failed step left unevaluated are not among them."""
    keys = [key for asset in assets for key in asset.check_keys]
    failed: dict[str, list[str]] = {}
    with instance(settings) as opened:
        for key, record in opened.event_log_storage.get_latest_asset_check_execution_by_key(keys).items():
            evaluation = record.evaluation
            # A check that was only planned, because its step was skipped, has no result.
            is_evaluated = isinstance(evaluation, dg.AssetCheckEvaluation) and NOT_EVALUATED not in evaluation.metadata
            if record.status == AssetCheckExecutionRecordStatus.FAILED and is_evaluated:
                failed.setdefault(".".join(key.asset_key.path), []).append(key.name)
    return failed
