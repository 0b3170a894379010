"""The sensor that alerts: consumes what Dagster and the tables recorded since its last tick, and tells the sinks.

What is an alert, who is told and what was told is decided and kept in `monitoring.alerts`. Nothing that happens here fails anything else.
"""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import dagster as dg

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.monitoring.alerts import routing
from lakehouse_assets.platform.monitoring.alerts.delivery import Told, deliver
from lakehouse_assets.platform.monitoring.alerts.log import AlertLog
from lakehouse_assets.platform.monitoring.alerts.machine import TOLD, Entry
from lakehouse_assets.platform.monitoring.alerts.signals import Source
from lakehouse_assets.platform.monitoring.alerts.sources.files import RefusedFiles
from lakehouse_assets.platform.monitoring.alerts.sources.quarantines import QuarantineSpikes
from lakehouse_assets.platform.monitoring.alerts.sources.verdicts import Verdicts
from lakehouse_assets.platform.monitoring.alerts.take import take
from lakehouse_assets.platform.monitoring.implied import all_monitors
from lakehouse_assets.platform.orchestration.run_signals import EndedRuns, StaleAssets
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.wording import counted
from lakehouse_assets.settings import Settings

SENSOR: Final = "alerts"


def sensor(catalog: Catalog, seconds: int) -> dg.SensorDefinition:
    """The sensor, on by default.

    Args:
        catalog: The declarations: which tables, feeds and monitors there are, and whose they are.
        seconds: Between two ticks.
    """

    @dg.sensor(
        name=SENSOR,
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"lakehouse"},
        description="Alerts about runs, checks, files, quarantines, stale tables and monitors: logs each once and tells the sinks "
        "(LAKEHOUSE_ALERT_…). Checks that an ended run did not evaluate are given their last results.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        return dg.SkipReason(tick(context.instance, context.resources.lakehouse.open(), catalog, Settings.load(), clock.now(), context.log))

    return alerts


def tick(  # noqa: PLR0917 all that there is to know
    instance: dg.DagsterInstance, lakehouse: Lakehouse, catalog: Catalog, settings: Settings, now: datetime, logger: logging.Logger
) -> str:
    """Log what has happened since the last tick, and tell the sinks what they were not told yet.

    Args:
        instance: Dagster's.
        lakehouse: The tables.
        catalog: The declarations.
        settings: Name the sinks.
        now: The moment (UTC).
        logger: Told each alert, and what could not be delivered.

    Returns:
        What was done, in a sentence.
    """
    log, sinks = AlertLog(lakehouse), routing.sinks_of(settings, logger)
    if sinks.problem:
        logger.error("Alerts: no route is followed: %s", sinks.problem)
    happened = take(log, sources(instance, lakehouse, catalog), now, logger, lambda entry: _names(sinks, entry))
    told = Told()
    with _alone(settings) as is_alone:
        if is_alone:
            told = deliver(log, sinks.by_name, str(settings.root), now, logger)
    events = sum(entry.event in TOLD for entry in happened)
    failed = f"; not delivered to {', '.join(sorted(told.failed))}" if told.failed else ""
    return f"{counted(events, 'event')}, {counted(told.delivered, 'delivery', 'deliveries')}{failed}."


def sources(instance: dg.DagsterInstance, lakehouse: Lakehouse, catalog: Catalog) -> list[Source]:
    """All that signals are read from."""
    owners = {name: declared.owner for declared in catalog.declarations for name in (declared.name, *declared.outputs())}
    monitors = all_monitors(catalog.declarations)
    return [
        EndedRuns(instance, owners, {(monitor.of, monitor.word) for monitor in monitors}),
        StaleAssets(instance, owners),
        RefusedFiles(lakehouse, {feed.feed.name: feed.owner for feed in catalog.feeds}),
        QuarantineSpikes(lakehouse, {table.name: table.owner for table in catalog.tables}),
        Verdicts(lakehouse, {monitor.name: monitor.alert for monitor in monitors}),
    ]


def _names(sinks: routing.Sinks, entry: Entry) -> list[str]:
    return sinks.names_for(entry.owner) if entry.event in TOLD else []


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
