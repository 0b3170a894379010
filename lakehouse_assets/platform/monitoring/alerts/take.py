"""From signals to logged events: read what is new in all sources, let the state machine judge, commit both at once.

Who is told of the events is the business of `delivery`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from logging import Logger
from typing import Final

from lakehouse_assets.platform.declarations.monitors import AlertRule
from lakehouse_assets.platform.monitoring.alerts.log import AlertLog, Snapshot
from lakehouse_assets.platform.monitoring.alerts.machine import PENDING, Entry, advance, as_they_stand
from lakehouse_assets.platform.monitoring.alerts.signals import MONITOR, Reading, Signal, Source, newest_by_key, removal
from lakehouse_assets.platform.monitoring.reasons import TROUBLE, reason
from lakehouse_assets.platform.storage.commit import Cursor
from lakehouse_assets.platform.storage.errors import CommitConflict, CursorMoved

WhyGone = Callable[[str, datetime], str]
"""Why what has a key exists no more, of what was said of it at a moment; empty: it may exist."""
WhyOver = Callable[[Entry], str]
"""Why an open alert is over although nobody said so of what it watches; empty: it is not, or that cannot be told."""
_SOURCE: Final = "source:"
_RULE: Final = AlertRule(consecutive=3, resolve_after=2)
"""Of the sources themselves: a database that is locked for a moment is no alert."""


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

    A source that cannot be read keeps no other from being heard. Where three calls one after the other cannot read it, it is an alert
    by itself until two can.

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
        signals, unheard_of = _heard(readings, snapshot)
        open_alerts = snapshot.open_alerts()
        cursors = [cursor for reading in readings for cursor in reading.cursors if cursor.before != cursor.after]
        if why_gone is not None:
            spoken = [*((one.key, one.at) for one in signals), *((one.key, one.at) for one in open_alerts)]
            cursors += _removals({key for key, at in spoken if why_gone(key, at)}, snapshot)
            signals = [signal for signal in signals if not why_gone(signal.key, signal.at)]
        signals += _of_what_is_over(open_alerts, {signal.key for signal in signals}, why_gone, why_over, now)
        signals += _of_sources(sources, unread, snapshot, now)
        entries = advance(snapshot.last({signal.key for signal in signals}), signals, snapshot.sequence) if signals else []
        if unheard_of:
            entries = as_they_stand(entries, unheard_of, snapshot.sequence)
        if not entries and not cursors:
            return Taken((), unread)
        try:
            alerts.append(entries, cursors, sinks, now, snapshot.sequence)
        except CursorMoved:
            continue
        return Taken(entries, unread)


def _heard(readings: Iterable[Reading], snapshot: Snapshot) -> tuple[list[Signal], set[str]]:
    """The signals, and the keys of which nothing was heard before their source was read first: of these only the present is told.

    Of what was heard of before, as where a table was restored, the last signal says how it is.
    """
    signals, unheard_of = list[Signal](), set[str]()
    for reading in readings:
        if not reading.is_first:
            signals += reading.signals
            continue
        keys = {signal.key for signal in reading.signals}
        known = snapshot.last(keys).keys()
        unheard_of |= keys - known
        signals += [signal for signal in reading.signals if signal.key not in known]
        signals += newest_by_key([signal for signal in reading.signals if signal.key in known])
    return signals, unheard_of


def _removals(keys: Collection[str], snapshot: Snapshot) -> list[Cursor]:
    """Marks the monitors of which something ended, or was not told, because they are gone: if one comes back it is told what is so then."""
    monitors = {key.split(":")[1] for key in keys if key.startswith(MONITOR)}
    marks = {removal(name): snapshot.watermark(removal(name)) for name in sorted(monitors)}
    return [Cursor(mark, before, (before or 0) + 1) for mark, before in marks.items() if (before or 0) % 2 == 0]


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


def why_source_is_over(alert: Entry, sources: Sequence[Source]) -> str:
    """Why an open alert about a source is over: there is no source of that name any more; empty: there is, or it is about something else.

    Args:
        alert: The last entry of the alert.
        sources: All that is ever read, and not only some.
    """
    name = alert.key.removeprefix(_SOURCE)
    is_over = alert.key.startswith(_SOURCE) and all(source.name != name for source in sources)
    return f"{_capitalized(name)} is not read for alerts any more." if is_over else ""


def _of_sources(sources: Sequence[Source], unread: Mapping[str, str], snapshot: Snapshot, now: datetime) -> list[Signal]:
    """Signals about the sources themselves: while one cannot be read, nothing is told of what it watches."""
    signals = [Signal(f"{_SOURCE}{name}", is_bad=True, at=now, text=why, rule=_RULE) for name, why in unread.items()]
    known = snapshot.last({f"{_SOURCE}{source.name}" for source in sources if source.name not in unread})
    return signals + [
        Signal(key, is_bad=False, at=now, text=f"{_capitalized(key.removeprefix(_SOURCE))} can be read again.", rule=_RULE)
        for key, last in known.items()
        if last.is_open or last.event == PENDING
    ]


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
