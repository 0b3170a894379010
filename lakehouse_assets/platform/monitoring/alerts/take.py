"""From signals to logged events: read what is new in all sources, let the state machine judge, commit both at once.

Who is told of the events is the business of `delivery`.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from logging import Logger

from lakehouse_assets.platform.monitoring.alerts.log import AlertLog
from lakehouse_assets.platform.monitoring.alerts.machine import Entry, advance
from lakehouse_assets.platform.monitoring.alerts.signals import Reading, Signal, Source
from lakehouse_assets.platform.storage.errors import CommitConflict, CursorMoved

WhyGone = Callable[[str, datetime], str]
"""Why what has a key exists no more, of what was said of it at a moment; empty: it may exist."""
WhyOver = Callable[[Entry], str]
"""Why an open alert is over although nobody said so of what it watches; empty: it is not, or that cannot be told."""


def take(  # noqa: PLR0917 all that events depend on
    alerts: AlertLog,
    sources: Sequence[Source],
    now: datetime,
    logger: Logger,
    sinks: Callable[[Entry], Sequence[str]] = lambda _: (),
    why_gone: WhyGone | None = None,
    why_over: WhyOver = lambda _: "",
) -> list[Entry]:
    """Consume what is new in the sources, once; the entries that were logged.

    A source that cannot be read is said in the log and tried again the next time: it keeps no other from being heard.

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
        readings = [_read(source, snapshot.watermark, now, logger) for source in sources]
        signals = [signal for reading in readings for signal in reading.signals]
        if why_gone is not None:
            signals = [signal for signal in signals if not why_gone(signal.key, signal.at)]
        signals += _of_what_is_over(snapshot.open_alerts(), {signal.key for signal in signals}, why_gone, why_over, now)
        cursors = [cursor for reading in readings for cursor in reading.cursors if cursor.before != cursor.after]
        entries = advance(snapshot.last({signal.key for signal in signals}), signals, snapshot.sequence) if signals else []
        if not entries and not cursors:
            return []
        try:
            alerts.append(entries, cursors, sinks, now, snapshot.sequence)
        except CursorMoved:
            continue
        return entries


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


def _read(source: Source, watermark: Callable[[str], int | None], now: datetime, logger: Logger) -> Reading:
    try:
        return source.read(watermark, now)
    except CommitConflict:
        raise
    except Exception:  # whatever it is, the other sources are heard
        logger.exception("Alerts: %s cannot be read; the next tick tries again.", source.name)
        return Reading()
