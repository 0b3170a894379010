"""Dagster's instance of one root: its home, the runs that are under way, the checks that failed last."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

import lakehouse_assets
from lakehouse_assets.platform.orchestration.checks import NOT_EVALUATED
from lakehouse_assets.platform.orchestration.run_control import unfinished_runs
from lakehouse_assets.settings import Settings

PROJECT = Path(lakehouse_assets.__file__).parents[1]
_UNDER_WAY = {"starting", "started", "canceling"}


@contextmanager
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance of a root."""
    prepare_home(settings)
    with dg.DagsterInstance.get() as opened:
        yield opened


def prepare_home(settings: Settings) -> None:
    """Create the root's DAGSTER_HOME with a copy of the project's dagster.yaml, which Dagster reads only there, and set the variable."""
    home = settings.dagster_home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    source, target = PROJECT / "dagster.yaml", home / "dagster.yaml"
    if source.exists() and (not target.exists() or target.read_bytes() != source.read_bytes()):
        shutil.copyfile(source, target.with_suffix(".part"))
        target.with_suffix(".part").replace(target)
    os.environ["DAGSTER_HOME"] = str(home)


def runs_under_way(settings: Settings) -> list[str]:
    """The ids of the runs that are under way. A run whose process is gone is not."""
    with instance(settings) as opened:
        return [run.run_id for run in unfinished_runs(opened) if run.state in _UNDER_WAY]


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
