"""Takes note of champion aliases that were set by hand in MLflow: they become decisions of the ledger, which the reloader follows.

It asks MLflow every few seconds in a thread of its own, as MLflow may answer late or not at all; what answers requests never waits for it.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.pipeline.champions import sync_aliases
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

logger = logging.getLogger(__name__)
SECONDS: Final = 5.0
_RUN: Final = "serving"


class AliasWatch:
    """Brings the ledgers of some models into agreement with MLflow, again and again.

    Args:
        models: The models; one that was never decided about is not asked for.
        lakehouse: Opens their ledgers.
        registry: Opens MLflow.
        seconds: Between two rounds.
    """

    def __init__(
        self,
        models: Sequence[ModelDeclaration],
        lakehouse: Callable[[], Lakehouse],
        registry: Callable[[], Registry],
        seconds: float = SECONDS,
    ) -> None:
        self._models = list({one.name: one for one in models}.values())
        self._lakehouse, self._registry, self._seconds = lakehouse, registry, seconds
        self._failed: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aliases", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End; MLflow is not waited for longer than some seconds."""
        self._stopping.set()
        self._thread.join(seconds)

    def once(self) -> None:
        """One round: each model by itself, since MLflow or the bucket may be away."""
        for model in self._models:
            try:
                sync_aliases(self._lakehouse(), model, self._registry, _RUN)
                self._failed.discard(model.name)
            except Exception as error:  # noqa: BLE001 it may be back at the next round
                if model.name not in self._failed:
                    logger.warning("aliases of %s in MLflow are not read now: %s: %s", model.name, type(error).__name__, error)
                self._failed.add(model.name)

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            self.once()
