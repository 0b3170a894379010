"""The features of a request, from the online store: all sets in one round trip, and never an error.

If the store cannot be reached, what was read last counts, else the defaults, and the answer says so. What the store holds is written by
`sync`, which values a single set gives is in `readers`.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import repeat
from typing import Any, Final, NamedTuple

import polars as pl

from lakehouse_assets.platform.features.online.codecs import moment
from lakehouse_assets.platform.features.online.events import Event, Events, encoded
from lakehouse_assets.platform.features.online.forms import form_of
from lakehouse_assets.platform.features.online.readers import MISSING, UNAVAILABLE, Part, Rows, ServedSet, SetReader, Stamp
from lakehouse_assets.platform.features.online.store import OnlineStore, Push, Query, QueryResult, Retention, SetState, StoreUnavailable

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

    def features(self, events: Sequence[Event], at: Sequence[datetime | date], requests: Sequence[int] | None = None) -> Looked:
        """The features of some events.

        Args:
            events: The columns of each: plain Python values, moments in UTC.
            at: The time of each; of a date its end counts, and its time to live from its beginning.
            requests: How many of them each request has, in their order: those of one request count each other in windows, as if all had
                been in the table. None: each is a request of its own.

        Returns:
            The same values as an as-of join of the feature tables at these times, as far as the store has been synced.
        """
        given = Events(events, at, requests)
        looked = Looked({}, {}, {}, {})
        for level in self._levels:
            self._look_up(level, given, looked)
        return looked

    def push(self, events: Sequence[Event]) -> None:
        """Count events that were scored in the windows of the next ones, ahead of the sync. Twice the same event counts once.

        A store that cannot be reached is told in the log: the sync brings the events later.
        """
        readers = self._pushed
        if not readers or time.monotonic() < max(self._quiet_until, self._push_quiet_until):
            return
        now, given = time.time_ns() // 1000, Events(events)
        try:
            known = zip(readers, self._known(readers), strict=True)
            self._store.push(
                [
                    Push(name, reader.puts(state, given), Retention(state.back, one_before=False, now=now))
                    for reader, (name, state) in known
                    if state is not None
                ]
            )
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

    def _look_up(self, level: Sequence[SetReader], events: Events, looked: Looked) -> None:
        own = [reader.own(events) for reader in level]
        asked: _Round | None = None
        if time.monotonic() >= self._quiet_until:
            try:
                asked = self._ask(level, events, own, looked.columns)
            except StoreUnavailable as error:
                self._failed(error)
        if asked is None:
            asked = self._recall(level, events, own, looked.columns)
        for reader, (_, state), (part, _), found in zip(level, asked.sets, asked.questions, asked.found, strict=True):
            rows = _NO_ROWS if state is None or not part.places else reader.rows(state, found, part)
            _add(looked, reader, state, rows, part)
            if asked.is_recalled:
                looked.status[reader.served.feature.name] = [UNAVAILABLE] * len(events)

    def _ask(self, level: Sequence[SetReader], events: Events, own: Sequence[Any], columns: Mapping[str, list[Any]]) -> "_Round":
        """All questions of a level with their answers."""
        for _ in range(3):  # again if a version or a declaration changed under way, which is rare
            questions = _questions(level, self._known(level), events, own, columns)
            names = self._named(level)
            answer = self._store.read([one for _, one in questions], names)
            if self._remember(names, answer.states):
                break
        self._cache.put([one for _, one in questions], answer.found)
        # The states of now, which say until when the tables are known.
        return _Round(self._remembered(level), questions, answer.found)

    def _recall(self, level: Sequence[SetReader], events: Events, own: Sequence[Any], columns: Mapping[str, list[Any]]) -> "_Round":
        """The same from what was read last; of what was never read there are no questions."""
        sets = self._remembered(level)
        questions, answers = [], []
        for part, one in _questions(level, sets, events, own, columns):
            known, found = self._cache.get(one)
            places, entities = [part.places[place] for place in known], [part.entities[place] for place in known]
            questions.append((part._replace(places=places, entities=entities), one))
            answers.append(found)
        return _Round(sets, questions, answers, is_recalled=True)

    # --- what is known of the sets

    def _known(self, readers: Sequence[SetReader]) -> list[tuple[str, SetState | None]]:
        """The names and states of the sets in the store, asked for once; later they come with the answers."""
        for names in (self._pointers, self._named):  # the names depend on what the pointers say
            if new := [name for name in names(readers) if name not in self._states]:
                self._remember(new, self._store.read([], new).states)
        return self._remembered(readers)

    def _remembered(self, readers: Sequence[SetReader]) -> list[tuple[str, SetState | None]]:
        return [(name, self._states.get(name, _UNKNOWN)[1]) for name in self._resolved(readers)[0]]

    @staticmethod
    def _pointers(readers: Sequence[SetReader]) -> list[str]:
        return [reader.pointer for reader in readers if reader.pointer]

    def _named(self, readers: Sequence[SetReader]) -> list[str]:
        return self._resolved(readers)[1]

    def _resolved(self, readers: Sequence[SetReader]) -> tuple[list[str], list[str]]:
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


class _Round(NamedTuple):
    """A level with its answers, from the store or from what was read last."""

    sets: Sequence[tuple[str, SetState | None]]
    questions: Sequence[tuple[Part, Query]]
    found: Sequence[QueryResult]
    is_recalled: bool = False


_NO_ROWS: Final = Rows((), [], [])
_Columns = tuple[Sequence[Any], ...]
_UNKNOWN: Final[tuple[bytes | None, SetState | None]] = (None, None)


def _levels(readers: Sequence[SetReader]) -> list[list[SetReader]]:
    """The sets in rounds: the entities of the first are in the event, those of a later one are values of the rounds before it."""
    level_of: dict[str, int] = {}
    levels: list[list[SetReader]] = []
    for reader in readers:
        feature = reader.served.feature
        level = max((level_of[name] + 1 for name in feature.entity if name in level_of), default=0)
        level_of |= {reader.served.prefix + name: level for name in feature.columns}
        levels += [[] for _ in range(level + 1 - len(levels))]
        levels[level].append(reader)
    return levels


def _questions(
    level: Sequence[SetReader],
    sets: Sequence[tuple[str, SetState | None]],
    events: Events,
    own: Sequence[Any],
    columns: Mapping[str, list[Any]],
) -> list[tuple[Part, Query]]:
    """What the store is asked for each set; of an event whose entity is null nothing. `columns` are those that levels before gave."""
    questions = []
    for reader, (name, state), mine in zip(level, sets, own, strict=True):
        entities: list[bytes | None] = []
        if state is not None and columns and not columns.keys().isdisjoint(reader.entity):
            given = [columns[one] if one in columns else events.column(one) for one in reader.entity]
            entities = encoded(given, state.entity_kinds, len(events))
        elif state is not None:
            entities = events.encoded(reader.entity, state.entity_kinds)
        places = [place for place, entity in enumerate(entities) if entity is not None]
        part = Part(places, [entity for entity in entities if entity is not None], mine, events)
        questions.append((part, reader.asked(name, places, part.entities, mine, events)))
    return questions


def _add(looked: Looked, reader: SetReader, state: SetState | None, rows: Rows, part: Part) -> None:
    """Add the rows of one set, with defaults where there is none."""
    name, columns, stamps, status = reader.served.feature.name, rows.columns, rows.stamps, rows.status
    count = len(part.events)
    if len(stamps) < count:
        at = dict(zip(part.places, range(len(stamps)), strict=False))
        columns = [[column[at[place]] if place in at else None for place in range(count)] for column in columns]
        status = [status[at[place]] if place in at else MISSING for place in range(count)]
        stamps = [stamps[at[place]] if place in at else None for place in range(count)]
    given = [list(column) for column in columns] if columns else [[None] * count for _ in reader.inputs]
    for place, stamp in enumerate(stamps) if None in stamps else ():
        if stamp is None:
            for column, default in zip(given, reader.defaults, strict=True):
                column[place] = default
    looked.columns.update(zip(reader.inputs, given, strict=True))
    looked.stamps[name], looked.status[name] = stamps, status
    looked.synced_at[name] = _until(state)
    if state is not None:
        looked.tables[name] = f"{state.table}@{state.cursor}"


def _until(state: SetState | None) -> datetime | None:
    return moment(state.synced_at) if state is not None and state.synced_at else None


class _Cache:
    """What was read last of each entity, of so many items at most: entities that are not asked for any more go."""

    def __init__(self, items: int) -> None:
        self._most, self._count = items // 2, 0
        # Of each entity the columns of items that it is in, and where.
        self._kept: dict[str, dict[bytes, tuple[_Columns, int, int]]] = {}
        self._before: dict[str, dict[bytes, tuple[_Columns, int, int]]] = {}
        self._lock = threading.Lock()

    def put(self, asked: Sequence[Query], answers: Sequence[QueryResult]) -> None:
        with self._lock:
            for one, found in zip(asked, answers, strict=True):
                where = zip(repeat(found[1:]), (0, *found.ends), found.ends)
                self._kept.setdefault(one.name, {}).update(zip(one.entities, where, strict=True))
                self._count += len(found.times) + len(found.ends)
            if self._count > self._most:
                self._compact()

    def _compact(self) -> None:
        """Count what is kept, each entity once, and forget older entities if it is too much."""
        self._count = 0
        for of_set in self._kept.values():
            for entity, (found, start, end) in of_set.items():
                if len(found[0]) > end - start:  # else it is alone there already
                    of_set[entity] = (tuple([part[start:end] for part in found]), 0, end - start)
                self._count += end - start + 1
        if self._count > self._most // 2:
            self._before, self._kept, self._count = self._kept, {}, 0

    def get(self, asked: Query) -> tuple[list[int], QueryResult]:
        """The questions that can be answered, and the answers to these."""
        known: list[int] = []
        items: list[tuple[Any, ...]] = []
        ends: list[int] = []
        with self._lock:
            now, before = self._kept.get(asked.name, {}), self._before.get(asked.name, {})
        for number, (entity, low, high) in enumerate(zip(asked.entities, asked.lows, asked.highs, strict=True)):
            if (kept := now.get(entity) or before.get(entity)) is not None:
                found, start, end = kept
                its = zip(*(part[start:end] for part in found), strict=True)
                fitting = [item for item in its if low < item[0] <= high]
                items += fitting[-1:] if asked.only_last else fitting
                known.append(number)
                ends.append(len(items))
        return known, QueryResult.of(ends, items)
