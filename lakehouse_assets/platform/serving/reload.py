"""Follows the ledgers: within seconds of a promotion or rollback the new champion answers, and no request fails of it.

Seeing that nothing was decided costs a look at one file. A version that cannot answer is not taken: the one before goes on, and `/ready`
and the metrics say why. What makes a version able to answer is in `scorer`.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lakehouse_assets.platform.pipeline.champions import aliases_by_ledger, scorer_of
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets.platform.serving import garbage
from lakehouse_assets.platform.serving.assemble import Assembler
from lakehouse_assets.platform.serving.forecasts import newest
from lakehouse_assets.platform.serving.metrics import Metrics
from lakehouse_assets.platform.serving.scorer import Learnt, Loaded, NotTaken, load
from lakehouse_assets.platform.serving.served import Served, Versions
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

logger = logging.getLogger(__name__)
_RETRY_SECONDS, _FEATURES_SECONDS = 5.0, 10.0
_CHAMPION: Final = "champion"
_CHALLENGER: Final = "challenger"

MakeAssembler = Callable[[Served, Learnt], Assembler]


@dataclass
class _Seen:
    """What was seen of an endpoint when it was looked at last."""

    mark: Any = None
    features: Any = None
    features_at: float = float("-inf")
    tried_at: float = float("-inf")
    failed: bool = False


class Reloader:
    """Keeps the versions of endpoints as the ledgers say.

    Args:
        served: The endpoints.
        lakehouse: Opens the tables.
        registry: Opens MLflow; asked only when another version is to be loaded.
        assembler: Makes the assembler of an endpoint, for what a version has learnt of the feature sets.
        metrics: Are told what answers.
        seconds: Between two looks.
    """

    def __init__(
        self,
        served: Sequence[Served],
        lakehouse: Callable[[], Lakehouse],
        registry: Callable[[], Registry],
        assembler: MakeAssembler,
        metrics: Metrics,
        *,
        seconds: float = 1.0,
    ) -> None:
        self._served, self._lakehouse, self._registry = served, lakehouse, registry
        self._assembler, self._metrics, self._seconds = assembler, metrics, seconds
        self._seen = {one.name: _Seen() for one in served}
        self._looking, self._stopping = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        """Begin to follow the ledgers; the first versions are loaded in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Follow them no more."""
        self._stopping.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.once()
            self._stopping.wait(self._seconds)

    def now(self) -> None:
        """Look at every ledger at once, and try again what was not taken and the versions of features."""
        with self._looking:
            for seen in self._seen.values():
                seen.tried_at = seen.features_at = float("-inf")
        self.once()

    def once(self) -> None:
        """Look at every ledger, and load what has to be loaded."""
        with self._looking:
            self._look()

    def _look(self) -> None:
        for served in self._served:
            try:
                self._follow(served)
            except Exception as error:  # noqa: BLE001 the disk, the bucket, MLflow: it may be back at the next look
                self._keep(served, _CHAMPION, f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}")
                self._seen[served.name].failed = True
                logger.warning("%s: versions cannot be read now: %s", served.name, error)

    def _follow(self, served: Served) -> None:
        seen, now = self._seen[served.name], time.monotonic()
        lakehouse = self._lakehouse()
        mark = self._mark(served, lakehouse, seen, now)
        if mark == seen.mark and not (seen.failed and now - seen.tried_at > _RETRY_SECONDS):
            return
        same_features = seen.mark is not None and seen.mark[1] == mark[1]
        seen.mark, seen.tried_at, seen.failed = mark, now, False
        aliases = aliases_by_ledger(lakehouse, served.endpoint.model)
        if aliases.champion is None:
            model = served.endpoint.model.name
            if mark[0] is None and served.versions is not None:
                # A disk that is not mounted looks like this too: nothing was decided.
                self._keep(served, _CHAMPION, f"{model} is not there: the version that was loaded goes on")
                return
            served.versions, served.why = None, {_CHAMPION: f"{model} has no champion: `lakehouse train` trains one"}
            return
        before = served.versions
        champion = self._version(
            served, _CHAMPION, aliases.champion, before.champion if before is not None else None, lakehouse, keep=same_features
        )
        if champion is None:
            return
        challenger = None
        if served.endpoint.challenger or served.endpoint.shadow:
            old = before.challenger if before is not None else None
            challenger = self._version(served, _CHALLENGER, aliases.challenger, old, lakehouse, keep=same_features)
        self._swap(served, champion, challenger, lakehouse)

    def _swap(self, served: Served, champion: Loaded, challenger: Loaded | None, lakehouse: Lakehouse) -> None:
        made = None
        if served.endpoint.by_keys:
            try:
                made = newest(champion, lakehouse.table(served.roles.driving.name), served.roles.driving.entity)
            except NotTaken as error:
                self._keep(served, _CHAMPION, str(error))
                return
        served.versions = Versions(champion, challenger, made)
        garbage.reloaded()
        for variant, loaded in ((_CHAMPION, champion), (_CHALLENGER, challenger)):
            if loaded is not None:
                self._metrics.model.labels(served.name, variant).set(loaded.champion.version)

    def _version(
        self, served: Served, variant: str, number: int | None, old: Loaded | None, lakehouse: Lakehouse, *, keep: bool
    ) -> Loaded | None:
        """The version that is to answer: loaded, or the one that answered until now where the new one is not taken."""
        if number is None:
            served.why.pop(variant, None)
            return None
        if keep and old is not None and old.champion.version == number:
            served.why.pop(variant, None)
            return old
        try:
            scorer = scorer_of(self._registry(), served.endpoint.model, number)
            loaded = load(served.endpoint, served.roles, scorer, lakehouse, lambda learnt: self._assembler(served, learnt))
        except (NotTaken, LookupError) as error:
            self._keep(served, variant, str(error))
            return old
        served.why.pop(variant, None)
        return loaded

    def _keep(self, served: Served, variant: str, why: str) -> None:
        """The version before goes on; what is wrong is kept for those who ask."""
        seen = self._seen[served.name]
        seen.failed = True
        if served.why.get(variant) != why:
            self._metrics.not_taken.labels(served.name).inc()
            logger.warning("%s: %s", served.name, why)
        served.why = {**served.why, variant: why}

    def _mark(self, served: Served, lakehouse: Lakehouse, seen: _Seen, now: float) -> tuple[Any, Any]:
        """What says whether something has to be loaded: the ledger, and now and then the versions of the features."""
        ledger = lakehouse.table(served.endpoint.model.name)
        decided = ledger.version() if ledger.exists() else None
        if served.endpoint.by_keys:
            table = lakehouse.table(served.roles.driving.name)
            return decided, table.version() if table.exists() else None
        if now - seen.features_at > _FEATURES_SECONDS:
            seen.features_at = now
            seen.features = tuple(FeatureVersion.of(lakehouse.table(one.name)) for one in served.roles.sets)
        return decided, seen.features
