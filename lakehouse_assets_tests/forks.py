"""A process that carries out orders, each in a fork of its own that may die: see `crash_child.serve`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, Self

PROJECT = Path(__file__).parents[1]


class Ended(NamedTuple):
    """How a fork ended.

    Attributes:
        signal: That it died of; 0: it came to its end, -1: it raised an error.
        result: What it gave, if it came to its end.
    """

    signal: int
    result: Any


class Forks:
    """Starts the process; it imports what its forks need while the test goes on."""

    def __init__(self, module: str) -> None:
        command = [sys.executable, "-m", module]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()  # the end of the orders is its end

    def begin(self, **order: Any) -> None:
        """Give an order; `end` waits for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def end(self) -> Ended:
        """What became of the order."""
        assert self.process.stdout is not None
        answer = json.loads(self.process.stdout.readline())
        return Ended(answer["signal"], answer["places"])

    def __call__(self, **order: Any) -> Ended:
        """Give an order, and wait for what becomes of it."""
        self.begin(**order)
        return self.end()
