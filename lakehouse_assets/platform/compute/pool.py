"""Worker processes, for one function and its items: started, fed one item at a time, replaced when they are killed, and ended.

What a worker does is in `worker`; when work goes to other processes at all, in `processes`. Workers are started as new programs: a fork of
a process whose threads hold locks may wait for ever.
"""

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, Final

from lakehouse_assets.platform.compute import deadline
from lakehouse_assets.platform.compute.memory import shared_memory
from lakehouse_assets.platform.compute.progress import telling
from lakehouse_assets.platform.compute.travel import name_of, packed, unpacked, unpacked_error
from lakehouse_assets.platform.compute.worker import RESULT

MOST_TRIES: Final = 3
"""So often an item is worked on by a process that does not survive it."""
_START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from lakehouse_assets.platform.compute.worker import serve; serve()"
)
_LOOK_SECONDS: Final = 1.0
_END_SECONDS: Final = 5.0


class WorkerLost(RuntimeError):
    """The processes that worked on an item were ended from outside, or by what they did."""


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment_of(workers: int) -> dict[str, str]:
    """The environment of one of so many workers: its share of the cores and of the memory that queries may use."""
    threads = str(max(1, min(cores(), int(os.environ.get("POLARS_MAX_THREADS") or cores())) // workers))
    # Threads that spin while they wait make two trainings on the same cores several times slower.
    shares = {"POLARS_MAX_THREADS": threads, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
    return {**os.environ, **shares, **shared_memory(workers)}


class _Worker:
    """A process and the line to it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.connection, theirs = Pipe()
        self.number: int | None = None
        """Of the item that it works on."""
        self._knows = False
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - this program
                [sys.executable, "-c", _START, json.dumps(sys.path), str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for this process, which ends its workers
            )

    def send(self, name: str, function: memoryview, number: int, item: memoryview) -> None:
        """Give it an item, and before the first one the function. If it is gone, `answer` says so."""
        self.number = number
        with suppress(OSError):
            if not self._knows:
                self.connection.send_bytes(name.encode())
                self.connection.send_bytes(function)
                self._knows = True
            self.connection.send_bytes(str(deadline.end()).encode())
            self.connection.send_bytes(item)

    def answer(self) -> tuple[bytes, bytes] | None:
        """The kind of its answer and the answer; None if it is gone."""
        try:
            return self.connection.recv_bytes(), self.connection.recv_bytes()
        except (EOFError, OSError):
            return None

    def is_gone(self) -> bool:
        """Whether it ended without an answer that could still be read. A copy of this process may keep the line open."""
        return self.process.poll() is not None and not self.connection.poll()

    def why(self) -> str:
        """What ended it."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_SECONDS)
        code = self.process.returncode
        if code is None:
            return "it closed its line"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """End it whatever it does, and wait until it has."""
        self.process.kill()
        self.process.wait()
        self.connection.close()


def map_in_workers(function: Callable[[Any], Any], items: Sequence[Any], workers: int) -> list[Any]:
    """The results for all items in their order, from at most so many worker processes: see `Compute.map`.

    Raises:
        CannotTravel: The function, an item or a result cannot be sent to another process.
        WorkerLost: An item ended all processes that worked on it.
    """
    name = name_of(function)
    return _Work(name, packed(function, name), items, min(workers, len(items))).results()


class _Work:
    """One function, its items, and the workers."""

    def __init__(self, name: str, function: memoryview, items: Sequence[Any], workers: int) -> None:
        self._name, self._function, self._items = name, function, items
        self._environment = environment_of(workers)
        self._waiting = deque(range(len(items)))
        self._tries = [0] * len(items)
        self._packed: dict[int, memoryview] = {}
        self._results: dict[int, Any] = {}
        self._workers: list[_Worker] = []
        self._most = workers

    def results(self) -> list[Any]:
        """All results, in the order of the items. Afterwards there are no workers."""
        try:
            with telling() as tell:
                for _ in range(self._most):
                    self._workers.append(_Worker(self._environment))
                while len(self._results) < len(self._items):
                    tell(f"{len(self._results)} of {len(self._items)} parts done")
                    for worker in self._workers:
                        if worker.number is None and self._waiting:
                            self._feed(worker)
                    self._prepare()
                    self._hear()
            for worker in self._workers:
                worker.connection.close()  # it has nothing to do any more, and ends
            with suppress(subprocess.TimeoutExpired):
                for worker in self._workers:
                    worker.process.wait(_END_SECONDS)
        finally:
            for worker in self._workers:
                worker.kill()
        return [self._results[number] for number in range(len(self._items))]

    def _feed(self, worker: _Worker) -> None:
        self._prepare()
        number = self._waiting.popleft()
        self._tries[number] += 1
        worker.send(self._name, self._function, number, self._packed.pop(number))

    def _prepare(self) -> None:
        """Pack the next item, so that no worker waits for it: items may be rows that are read only now."""
        for number in list(self._waiting)[:1]:
            if number not in self._packed:
                self._packed[number] = packed(self._items[number], f"an item of {self._name}")

    def _hear(self) -> None:
        """Take the answers that there are, waiting for the first a moment."""
        busy: dict[Connection, _Worker] = {worker.connection: worker for worker in self._workers if worker.number is not None}
        ready = wait(list(busy), _LOOK_SECONDS)
        for connection, worker in busy.items():
            if connection not in ready and not worker.is_gone():
                continue
            answer = worker.answer() if connection in ready else None
            if answer is None:
                self._replace(worker)
            else:
                self._take(worker, *answer)

    def _take(self, worker: _Worker, kind: bytes, answer: bytes) -> None:
        number, worker.number = worker.number, None
        if kind != RESULT:
            raise unpacked_error(answer)
        if number is None:
            raise AssertionError("only who has an item answers")
        self._results[number] = unpacked(answer, f"the result of {self._name}")

    def _replace(self, worker: _Worker) -> None:
        """Another process in the place of one that is gone, whose item is worked on again first."""
        number, why = worker.number, worker.why()
        worker.kill()
        self._workers.remove(worker)
        if number is None:
            raise AssertionError("only who has an item is listened to")
        if self._tries[number] >= MOST_TRIES:
            raise WorkerLost(
                f"part {number + 1} of {len(self._items)} of {self._name} was tried {MOST_TRIES} times, and each time its process ended, "
                f"the last time by {why}. Where the system ends processes for want of memory, work in fewer of them: "
                "LAKEHOUSE_COMPUTE_WORKERS=1, or LAKEHOUSE_COMPUTE=local"
            )
        self._waiting.appendleft(number)
        self._workers.append(_Worker(self._environment))
