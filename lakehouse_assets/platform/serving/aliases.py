"""Takes note of champion aliases that were set by hand in MLflow: they become decisions of the ledger, which the reloader follows.

It asks MLflow, which may answer late or not at all: what answers requests never waits for it.
"""

from collections.abc import Callable, Iterable
from typing import Final

from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.pipeline.champions import sync_aliases
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

SECONDS: Final = 5.0
"""Between two looks."""
_RUN: Final = "serving"


def take_aliases(models: Iterable[ModelDeclaration], lakehouse: Lakehouse, registry: Callable[[], Registry]) -> None:
    """Bring the ledgers of some models into agreement with MLflow, each by itself; one that was never decided about is not asked for.

    Raises:
        Exception: The first that a model failed of.
    """
    failures: list[Exception] = []
    for model in {one.name: one for one in models}.values():
        try:
            sync_aliases(lakehouse, model, registry, _RUN)
        except Exception as error:  # noqa: BLE001 it is raised at the end
            failures.append(error)
    if failures:
        raise failures[0]
