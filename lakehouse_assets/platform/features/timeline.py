"""For each moment of an entity the row that counts then, of rows that come, are revised and are retracted: the core of as-of joins.

It works on arrays of whole numbers (NumPy), all rows at once. What the numbers stand for, and how tables are read, is in `point_in_time`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

Numbers: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Ties = Callable[[Numbers], pl.DataFrame]
"""From the numbers of rows to what decides between them: the row of which it is largest, column by column, counts."""

NONE = -1
_BITS = 62


@dataclass(frozen=True)
class Arrivals:
    """Rows in any order, each with one number in every array.

    Attributes:
        entity: From 0 on, below 2**32.
        begins: When the row begins to count: not before its event.
        event: The event time.
        known: Tells revisions of one event apart.
        retracted: Whether the row retracts its event; None: no row does.
        ties: Asked only if rows tie in entity, event and known.
    """

    entity: Numbers
    begins: Numbers
    event: Numbers
    known: Numbers
    retracted: Flags | None
    ties: Ties


@dataclass(frozen=True)
class _Scale:
    """Times as numbers of few bits that keep their order, so that an entity and a time fit into one number."""

    bits: int
    low: int
    times: Numbers | None

    @classmethod
    def of(cls, times: Numbers, entities: int) -> tuple["_Scale", Numbers]:
        """A scale for some times, and the times on it: counted from the first one, or, where these do not fit, the places of the times."""
        low = int(times.min()) if len(times) else 0
        bits = (int(times.max()) - low).bit_length() if len(times) else 0
        if bits + entities.bit_length() <= _BITS:
            return cls(bits, low, None), times - low
        ordered = pl.Series(times)
        places = ordered.rank("dense").cast(pl.Int64).to_numpy() - 1
        distinct = ordered.unique().sort().to_numpy()
        return cls(len(distinct).bit_length(), 0, distinct), places

    def until(self, moments: Numbers) -> Numbers:
        """For each moment the last time on the scale that is not after it; negative if there is none."""
        if self.times is None:
            return np.minimum(moments - self.low, (1 << self.bits) - 1)
        order = np.argsort(moments)  # what is looked up in ascending order is found several times faster
        found = np.empty(len(moments), dtype=np.int64)
        found[order] = np.searchsorted(self.times, moments[order], side="right") - 1
        return found


@dataclass(frozen=True)
class Timeline:
    """Which row counts for an entity from which time on.

    Attributes:
        scale: Of the times at which rows begin to count.
        keys: Entity and time on the scale, packed into one number and ascending.
        rows: For each of `keys` the number of the row that counts from then on; `NONE` if there is none.
    """

    scale: _Scale
    keys: Numbers
    rows: Numbers

    @classmethod
    def of(cls, given: Arrivals) -> "Timeline":
        """At a time the row counts that has the newest `event` among those that have begun, of its revisions the newest by `known`.

        A row that is retracted takes those of its entity and event that were known before it away.
        """
        entities = int(given.entity.max(initial=0)) + 1
        scale, begins = _Scale.of(given.begins, entities)
        packed = given.entity << scale.bits
        packed |= begins
        del begins
        rows = pl.Series(packed).arg_sort().to_numpy().astype(np.int64)
        keys = packed[rows]
        del packed
        return cls(scale, keys, _answers(_in_order(rows, keys, given), keys >> scale.bits, given))

    def at(self, entity: Numbers, moment: Numbers) -> Numbers:
        """The number of the row that counts for each entity at a moment; `NONE` if there is none."""
        if not len(self.keys):
            return np.full(len(entity), NONE)
        until = self.scale.until(moment)
        wanted = (entity << self.scale.bits) | np.maximum(until, 0)
        order = np.argsort(wanted)
        place = np.empty(len(wanted), dtype=np.int64)
        place[order] = np.searchsorted(self.keys, wanted[order], side="right") - 1
        found = (until >= 0) & (place >= 0) & ((self.keys[place] >> self.scale.bits) == entity)
        return np.where(found, self.rows[place], NONE)


def _in_order(rows: Numbers, keys: Numbers, given: Arrivals) -> Numbers:
    """The rows of one entity that begin at one time, put in the order of event, known and ties; those that begin alone stay."""
    equal = np.zeros(len(rows) + 1, dtype=bool)
    equal[1:-1] = keys[1:] == keys[:-1]
    several = np.flatnonzero(equal[1:] | equal[:-1])
    if not len(several):
        return rows
    # What begins together lies together: sorted among themselves, these rows take the same places.
    chosen = rows[several]
    by: dict[str, Any] = {"key": keys[several], "event": given.event[chosen], "known": given.known[chosen], "row": chosen}
    ordered = pl.DataFrame(by).sort("key", "event", "known")
    tied = np.zeros(len(chosen) + 1, dtype=bool)
    tied[1:-1] = np.logical_and.reduce([np.diff(ordered[name].to_numpy()) == 0 for name in ("key", "event", "known")])
    if tied.any():
        at = np.flatnonzero(tied[1:] | tied[:-1])
        part = ordered[at]
        decided = pl.concat([part, given.ties(part["row"].to_numpy())], how="horizontal")
        decided = decided.sort([name for name in decided.columns if name != "row"])
        ordered = ordered.with_columns(ordered["row"].scatter(at, decided["row"]))
    result = rows.copy()
    result[several] = ordered["row"].to_numpy()
    return result


def _answers(rows: Numbers, owner: Numbers, given: Arrivals) -> Numbers:
    """For each place in the order of entity and beginning the row that counts from there on."""
    happened = given.event[rows]
    gone = None if given.retracted is None else given.retracted[rows]
    if gone is None or not gone.any():
        late = (owner[1:] == owner[:-1]) & (happened[1:] < happened[:-1])
        return rows[_newest(owner, happened, None)] if late.any() else rows  # else every row is the newest when it begins
    newest = _newest(owner, happened, gone)
    answers = np.where(newest == NONE, NONE, rows[newest])
    # A retraction matters only where it takes the newest away: what is older than the newest is never looked at again.
    at = np.flatnonzero(gone)
    taken = at[(newest[at] != NONE) & (happened[newest[at]] == happened[at])]
    if len(taken):
        hit = np.zeros(int(owner[-1]) + 1, dtype=bool)
        hit[owner[taken]] = True
        at = np.flatnonzero(hit[owner])
        stays = _newest_that_stays(owner[at], happened[at], gone[at])
        answers[at] = np.where(stays == NONE, NONE, rows[at][stays])
    return answers


def _newest(owner: Numbers, happened: Numbers, gone: Flags | None) -> Numbers:
    """For each place the last one up to it whose event is the newest so far of its entity, retractions apart; `NONE` if there is none."""
    scale, times = _Scale.of(happened, int(owner[-1]) + 1)
    packed = owner << scale.bits
    packed |= times
    del times
    if gone is not None:  # a retraction is no newer than what came before it
        packed[gone] = 0
    is_newest = packed == np.maximum.accumulate(packed)
    del packed
    if gone is not None:
        is_newest &= ~gone
    found = np.arange(len(owner))
    found[~is_newest] = 0
    np.maximum.accumulate(found, out=found)
    if gone is not None:
        found[(owner[found] != owner) | gone[found]] = NONE
    return found


def _newest_that_stays(owner: Numbers, happened: Numbers, gone: Flags) -> Numbers:
    """For each place the one with the newest event among those that stand there; `NONE` if none does.

    A row stands from its place up to that of the next revision of its event, or to the end of its entity.
    """
    places = np.arange(len(owner))
    by_event = np.lexsort((places, happened, owner))
    rank = np.empty(len(owner), dtype=np.int64)
    rank[by_event] = places
    stop = np.searchsorted(owner, owner, side="right")
    revised = (owner[by_event][1:] == owner[by_event][:-1]) & (happened[by_event][1:] == happened[by_event][:-1])
    stop[by_event[:-1][revised]] = by_event[1:][revised]
    best = stab(places[~gone], stop[~gone], rank[~gone], len(owner))
    return np.where(best == NONE, NONE, by_event[best])


def stab(start: Numbers, stop: Numbers, value: Numbers, size: int) -> Numbers:
    """For each place from 0 to `size` the largest value of the intervals `start` ≤ place < `stop` that hold it; `NONE` if none does.

    A segment tree, level by level for all intervals at once: each interval is at most two nodes of a level.
    """
    tree = np.full(2 * size, NONE, dtype=np.int64)
    left, right = start + size, stop + size
    while len(left):
        odd = (left & 1) == 1
        np.maximum.at(tree, left[odd], value[odd])
        left = (left + odd) >> 1
        odd = (right & 1) == 1
        np.maximum.at(tree, right[odd] - 1, value[odd])
        right = right >> 1
        goes_on = left < right
        left, right, value = left[goes_on], right[goes_on], value[goes_on]
    # From the root down: the nodes of a level lie between two powers of two.
    level = 1
    while level < size:
        parents = np.arange(level, min(2 * level, size))
        for child in (2 * parents, 2 * parents + 1):
            tree[child] = np.maximum(tree[child], tree[parents])
        level *= 2
    return tree[size:]
