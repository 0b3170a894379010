"""One service, put together: endpoints, worker, ledgers followed, online store, log, tokens, paths. Servers listen in `server`.

This process answers. What is no answer happens in `background`, in a process of its own.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.endpoints import Endpoint
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.features.online.opening import online_store
from lakehouse_assets.platform.features.online.store import OnlineStore
from lakehouse_assets.platform.governance.reader import Reader
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.online import events_of_requests
from lakehouse_assets.platform.serving.administering import Administering
from lakehouse_assets.platform.serving.aliases import SECONDS as ALIAS_SECONDS
from lakehouse_assets.platform.serving.app import Application
from lakehouse_assets.platform.serving.assemble import Assembler, Lookups
from lakehouse_assets.platform.serving.background import Background
from lakehouse_assets.platform.serving.background_process import BackgroundTasks, Child, Declared, Threads
from lakehouse_assets.platform.serving.door import Door
from lakehouse_assets.platform.serving.engine import Engine
from lakehouse_assets.platform.serving.examples import StoredExamples
from lakehouse_assets.platform.serving.feedback import Feedback, label_types
from lakehouse_assets.platform.serving.hosts import Hosts
from lakehouse_assets.platform.serving.inference_log.drain import unreadable_files
from lakehouse_assets.platform.serving.inference_log.log import InferenceLog
from lakehouse_assets.platform.serving.inference_log.places import spool_of
from lakehouse_assets.platform.serving.inference_log.table import LoggedEndpoint
from lakehouse_assets.platform.serving.limits import Limits
from lakehouse_assets.platform.serving.lookups import FeatureLookups
from lakehouse_assets.platform.serving.metrics import Metrics
from lakehouse_assets.platform.serving.offload import Offload
from lakehouse_assets.platform.serving.openapi_others import Doors
from lakehouse_assets.platform.serving.pages import Pages
from lakehouse_assets.platform.serving.protocols import inference, mlflow
from lakehouse_assets.platform.serving.pushing import Pushing
from lakehouse_assets.platform.serving.reload import Reloader
from lakehouse_assets.platform.serving.scorer import Learnt
from lakehouse_assets.platform.serving.served import Served
from lakehouse_assets.platform.serving.service_needs import NeededSet, ServiceNeeds
from lakehouse_assets.platform.serving.stored import StoredFeatures
from lakehouse_assets.platform.serving.tokens import Tokens
from lakehouse_assets.platform.serving.work import Queue

_STOP_SECONDS: Final = 10.0


class Online(Protocol):
    """The online store of a service."""

    def lookups(self, served: Served, learnt: Learnt) -> Lookups | None:
        """Where the features of an endpoint are looked up, as a version has learnt them; None if none are."""
        ...

    def needed(self) -> dict[str, NeededSet]:
        """By feature set, what endpoints look up of it."""
        ...

    def close(self) -> None:
        """Nothing is looked up any more."""
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
        declared: Gives the declarations in another process: there happens what is no answer. None: in threads of this one.
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
    declared: Declared | None = None

    def __post_init__(self) -> None:
        declared = {one.name: one for one in self.catalog.declarations}
        self.served = {one.word: Served(one, one.roles(declared)) for one in _distinct(self.catalog.endpoints)}
        if not self.served:
            raise NoEndpoint("no product declares an endpoint: add one with endpoint(…), see docs/serving.md")
        for one in self.served.values():
            _ = one.types  # what cannot be sent is refused now, and not at the first request
        self.metrics = Metrics()
        logged = [LoggedEndpoint.of(one.endpoint, one.roles) for one in self.served.values()]
        spool = spool_of(self.root.settings.home_folder)
        self.log = InferenceLog(spool, lambda: self.root.lakehouse, logged)
        self.metrics.log_unreadable.set_function(lambda: unreadable_files(spool))
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
        self.background = self._background()
        tokens = Tokens(self.root.settings.home_folder, needed=self.tokens_needed)
        self.offload = Offload()
        self.door = Door(
            self.served,
            self.queue,
            self.log,
            tokens,
            metrics=self.metrics,
            limits=self.limits,
            lakehouse=self.root.lakehouse,
            offload=self.offload,
        )
        self.pushing = Pushing(
            self.door,
            Feedback(self.log, label_types(self.served, declared), self.limits.request_rows),
            self.root.settings.home_folder,
            self.catalog.feeds,
            self.root.zone,
        )
        self.lookups = FeatureLookups(self.door, self._sets(), events_of_requests(self.catalog), self._store, self.reader)

    def application(self) -> Application:
        """What answers HTTP. It starts the service with its first request and stops it after the last one."""
        examples = StoredExamples(self.reader, self.offload).of
        doors = Doors(self.pushing.feeds, self.catalog.feature_sets, self.pushing.labels)
        pages = Pages(self.door, self.background, examples, doors, spooled=self.log.state, waiting=self.pushing.waiting)
        protocols = [*mlflow.routes(self.door), *inference.routes(self.door)]
        hosts = None if self.tokens_needed else Hosts(self.hosts)
        stored = StoredFeatures(self.door, self._sets(), self._store, self.reader, self.offload)
        administering = Administering(self.door, self.reloader.now, self.offload)
        routes = [*pages.routes, *protocols, *self.pushing.routes, *stored.routes, *administering.routes]
        return Application(self.door, routes, self.lookups.posts, start=self.start, stop=self.stop, hosts=hosts)

    def start(self) -> None:
        """Begin to follow the ledgers, to score, and with what is no answer."""
        self.background.start()
        self.engine.start()
        self.lookups.start()
        self.reloader.start()

    def stop(self) -> None:
        """Answer what waits, write the log to the lake, end."""
        self.engine.stop(_STOP_SECONDS)
        self.lookups.stop(_STOP_SECONDS)
        self.reloader.stop()
        self.pushing.close(_STOP_SECONDS)
        self.log.release()
        self.background.stop(_STOP_SECONDS)
        self.online.close()

    def _background(self) -> BackgroundTasks:
        def needs() -> ServiceNeeds:
            return ServiceNeeds(self.log.writer, self.online.needed())

        if self.declared is not None:
            return Child(self.root.settings, self.declared, needs, self.alias_seconds)
        return Threads(Background(self.root, self.catalog, needs, self.alias_seconds))

    def _sets(self) -> dict[str, FeatureSet]:
        return {one.name: one for one in self.catalog.feature_sets}

    def _store(self) -> OnlineStore:
        return online_store(self.root.settings)

    def _assembler(self, served: Served, learnt: Learnt) -> Assembler:
        lookups = self.online.lookups(served, learnt) if served.roles.looked_up else None
        return Assembler(served.roles, lookups, served.endpoint.missing == "refuse")


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
