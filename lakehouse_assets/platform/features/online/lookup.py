"""The features of a request, from the online store: all sets in one round trip, and never an error.

If the store cannot be reached, what was read last counts, else the defaults, and the answer says so. What the store holds is written by
`sync`, which values a single set gives is in `readers`.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final, NamedTuple

import msgspec
import polars as pl

from lakehouse_assets.platform.features.online.codecs import DAY, instant, moment
from lakehouse_assets.platform.features.online.forms import form_of
from lakehouse_assets.platform.features.online.readers import MISSING, UNAVAILABLE, Event, Reader, Row, ServedSet, Stamp, Time, codec
from lakehouse_assets.platform.features.online.store import Item, OnlineStore, Retention, SetState, StoreUnavailable, Wanted

__all__ = ["Looked", "OnlineFeatures", "ServedSet", "Stamp"]

_log = logging.getLogger(__name__)
_QUIET_SECONDS: Final = 1.0
"""So long a store that failed is not asked again."""


@dataclass(frozen=True)
class Looked:
    """The features of some events.

    Attributes:
        columns: By the name of the input, a value for each event, defaults applied.
        stamps: By feature set, the row that was used for each event; None: none was found.
        status: By feature set, for each event `ok`, `missing`, `expired` (its row is older than the time to live) or `unavailable` (the
            store cannot be reached: the value is the one that was read last, or the default).
        synced_at: By feature set, until when the store knows its table; None: it was never synced.
        tables: By feature set, the table that the store has it from, with the version, as `name@version`; of one never synced nothing.
    """

    columns: dict[str, list[Any]]
    stamps: dict[str, list[Stamp | None]]
    status: dict[str, list[str]]
    synced_at: dict[str, datetime | None]
    tables: dict[str, str] = field(default_factory=dict)


class OnlineFeatures:
    """What serving asks. It may be used by several threads at once.

    Args:
        store: The online store.
        sets: The feature sets, in the order in which they are joined: the entity of one may be a value of another one before it.
        event: The table whose rows are sent; None: keys alone, of any table.
        schema: Its columns and types, which `where` of windows needs; None: those of the values that are sent.
        cached_items: How many items are remembered at most, for when the store cannot be reached.
    """

    def __init__(
        self,
        store: OnlineStore,
        sets: Sequence[ServedSet],
        event: str | None,
        *,
        schema: pl.Schema | None = None,
        cached_items: int = 200_000,
    ) -> None:
        self._store = store
        self._readers = [form_of(one.feature).reader(one, event, schema) for one in sets]
        self._levels = _levels(self._readers)
        self._states: dict[str, tuple[bytes | None, SetState | None]] = {}
        self._names: dict[int, tuple[list[str], list[str]]] = {}
        self._pushed = [reader for reader in self._readers if reader.takes_events]
        self._cache = _Cache(cached_items)
        self._quiet_until = self._push_quiet_until = 0.0

    def features(self, events: Sequence[Event], at: Sequence[datetime | date]) -> Looked:
        """The features of some events.

        Args:
            events: The columns of each: plain Python values, moments in UTC.
            at: The time of each; of a date its end counts, and its time to live from its beginning.

        Returns:
            The same values as an as-of join of the feature tables at these times, as far as the store has been synced.
        """
        times = [_time(one) for one in at]
        looked = Looked({}, {}, {}, {})
        for level in self._levels:
            self._look_up(level, events, times, looked)
        return looked

    def push(self, events: Sequence[Event]) -> None:
        """Count events that were scored in the windows of the next ones, ahead of the sync. Twice the same event counts once.

        A store that cannot be reached is told in the log: the sync brings the events later.
        """
        readers = self._pushed
        if not readers or time.monotonic() < max(self._quiet_until, self._push_quiet_until):
            return
        now = time.time_ns() // 1000
        try:
            for reader, (name, state) in zip(readers, self._known(readers), strict=True):
                if state is not None:
                    puts = reader.puts(state, _entities(reader, state, events, {}), events)
                    self._store.push(name, puts, Retention(state.back, one_before=False, now=now))
        except StoreUnavailable as error:  # as while a sync writes, when it can be read all the same
            self._push_quiet_until = time.monotonic() + _QUIET_SECONDS
            _log.warning("events count in windows after the next sync: %s", error)

    def synced(self) -> dict[str, datetime | None] | None:
        """By feature set, until when the store knows its table, whoever synced it; None: the store cannot be reached now."""
        pointers = self._pointers(self._readers)
        try:
            newest = dict(zip(pointers, map(SetState.read, self._store.read([], pointers).states), strict=True))
            versions = [None if (state := newest.get(reader.pointer)) is None else state.version for reader in self._readers]
            names = [reader.name(version) for reader, version in zip(self._readers, versions, strict=True)]
            states = self._store.read([], names).states
        except StoreUnavailable:
            return None
        return {reader.served.feature.name: _until(SetState.read(one)) for reader, one in zip(self._readers, states, strict=True)}

    # --- the sets of one level: those whose entities are known

    def _look_up(self, level: Sequence[Reader], events: Sequence[Event], times: Sequence[Time], looked: Looked) -> None:
        asking = _Round(level, events, times, [reader.own(events) for reader in level], looked.columns)
        asked: _Asked | None = None
        if time.monotonic() >= self._quiet_until:
            try:
                asked = self._ask(asking)
            except StoreUnavailable as error:
                self._failed(error)
        if asked is None:
            sets = self._remembered(level)
            asked = _Asked(sets, asking.questions(sets), None)
        for reader, (_, state), mine, questions in zip(level, asked.sets, asking.own, asked.questions, strict=True):
            rows = [
                self._row(reader, state, self._items(asked.found, question), (event, its, at))
                for question, event, its, at in zip(questions, events, mine, times, strict=True)
            ]
            if asked.found is None:
                rows = [row._replace(status=UNAVAILABLE) for row in rows]
            _add(looked, reader, state, rows)

    def _ask(self, asking: "_Round") -> "_Asked":
        """All questions of a round with their answers."""
        for _ in range(3):  # again if a version or a declaration changed under way, which is rare
            sets = self._known(asking.level)
            questions = asking.questions(sets)
            wanted = list(dict.fromkeys(one for mine in questions for one in mine if one is not None))
            names = self._named(asking.level)
            answer = self._store.read(wanted, names)
            if self._remember(names, answer.states):
                break
        self._cache.put(wanted, answer.items)
        # The states of now, which say until when the tables are known.
        return _Asked(self._remembered(asking.level), questions, dict(zip(wanted, answer.items, strict=True)))

    def _items(self, found: Mapping[Wanted, list[Item]] | None, question: Wanted | None) -> list[Item] | None:
        if question is None:
            return None
        return self._cache.get(question) if found is None else found.get(question)

    @staticmethod
    def _row(reader: Reader, state: SetState | None, items: list[Item] | None, of: tuple[Event, Any, Time]) -> Row:
        if items is None or state is None:
            return Row((), None, MISSING)
        try:
            return reader.row(state, items, *of)
        except (msgspec.MsgspecError, ValueError, TypeError, IndexError):
            name = reader.served.feature.name
            _log.exception("what the online store holds of %s cannot be read: `lakehouse features sync` fills it again", name)
            return Row((), None, UNAVAILABLE)

    # --- what is known of the sets

    def _known(self, readers: Sequence[Reader]) -> list[tuple[str, SetState | None]]:
        """The names and states of the sets in the store, asked for once; later they come with the answers."""
        for names in (self._pointers, self._named):  # the names depend on what the pointers say
            if new := [name for name in names(readers) if name not in self._states]:
                self._remember(new, self._store.read([], new).states)
        return self._remembered(readers)

    def _remembered(self, readers: Sequence[Reader]) -> list[tuple[str, SetState | None]]:
        return [(name, self._states.get(name, _UNKNOWN)[1]) for name in self._resolved(readers)[0]]

    @staticmethod
    def _pointers(readers: Sequence[Reader]) -> list[str]:
        return [reader.pointer for reader in readers if reader.pointer]

    def _named(self, readers: Sequence[Reader]) -> list[str]:
        return self._resolved(readers)[1]

    def _resolved(self, readers: Sequence[Reader]) -> tuple[list[str], list[str]]:
        """The name of the set of each reader, and all names whose states are read; worked out once for each state of the pointers."""
        if (known := self._names.get(id(readers))) is None:
            newest = [self._states.get(reader.pointer, _UNKNOWN)[1] for reader in readers]
            own = [reader.name(None if state is None else state.version) for reader, state in zip(readers, newest, strict=True)]
            known = self._names[id(readers)] = (own, list(dict.fromkeys([*self._pointers(readers), *own])))
        return known

    def _remember(self, names: Sequence[str], states: Sequence[bytes | None]) -> bool:
        """Whether all sets are made of what was known of them before."""
        is_same = True
        for name, written in zip(names, states, strict=True):
            before, known = self._states.get(name, _UNKNOWN)
            if written != before or name not in self._states:
                state = SetState.read(written)
                self._states[name] = (written, state)
                is_same = is_same and (state and state.made_of) == (known and known.made_of)
        if not is_same:
            self._names = {}
        return is_same

    def _failed(self, error: StoreUnavailable) -> None:
        self._quiet_until = time.monotonic() + _QUIET_SECONDS
        _log.warning("features are those that were read last, or defaults: %s", error)


@dataclass(frozen=True)
class _Round:
    """What is asked at once.

    Attributes:
        level: The sets.
        events: Of the request.
        times: Of each event.
        own: For each set, what it makes of the events themselves.
        columns: What the rounds before gave.
    """

    level: Sequence[Reader]
    events: Sequence[Event]
    times: Sequence[Time]
    own: Sequence[Sequence[Any]]
    columns: Mapping[str, list[Any]]

    def questions(self, sets: Sequence[tuple[str, SetState | None]]) -> list[list[Wanted | None]]:
        """For each set and event what the store is asked; None: nothing, as where the entity is null."""
        return [
            [
                None if entity is None else reader.question(name, entity, its, at)
                for entity, its, at in zip(_entities(reader, state, self.events, self.columns), mine, self.times, strict=True)
            ]
            for reader, (name, state), mine in zip(self.level, sets, self.own, strict=True)
        ]


class _Asked(NamedTuple):
    """A round with its answers; none if the store cannot be reached."""

    sets: Sequence[tuple[str, SetState | None]]
    questions: Sequence[Sequence[Wanted | None]]
    found: Mapping[Wanted, list[Item]] | None


_UNKNOWN: Final[tuple[bytes | None, SetState | None]] = (None, None)


def _levels(readers: Sequence[Reader]) -> list[list[Reader]]:
    """The sets in rounds: the entities of the first are in the event, those of a later one are values of the rounds before it."""
    level_of: dict[str, int] = {}
    levels: list[list[Reader]] = []
    for reader in readers:
        feature = reader.served.feature
        level = max((level_of[name] + 1 for name in feature.entity if name in level_of), default=0)
        level_of |= {reader.served.prefix + name: level for name in feature.columns}
        levels += [[] for _ in range(level + 1 - len(levels))]
        levels[level].append(reader)
    return levels


def _time(at: datetime | date) -> Time:
    begin = instant(at) or 0
    return Time(begin, begin) if isinstance(at, datetime) else Time(begin + DAY - 1, begin)


def _entities(reader: Reader, state: SetState | None, events: Sequence[Event], columns: Mapping[str, list[Any]]) -> list[bytes | None]:
    """The entity of each event as the store has it; None where a part of it is null, or is of another type than in the table."""
    if state is None:
        return [None] * len(events)
    names, encode = reader.entity, codec(state.entity_kinds).encode
    entities: list[bytes | None] = []
    for place, event in enumerate(events):
        parts = [columns[name][place] if name in columns else event.get(name) for name in names]
        try:
            entities.append(None if None in parts else encode(parts))
        except (TypeError, ValueError, AttributeError, OverflowError):
            entities.append(None)
    return entities


def _add(looked: Looked, reader: Reader, state: SetState | None, rows: Sequence[Row]) -> None:
    """Add the rows of one set, with defaults where there is none."""
    name = reader.served.feature.name
    if len(rows) == 1:  # as most requests
        values: Sequence[Any] = rows[0].values if rows[0].stamp is not None else reader.defaults
        looked.columns.update({column: [value] for column, value in zip(reader.inputs, values, strict=True)})
    else:
        filled = [row.values if row.stamp is not None else reader.defaults for row in rows]
        turned = map(list, zip(*filled, strict=True)) if rows else ([] for _ in reader.inputs)
        looked.columns.update(zip(reader.inputs, turned, strict=True))
    looked.stamps[name] = [row.stamp for row in rows]
    looked.status[name] = [row.status for row in rows]
    looked.synced_at[name] = _until(state)
    if state is not None:
        looked.tables[name] = f"{state.table}@{state.cursor}"


def _until(state: SetState | None) -> datetime | None:
    return moment(state.synced_at) if state is not None and state.synced_at else None


class _Cache:
    """What was read last of each entity, of so many items at most."""

    def __init__(self, items: int) -> None:
        self._most, self._count = items, 0
        self._kept: OrderedDict[tuple[str, bytes], list[Item]] = OrderedDict()  # a dict looks for its oldest among all that went
        self._lock = threading.Lock()

    def put(self, asked: Sequence[Wanted], answers: Sequence[list[Item]]) -> None:
        with self._lock:
            for (name, entity, *_), items in zip(asked, answers, strict=True):
                before = self._kept.pop((name, entity), None)
                self._kept[name, entity] = items
                self._count += len(items) + 1 - (0 if before is None else len(before) + 1)
            while self._count > self._most:
                self._count -= len(self._kept.popitem(last=False)[1]) + 1

    def get(self, question: Wanted) -> list[Item] | None:
        items = self._kept.get((question.name, question.entity))
        if items is None:
            return None
        fitting = [item for item in items if item[0] <= question.high and (question.low is None or item[0] > question.low)]
        return fitting[-1:] if question.only_last else fitting
