"""Windows over events within a request: the stored events of each entity, and those of the request, become the statistics of a batch.

For few events they are worked out one row after the other (`streaming`), for many by column (`columnar`). Other sets are in `readers`.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, repeat
from typing import Any, Final, NamedTuple

import polars as pl

from lakehouse_assets.platform.features.online.codecs import codec
from lakehouse_assets.platform.features.online.columnar import ColumnarWindows, DoesNotFit
from lakehouse_assets.platform.features.online.events import Event, Events
from lakehouse_assets.platform.features.online.readers import (
    EXPIRED,
    MISSING,
    OK,
    UNAVAILABLE,
    UNREADABLE,
    OfOne,
    Part,
    Rows,
    ServedSet,
    counting,
    events_of,
    read_payloads,
    stamps_at,
)
from lakehouse_assets.platform.features.online.store import EARLIEST, Put, Query, QueryResult, SetState
from lakehouse_assets.platform.features.online.streaming import StreamingWindows
from lakehouse_assets.platform.features.windows import Windows

_log = logging.getLogger(__name__)
_FOREVER: Final = 2**62
_FEW_EVENTS: Final = 12
_MANY_ROWS: Final = 32
"""Of so many rows with so few events each the columnar twin is faster than the streaming one."""


class Own(NamedTuple):
    """What windows count of the events of a look-up.

    Attributes:
        times: Of each event; None: it does not count.
        columns: By column that is used, the values of all events.
    """

    times: Sequence[int | None]
    columns: Sequence[Sequence[Any]]


class WindowsReader(OfOne):
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
        """See `SetReader.name`."""
        return events_of(self.served.feature.name)

    def own(self, events: Events) -> Own:
        """See `SetReader.own`."""
        if self._are_keys(events):  # the stored events say all
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

    def _are_keys(self, events: Events) -> bool:
        """Whether nothing is sent but entities."""
        return not any(self._time in row for row in events.rows)

    def asked(self, name: str, places: Sequence[int], entities: Sequence[bytes], own: Own, events: Events) -> Query:
        """See `SetReader.asked`."""
        times = ((own.times[place], events.until[place]) for place in places)
        lows = [EARLIEST if at is None or at > until else at - self._twin.longest for at, until in times]
        # Also what is after the request: it says what of the entity is cut.
        return Query(name, entities, lows, [_FOREVER] * len(places), only_last=False)

    def rows(self, state: SetState, found: QueryResult, part: Part) -> Rows:
        """See `SetReader.rows`."""
        own, events = part.own, part.events
        if state.counting != self._counting:
            count = len(part.places)
            return Rows([[None] * count for _ in self.columns], [None] * count, [MISSING] * count)
        # An event that is sent takes the place of what is stored of it; one that a key names does not.
        ids = [None] * len(events) if self._are_keys(events) else events.encoded(state.key, state.key_kinds)
        # The events of the look-up, then those of the store.
        times, sent = [*own.times, *found.times], len(events)
        picked, status, newest = self._picked(state, found, part, ids)
        stored, damaged = read_payloads(self.served.feature.name, state.kinds, found.payloads)
        columns = [[*mine, *theirs] for mine, theirs in zip(own.columns, stored, strict=True)]
        if damaged:
            bad = {sent + one for one in damaged}
            status = [UNAVAILABLE if not bad.isdisjoint(its) else word for word, its in zip(status, picked, strict=True)]
            picked = [() if word == UNAVAILABLE else its for word, its in zip(status, picked, strict=True)]
        values = self._statistics(picked, times, columns, status)
        stamps = [stamp if word == OK else None for stamp, word in zip(stamps_at(newest, newest, None), status, strict=True)]
        self.expire(stamps, status, part)
        return Rows(values if self._order is None else [values[place] for place in self._order], stamps, status)

    def _picked(
        self, state: SetState, found: QueryResult, part: Part, ids: Sequence[bytes | None]
    ) -> tuple[list[Sequence[int]], list[str], list[int]]:
        """Of each row that is asked about the places of the events that count, its status, and the time of the newest of them.

        Places are those among the events of the look-up, with those of the store behind them: oldest first, then those of its request.
        """
        own, until, sent, longest, back = part.own.times, part.events.until, len(part.events), self._twin.longest, state.back
        at, item_ids, pushed = found.times, found.ids, found.pushed
        pruned = EARLIEST if state.pruned is None else state.pruned
        # What was pushed before, and no table has, does not count any more.
        since = time.time_ns() // 1000 - (back - longest)
        is_old = any(pushed) and min(filter(None, pushed)) <= since
        is_sent = not {*ids}.isdisjoint(item_ids)
        picked: list[Sequence[int]] = []
        status: list[str] = []
        newest: list[int] = []
        start = 0
        for place, end, mates, replaced in zip(part.places, found.ends, *_of_requests(part, ids), strict=True):
            last, cut, latest = until[place], pruned, EARLIEST
            its: Sequence[int] = ()
            if end > start:
                # Of an entity the newest event of the table says until when others may be gone.
                cut = max(cut, (_newest(found, start, end) if pushed[end - 1] else at[end - 1]) - back)
                if at[end - 1] > last or is_old or (is_sent and not replaced.isdisjoint(item_ids[start:end])):
                    its = [
                        sent + one
                        for one in range(start, end)
                        if at[one] <= last and item_ids[one] not in replaced and not 0 < pushed[one] <= since
                    ]
                else:
                    its = range(sent + start, sent + end)
                if its:
                    latest = at[its[-1] - sent]
                start = end
            mine = []
            for one in mates:
                if (when := own[one]) is not None and when <= last:
                    mine.append(one)
                    latest = max(latest, when)
            its = [*its, *mine] if its else mine
            # Without an event that counts the row is that of the last one before, which may be among those that are gone.
            is_whole = latest - longest >= cut if its else self._is_over(cut, part.events.ages_from[place])
            status.append(EXPIRED if not is_whole else OK if its else MISSING)
            picked.append(its if is_whole else ())
            newest.append(latest)
        return picked, status, newest

    def _is_over(self, cut: int, age_from: int) -> bool:
        """Whether nothing up to a time can be the row of a request any more, from whose moment times to live count back."""
        return cut == EARLIEST or (self._ttl is not None and age_from - self._ttl > cut)

    def _statistics(
        self, picked: Sequence[Sequence[int]], times: Sequence[Any], columns: Sequence[Sequence[Any]], status: list[str]
    ) -> Sequence[Sequence[Any]]:
        """By column the statistics of each row, of those of the events that are picked for it.

        A row whose events have values that cannot be compared or added becomes unavailable.
        """
        few = [number for number, its in enumerate(picked) if 0 < len(its) <= _FEW_EVENTS]
        together = self._at_once([picked[number] for number in few], times, columns) if len(few) >= _MANY_ROWS else None
        if together is not None and len(few) == len(picked):
            return together
        found: list[list[Any]] = [[None] * len(picked) for _ in self._twin.columns]
        for column, values in zip(found, together or (), strict=False):
            for number, value in zip(few, values, strict=True):
                column[number] = value
        for number, its in enumerate(picked):
            if not its or (together is not None and len(its) <= _FEW_EVENTS):
                continue
            ordered = sorted(its, key=times.__getitem__) if len(its) > 1 else its
            try:
                row = self._twin.of_columns([times[one] for one in ordered], [[column[one] for one in ordered] for column in columns])
            except UNREADABLE:
                _log.exception("events of %s have values that do not go together", self.served.feature.name)
                status[number] = UNAVAILABLE
                continue
            for column, value in zip(found, row, strict=True):
                column[number] = value
        return found

    def _at_once(
        self, picked: Sequence[Sequence[int]], times: Sequence[Any], columns: Sequence[Sequence[Any]]
    ) -> Sequence[Sequence[Any]] | None:
        """The statistics of rows by column; None if values of one of them are too large or do not go together."""
        flat = [*chain.from_iterable(picked)]
        ends = [*accumulate(map(len, picked))]
        try:
            return self._many.rows(ends, [times[one] for one in flat], [[column[one] for one in flat] for column in columns])
        except (DoesNotFit, *UNREADABLE):
            return None

    def puts(self, state: SetState, events: Events) -> list[Put]:
        """See `SetReader.puts`; events that do not count, and those without a key, are left out."""
        if state.counting != self._counting:
            return []
        own, write = self.own(events), codec(state.kinds).encode
        entities, ids = events.encoded(self.entity, state.entity_kinds), events.encoded(state.key, state.key_kinds)
        values = zip(*own.columns, strict=True) if own.columns else repeat(())
        return [
            Put(entity, when, id_, 0, write(its))
            for entity, when, id_, its in zip(entities, own.times, ids, values)  # noqa: B905 what windows without values repeat does not end
            if entity is not None and when is not None and id_ is not None
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


def _newest(found: QueryResult, start: int, end: int) -> int:
    """The time of the newest event of an entity that is from the table."""
    return next((found.times[one] for one in range(end - 1, start - 1, -1) if not found.pushed[one]), EARLIEST)


def _of_requests(part: Part, ids: Sequence[bytes | None]) -> tuple[Iterable[Sequence[int]], Iterable[set[bytes | None]]]:
    """For each event that is asked about, the places of those of its request with its entity, and the ids of all of its request."""
    places, request = part.places, part.events.request
    if request is None:
        return zip(places), ({ids[place]} for place in places)
    its_own = [request[place] for place in places]
    sent: dict[int, set[bytes | None]] = {number: set() for number in its_own}
    for number, one in zip(request, ids, strict=True):
        if number in sent:
            sent[number].add(one)
    replaced = map(sent.__getitem__, its_own)
    mates: dict[tuple[int, bytes], list[int]] = {}
    keys = [*zip(its_own, part.entities, strict=True)]
    if len({*keys}) == len(keys):
        return zip(places), replaced
    for key, place in zip(keys, places, strict=True):
        mates.setdefault(key, []).append(place)
    return map(mates.__getitem__, keys), replaced
