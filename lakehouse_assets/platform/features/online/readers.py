"""One feature set within a request: what is asked of the store, and what becomes of the answer.

The values are those that a join as of the request's time gives (`point_in_time`). Several sets at once, and what happens when the store
cannot be reached, is in `lookup`.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.features.online.codecs import MICROSECOND, PLAIN, codec, moment
from lakehouse_assets.platform.features.online.events import Events
from lakehouse_assets.platform.features.online.store import EARLIEST, Asked, Found, Put, SetState

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
        version: The feature_set_version that the model reads; None: the newest.
        prefix: What stands before its columns in the inputs of the model.
    """

    feature: FeatureSet
    version: int | None = None
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
    """The set in the store whose state says which version is the newest; empty: a version is given, or there are none."""
    takes_events: bool
    """Whether events can be pushed."""

    def name(self, newest: int | None) -> str:
        """The name of the set in the store, where the newest version is known."""
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
        ages_from = part.events.ages_from
        for number, (stamp, place) in enumerate(zip(stamps, part.places, strict=True)):
            if stamp is not None and stamp.time < ages_from[place] - self._ttl:
                stamps[number], status[number] = None, EXPIRED


class ValuesReader(OfOne):
    """The newest stored row of the entity."""

    takes_events = False

    def __init__(self, served: ServedSet) -> None:
        super().__init__(served)
        self.pointer = served.feature.name if served.version is None else ""

    def name(self, newest: int | None) -> str:
        """See `Reader.name`."""
        version = self.served.version
        return values_of(self.served.feature.name, newest if version is None else version)

    def own(self, events: Events) -> None:
        """See `Reader.own`."""

    def asked(self, name: str, places: Sequence[int], entities: Sequence[bytes], own: Any, events: Events) -> Asked:  # noqa: ARG002
        """See `Reader.asked`."""
        return Asked(name, entities, [EARLIEST] * len(places), [events.until[place] for place in places], only_last=True)

    def rows(self, state: SetState, found: Found, part: Part) -> Rows:
        """See `Reader.rows`."""
        (known, *stored), damaged = read_payloads(self.served.feature.name, (PLAIN, *state.kinds), found.payloads)
        stamps: list[Stamp | None] = [Stamp(time, at, state.version) for time, at in zip(found.times, known, strict=True)]
        by_name = dict(zip(state.columns, stored, strict=True))
        nothing = [None] * len(stamps)
        values: Sequence[Sequence[Any]] = [by_name.get(column, nothing) for column in self.columns]
        status = [OK] * len(stamps)
        for number in damaged:
            stamps[number], status[number] = None, UNAVAILABLE
        if len(stamps) < len(part.places):
            there = [end > before for before, end in pairwise((0, *found.ends))]
            stamps, status = spread([stamps, status], there)
            status = [word or MISSING for word in status]
            values = spread(values, there)
        self.expire(stamps, status, part)
        return Rows(values, stamps, status)

    def puts(self, state: SetState, events: Events) -> list[Put]:  # noqa: ARG002
        """See `Reader.puts`."""
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
