"""Dagster's instance of one root: its home, and opening it.

What it recorded is read in `operations.run_records`; runs are listed and ended in `run_control`.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

import lakehouse_assets
from lakehouse_assets.platform.storage.disk import reason
from lakehouse_assets.platform.storage.errors import DatabaseUnavailable
from lakehouse_assets.settings import Settings

PROJECT = Path(lakehouse_assets.__file__).parents[1]


@contextmanager
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance of a root.

    Raises:
        DatabaseUnavailable: Its databases cannot be opened: the disk is full or can only be read, or a file is damaged.
    """
    try:
        prepare_home(settings)
        with _alone(settings):
            entered = dg.DagsterInstance.get()
        with entered as opened:
            yield opened
    except SQLAlchemyError as error:
        raise _unavailable(settings, error) from error


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """One at a time. Of two that open fresh databases at once, Dagster has both create the tables, and one of them fails."""
    try:
        lock = (settings.dagster_home / ".opening.lock").open("w")
    except OSError as error:
        raise _unavailable(settings, error) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
            with _alone(settings):
                shutil.copyfile(source, target.with_suffix(".part"))
                target.with_suffix(".part").replace(target)
    except OSError as error:
        raise _unavailable(settings, error) from error
    os.environ["DAGSTER_HOME"] = str(home)
