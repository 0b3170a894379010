"""The process in which a service does what is not an answer: started, told and watched by the service, and gone with it.

The child reads what it is told from a pipe. The pipe ends when the service does, also when that is killed: then the child brings what is
left to the lake and ends too. What it does is in `background`.
"""

import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Final, Protocol

import msgspec

from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.serving.background import Background
from lakehouse_assets.platform.serving.service_needs import ServiceNeeds
from lakehouse_assets.settings import Settings

logger = logging.getLogger(__name__)
Declared = Callable[[Settings], Catalog]
"""Gives the declarations in another process; a function of a module."""
_START: Final = """
import json, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service says when to end
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.nice(int(sys.argv[2]))  # before any thread begins
sys.path[:] = json.loads(sys.argv[1])
from lakehouse_assets.platform.serving.background_process import main
main()
"""
_LOOK_SECONDS, _SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 0.5, 30.0
_FINISH_SECONDS: Final = 10.0
_LAST_SECONDS: Final = 60.0
"""So long the child goes on when the service is gone. A service that ends by itself waits less, and ends the child."""
NICE: Final = 10
"""So much lower is its priority: on a core that the service keeps busy it has a tenth. With 19 it had too little to keep up."""
PROCESS: Final = "process"
"""What the trouble of the process itself is called."""


class BackgroundTasks(Protocol):
    """Where the tasks of a service run."""

    restarts: int
    """How often they were started again."""

    def start(self) -> None:
        """Begin with all tasks."""
        ...

    def stop(self, seconds: float) -> None:
        """Bring what is left to the lake and end, for at most some seconds."""
        ...

    def trouble(self) -> dict[str, str]:
        """Why tasks failed the last time, by their names."""
        ...


class Threads:
    """The tasks in threads of this process: where declarations are known to it alone, as in a notebook."""

    restarts = 0

    def __init__(self, background: Background) -> None:
        self.start, self.stop, self.trouble, self.sync = background.start, background.stop, background.trouble, background.sync


class Child:
    """The tasks in a process of their own, which is started again when it dies.

    Args:
        settings: Of the root.
        declared: Gives the declarations.
        needs: Gives what the service needs.
        alias_seconds: Between two looks at the aliases in MLflow.
    """

    def __init__(self, settings: Settings, declared: Declared, needs: Callable[[], ServiceNeeds], alias_seconds: float) -> None:
        self._first = pickle.dumps((settings, declared, alias_seconds))
        self._needs = needs
        self.restarts = 0
        self.pid: int | None = None
        self._trouble: dict[str, str] = {}
        self._stopping, self._seconds = threading.Event(), _FINISH_SECONDS
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)

    def start(self) -> None:
        """See `BackgroundTasks.start`."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """See `BackgroundTasks.stop`."""
        self._seconds = seconds
        self._stopping.set()
        self._thread.join(seconds + 1)

    def trouble(self) -> dict[str, str]:
        """See `BackgroundTasks.trouble`."""
        return self._trouble

    def _run(self) -> None:
        pause = _SHORTEST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                code = self._one()
            except Exception as error:
                logger.exception("the background process cannot be started")
                code = str(error)
            if self._stopping.is_set():
                return
            self.restarts += 1
            self._trouble = {PROCESS: f"it ended ({code}), and is started again"}
            logger.warning("the background process of the service ended (%s), and is started again", code)
            if time.monotonic() - began > _LONGEST_PAUSE:
                pause = _SHORTEST_PAUSE
            self._stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _one(self) -> int | str | None:
        """One process, until it ends; its exit code."""
        command = [sys.executable, "-c", _START, json.dumps([str(folder) for folder in sys.path]), str(NICE)]
        # No session of its own: the scheduler would then share the processor by sessions, and its priority counted for nothing.
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 ourselves
            assert process.stdin is not None  # noqa: S101 as asked for
            assert process.stdout is not None  # noqa: S101
            self.pid = process.pid
            threading.Thread(target=self._listen, args=(process.stdout,), name="background-says", daemon=True).start()
            with suppress(BrokenPipeError):
                self._tell(process, process.stdin)
            with suppress(BrokenPipeError):
                process.stdin.close()
            try:
                return process.wait(self._seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                return process.wait()

    def _tell(self, process: "subprocess.Popen[bytes]", pipe: IO[bytes]) -> None:
        """Say what changes, until the process or the service ends."""
        pipe.write(self._first)
        last: ServiceNeeds | None = None
        while process.poll() is None and not self._stopping.is_set():
            now = self._needs()
            if now != last:
                pipe.write(msgspec.json.encode(now) + b"\n")
                pipe.flush()
                last = now
            self._stopping.wait(_LOOK_SECONDS)

    def _listen(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            with suppress(ValueError):
                self._trouble = json.loads(line)


class _Listener:
    """What the service needed last."""

    def __init__(self) -> None:
        self.needs = ServiceNeeds()

    def last(self) -> ServiceNeeds:
        return self.needs

    def follow(self, pipe: IO[bytes]) -> None:
        """Listen until the service is gone."""
        for line in pipe:
            with suppress(msgspec.MsgspecError):  # the service was killed within a line
                self.needs = msgspec.json.decode(line, type=ServiceNeeds)


def main() -> None:
    """The child."""
    says = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print is none of what it says
    pipe = sys.stdin.buffer
    settings, declared, alias_seconds = pickle.load(pipe)  # noqa: S301 from the service, which started this process
    listener = _Listener()
    background = Background(Root(settings), declared(settings), listener.last, alias_seconds)
    threading.Thread(target=_report, args=(background, says), daemon=True).start()
    background.start()
    listener.follow(pipe)
    background.stop(_LAST_SECONDS)
    os._exit(0)  # a thread may wait for a bucket that is away


def _report(background: Background, says: IO[bytes]) -> None:
    """Say what is in trouble, whenever that changed."""
    last: dict[str, str] | None = None
    while True:
        now = background.trouble()
        if now != last:
            with suppress(OSError):  # the service is gone
                says.write(json.dumps(now).encode() + b"\n")
            last = now
        time.sleep(_LOOK_SECONDS)
