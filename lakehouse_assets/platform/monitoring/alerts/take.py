"""From signals to logged events: read what is new in all sources, let the state machine judge, commit both at once.

Who is told of the events is the business of `delivery`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from logging import Logger
from typing import Final

from lakehouse_assets.platform.monitoring.alerts.log import AlertLog
from lakehouse_assets.platform.monitoring.alerts.machine import Entry, advance
from lakehouse_assets.platform.monitoring.alerts.signals import Reading, Signal, Source
from lakehouse_assets.platform.monitoring.reasons import TROUBLE, reason
from lakehouse_assets.platform.storage.errors import CommitConflict, CursorMoved

WhyGone = Callable[[str, datetime], str]
"""Why what has a key exists no more, of what was said of it at a moment; empty: it may exist."""
WhyOver = Callable[[Entry], str]
"""Why an open alert is over although nobody said so of what it watches; empty: it is not, or that cannot be told."""
_SOURCE: Final = "source:"


@dataclass(frozen=True)
class Taken:
    """What came of consuming the sources once.

    Attributes:
        entries: What was logged.
        unread: By source that could not be read, why not and what to do.
    """

    entries: Sequence[Entry] = ()
    unread: Mapping[str, str] = field(default_factory=dict)


def take(  # noqa: PLR0917 all that events depend on
    alerts: AlertLog,
    sources: Sequence[Source],
    now: datetime,
    logger: Logger,
    sinks: Callable[[Entry], Sequence[str]] = lambda _: (),
    why_gone: WhyGone | None = None,
    why_over: WhyOver = lambda _: "",
) -> Taken:
    """Consume what is new in the sources, once.

    A source that cannot be read keeps no other from being heard. It is an alert by itself until it is read again, which every call tries.

    Args:
        alerts: Where events are logged.
        sources: What is read.
        now: The moment (UTC).
        logger: Told what cannot be read.
        sinks: The names of those who are to be told of an entry.
        why_gone: Why what has a key exists no more, of what was said of it at a moment; empty: it may exist. What is gone is not told, and
            open alerts about it are resolved. None: everything may exist.
        why_over: Why an open alert is over for another reason.

    Raises:
        CommitConflict: Other writers did not let this one through.
    """
    while True:
        snapshot = alerts.snapshot()
        readings, unread = _read(sources, snapshot.watermark, now, logger)
        signals = [signal for reading in readings for signal in reading.signals]
        if why_gone is not None:
            signals = [signal for signal in signals if not why_gone(signal.key, signal.at)]
        open_alerts = snapshot.open_alerts()
        signals += _of_what_is_over(open_alerts, {signal.key for signal in signals}, why_gone, why_over, now)
        signals += _of_sources(sources, unread, {alert.key for alert in open_alerts}, now)
        cursors = [cursor for reading in readings for cursor in reading.cursors if cursor.before != cursor.after]
        entries = advance(snapshot.last({signal.key for signal in signals}), signals, snapshot.sequence) if signals else []
        if not entries and not cursors:
            return Taken((), unread)
        try:
            alerts.append(entries, cursors, sinks, now, snapshot.sequence)
        except CursorMoved:
            continue
        return Taken(entries, unread)


def _of_what_is_over(
    open_alerts: Sequence[Entry], heard: Collection[str], why_gone: WhyGone | None, why_over: WhyOver, now: datetime
) -> list[Signal]:
    """Signals that end alerts of which no source will say that it is well again."""
    signals = []
    for alert in open_alerts:
        why = "" if why_gone is None else why_gone(alert.key, alert.at)
        if not why and alert.key not in heard:
            why = why_over(alert)
        if why:
            signals.append(Signal(alert.key, is_bad=False, at=now, text=why, owner=alert.owner, is_over=True))
    return signals


def _of_sources(sources: Sequence[Source], unread: Mapping[str, str], open_keys: Collection[str], now: datetime) -> list[Signal]:
    """Signals about the sources themselves: while one cannot be read, nothing is told of what it watches."""
    signals = [Signal(f"{_SOURCE}{name}", is_bad=True, at=now, text=why) for name, why in unread.items()]
    well = [source.name for source in sources if source.name not in unread and f"{_SOURCE}{source.name}" in open_keys]
    signals += [Signal(f"{_SOURCE}{name}", is_bad=False, at=now, text=f"{_capitalized(name)} can be read again.") for name in well]
    return signals


def _read(
    sources: Sequence[Source], watermark: Callable[[str], int | None], now: datetime, logger: Logger
) -> tuple[list[Reading], dict[str, str]]:
    """What the sources have to say, and why some could not be read."""
    readings, unread = list[Reading](), dict[str, str]()
    for source in sources:
        try:
            readings.append(source.read(watermark, now))
        except CommitConflict:
            raise
        except TROUBLE as error:  # whatever it is, the other sources are heard
            logger.exception("Alerts: %s cannot be read; the next tick tries again.", source.name)
            unread[source.name] = _why_unread(source.name, error)
    return readings, unread


def _why_unread(name: str, error: BaseException) -> str:
    return (
        f"{_capitalized(name)} cannot be read, so nothing is told of what is said there until that is repaired: "
        f"{reason(error).rstrip('.')}. `lakehouse doctor` examines all tables and databases."
    )


def _capitalized(name: str) -> str:
    return name[0].upper() + name[1:]
