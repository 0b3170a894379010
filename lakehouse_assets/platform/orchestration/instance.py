"""Dagster's instance of one root: its home, the runs that are under way. What it recorded is read in `operations.run_records`."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

import lakehouse_assets
from lakehouse_assets.settings import Settings

PROJECT = Path(lakehouse_assets.__file__).parents[1]
_UNDER_WAY = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING]


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
