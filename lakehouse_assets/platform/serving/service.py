"""One service process, put together: endpoints, worker, ledgers followed, online store, log, tokens, paths. Servers listen in `server`."""

import logging
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.endpoints import Endpoint
from lakehouse_assets.platform.features.online.opening import online_store
from lakehouse_assets.platform.governance.reader import Reader
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.serving.administering import Administering
from lakehouse_assets.platform.serving.aliases import SECONDS as ALIAS_SECONDS
from lakehouse_assets.platform.serving.aliases import AliasWatch
from lakehouse_assets.platform.serving.app import Application
from lakehouse_assets.platform.serving.aside import Aside
from lakehouse_assets.platform.serving.assemble import Assembler, Lookups
from lakehouse_assets.platform.serving.door import Door
from lakehouse_assets.platform.serving.engine import Engine
from lakehouse_assets.platform.serving.examples import StoredExamples
from lakehouse_assets.platform.serving.feedback import Feedback, label_types
from lakehouse_assets.platform.serving.hosts import Hosts
from lakehouse_assets.platform.serving.inference_log.drain import files_aside
from lakehouse_assets.platform.serving.inference_log.log import InferenceLog
from lakehouse_assets.platform.serving.inference_log.table import LoggedEndpoint
from lakehouse_assets.platform.serving.limits import Limits
from lakehouse_assets.platform.serving.metrics import Metrics
from lakehouse_assets.platform.serving.openapi_others import Doors
from lakehouse_assets.platform.serving.pages import Pages
from lakehouse_assets.platform.serving.protocols import inference, mlflow
from lakehouse_assets.platform.serving.pushing import Pushing
from lakehouse_assets.platform.serving.reload import Reloader
from lakehouse_assets.platform.serving.served import Served
from lakehouse_assets.platform.serving.stored import StoredFeatures
from lakehouse_assets.platform.serving.tokens import Tokens
from lakehouse_assets.platform.serving.work import Queue

logger = logging.getLogger(__name__)
_SYNC_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 10.0
_ALIASES_STOP_SECONDS: Final = 1.0


class Online(Protocol):
    """The online store of a service."""

    def lookups(self, served: Served, versions: Mapping[str, int | None]) -> Lookups | None:
        """Where the features of an endpoint are looked up, in these versions; None if none are."""
        ...

    def sync(self) -> None:
        """Bring the store up to date with the feature tables."""
        ...

    def synced(self) -> dict[str, datetime | None]:
        """By feature set, until when the store knows its table."""
        ...


class NoEndpoint(ValueError):
    """No product declares an endpoint, or none of that name."""


@dataclass
class Service:
    """A service that can be started once.

    Attributes:
        root: The lakehouse.
        catalog: All declarations.
        reader: Through which examples are read.
        online: The online store.
        limits: What it takes on.
        tokens_needed: Whether requests need a token.
        hosts: Names under which it answers besides those of loopback, where requests need no token.
        reload_seconds: Between two looks at the ledgers.
        alias_seconds: Between two looks at the aliases in MLflow.
    """

    root: Root
    catalog: Catalog
    reader: Reader
    online: Online
    limits: Limits = field(default_factory=Limits)
    tokens_needed: bool = False
    hosts: Collection[str] = ()
    reload_seconds: float = 1.0
    alias_seconds: float = ALIAS_SECONDS

    def __post_init__(self) -> None:
        declared = {one.name: one for one in self.catalog.declarations}
        self.served = {one.word: Served(one, one.roles(declared)) for one in _distinct(self.catalog.endpoints)}
        if not self.served:
            raise NoEndpoint("no product declares an endpoint: add one with endpoint(…), see docs/serving.md")
        for one in self.served.values():
            _ = one.types  # what cannot be sent is refused now, and not at the first request
        self.metrics = Metrics()
        logged = [LoggedEndpoint(one.endpoint.product, one.name, personal=one.personal) for one in self.served.values()]
        spool = self.root.settings.home_folder / "serving" / "spool"
        self.log = InferenceLog(spool, lambda: self.root.lakehouse, logged)
        self.metrics.log_unreadable.set_function(lambda: files_aside(spool))
        self.queue = Queue(self.limits)
        self.engine = Engine(self.queue, self.log, self.metrics)
        self.reloader = Reloader(
            list(self.served.values()),
            lambda: self.root.lakehouse,
            self.root.registry,
            self._assembler,
            self.metrics,
            seconds=self.reload_seconds,
        )
        models = [one.endpoint.model for one in self.served.values()]
        self.aliases = AliasWatch(models, lambda: self.root.lakehouse, self.root.registry, self.alias_seconds)
        tokens = Tokens(self.root.settings.home_folder, needed=self.tokens_needed)
        self.aside = Aside()
        self.door = Door(
            self.served,
            self.queue,
            self.log,
            tokens,
            metrics=self.metrics,
            limits=self.limits,
            lakehouse=self.root.lakehouse,
            aside=self.aside,
        )
        self.pushing = Pushing(
            self.door,
            Feedback(self.log, label_types(self.served, declared), self.limits.request_rows),
            self.root.settings.home_folder,
            self.catalog.feeds,
            self.root.zone,
        )
        self._stopping = threading.Event()
        self._syncing = threading.Thread(target=self._sync, name="online-sync", daemon=True)

    def application(self) -> Application:
        """What answers HTTP. It starts the service with its first request and stops it after the last one."""
        doors = Doors(self.pushing.feeds, self.catalog.feature_sets, self.pushing.labels)
        pages = Pages(self.door, self.online.synced, StoredExamples(self.reader, self.aside).of, self._backlog, doors)
        protocols = [*mlflow.routes(self.door), *inference.routes(self.door)]
        hosts = None if self.tokens_needed else Hosts(self.hosts)
        sets = {one.name: one for one in self.catalog.feature_sets}
        stored = StoredFeatures(self.door, sets, lambda: online_store(self.root.settings), self.reader, self.aside)
        administering = Administering(self.door, self.reloader.now, self.aside)
        routes = [*pages.routes, *protocols, *self.pushing.routes, *stored.routes, *administering.routes]
        return Application(self.door, routes, self.start, self.stop, hosts)

    def start(self) -> None:
        """Begin to follow the ledgers, to score and to sync."""
        self.pushing.start()
        self.aliases.start()
        self.engine.start()
        self.reloader.start()
        self._syncing.start()

    def stop(self) -> None:
        """Answer what waits, write the log to the lake, end."""
        self._stopping.set()
        self.engine.stop(_STOP_SECONDS)
        self.reloader.stop()
        self.aliases.stop(_ALIASES_STOP_SECONDS)
        self._syncing.join(_STOP_SECONDS)
        self.pushing.close(_STOP_SECONDS)
        self.log.close(_STOP_SECONDS)

    def _assembler(self, served: Served, versions: Mapping[str, int | None]) -> Assembler:
        lookups = self.online.lookups(served, versions) if served.roles.looked_up else None
        return Assembler(served.roles, lookups, served.endpoint.missing == "refuse")

    def _sync(self) -> None:
        failed = False
        while not self._stopping.wait(_SYNC_SECONDS):
            try:
                self.online.sync()
                failed = False
            except Exception as error:  # noqa: BLE001 the store or the bucket may be back at the next round; answers say what is stale
                if not failed:
                    logger.warning("the online store is not brought up to date now: %s: %s", type(error).__name__, error)
                failed = True

    def _backlog(self) -> int:
        """Records that were answered and are not in the lake yet."""
        state = self.log.state()
        return max(state.spool.appended - state.drain.rows, 0)


def _distinct(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """The endpoints, each under an address of its own.

    Raises:
        NoEndpoint: Two would have one.
    """
    by_word: dict[str, Endpoint] = {}
    for one in endpoints:
        other = by_word.setdefault(one.word, one)
        if other is not one:
            raise NoEndpoint(f"{other.name} and {one.name} would have one address, /endpoints/{one.word}: rename one")
    return list(by_word.values())
