"""Brings the product of `orchestration.level` up to date in a fork that kills itself at one point, or waits there for another one.

An order has `root`, `what` (run, rollback, sync) and `when`. The process dies after it has `registered` a version, committed a decision
(`decided`) or made the first call that changes an alias (`alias`). It waits before it registers until another process is as far
(`together`). It does neither (`never`).
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lakehouse_assets.platform.registry.mlflow_store import load_mlflow
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets_tests.platform.orchestration.level import MODEL, Demo


def _then(function: Callable[..., Any], act: Callable[[Any], None]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        act(args)
        return result

    return wrapped


def _die(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_if_decided(arguments: tuple[Any, ...]) -> None:
    written_to, rows = arguments[:2]
    if written_to.name == MODEL and rows.height:
        _die(arguments)


def _wait_for_another(root: Path) -> None:
    log_training = Registry.log_training

    def wait_and_log(*arguments: Any) -> Any:
        (root / f"{os.getpid()}.waits").touch()
        while len(list(root.glob("*.waits"))) < 2:
            time.sleep(0.02)
        return log_training(*arguments)

    Registry.log_training = wait_and_log  # type: ignore[method-assign]


def _prepare(root: Path, when: str) -> None:
    if when == "registered":
        Registry.log_training = _then(Registry.log_training, _die)  # type: ignore[method-assign]
    elif when == "decided":
        Table.append = _then(Table.append, _die_if_decided)  # type: ignore[method-assign]
    elif when == "alias":
        client = load_mlflow().MlflowClient
        client.set_registered_model_alias = _then(client.set_registered_model_alias, _die)
        client.delete_registered_model_alias = _then(client.delete_registered_model_alias, _die)
    elif when == "together":
        _wait_for_another(root)


def _run(demo: Demo) -> dict[str, Any]:
    trained = demo.run()
    return {"version": trained.version, "champion": trained.champion, "promoted": trained.promoted}


def carry_out(order: dict[str, Any]) -> Any:
    """Carry out an order, and give what a run has trained."""
    demo = Demo(Path(order["root"]))
    _prepare(demo.root, order["when"])
    if order["what"] == "run":
        return _run(demo)
    {"rollback": demo.step().rollback, "sync": demo.step().open_ledger().sync}[order["what"]]()
    return None
