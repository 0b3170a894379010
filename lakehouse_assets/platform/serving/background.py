"""What a service does besides answering, again and again, each task by itself as each waits for something else.

The online store follows the tables, what was answered or accepted goes to the lake, aliases of MLflow become decisions.

It runs in a process of its own at low priority, which `background_process` starts, or in threads of the service where declarations are
known to that process alone. Nothing here answers a request.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final

from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.features.online.forms import Needs
from lakehouse_assets.platform.features.online.opening import online_store
from lakehouse_assets.platform.features.online.sync import sync
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.online import events_of_requests, key_of, learnt_in_use
from lakehouse_assets.platform.serving.aliases import SECONDS as ALIAS_SECONDS
from lakehouse_assets.platform.serving.aliases import take_aliases
from lakehouse_assets.platform.serving.inference_log.log import drainer
from lakehouse_assets.platform.serving.inference_log.places import spool_of
from lakehouse_assets.platform.serving.inference_log.table import LoggedEndpoint
from lakehouse_assets.platform.serving.ingest import Ingest, path_of
from lakehouse_assets.platform.serving.service_needs import ServiceNeeds
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion

logger = logging.getLogger(__name__)
_LONG_SECONDS: Final = 60.0
_SYNC_SECONDS, _DRAIN_SECONDS, _LAND_SECONDS = 1.0, 1.0, 2.0


@dataclass
class Task:
    """Something that is done again and again.

    Attributes:
        name: Of it.
        step: Does it once.
        seconds: Between two times.
        longest: Between two times at most, while it fails.
        brings: Whether it brings something to the lake, so that it is done once more at the end.
        trouble: Why it failed the last time; empty: it did not.
    """

    name: str
    step: Callable[[], None]
    seconds: float
    longest: float
    brings: bool = False
    trouble: str = ""
    _pause: float = field(default=0.0, init=False)
    _began: float | None = field(default=None, init=False)

    @property
    def hangs(self) -> bool:
        """Whether it has been at work for over a minute, as where a bucket does not answer, or a large table is scanned."""
        began = self._began
        return began is not None and time.monotonic() - began > _LONG_SECONDS

    def once(self) -> None:
        """Do it; a failure is told in the log, once, and tried again later and later."""
        self._began = time.monotonic()
        try:
            self.step()
        except BaseException as error:  # noqa: BLE001 the store, the bucket or MLflow may be back at the next round; a panic is no Exception
            why = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
            if why != self.trouble:
                logger.warning("%s: %s", self.name, why)
            self.trouble = why
            self._pause = min(max(2 * self._pause, self.seconds), self.longest)
        else:
            self.trouble, self._pause = "", self.seconds
        finally:
            self._began = None

    def run(self, stopping: threading.Event) -> None:
        """Do it until it is stopped."""
        while not stopping.wait(self._pause):
            self.once()


class Background:
    """The tasks of one service.

    Args:
        root: The lakehouse.
        catalog: All declarations.
        needs: Gives what the service needs.
        alias_seconds: Between two looks at the aliases in MLflow.
    """

    def __init__(self, root: Root, catalog: Catalog, needs: Callable[[], ServiceNeeds], alias_seconds: float = ALIAS_SECONDS) -> None:
        self._root, self._catalog, self._needs = root, catalog, needs
        self._events = events_of_requests(catalog)
        self._feeds = {one.feed.name: one.feed for one in catalog.feeds}
        self._store = online_store(root.settings)
        self._outboxes: dict[str, Ingest] = {}
        self._in_use: dict[str, tuple[int, Mapping[str, frozenset[FeatureVersion]]]] = {}
        declared = {one.name: one for one in catalog.declarations}
        logged = [LoggedEndpoint.of(one, one.roles(declared)) for one in catalog.endpoints]
        self._drainer = drainer(spool_of(root.settings.home_folder), lambda: self._needs().writer, lambda: root.lakehouse, logged)
        models = [one.model for one in catalog.endpoints]
        self.tasks = [
            Task("sync", self.sync, _SYNC_SECONDS, 2.0),
            Task("log", self._drain, _DRAIN_SECONDS, 60.0, brings=True),
            Task("ingest", self._land, _LAND_SECONDS, 30.0, brings=True),
            Task("aliases", lambda: take_aliases(models, root.lakehouse, root.registry), alias_seconds, 30.0),
        ]

        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=one.run, args=(self._stopping,), name=one.name, daemon=True) for one in self.tasks]

    def start(self) -> None:
        """Begin with all tasks."""
        for one in self._threads:
            one.start()

    def stop(self, seconds: float) -> None:
        """Bring what is left to the lake and end. What is not done in so many seconds is left to the next process."""
        self._stopping.set()
        last = threading.Thread(target=self._finish, name="background-last", daemon=True)
        last.start()
        last.join(seconds)

    def trouble(self) -> dict[str, str]:
        """Why tasks failed the last time, by their names."""
        hangs = "it has been at work for over a minute"
        return {one.name: one.trouble or hangs for one in self.tasks if one.trouble or one.hangs}

    def sync(self) -> None:
        """Bring the online store up to date with the feature tables, each by itself: one that fails does not hold the others up.

        Raises:
            Exception: The first that a feature set failed of.
        """
        failures: list[Exception] = []
        sets = {one.name: one for one in self._catalog.feature_sets}
        in_use = self._learnt_in_use()
        for name, needed in self._needs().sets.items():
            hours = timedelta(hours=self._root.settings.online_hours)
            try:
                learnt = {*needed.learnt, *in_use.get(name, ())}
                needs = Needs(partial(key_of, self._catalog), self._events.get(name, ()), learnt, hours)
                sync(self._store, self._root.lakehouse, sets[name], needs)
            except Exception as error:  # noqa: BLE001 it is raised at the end
                failures.append(error)
        if failures:
            raise failures[0]

    def _learnt_in_use(self) -> dict[str, frozenset[FeatureVersion]]:
        """By feature set, what models in use have learnt of it: a version that is promoted finds its features in the store."""
        found: dict[str, frozenset[FeatureVersion]] = {}
        for model in self._catalog.models:
            ledger = self._root.lakehouse.table(model.name)
            decided = ledger.version() if ledger.exists() else -1
            if self._in_use.get(model.name, (None, {}))[0] != decided:
                self._in_use[model.name] = (decided, learnt_in_use(self._root.lakehouse, model))
            for name, learnt in self._in_use[model.name][1].items():
                found[name] = found.get(name, frozenset()) | learnt
        return found

    def _finish(self) -> None:
        for task in self.tasks:
            if task.brings:
                task.once()
        for one in self._threads:
            one.join()  # a sync that is cut off leaves its lease
        self._store.close()

    def _drain(self) -> None:
        if not self._drainer.once():
            raise Waits(self._drainer.state.trouble)

    def _land(self) -> None:
        """Land the rows that any process of this machine accepted.

        Raises:
            Waits: Some could not be landed.
        """
        waits, home = [], self._root.settings.home_folder
        for name, feed in self._feeds.items():
            if not path_of(home, name).exists():
                continue
            try:
                if name not in self._outboxes:
                    self._outboxes[name] = Ingest(home, feed, partial(self._root.zone, name))
                if not self._outboxes[name].land():
                    waits.append(f"{name}: {self._outboxes[name].state().trouble}")
            except Exception as error:  # noqa: BLE001 as of a feed that takes no rows any more: it holds no other one up
                waits.append(f"{name}: {error}")
        if waits:
            raise Waits("; ".join(waits))


class Waits(Exception):
    """Something stays where it is durable, until the lake takes it."""
