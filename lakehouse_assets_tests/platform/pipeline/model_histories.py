"""What tests of the model step share: histories of decisions, hands in MLflow, and registries that break in the middle."""

from collections.abc import Callable
from typing import Any

import pytest

from lakehouse_assets.platform.registry.mlflow_store import load_mlflow
from lakehouse_assets.platform.registry.registry import Aliases, Registry
from lakehouse_assets_tests.platform.orchestration.level import MODEL, Demo, Level


def client(demo: Demo) -> Any:
    """MLflow itself."""
    return load_mlflow().MlflowClient(demo.registry.tracking_uri, demo.registry.tracking_uri)


def set_champion_by_hand(demo: Demo, version: int) -> None:
    """As on a page of MLflow."""
    client(demo).set_registered_model_alias(MODEL, "champion", str(version))


def decisions(demo: Demo) -> list[tuple[int, str, int | None]]:
    """Version, decision and the champion before it, in order."""
    return [(entry["version"], entry["decision"], entry["champion_before"]) for entry in demo.decisions()]


def promoted_twice(demo: Demo) -> None:
    """Version 2 is champion, version 1 was it."""
    for origins, error in ((5, 4.0), (6, 2.0)):
        demo.land(error=error, origins=origins)
        demo.run()


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
