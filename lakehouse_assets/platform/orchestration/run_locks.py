"""Which process works on a run: it holds a lock on a file of the run, under DAGSTER_HOME, for as long as it lives.

The operating system gives the lock back however the process ends, also after kill -9 and after a reboot, and no other process can be
mistaken for it. A run without a file here belongs to another machine or has no process yet: nothing is said about it. What is done about
runs whose process is gone is in `run_control`.
"""

import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from lakehouse_assets.platform import clock

_FOLDER = "run_locks"


@dataclass(frozen=True)
class Owner:
    """The process that works, or worked, on a run.

    Attributes:
        pid: Its id.
        host: The name of its machine.
        since: When it took the run, in UTC.
        command: What was started.
    """

    pid: int
    host: str
    since: datetime
    command: str

    @classmethod
    def this_process(cls) -> Self:
        """This process, from now on."""
        words = [Path(sys.argv[0]).name, *sys.argv[1:]]
        return cls(os.getpid(), socket.gethostname(), clock.now(), " ".join(words)[:200])

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class RunLocks:
    """The locks of the runs of one DAGSTER_HOME."""

    def __init__(self, home: Path | str) -> None:
        self._folder = Path(home) / _FOLDER

    def take(self, name: str) -> "Lock | None":
        """Take the lock of a run for this process; None if a process that lives has it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._folder / f".{name}.{os.getpid()}"
        descriptor = os.open(part, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o644)
        try:
            # Locked before it has its name: whoever sees the file sees it locked.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(descriptor, json.dumps(asdict(Owner.this_process()), default=datetime.isoformat).encode())
            self.forget(name)
            os.link(part, self._path(name))
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, FileExistsError):
                return None
            raise
        finally:
            part.unlink()
        return Lock(descriptor, self._path(name))

    def names(self) -> list[str]:
        """The runs that have a file, whether their process lives or not."""
        return sorted(path.name for path in self._folder.glob("[!.]*"))

    def owner(self, name: str) -> Owner | None:
        """The process that works on a run; None if it is gone, or never was on this machine."""
        try:
            owner = _read(self._path(name).read_bytes())
        except FileNotFoundError:
            return None
        with self.taken_over(name) as gone:
            return owner if gone is None else None

    def forget(self, name: str) -> None:
        """Remove the file of a run that has ended, unless its process still lives."""
        with self.taken_over(name) as gone:
            if gone is not None:
                self._path(name).unlink(missing_ok=True)

    @contextmanager
    def taken_over(self, name: str) -> Iterator[Owner | None]:
        """The process that worked on a run and is gone, with its lock held meanwhile, so that one process alone ends the run.

        None if it lives, or never was on this machine.
        """
        try:
            descriptor = os.open(self._path(name), os.O_RDWR)
        except FileNotFoundError:
            yield None
            return
        try:
            yield _read(os.read(descriptor, 10_000)) if self._is_free(descriptor, name) else None
        finally:
            os.close(descriptor)

    def _is_free(self, descriptor: int, name: str) -> bool:
        """Lock an open file if no process holds it, and if it still is the file of the run."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(descriptor), self._path(name).stat())
        except (BlockingIOError, FileNotFoundError):
            return False

    def _path(self, name: str) -> Path:
        return self._folder / name


def _read(content: bytes) -> Owner:
    try:
        stored = json.loads(content)
        return Owner(**stored | {"since": datetime.fromisoformat(stored["since"])})
    except (ValueError, TypeError, KeyError):  # a machine that lost its power may leave the file empty
        return Owner(0, socket.gethostname(), datetime.fromtimestamp(0, UTC), "unknown")


@dataclass(frozen=True)
class Lock:
    """A lock that this process holds until `release`, or until it ends."""

    descriptor: int
    path: Path

    def release(self, *, forget: bool) -> None:
        """Give the lock back; `forget` removes the file as well, which says that the run has ended."""
        if forget:
            self.path.unlink(missing_ok=True)
        with suppress(OSError):
            os.close(self.descriptor)
