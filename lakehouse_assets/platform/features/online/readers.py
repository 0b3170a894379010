"""One feature set within a request: what is asked of the store, and what becomes of the answer.

The values are those that a join as of the request's time gives (`point_in_time`). Several sets at once, and what happens when the store
cannot be reached, is in `lookup`.
"""

import hashlib
import logging
import time as clock
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import polars as pl

from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.features.online.codecs import MICROSECOND, PLAIN, codec, moment
from lakehouse_assets.platform.features.online.columnar import ColumnarWindows, DoesNotFit
from lakehouse_assets.platform.features.online.events import Event, Events
from lakehouse_assets.platform.features.online.store import EARLIEST, Asked, Found, Put, SetState
from lakehouse_assets.platform.features.online.streaming import StreamingWindows
from lakehouse_assets.platform.features.windows import Windows
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion

_log = logging.getLogger(__name__)
OK: Final = "ok"
MISSING: Final = "missing"
EXPIRED: Final = "expired"
UNAVAILABLE: Final = "unavailable"
_FOREVER: Final = 2**62
_MANY_EVENTS: Final = 40
"""From so many on the columnar twin is faster than the streaming one."""
_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, TypeError, IndexError)


@dataclass(frozen=True)
class ServedSet:
    """One feature set of a model that is not computed from the request alone.

    Attributes:
        feature: The set.
        learnt: The version that the model was trained on, so that it is never given values of another meaning; None: the newest is read.
        prefix: What stands before its columns in the inputs of the model.
    """

    feature: FeatureSet
    learnt: FeatureVersion | None = None
    prefix: str = ""


class Stamp(NamedTuple):
    """Which row of a feature set was used; times are microseconds since 1970.

    Attributes:
        time: For when it holds; a date is its beginning (UTC).
        known: From when on it was known.
        version: Its feature_set_version; None: it was worked out of events now, by the code of now.
    """

    time: int
    known: int
    version: int | None

    @property
    def event_time(self) -> datetime:
        """For when it holds."""
        return moment(self.time)

    @property
    def known_at(self) -> datetime:
        """From when on it was known."""
        return moment(self.known)


class Rows(NamedTuple):
    """The features of some events, from one set.

    Attributes:
        columns: By column its values, which mean nothing where there is no stamp.
        stamps: Of each event the row that was used; None: none.
        status: Of each event.
    """

    columns: Sequence[Sequence[Any]]
    stamps: list[Stamp | None]
    status: list[str]


class Reader(Protocol):
    """Reads one feature set."""

    served: ServedSet
    entity: tuple[str, ...]
    inputs: tuple[str, ...]
    """The columns with the prefix."""
    defaults: tuple[Any, ...]
    """For each of them."""
    pointer: str
    """The set in the store whose state says which version is read; empty: there are none."""
    takes_events: bool
    """Whether events can be pushed."""

    def name(self, version: int | None) -> str:
        """The name of the set in the store, where it is known which version is read."""
        ...

    def own(self, events: Events) -> Any:
        """What is worked out of the request's events themselves, for all at once."""
        ...

    def asked(self, name: str, places: Sequence[int], entities: Sequence[bytes], own: Any, events: Events) -> Asked:
        """What is asked of the store for those of the events that have an entity.

        Args:
            name: The set in the store.
            places: Of these events.
            entities: Of each of these.
            own: What `own` gave.
            events: All.
        """
        ...

    def rows(self, state: SetState, found: Found, part: "Part") -> Rows:
        """The features of those that were asked about. It never fails: what cannot be read is unavailable."""
        ...

    def puts(self, state: SetState, events: Events) -> list[Put]:
        """What is pushed of events that were scored."""
        ...


class Part(NamedTuple):
    """The events that the store was asked about.

    Attributes:
        places: Of these, among all.
        entities: Of each of these.
        own: What `Reader.own` gave.
        events: All.
    """

    places: Sequence[int]
    entities: Sequence[bytes]
    own: Any
    events: Events


def values_of(name: str, version: int | None) -> str:
    """The name under which the store keeps the values of a version of a feature set."""
    return f"{name}@{version or 0}"


def pointer_of(name: str, meaning: int | None = None) -> str:
    """The name under which the store says which version of a feature set is the newest: of all, or of those that mean something."""
    return name if meaning is None else f"{name}~{meaning}"


def counting(time: str, where: pl.Expr | None, used: Sequence[str], numbers: Sequence[str]) -> str:
    """What says which events count in windows and which values they have: a reader takes no others, as of a process with other code."""
    text = repr((time, None if where is None else where.meta.serialize(format="json"), tuple(used), tuple(numbers)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def events_of(name: str) -> str:
    """The name under which the store keeps the events of a feature set."""
    return f"{name}/events"


def now() -> int:
    """Microseconds since 1970."""
    return clock.time_ns() // 1000


class _OfOne:
    """What all readers know of their set, worked out once."""

    def __init__(self, served: ServedSet) -> None:
        feature = served.feature
        self.served, self.entity, self.columns = served, feature.entity, feature.columns
        self.inputs = tuple(served.prefix + column for column in self.columns)
        self.defaults = tuple(feature.defaults.get(column) for column in self.columns)
        self._ttl = None if feature.ttl is None else feature.ttl // MICROSECOND

    def _expire(self, stamps: list[Stamp | None], status: list[str], part: "Part") -> None:
        """Leave out the rows whose time to live is over."""
        if self._ttl is None:
            return
        ages_from = part.events.ages_from
        for number, (stamp, place) in enumerate(zip(stamps, part.places, strict=True)):
            if stamp is not None and stamp.time < ages_from[place] - self._ttl:
                stamps[number], status[number] = None, EXPIRED


class ValuesReader(_OfOne):
    """The newest stored row of the entity."""

    takes_events = False

    def __init__(self, served: ServedSet) -> None:
        super().__init__(served)
        self.pointer = pointer_of(served.feature.name, None if served.learnt is None else served.learnt.meaning)

    def name(self, version: int | None) -> str:
        """See `Reader.name`."""
        return values_of(self.served.feature.name, version)

    def own(self, events: Events) -> None:
        """See `Reader.own`."""

    def asked(self, name: str, places: Sequence[int], entities: Sequence[bytes], own: Any, events: Events) -> Asked:  # noqa: ARG002
        """See `Reader.asked`."""
        return Asked(name, entities, [EARLIEST] * len(places), [events.until[place] for place in places], only_last=True)

    def rows(self, state: SetState, found: Found, part: Part) -> Rows:
        """See `Reader.rows`."""
        (known, *stored), damaged = _read(self.served.feature.name, (PLAIN, *state.kinds), found.payloads)
        stamps: list[Stamp | None] = [Stamp(time, at, state.version) for time, at in zip(found.times, known, strict=True)]
        by_name = dict(zip(state.columns, stored, strict=True))
        nothing = [None] * len(stamps)
        values: Sequence[Sequence[Any]] = [by_name.get(column, nothing) for column in self.columns]
        status = [OK] * len(stamps)
        for number in damaged:
            stamps[number], status[number] = None, UNAVAILABLE
        if state.pruned is not None:
            # Where entities that were over are gone, a newer value than this one may be gone as well.
            for number, stamp in enumerate(stamps):
                if stamp is not None and stamp.time <= state.pruned:
                    stamps[number], status[number] = None, EXPIRED
        if len(stamps) < len(part.places):
            there = [end > before for before, end in pairwise((0, *found.ends))]
            stamps, status = _spread([stamps, status], there)
            kept_from = EARLIEST if state.newest is None else state.newest - state.back
            until = part.events.until
            status = [word or (MISSING if until[place] >= kept_from else EXPIRED) for word, place in zip(status, part.places, strict=True)]
            values = _spread(values, there)
        self._expire(stamps, status, part)
        return Rows(values, stamps, status)

    def puts(self, state: SetState, events: Events) -> list[Put]:  # noqa: ARG002
        """See `Reader.puts`."""
        return []


class Own(NamedTuple):
    """What windows count of the events of a look-up.

    Attributes:
        times: Of each event; None: it does not count.
        columns: By column that is used, the values of all events.
    """

    times: Sequence[int | None]
    columns: Sequence[Sequence[Any]]


class WindowsReader(_OfOne):
    """Statistics at the time of the request, of the stored events and those of the request: its own one and those that came with it.

    If the own event does not count (`where`), the row is that of the last one that did, as a join finds it.
    """

    takes_events = True

    def __init__(
        self,
        served: ServedSet,
        windows: Windows,
        twin: StreamingWindows,
        where: pl.Expr | None,
        schema: pl.Schema | None,
        *,
        numbers: Sequence[str],
    ) -> None:
        super().__init__(served)
        self.pointer = ""
        self._counting = counting(windows.time, where, twin.used, numbers)
        self._twin, self._many = twin, ColumnarWindows(twin)
        self._where, self._schema, self._time = where, schema, windows.time
        at = {column: place for place, column in enumerate(self._twin.columns)}
        order = [at[column] for column in self.columns]
        self._order = None if order == list(range(len(order))) else order

    def name(self, version: int | None) -> str:  # noqa: ARG002
        """See `Reader.name`."""
        return events_of(self.served.feature.name)

    def own(self, events: Events) -> Own:
        """See `Reader.own`."""
        if not any(self._time in row for row in events.rows):  # keys alone: the stored events say all
            return Own([None] * len(events), [[None] * len(events) for _ in self._twin.used])
        counts = None if self._where is None else self._counts(events.rows)
        try:
            times = events.instants(self._time)
            if counts is not None:
                times = [one if is_one else None for one, is_one in zip(times, counts, strict=True)]
            return Own(times, [self._twin.column_of(name, events.column(name)) for name in self._twin.used])
        except (TypeError, ValueError, OverflowError):  # no value of the type that the table has
            if len(events) > 1:
                each = [self.own(Events([row])) for row in events.rows]
                columns = [[one.columns[place][0] for one in each] for place in range(len(self._twin.used))]
                return Own([one.times[0] for one in each], columns)
            _log.warning("an event of %s has a value that is no number, and counts in no window", self.served.feature.name)
            return Own([None], [[None] for _ in self._twin.used])

    def asked(self, name: str, places: Sequence[int], entities: Sequence[bytes], own: Own, events: Events) -> Asked:
        """See `Reader.asked`."""
        times = ((own.times[place], events.until[place]) for place in places)
        lows = [EARLIEST if at is None or at > until else at - self._twin.longest for at, until in times]
        # Also what is after the request: it says what of the entity is cut.
        return Asked(name, entities, lows, [_FOREVER] * len(places), only_last=False)

    def rows(self, state: SetState, found: Found, part: Part) -> Rows:
        """See `Reader.rows`."""
        own, events = part.own, part.events
        if state.counting != self._counting:
            count = len(part.places)
            return Rows([[None] * count for _ in self.columns], [None] * count, [MISSING] * count)
        ids = events.encoded(state.key, state.key_kinds)
        # The events of the look-up, then those of the store that count.
        times, payloads = list(own.times), []
        picked: list[list[int]] = []
        status: list[str] = []
        start, longest = 0, self._twin.longest
        # What was pushed before, and no table has, does not count any more.
        since = now() - (state.back - longest)
        pruned = EARLIEST if state.pruned is None else state.pruned
        for place, end, mine, replaced in zip(part.places, found.ends, *_of_requests(part, ids), strict=True):
            until = events.until[place]
            its = [one for one in mine if (at := own.times[one]) is not None and at <= until]
            cut = pruned
            for one in range(start, end):
                at, pushed = found.times[one], found.pushed[one]
                if not pushed:  # in the order of time: the newest one says until when others of the entity may be gone
                    cut = max(cut, at - state.back)
                if at <= until and found.ids[one] not in replaced and (not pushed or pushed > since):
                    its.append(len(times))
                    times.append(at)
                    payloads.append(found.payloads[one])
            is_whole = (max([times[one] for one in its]) if its else until) - longest >= cut
            status.append(EXPIRED if not is_whole else OK if its else MISSING)
            picked.append(its if is_whole else [])
            start = end
        stored, damaged = _read(self.served.feature.name, state.kinds, payloads)
        columns = [[*mine, *theirs] for mine, theirs in zip(own.columns, stored, strict=True)]
        if damaged:
            bad = {len(events) + one for one in damaged}
            status = [UNAVAILABLE if not bad.isdisjoint(its) else word for word, its in zip(status, picked, strict=True)]
            picked = [[] if word == UNAVAILABLE else its for word, its in zip(status, picked, strict=True)]
        values = self._statistics(picked, times, columns, status)
        stamps: list[Stamp | None] = [None] * len(picked)
        for number, (its, word) in enumerate(zip(picked, status, strict=True)):
            if word == OK:
                when = times[its[0]] if len(its) == 1 else max([times[one] for one in its])
                stamps[number] = Stamp(when, when, None)
        self._expire(stamps, status, part)
        return Rows(values if self._order is None else [values[place] for place in self._order], stamps, status)

    def _statistics(
        self, picked: Sequence[Sequence[int]], times: Sequence[Any], columns: Sequence[Sequence[Any]], status: list[str]
    ) -> Sequence[Sequence[Any]]:
        """By column the statistics of each row, of those of the events that are picked for it.

        A row whose events have values that cannot be compared or added becomes unavailable.
        """
        flat = [one for its in picked for one in its]
        if len(flat) >= _MANY_EVENTS:
            ends = list(accumulate(len(its) for its in picked if its))
            try:
                found = self._many.rows(ends, [times[one] for one in flat], [[column[one] for one in flat] for column in columns])
                return found if len(ends) == len(picked) else _spread(found, [bool(its) for its in picked])
            except (DoesNotFit, *_UNREADABLE):
                pass  # the row that it is about is found below
        rows: list[Sequence[Any]] = []
        for number, its in enumerate(picked):
            rows.append(nothing := [None] * len(self._twin.columns))
            if not its:
                continue
            ordered = sorted(its, key=times.__getitem__) if len(its) > 1 else its
            try:
                rows[-1] = self._twin.row([times[one] for one in ordered], [[column[one] for column in columns] for one in ordered])
            except _UNREADABLE:
                _log.exception("events of %s have values that do not go together", self.served.feature.name)
                rows[-1], status[number] = nothing, UNAVAILABLE
        return list(zip(*rows, strict=True))

    def puts(self, state: SetState, events: Events) -> list[Put]:
        """See `Reader.puts`; events that do not count, and those without a key, are left out."""
        if state.counting != self._counting:
            return []
        own, write = self.own(events), codec(state.kinds).encode
        entities, ids = events.encoded(self.entity, state.entity_kinds), events.encoded(state.key, state.key_kinds)
        values = zip(*own.columns, strict=True) if own.columns else [()] * len(events)
        found = zip(entities, own.times, ids, values, strict=True)
        return [
            Put(entity, time, id_, 0, write(its))
            for entity, time, id_, its in found
            if entity is not None and time is not None and id_ is not None
        ]

    def _counts(self, events: Sequence[Event]) -> Sequence[bool]:
        assert self._where is not None  # noqa: S101 it is not asked otherwise
        try:
            frame = pl.DataFrame(events, schema_overrides=self._schema, infer_schema_length=None)
            counted: list[bool] = frame.select(self._where.fill_null(value=False).alias("counts"))["counts"].to_list()
        except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
            if len(events) > 1:  # it is one of them: the others are not to suffer
                return [count for event in events for count in self._counts([event])]
            _log.warning("an event does not have what `where` of %s asks for, and counts in no window", self.served.feature.name)
            return [False]
        return counted


def _of_requests(part: Part, ids: Sequence[bytes | None]) -> tuple[Sequence[Sequence[int]], Sequence[Collection[bytes | None]]]:
    """For each event that is asked about, the places of those of its request with its entity, and the ids of all of its request."""
    request = part.events.request
    if request is None:
        return [(place,) for place in part.places], [(ids[place],) for place in part.places]
    sent: dict[int, set[bytes | None]] = {}
    for number, one in zip(request, ids, strict=True):
        sent.setdefault(number, set()).add(one)
    mates: dict[tuple[int, bytes], list[int]] = {}
    for place, entity in zip(part.places, part.entities, strict=True):
        mates.setdefault((request[place], entity), []).append(place)
    together = [mates[request[place], entity] for place, entity in zip(part.places, part.entities, strict=True)]
    return together, [sent[request[place]] for place in part.places]


def _read(name: str, kinds: tuple[str, ...], payloads: Sequence[bytes]) -> tuple[list[Sequence[Any]], Collection[int]]:
    """The values of payloads by column, and which of the payloads are damaged."""
    its = codec(kinds)
    try:
        return its.columns(payloads), ()
    except _UNREADABLE:
        damaged: set[int] = set()
        rows: list[Sequence[Any]] = []
        for number, payload in enumerate(payloads):
            try:
                rows.append(its.decode(payload))
                if len(rows[-1]) == len(kinds):
                    continue
            except _UNREADABLE:
                rows.append(())
            damaged.add(number)
            rows[-1] = [None] * len(kinds)
        _log.exception("what the online store holds of %s cannot be read: `lakehouse features sync` fills it again", name)
        return list(zip(*rows, strict=True)), damaged


def _spread(columns: Sequence[Sequence[Any]], there: Sequence[bool]) -> list[list[Any]]:
    """Columns with null for those rows that are not there."""
    places = [number - 1 if is_there else -1 for number, is_there in zip(accumulate(there), there, strict=True)]
    return [[column[place] if place >= 0 else None for place in places] for column in columns]
