"""The sensor that alerts, and one tick of it without the daemon: what Dagster and the tables recorded is consumed, and the sinks are told.

What is an alert, who is told and what was told is decided and kept in `monitoring.alerts`. Nothing that happens here fails anything else.
"""

import fcntl
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from typing import Final

import dagster as dg

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.check_names import GATE_CHECK
from lakehouse_assets.platform.declarations.packages import product_packages
from lakehouse_assets.platform.monitoring.alerts import routing
from lakehouse_assets.platform.monitoring.alerts.delivery import Delivered, Waiting, deliver
from lakehouse_assets.platform.monitoring.alerts.log import AlertLog
from lakehouse_assets.platform.monitoring.alerts.machine import NOTIFIED, Entry
from lakehouse_assets.platform.monitoring.alerts.signals import Source
from lakehouse_assets.platform.monitoring.alerts.sources.files import RefusedFiles
from lakehouse_assets.platform.monitoring.alerts.sources.quarantines import QuarantineSpikes
from lakehouse_assets.platform.monitoring.alerts.sources.refusals import Refusals
from lakehouse_assets.platform.monitoring.alerts.sources.verdicts import Verdicts
from lakehouse_assets.platform.monitoring.alerts.take import take, why_source_is_over
from lakehouse_assets.platform.monitoring.kinds.implied import all_monitors
from lakehouse_assets.platform.operations.place import products_of
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.orchestration.autoload import Products
from lakehouse_assets.platform.orchestration.existing import Existing
from lakehouse_assets.platform.orchestration.instance import instance as opened_instance
from lakehouse_assets.platform.orchestration.run_signals import EndedRuns, StaleAssets
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.wording import counted
from lakehouse_assets.settings import SettingError, Settings

SENSOR: Final = "alerts"
_LOGGER: Final = logging.getLogger(__name__)


def sensor(catalog: Catalog, seconds: int) -> dg.SensorDefinition:
    """The sensor, on by default.

    Args:
        catalog: The declarations: which tables, feeds and monitors there are, and whose they are.
        seconds: Between two ticks.
    """
    loaded_at = clock.now()

    @cache
    def existing(repository: dg.RepositoryDefinition | None) -> Existing | None:
        return None if repository is None else Existing.of(repository, catalog, loaded_at)

    @dg.sensor(
        name=SENSOR,
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"lakehouse"},
        description="Alerts about runs, checks, files, quarantines, stale tables and monitors: logs each once and tells the sinks "
        "(LAKEHOUSE_ALERT_…). Checks that an ended run did not evaluate are given their last results.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        lakehouse, there = context.resources.lakehouse.open(), existing(context.repository_def)
        return dg.SkipReason(tick(context.instance, lakehouse, catalog, Settings.load(), clock.now(), context.log, there).text)

    return alerts


@dataclass(frozen=True)
class Ticked:
    """What one tick did.

    Attributes:
        events: How many people are told of were logged.
        delivered: How often a sink took an event.
        failed: By sink, why something was not delivered.
        unread: By source of alerts that could not be read, why not and what to do.
        waiting: By sink that could not be reached before, or refused, how many events wait, and until when.
    """

    events: int
    delivered: int
    failed: Mapping[str, str]
    unread: Mapping[str, str]
    waiting: Mapping[str, Waiting] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All of it as a sentence."""
        failed = f"; not delivered to {', '.join(sorted(self.failed))}" if self.failed else ""
        unread = f"; not read: {', '.join(sorted(self.unread))}" if self.unread else ""
        waiting = "".join(f"; {text}" for text in self.waits)
        return f"{counted(self.events, 'event')}, {counted(self.delivered, 'delivery', 'deliveries')}{failed}{unread}{waiting}."

    @property
    def waits(self) -> Sequence[str]:
        """Of each sink that is not told yet, what waits for it."""
        return [
            f"{counted(one.events, 'event waits', 'events wait')} for {sink}, next try at {one.until:%Y-%m-%d %H:%M:%S} UTC"
            for sink, one in sorted(self.waiting.items())
        ]


def tick(  # noqa: PLR0917 all that there is to know
    instance: dg.DagsterInstance,
    lakehouse: Lakehouse,
    catalog: Catalog,
    settings: Settings,
    now: datetime,
    logger: logging.Logger,
    existing: Existing | None = None,
) -> Ticked:
    """Log what has happened since the last tick, and tell the sinks what they were not told yet.

    Args:
        instance: Dagster's.
        lakehouse: The tables.
        catalog: The declarations.
        settings: Name the sinks.
        now: The moment (UTC).
        logger: Told each alert, and what could not be delivered.
        existing: What the code location has: alerts about what it has no more are over. None: not known.

    Raises:
        CommitConflict: Other writers did not let what happened be logged.
    """
    log, sinks = AlertLog(lakehouse), routing.sinks_of(settings, logger)
    if sinks.problem:
        logger.error("Alerts: no route is followed: %s", sinks.problem)
    why_gone = None if existing is None else replace(existing, is_whole=_is_whole(settings)).why_gone
    read = sources(instance, Root(settings), lakehouse, catalog)
    runs = EndedRuns(instance, {})

    def why_over(alert: Entry) -> str:
        return runs.why_over(alert) or why_source_is_over(alert, read)

    taken = take(log, read, now, logger, lambda entry: _names(sinks, entry), why_gone, why_over)
    done = Delivered()
    with _alone(settings) as is_alone:
        if is_alone:
            done = deliver(log, sinks.by_name, str(settings.root), now, logger)
    return Ticked(sum(entry.event in NOTIFIED for entry in taken.entries), done.delivered, done.failed, taken.unread, done.waiting)


def send(settings: Settings, lakehouse: Lakehouse, products: Products, defs: dg.Definitions, loaded_at: datetime) -> Ticked:
    """One tick without the daemon, as from cron.

    Args:
        settings: Of the lakehouse.
        lakehouse: The tables.
        products: All that is declared.
        defs: What Dagster makes of it.
        loaded_at: When the products were loaded (UTC).

    Raises:
        DatabaseUnavailable: Dagster's databases cannot be opened.
        CommitConflict: Other writers did not let what happened be logged.
    """
    existing = Existing.of(defs.get_repository_def(), products.catalog, loaded_at)
    with opened_instance(settings) as opened:
        return tick(opened, lakehouse, products.catalog, settings, clock.now(), _LOGGER, existing)


def sources(instance: dg.DagsterInstance, root: Root, lakehouse: Lakehouse, catalog: Catalog) -> list[Source]:
    """All that signals are read from."""
    owners = {name: declared.owner for declared in catalog.declarations for name in (declared.name, *declared.outputs())}
    monitors = all_monitors(catalog.declarations)
    # What monitors say is told by their verdicts. That a gate refuses a version is a normal answer of it: see `Refusals`.
    elsewhere = {*((monitor.of, monitor.word) for monitor in monitors), *((model.name, GATE_CHECK) for model in catalog.models)}
    return [
        EndedRuns(instance, owners, elsewhere),
        StaleAssets(instance, owners),
        RefusedFiles(lakehouse, {feed.feed.name: feed.owner for feed in catalog.feeds}, root.zone),
        QuarantineSpikes(lakehouse, {table.name: table.owner for table in catalog.tables}),
        Refusals(lakehouse, catalog),
        Verdicts(lakehouse, {monitor.name: monitor.alert for monitor in monitors}, monitors),
    ]


def _is_whole(settings: Settings) -> bool:
    """Whether all packages of products are loaded that the root was ever run with."""
    known = set(products_of(settings.root).values())
    try:
        return bool(known) and known <= {package.text for package in product_packages(settings.products)}
    except SettingError:
        return False


def _names(sinks: routing.Sinks, entry: Entry) -> list[str]:
    return sinks.names_for(entry.owner) if entry.event in NOTIFIED else []


@contextmanager
def _alone(settings: Settings) -> Iterator[bool]:
    """Whether no other process of this machine delivers at this moment: it would send the same again."""
    settings.home_folder.mkdir(parents=True, exist_ok=True)
    with (settings.home_folder / ".alerts.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
