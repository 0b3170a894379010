"""Telling people of events, at least once: what is due is worked out from the log and from what came of earlier tries.

A sink that cannot be reached is tried again later and later, and its events wait in their order; a message that it refused waits alone.
Nothing that happens here fails anything. How a message looks is in `messages`, how it travels in `sinks`.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from logging import Logger
from typing import Final

import polars as pl

from lakehouse_assets.platform.monitoring.alerts.delivery_log import Delivery, DeliveryLog
from lakehouse_assets.platform.monitoring.alerts.log import AlertLog, Logged
from lakehouse_assets.platform.monitoring.alerts.machine import Entry, EventName
from lakehouse_assets.platform.monitoring.alerts.messages import Message
from lakehouse_assets.platform.monitoring.alerts.sinks.sink import Refused, Sink, Unreachable

GIVEN_UP_AFTER: Final = timedelta(days=7)
"""What could not be delivered for so long is not tried again."""
MOST_AT_ONCE: Final = 20
"""So many events are in one message."""
_FIRST_PAUSE: Final = 30.0  # seconds, and twice as many after each try
_LONGEST_PAUSE: Final = timedelta(hours=1)
_SECONDS: Final = 25.0  # Dagster gives a tick 60
_LOOK_SECONDS: Final = 0.05
_DELIVERED, _UNREACHABLE, _REFUSED = "delivered", "unreachable", "refused"


@dataclass(frozen=True)
class Tried:
    """The last try of a sink with an entry."""

    outcome: str
    at: datetime
    attempt: int

    @property
    def next_at(self) -> datetime:
        """When it is tried again."""
        return self.at + min(timedelta(seconds=_FIRST_PAUSE * 2.0 ** min(self.attempt - 1, 12)), _LONGEST_PAUSE)

    def waits(self, now: datetime) -> bool:
        """Whether it is too early for the next try."""
        return self.at <= now < self.next_at  # after a clock that stepped back nothing is waited for


@dataclass(frozen=True)
class Due:
    """A message that is to be sent now, and how often each of its entries was tried before."""

    sink: str
    entries: Sequence[Entry]
    attempts: Sequence[int]


@dataclass(frozen=True)
class Waiting:
    """What a sink is not told in a tick, as it is too early for the next try.

    Attributes:
        events: How many.
        until: When the first of them is tried again (UTC).
    """

    events: int
    until: datetime


@dataclass
class Delivered:
    """What was delivered in one tick, what could not be, and what was not tried yet; by sink."""

    delivered: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, Waiting] = field(default_factory=dict)


def due(owed: Sequence[Entry], tried: Mapping[EventName, Tried], sink: str, now: datetime) -> list[Due]:
    """The messages of a sink that are to be sent now, in their order.

    Args:
        owed: The entries that the sink is to be told, in their order.
        tried: By the name of an event, the last try.
        sink: Its name.
        now: The moment (UTC).
    """
    messages, batch = list[Due](), list[Entry]()

    def close() -> None:
        if batch:
            messages.append(Due(sink, tuple(batch), tuple(_attempts(tried, entry) for entry in batch)))
            batch.clear()

    for entry in owed:
        last = tried.get(entry.name)
        if last is not None and last.outcome == _DELIVERED:
            continue
        if last is not None and last.waits(now):
            if last.outcome == _UNREACHABLE:
                break  # the others would not be taken either
            continue
        is_alone = last is not None and last.outcome == _REFUSED
        if is_alone or len(batch) == MOST_AT_ONCE:
            close()
        batch.append(entry)
        if is_alone:
            close()
    close()
    return messages


def waiting(owed: Sequence[Entry], tried: Mapping[EventName, Tried], messages: Sequence[Due], now: datetime) -> Waiting | None:
    """What a sink is still to be told and is not told now.

    Args:
        owed: As `due`.
        tried: As `due`.
        messages: What `due` gave.
        now: The moment (UTC).
    """
    sent = {entry.name for message in messages for entry in message.entries}
    left = [entry for entry in owed if entry.name not in sent and (entry.name not in tried or tried[entry.name].outcome != _DELIVERED)]
    paused = [tried[entry.name].next_at for entry in left if entry.name in tried and tried[entry.name].waits(now)]
    return Waiting(len(left), min(paused)) if paused else None


def _attempts(tried: Mapping[EventName, Tried], entry: Entry) -> int:
    return tried[entry.name].attempt if entry.name in tried else 0


def deliver(  # noqa: PLR0917 where, to whom, when
    alerts: AlertLog, sinks: Mapping[str, Sink], lakehouse: str, now: datetime, logger: Logger, seconds: float = _SECONDS
) -> Delivered:
    """Send what is due, each sink in a thread of its own, and record what came of it.

    A process that dies after a receiver took a message and before that is recorded sends it again: receivers know it by id and number.

    Args:
        alerts: What happened.
        sinks: By name.
        lakehouse: The root, for people.
        now: The moment (UTC).
        logger: Told what could not be delivered.
        seconds: What is not taken by then counts as not delivered.

    Raises:
        CommitConflict: Other writers did not let what came of it be recorded.
    """
    logged = alerts.snapshot().notified_since(now - GIVEN_UP_AFTER)
    if not logged:
        return Delivered()
    deliveries = DeliveryLog(alerts.lakehouse)
    tried = last_tries(deliveries.tries(now - GIVEN_UP_AFTER))
    done, work = Delivered(), list[_Work]()
    for name, sink in sinks.items():
        owed, of_sink = _owed(logged, name), tried.get(name, {})
        messages = due(owed, of_sink, name, now)
        if (left := waiting(owed, of_sink, messages, now)) is not None:
            done.waiting[name] = left
        if messages:
            work.append(_Work(sink, messages, lakehouse, now))
    for one in work:
        one.thread.start()
    deadline = time.monotonic() + seconds
    while work:
        is_late = time.monotonic() > deadline
        for one in [one for one in work if is_late or not one.thread.is_alive()]:  # a sink that is quick waits for no other
            work.remove(one)
            made = one.results(seconds)
            deliveries.add(made)
            _sum_up(made, one.sink.name, done, logger)
        if work:
            work[0].thread.join(_LOOK_SECONDS)
    return done


def _sum_up(made: Sequence[Delivery], sink: str, done: Delivered, logger: Logger) -> None:
    done.delivered += sum(delivery.outcome == _DELIVERED for delivery in made)
    failed = next((delivery for delivery in made if delivery.outcome != _DELIVERED), None)
    if failed is not None:
        done.failed[sink] = failed.reason
        logger.warning("Alerts: %s could not be delivered to (try %d): %s", sink, failed.attempt, failed.reason)


def _owed(logged: Sequence[Logged], sink: str) -> list[Entry]:
    return [one.entry for one in logged if sink in one.sinks]


def last_tries(deliveries: pl.DataFrame) -> dict[str, dict[EventName, Tried]]:
    """By sink and event, the last try; one that was delivered is the last one whatever came after it."""
    found: dict[str, dict[EventName, Tried]] = {}
    for row in deliveries.iter_rows(named=True):
        of, event = found.setdefault(row["sink"], {}), (row["alert_id"], row["number"])
        before = of.get(event)
        if before is None or (before.outcome != _DELIVERED and row["attempt"] >= before.attempt):  # whatever clocks said
            of[event] = Tried(row["outcome"], row["at"], row["attempt"])
    return found


class _Work:
    """The messages of one sink, sent one after the other in a thread that is left behind if a receiver never answers."""

    def __init__(self, sink: Sink, messages: Sequence[Due], lakehouse: str, now: datetime) -> None:
        self.sink, self._messages, self._lakehouse, self._now = sink, messages, lakehouse, now
        self._made: list[Delivery] = []
        self._lock, self._over, self._on_its_way = threading.Lock(), threading.Event(), list[Due]()
        self.thread = threading.Thread(target=self._send, name=f"alerts to {sink.name}", daemon=True)

    def _send(self) -> None:
        for message in self._messages:
            with self._lock:
                if self._over.is_set():
                    return
                self._on_its_way.append(message)
            outcome, reason = _send(self.sink, Message(message.entries, self._lakehouse))
            with self._lock:
                if self._over.is_set():
                    return
                self._on_its_way.clear()
                self._made += self._deliveries(message, outcome, reason)
            if outcome == _UNREACHABLE:
                return

    def results(self, seconds: float) -> list[Delivery]:
        """What came of it so far; what is still on its way counts as not answered, and nothing more is sent."""
        with self._lock:
            self._over.set()
            late = [self._deliveries(message, _UNREACHABLE, f"no answer within {seconds:g} seconds") for message in self._on_its_way]
            return [*self._made, *(delivery for deliveries in late for delivery in deliveries)]

    def _deliveries(self, message: Due, outcome: str, reason: str) -> list[Delivery]:
        return [
            Delivery(self.sink.name, entry.alert_id, entry.number, self._now, outcome, attempt + 1, reason)  # type: ignore[arg-type]
            for entry, attempt in zip(message.entries, message.attempts, strict=True)
        ]


def _send(sink: Sink, message: Message) -> tuple[str, str]:
    try:
        sink.send(message)
    except Unreachable as error:
        return _UNREACHABLE, str(error)
    except Refused as error:
        return _REFUSED, str(error)
    except Exception as error:  # noqa: BLE001 whatever a sink does not know of: others are sent; its text may have an address in it
        return _REFUSED, type(error).__name__
    return _DELIVERED, ""


def try_out(sinks: Sequence[Sink], message: Message, seconds: float = _SECONDS) -> list[tuple[Sink, str, str]]:
    """Send a message to all sinks at once, and record nothing: by sink, the outcome and why it was not delivered.

    Args:
        sinks: The sinks.
        message: The message.
        seconds: What is not taken by then counts as not delivered.
    """
    found: dict[int, tuple[str, str]] = {}
    threads = [
        threading.Thread(target=lambda at=at: found.update({at: _send(sinks[at], message)}), daemon=True) for at in range(len(sinks))
    ]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    late = (_UNREACHABLE, f"no answer within {seconds:g} seconds")
    return [(sink, *found.get(at, late)) for at, sink in enumerate(sinks)]
