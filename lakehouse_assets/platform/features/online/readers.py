"""One feature set within a request: what is asked of the store, and what becomes of the answer.

The values are those that a join as of the request's time gives (`point_in_time`). Several sets at once, and what happens when the store
cannot be reached, is in `lookup`.
"""

import hashlib
import logging
import math
import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol

import polars as pl

from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.features.online.codecs import MICROSECOND, Codec, instant, moment
from lakehouse_assets.platform.features.online.store import Item, Put, SetState, Wanted
from lakehouse_assets.platform.features.online.streaming import StreamingWindows
from lakehouse_assets.platform.features.windows import Windows
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion

_log = logging.getLogger(__name__)
OK: Final = "ok"
MISSING: Final = "missing"
EXPIRED: Final = "expired"
UNAVAILABLE: Final = "unavailable"
Event = Mapping[str, Any]
_FOREVER: Final = 2**62


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


@dataclass(frozen=True)
class Stamp:
    """Which row of a feature set was used.

    Attributes:
        event_time: For when it holds; a date is its beginning (UTC).
        known_at: From when on it was known.
        version: Its feature_set_version; None: it was worked out of events now, by the code of now.
    """

    event_time: datetime
    known_at: datetime
    version: int | None


class Time(NamedTuple):
    """The time of a request, in microseconds: rows up to `until` count, and their time to live up to `ages_from`."""

    until: int
    ages_from: int


class Row(NamedTuple):
    """The features of one event, from one set."""

    values: Sequence[Any]
    stamp: Stamp | None
    status: str


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

    def own(self, events: Sequence[Event]) -> list[Any]:
        """What is worked out of the request's events themselves, for all at once."""
        ...

    def question(self, name: str, entity: bytes, own: Any, at: Time) -> Wanted:
        """What is asked of the store for one event."""
        ...

    def row(self, state: SetState, items: Sequence[Item], event: Event, own: Any, at: Time) -> Row:
        """The features of one event; `values` are empty where there is no row."""
        ...

    def puts(self, state: SetState, entities: Sequence[bytes | None], events: Sequence[Event]) -> list[Put]:
        """What is pushed of events that were scored."""
        ...


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


@lru_cache(maxsize=256)
def codec(kinds: tuple[str, ...]) -> Codec:
    """The codec of some kinds, made once."""
    return Codec(kinds)


class _OfOne:
    """What all readers know of their set, worked out once."""

    def __init__(self, served: ServedSet) -> None:
        feature = served.feature
        self.served, self.entity, self.columns = served, feature.entity, feature.columns
        self.inputs = tuple(served.prefix + column for column in self.columns)
        self.defaults = tuple(feature.defaults.get(column) for column in self.columns)
        self._ttl = None if feature.ttl is None else feature.ttl // MICROSECOND


class ValuesReader(_OfOne):
    """The newest stored row of the entity."""

    takes_events = False

    def __init__(self, served: ServedSet) -> None:
        super().__init__(served)
        self.pointer = pointer_of(served.feature.name, None if served.learnt is None else served.learnt.meaning)
        self._decoding: tuple[SetState | None, Callable[[bytes], list[Any]]] = (None, codec(()).decode)

    def name(self, version: int | None) -> str:
        """See `Reader.name`."""
        return values_of(self.served.feature.name, version)

    def own(self, events: Sequence[Event]) -> list[Any]:
        """See `Reader.own`."""
        return [None] * len(events)

    def question(self, name: str, entity: bytes, own: Any, at: Time) -> Wanted:  # noqa: ARG002
        """See `Reader.question`."""
        return Wanted(name, entity, None, at.until, only_last=True)

    def row(self, state: SetState, items: Sequence[Item], event: Event, own: Any, at: Time) -> Row:  # noqa: ARG002
        """See `Reader.row`."""
        if not items:
            is_kept = state.newest is None or at.until >= state.newest - state.back
            return Row((), None, MISSING if is_kept else EXPIRED)
        time, _, payload, _ = items[-1]
        # Where entities that were over are gone, a newer value than this one may be gone as well.
        if (self._ttl is not None and time < at.ages_from - self._ttl) or (state.pruned is not None and time <= state.pruned):
            return Row((), None, EXPIRED)
        of, decode = self._decoding
        if of is not state:
            decode = codec(("moment", *state.kinds)).decode
            self._decoding = (state, decode)
        known, *values = decode(payload)
        if state.columns != self.columns:
            stored = dict(zip(state.columns, values, strict=True))
            values = [stored.get(column) for column in self.columns]
        return Row(values, Stamp(moment(time), known, state.version), OK)

    def puts(self, state: SetState, entities: Sequence[bytes | None], events: Sequence[Event]) -> list[Put]:  # noqa: ARG002
        """See `Reader.puts`."""
        return []


class WindowsReader(_OfOne):
    """Statistics at the time of the request, of the stored events and the request's own one.

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
        self._twin, self._where, self._schema, self._time = twin, where, schema, windows.time
        at = {column: place for place, column in enumerate(self._twin.columns)}
        order = [at[column] for column in self.columns]
        self._order = None if order == list(range(len(order))) else order

    def name(self, version: int | None) -> str:  # noqa: ARG002
        """See `Reader.name`."""
        return events_of(self.served.feature.name)

    def own(self, events: Sequence[Event]) -> list[Any]:
        """See `Reader.own`: for each event its time and values; None if it does not count."""
        if not any(self._time in event for event in events):  # keys alone: the stored events say all
            return [None] * len(events)
        counts = self._counts(events)
        return [self._own(event) if count else None for event, count in zip(events, counts, strict=True)]

    def _own(self, event: Event) -> tuple[int, tuple[Any, ...]] | None:
        try:
            time = instant(event.get(self._time))
            return None if time is None else (time, self._twin.values_of(event))
        except (TypeError, ValueError, OverflowError):  # no value of the type that the table has
            _log.warning("an event of %s has a value that is no number, and counts in no window", self.served.feature.name)
            return None

    def question(self, name: str, entity: bytes, own: Any, at: Time) -> Wanted:
        """See `Reader.question`."""
        counts = own is not None and own[0] <= at.until
        # Also what is after the request: it says what of the entity is cut.
        return Wanted(name, entity, own[0] - self._twin.longest if counts else None, _FOREVER, only_last=False)

    def row(self, state: SetState, items: Sequence[Item], event: Event, own: Any, at: Time) -> Row:
        """See `Reader.row`."""
        if state.counting != self._counting:
            return Row((), None, MISSING)
        decode = codec(state.kinds).decode
        own_id = self.id_of(state, event)
        since = now() - (state.back - self._twin.longest)  # what was pushed before, and no table has, does not count any more
        others = [
            (time, payload) for time, id_, payload, pushed in items if time <= at.until and id_ != own_id and (not pushed or pushed > since)
        ]
        times, rows = [time for time, _ in others], [decode(payload) for _, payload in others]
        if own is not None and own[0] <= at.until:
            place = len(times)
            while place and times[place - 1] > own[0]:
                place -= 1
            times.insert(place, own[0])
            rows.insert(place, own[1])
        is_whole = (times[-1] if times else at.until) - self._twin.longest >= self._cut(state, items)
        if not times and is_whole:
            return Row((), None, MISSING)
        if not is_whole or (self._ttl is not None and times[-1] < at.ages_from - self._ttl):
            return Row((), None, EXPIRED)
        values = self._twin.row(times, rows)
        if self._order is not None:
            values = [values[place] for place in self._order]
        when = moment(times[-1])
        return Row(values, Stamp(when, when, None), OK)

    @staticmethod
    def _cut(state: SetState, items: Sequence[Item]) -> float:
        """Until when events of an entity may be gone from the store: those before its newest one, and entities that were over."""
        newest = next((item[0] for item in reversed(items) if not item[3]), None)
        cuts = (state.pruned, None if newest is None else newest - state.back)
        return max((cut for cut in cuts if cut is not None), default=-math.inf)

    def puts(self, state: SetState, entities: Sequence[bytes | None], events: Sequence[Event]) -> list[Put]:
        """See `Reader.puts`; events that do not count, and those without a key, are left out."""
        if state.counting != self._counting:
            return []
        write = codec(state.kinds).encode
        found = zip(entities, events, self.own(events), strict=True)
        pushed = [(entity, own, self.id_of(state, event)) for entity, event, own in found if entity is not None and own is not None]
        return [Put(entity, own[0], id_, 0, write(own[1])) for entity, own, id_ in pushed if id_]

    @staticmethod
    def id_of(state: SetState, event: Event) -> bytes:
        """What tells the event apart; empty if its key is not whole."""
        key = [event.get(name) for name in state.key]
        return b"" if None in key else codec(state.key_kinds).encode(key)

    def _counts(self, events: Sequence[Event]) -> Sequence[bool]:
        if self._where is None:
            return [True] * len(events)
        try:
            frame = pl.DataFrame(events, schema_overrides=self._schema, infer_schema_length=None)
            counted: list[bool] = frame.select(self._where.fill_null(value=False).alias("counts"))["counts"].to_list()
        except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
            if len(events) > 1:  # it is one of them: the others are not to suffer
                return [count for event in events for count in self._counts([event])]
            _log.warning("an event does not have what `where` of %s asks for, and counts in no window", self.served.feature.name)
            return [False]
        return counted
