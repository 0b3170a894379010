"""What tests of the model step share: histories of decisions, hands in MLflow, and registries that break in the middle."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any

import pytest

from lakehouse_assets.platform.registry.mlflow_store import load_mlflow
from lakehouse_assets.platform.registry.registry import Aliases, Registry
from lakehouse_assets_tests.forks import Forks
from lakehouse_assets_tests.platform.orchestration.level import MODEL, Demo, Level
from lakehouse_assets_tests.platform.pipeline import level_child


def history(play: Callable[[Demo], object]) -> Callable[[Demo], None]:
    """What many tests begin with. It is played once in a test run and copied after that, because each training takes a second."""

    @wraps(play)
    def copied(demo: Demo) -> None:
        if demo.originals is None:
            play(demo)
        else:
            demo.originals.copy(play.__name__, lambda folder: play(replace(demo, root=folder)), demo.root)

    return copied


@history
def prepared(demo: Demo) -> None:
    """MLflow's database is there, and nothing is in it."""
    demo.registry.prepare()


@history
def trained_well(demo: Demo) -> None:
    """Version 1 is champion."""
    prepared(demo)
    demo.land(error=2.0)
    demo.run()


@history
def trained_badly(demo: Demo) -> None:
    """Version 1 is champion, and easy to beat."""
    prepared(demo)
    demo.land(error=4.0)
    demo.run()


@history
def promoted_twice(demo: Demo) -> None:
    """Version 2 is champion, version 1 was it."""
    trained_badly(demo)
    demo.land(error=2.0, origins=6)
    demo.run()


@history
def beaten(demo: Demo) -> None:
    """The model, version 1, is worse than the baseline, version 2, which is champion."""
    prepared(demo)
    demo.land(error=30.0)
    demo.run()


def client(demo: Demo) -> Any:
    """MLflow itself."""
    return load_mlflow().MlflowClient(demo.registry.tracking_uri, demo.registry.tracking_uri)


def set_champion_by_hand(demo: Demo, version: int) -> None:
    """As on a page of MLflow."""
    client(demo).set_registered_model_alias(MODEL, "champion", str(version))


def decisions(demo: Demo) -> list[tuple[int, str, int | None]]:
    """Version, decision and the champion before it, in order."""
    return [(entry["version"], entry["decision"], entry["champion_before"]) for entry in demo.decisions()]


class Unreachable(Registry):
    """A registry that is gone when an alias has to be changed."""

    def set_aliases(self, model_name: str, wanted: Aliases) -> bool:
        if self.aliases(model_name) != wanted:
            raise ConnectionError("MLflow does not answer")
        return False


class Silent(Registry):
    """A registry that is gone once an alias was changed."""

    def set_aliases(self, model_name: str, wanted: Aliases) -> bool:
        if super().set_aliases(model_name, wanted):
            raise ConnectionError("MLflow does not answer")
        return False


def crash(demo: Demo, registry: type[Registry]) -> None:
    """Decide, and get no further than this registry lets."""
    demo.work_out_features()
    with pytest.raises(ConnectionError):
        demo.step(registry=registry.under(demo.root / "mlflow")).run()


def while_it_is_trained(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    """Do something once, when the next training begins."""

    def once() -> None:
        monkeypatch.setattr(Level, "before", staticmethod(lambda: None))
        act()

    monkeypatch.setattr(Level, "before", staticmethod(once))


def die(demo: Demo, forks: Sequence[Forks], when: str, what: str = "run") -> None:
    """Do it in a process that is killed at this moment."""
    assert forks[0](level_child, root=str(demo.root), when=when, what=what).signal == signal.SIGKILL


def both(demo: Demo, forks: Sequence[Forks], when: str, what: str = "run") -> list[Any]:
    """Do it in two processes at once; what each has trained."""
    for one in forks:
        one.begin(level_child, root=str(demo.root), when=when, what=what)
    ended = [one.end() for one in forks]
    assert [one.signal for one in ended] == [0, 0]
    return [one.result for one in ended]
