"""The states of alerts, as a pure function of signals: pending, opened, repeated, recovering, resolved.

As many bad windows in a row as a rule asks for open an alert, and as many good ones resolve it (hysteresis): what lies about at its
threshold would open and resolve by turns otherwise. The state of what is watched is the last entry of the log about it, so nothing has to
be kept besides the log. A signal that changes no state makes no entry. What is written where is in `log`, who is told in `delivery`.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from typing import Final, Literal

from lakehouse_assets.platform.monitoring.alerts.signals import Signal
from lakehouse_assets.platform.monitoring.verdicts import FIRST_ZONE

Event = Literal["pending", "cleared", "opened", "repeated", "recovering", "relapsed", "resolved"]
EventName = tuple[str, int]
"""The id of an alert, and the number of the event in it."""
PENDING: Final = "pending"
"""It is bad, but not for as many windows as the rule asks for."""
CLEARED: Final = "cleared"
"""It was pending, and is well again before it became an alert."""
OPENED: Final = "opened"
REPEATED: Final = "repeated"
RECOVERING: Final = "recovering"
"""It is good, but not for as many windows as the rule asks for: the alert stays open."""
RELAPSED: Final = "relapsed"
"""It was recovering, and is bad again: the alert stays open."""
RESOLVED: Final = "resolved"
OPEN: Final = (OPENED, REPEATED, RECOVERING, RELAPSED)
NOTIFIED: Final = (OPENED, REPEATED, RESOLVED)
"""The events that people are told."""
_RANKS: Final = {"warn": 0, "error": 1}
_MOST_CHARACTERS = 2_000


@dataclass(frozen=True)
class Entry:
    """One change of state: a row of the log.

    Attributes:
        sequence: The number of the entry in the log, from 1.
        key: Of what is watched.
        event: What happened.
        alert_id: Of the alert; empty while there is none.
        number: Of the event in its alert, from 1; 0 while there is none. With the id, receivers know a repeated delivery by it. What nobody
            is told has the number of the event before it.
        at: When the signal was so (UTC).
        opened_at: When the alert was opened.
        severity: How bad it is.
        owner: Who answers for it.
        text: A sentence for people.
        bad_windows: How many windows in a row were bad before it was an alert, and with the one that made it one.
        value: What was measured.
        threshold: Where the measure begins to be bad.
        rows: How many rows were judged.
        window: Begin of the window that was judged.
        run_id: The run that it comes from.
        good_windows: How many windows in a row have been good while it is open, and with the one that resolved it.
        notified_at: When people were told last of its alert (UTC); None: there is none.
        resolve_after: How many windows in a row have to be good until it is resolved; None: none has been good.
    """

    sequence: int
    key: str
    event: Event
    alert_id: str
    number: int
    at: datetime
    opened_at: datetime | None
    severity: str
    owner: str
    text: str
    bad_windows: int
    value: float | None = None
    threshold: float | None = None
    rows: int | None = None
    window: datetime | None = None
    run_id: str = ""
    good_windows: int = 0
    notified_at: datetime | None = None
    resolve_after: int | None = None

    @property
    def name(self) -> EventName:
        """By which its event is known, also to receivers."""
        return self.alert_id, self.number

    @property
    def is_open(self) -> bool:
        """Whether its alert is open after it."""
        return self.event in OPEN


def advance(last: Mapping[str, Entry], signals: Iterable[Signal], sequence: int) -> list[Entry]:
    """The entries that signals make, one after the other: the same ones in whatever batches the signals come.

    Args:
        last: The last entry of each key.
        signals: In their order.
        sequence: The number of the last entry of the log.
    """
    states, entries = dict(last), list[Entry]()
    for signal in signals:
        entry = step(states.get(signal.key), signal, sequence + len(entries) + 1)
        if entry is not None:
            states[signal.key] = entry
            entries.append(entry)
    return entries


def as_they_stand(entries: Iterable[Entry], keys: Container[str], sequence: int) -> list[Entry]:
    """Entries without the past of some keys, of which nobody was told anything yet: each alert that is open is opened once.

    It is opened by what would have been told of it last, and is in the state in which all entries leave it.

    Args:
        entries: In their order.
        keys: Of which only the present counts.
        sequence: The number of the last entry of the log.
    """
    given = list(entries)
    last = {entry.key: entry for entry in given if entry.key in keys}
    told = {entry.key: entry for entry in given if entry.key in keys and entry.event in {OPENED, REPEATED}}
    kept = list[Entry]()
    for entry in given:
        if entry.key not in keys:
            kept.append(entry)
        elif last[entry.key].is_open and entry is told[entry.key]:
            kept.append(replace(entry, event=OPENED, number=1))
        elif entry is last[entry.key] and (entry.is_open or entry.event == PENDING):
            kept.append(replace(entry, number=1 if entry.is_open else 0))
    return [replace(entry, sequence=sequence + number) for number, entry in enumerate(kept, 1)]


def step(last: Entry | None, signal: Signal, sequence: int) -> Entry | None:
    """The entry that one signal makes; None if it changes nothing.

    A window that was judged again does not count twice, and one that is older than what is known only says that all is over, unless it is
    watched in another way since. An open alert is repeated after the cool-down of its rule, and at once where it became worse, or was
    declared with another severity or owner. It is resolved by as many good windows in a row as its
    rule asks for, or at once where what was bad is gone or corrected, in whatever window. What is told with something else counts as a
    bad window, and neither opens an alert nor repeats one.

    After another declaration the last windows are judged again: what was counted before them does not count with them, and those that a
    later one contradicts resolve nothing and are not told again.
    """
    if not signal.is_known or (_is_older(signal, last) and not signal.is_over):
        return None
    return _while_open(last, signal, sequence) if last is not None and last.is_open else _while_well(last, signal, sequence)


def _while_open(last: Entry, signal: Signal, sequence: int) -> Entry | None:
    if not signal.is_bad:
        return None if signal.is_followed else _while_good(last, signal, sequence)
    is_other = signal.is_redeclared and (signal.severity, signal.owner) != (last.severity, last.owner)
    is_worse = _RANKS[signal.severity] > _RANKS[last.severity]
    is_due = abs(signal.at - (last.notified_at or last.at)) >= signal.rule.cool_down  # also after a clock that stepped back
    if not signal.is_folded and (is_other or is_worse or (is_due and not signal.is_followed)):
        return _entry(REPEATED, signal, sequence, last.alert_id, last.number + 1, last.opened_at, last.bad_windows)
    return _silent(RELAPSED, last, signal, sequence) if last.event == RECOVERING else None


def _while_good(last: Entry, signal: Signal, sequence: int) -> Entry | None:
    before = last.good_windows if last.event == RECOVERING and not _begins_anew(signal, last) else 0
    if before and signal.window is not None and signal.window == last.window and not signal.is_over:
        return None
    good, wanted = before + 1, signal.rule.resolve_after or 1
    if good < wanted and not signal.is_over:
        return replace(_silent(RECOVERING, last, signal, sequence), good_windows=good, resolve_after=wanted)
    resolved = _entry(RESOLVED, signal, sequence, last.alert_id, last.number + 1, last.opened_at, last.bad_windows)
    return replace(resolved, severity=last.severity, good_windows=good, resolve_after=wanted)  # of what is over


def _silent(event: Event, last: Entry, signal: Signal, sequence: int) -> Entry:
    """What changes an open alert and nobody is told."""
    entry = _entry(event, signal, sequence, last.alert_id, last.number, last.opened_at, last.bad_windows)
    return replace(entry, severity=last.severity, owner=last.owner, notified_at=last.notified_at or last.at)


def _while_well(last: Entry | None, signal: Signal, sequence: int) -> Entry | None:
    waiting = last if last is not None and last.event == PENDING else None
    if not signal.is_bad:
        return None if waiting is None else _entry(CLEARED, signal, sequence)
    if waiting is not None and signal.window is not None and signal.window == waiting.window:
        return None
    if waiting is not None and _begins_anew(signal, waiting):
        if signal.rule.consecutive > (signal.rule.resolve_after or 1):
            return None  # fewer windows are judged again than open an alert: what was counted goes on
        waiting = None
    bad = 1 + (0 if waiting is None else waiting.bad_windows)
    if bad < signal.rule.consecutive:
        return _entry(PENDING, signal, sequence, bad=bad)
    if signal.is_folded:
        return None  # it waits for the first window that is a matter of its own
    return _entry(OPENED, signal, sequence, _new_id(signal, sequence), 1, signal.at, bad)


def _is_older(signal: Signal, last: Entry | None) -> bool:
    """Whether a signal is about a window before the one that the state is about.

    A window that begins after the moment of the signal is one of a wrong clock, and holds up none. Else order is that of commits.
    """
    if last is None or last.window is None or signal.window is None or signal.is_redeclared:
        return False
    return signal.window < last.window <= signal.at + FIRST_ZONE


def _begins_anew(signal: Signal, last: Entry) -> bool:
    """Whether windows that were counted are judged again from an earlier one on."""
    return signal.is_redeclared and signal.window is not None and last.window is not None and signal.window < last.window


def _new_id(signal: Signal, sequence: int) -> str:
    return blake2b(f"{signal.key}|{signal.at.isoformat()}|{sequence}".encode(), digest_size=6).hexdigest()


def _entry(  # noqa: PLR0917 the state, in the order of the columns
    event: Event, signal: Signal, sequence: int, alert_id: str = "", number: int = 0, opened_at: datetime | None = None, bad: int = 0
) -> Entry:
    whole = signal.text.encode("utf-8", "backslashreplace").decode()  # a file name may be no text
    text = whole if len(whole) <= _MOST_CHARACTERS else whole[: _MOST_CHARACTERS - 1] + "…"
    return Entry(
        sequence=sequence,
        key=signal.key,
        event=event,
        alert_id=alert_id,
        number=number,
        at=signal.at,
        opened_at=opened_at,
        severity=signal.severity,
        owner=signal.owner,
        text=text,
        bad_windows=bad,
        value=signal.value,
        threshold=signal.threshold,
        rows=signal.rows,
        window=signal.window,
        run_id=signal.run_id,
        notified_at=signal.at if event in NOTIFIED else None,
    )
