"""One feature set within a request: what is asked of the store, and what becomes of the answer.

The values are those that a join as of the request's time gives (`point_in_time`). Several sets at once, and what happens when the store
cannot be reached, is in `lookup`.
"""

import hashlib
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import accumulate, pairwise, repeat
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import polars as pl

from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.features.online.codecs import MICROSECOND, PLAIN, codec, moment
from lakehouse_assets.platform.features.online.events import Events
from lakehouse_assets.platform.features.online.store import EARLIEST, Put, Query, QueryResult, SetState
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion

_log = logging.getLogger(__name__)
OK: Final = "ok"
MISSING: Final = "missing"
EXPIRED: Final = "expired"
UNAVAILABLE: Final = "unavailable"
UNREADABLE: Final = (msgspec.MsgspecError, ValueError, TypeError, IndexError)


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


_made: Final = partial(tuple.__new__, Stamp)
"""Makes a stamp of its three parts, several times as fast as its own constructor: there are hundreds in a request."""


def stamps_at(times: Iterable[int], known: Iterable[int], version: int | None) -> list[Stamp | None]:
    """The stamps of rows of one version, from their times and those of when they became known."""
    return [*map(_made, zip(times, known, repeat(version)))]


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


class SetReader(Protocol):
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

    def asked(self, name: str, places: Sequence[int], entities: Sequence[bytes], own: Any, events: Events) -> Query:
        """What is asked of the store for those of the events that have an entity.

        Args:
            name: The set in the store.
            places: Of these events.
            entities: Of each of these.
            own: What `own` gave.
            events: All.
        """
        ...

    def rows(self, state: SetState, found: QueryResult, part: "Part") -> Rows:
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
        own: What `SetReader.own` gave.
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


class OfOne:
    """What all readers know of their set, worked out once."""

    def __init__(self, served: ServedSet) -> None:
        feature = served.feature
        self.served, self.entity, self.columns = served, feature.entity, feature.columns
        self.inputs = tuple(served.prefix + column for column in self.columns)
        self.defaults = tuple(feature.defaults.get(column) for column in self.columns)
        self._ttl = None if feature.ttl is None else feature.ttl // MICROSECOND

    def expire(self, stamps: list[Stamp | None], status: list[str], part: "Part") -> None:
        """Leave out the rows whose time to live is over."""
        if self._ttl is None:
            return
        ages_from, ttl = part.events.ages_from, self._ttl
        for number, (stamp, place) in enumerate(zip(stamps, part.places, strict=True)):
            if stamp is not None and stamp[0] < ages_from[place] - ttl:
                stamps[number], status[number] = None, EXPIRED


class ValuesReader(OfOne):
    """The newest stored row of the entity."""

    takes_events = False

    def __init__(self, served: ServedSet) -> None:
        super().__init__(served)
        self.pointer = pointer_of(served.feature.name, None if served.learnt is None else served.learnt.meaning)

    def name(self, version: int | None) -> str:
        """See `SetReader.name`."""
        return values_of(self.served.feature.name, version)

    def own(self, events: Events) -> None:
        """See `SetReader.own`."""

    def asked(self, name: str, places: Sequence[int], entities: Sequence[bytes], own: Any, events: Events) -> Query:  # noqa: ARG002
        """See `SetReader.asked`."""
        return Query(name, entities, [EARLIEST] * len(places), [events.until[place] for place in places], only_last=True)

    def rows(self, state: SetState, found: QueryResult, part: Part) -> Rows:
        """See `SetReader.rows`."""
        (known, *stored), damaged = read_payloads(self.served.feature.name, (PLAIN, *state.kinds), found.payloads)
        stamps = stamps_at(found.times, known, state.version)
        values: Sequence[Sequence[Any]] = stored
        if state.columns != self.columns:
            by_name, nothing = dict(zip(state.columns, stored, strict=True)), [None] * len(stamps)
            values = [by_name.get(column, nothing) for column in self.columns]
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
            stamps, status = spread([stamps, status], there)
            kept_from = EARLIEST if state.newest is None else state.newest - state.back
            until = part.events.until
            status = [word or (MISSING if until[place] >= kept_from else EXPIRED) for word, place in zip(status, part.places, strict=True)]
            values = spread(values, there)
        self.expire(stamps, status, part)
        return Rows(values, stamps, status)

    def puts(self, state: SetState, events: Events) -> list[Put]:  # noqa: ARG002
        """See `SetReader.puts`."""
        return []


def read_payloads(name: str, kinds: tuple[str, ...], payloads: Sequence[bytes]) -> tuple[list[Sequence[Any]], Collection[int]]:
    """The values of payloads by column, and which of the payloads are damaged."""
    its = codec(kinds)
    try:
        return its.columns(payloads), ()
    except UNREADABLE:
        damaged: set[int] = set()
        rows: list[Sequence[Any]] = []
        for number, payload in enumerate(payloads):
            try:
                rows.append(its.decode(payload))
                if len(rows[-1]) == len(kinds):
                    continue
            except UNREADABLE:
                rows.append(())
            damaged.add(number)
            rows[-1] = [None] * len(kinds)
        _log.exception("what the online store holds of %s cannot be read: `lakehouse features sync` fills it again", name)
        return list(zip(*rows, strict=True)), damaged


def spread(columns: Sequence[Sequence[Any]], there: Sequence[bool]) -> list[list[Any]]:
    """Columns with null for those rows that are not there."""
    places = [number - 1 if is_there else -1 for number, is_there in zip(accumulate(there), there, strict=True)]
    return [[column[place] if place >= 0 else None for place in places] for column in columns]
