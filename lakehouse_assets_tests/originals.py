"""Folders that many tests begin with: made once in a test run, by the worker that needs one first, and copied after that."""

import fcntl
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lakehouse_assets_tests.mlflow_connections import forget_connections


@dataclass(frozen=True)
class Originals:
    """The folders that were made so far, in a folder that all workers share."""

    folder: Path

    def copy(self, name: str, make: Callable[[Path], object], to: Path) -> None:
        """Put a copy of the folder of this name into the place of `to`; `make` fills it the first time."""
        made = self.folder / name
        with (self.folder / f"{name}.lock").open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.seek(0)
            if not lock.read():
                shutil.rmtree(made, ignore_errors=True)  # of a worker that failed on the way
                made.mkdir()
                make(made)
                forget_connections()  # so that nothing is left beside the database files
                lock.write("made")
        shutil.copytree(made, to, dirs_exist_ok=True)
