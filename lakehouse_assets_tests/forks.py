"""Processes that carry out orders, each order in a fork of its own that may die: what takes seconds to import is imported once.

`python -m lakehouse_assets_tests.forks` takes orders as `crash_child` does. `module` of an order is the module whose `carry_out` is called;
what that gives is the answer.
"""

import json
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType
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
    """One such process, started by its first order."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.communicate()  # the end of the orders is its end

    def begin(self, module: ModuleType, **order: Any) -> None:
        """Give an order; `end` waits for it."""
        if self.process is None:
            command = [sys.executable, "-m", __name__]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"module": module.__name__, **order}) + "\n")
        self.process.stdin.flush()

    def end(self) -> Ended:
        """What became of the order."""
        assert self.process is not None
        assert self.process.stdout is not None
        answer = json.loads(self.process.stdout.readline())
        return Ended(answer["signal"], answer["places"])

    def __call__(self, module: ModuleType, **order: Any) -> Ended:
        """Give an order, and wait for what becomes of it."""
        self.begin(module, **order)
        return self.end()


def warm_up() -> None:
    """Import and work out what processes do once, so that no fork does it again. Nothing that declares tables: see `crash_child.serve`."""
    from lakehouse_assets.platform.declarations.closure import closure
    from lakehouse_assets.platform.registry.mlflow_store import load_mlflow

    slow = ("matplotlib.figure", "matplotlib.backends.backend_agg", "PIL.Image", "scipy.stats")
    own = (f"lakehouse_assets.platform.pipeline.{name}" for name in ("champions", "full_refresh", "model_step", "replay"))
    for name in (*slow, *own):
        import_module(name)
    closure(["lakehouse_assets_tests.platform.orchestration.level"], ["lakehouse_assets", "lakehouse_assets_tests"])
    load_mlflow("mlflow.utils.requirements_utils")._init_packages_to_modules_map()


def carry_out(order: dict[str, Any]) -> Any:
    """In the fork."""
    return import_module(order["module"]).carry_out(order)


def meet(folder: str, count: int) -> None:
    """In the fork: wait until so many of those that were given this folder have come to here."""
    ready = Path(folder)
    ready.mkdir(exist_ok=True)
    (ready / str(os.getpid())).touch()
    deadline = time.monotonic() + 250
    while len([*ready.iterdir()]) < count:
        assert time.monotonic() < deadline
        time.sleep(0.002)


if __name__ == "__main__":
    from lakehouse_assets_tests.crash_child import serve

    warm_up()
    serve(carry_out)
