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
_SHIFT = np.uint64(32)


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
class Timeline:
    """Which row counts for an entity from which time on.

    Attributes:
        times: The times at which rows begin to count, ascending, of all entities.
        keys: Entity and place in `times`, packed into one number and ascending.
        rows: For each of `keys` the number of the row that counts from then on; `NONE` if there is none.
    """

    times: Numbers
    keys: npt.NDArray[np.uint64]
    rows: Numbers

    @classmethod
    def of(cls, given: Arrivals) -> "Timeline":
        """At a time the row counts that has the newest `event` among those that have begun, of its revisions the newest by `known`.

        A row that is retracted takes those of its entity and event that were known before it away.
        """
        order = pl.Series(given.begins).arg_sort().to_numpy()
        times = given.begins[order]
        packed = (given.entity[order].astype(np.uint64) << _SHIFT) | np.arange(len(order), dtype=np.uint64)
        keys = pl.Series(packed).sort().to_numpy()
        place = (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
        rows = order[place].astype(np.int64)
        owner = (keys >> _SHIFT).astype(np.int64)
        same = np.zeros(len(rows) + 1, dtype=bool)
        same[1:-1] = owner[1:] == owner[:-1]
        rows = _in_order(rows, same, times[place], given)
        return cls(times, keys, _answers(rows, owner, same, given))

    def at(self, entity: Numbers, moment: Numbers) -> Numbers:
        """The number of the row that counts for each entity at a moment; `NONE` if there is none."""
        # Numbers that are looked up in ascending order are found several times faster.
        order = np.argsort(moment)
        begun = np.empty(len(moment), dtype=np.uint64)
        begun[order] = np.searchsorted(self.times, moment[order], side="right")
        wanted = (entity.astype(np.uint64) << _SHIFT) | begun
        order = np.argsort(wanted)
        place = np.empty(len(wanted), dtype=np.int64)
        place[order] = np.searchsorted(self.keys, wanted[order], side="left") - 1
        found = (place >= 0) & ((self.keys[place] >> _SHIFT).astype(np.int64) == entity) if len(self.keys) else np.zeros(len(place), bool)
        return np.where(found, self.rows[place] if len(self.rows) else NONE, NONE)


def _in_order(rows: Numbers, same: Flags, times: Numbers, given: Arrivals) -> Numbers:
    """The rows of one entity that begin at one time, put in the order of event, known and ties; those that begin alone stay."""
    equal = same.copy()
    equal[1:-1] &= times[1:] == times[:-1]
    several = np.flatnonzero(equal[1:] | equal[:-1])
    if not len(several):
        return rows
    # What begins together lies together: sorted among themselves, these rows take the same places.
    chosen = rows[several]
    group = np.cumsum(~equal[:-1])[several]
    by: dict[str, Any] = {"group": group, "event": given.event[chosen], "known": given.known[chosen], "row": chosen}
    ordered = pl.DataFrame(by).sort("group", "event", "known")
    tied = np.zeros(len(chosen) + 1, dtype=bool)
    tied[1:-1] = np.logical_and.reduce([np.diff(ordered[name].to_numpy()) == 0 for name in ("group", "event", "known")])
    if tied.any():
        at = np.flatnonzero(tied[1:] | tied[:-1])
        part = ordered[at]
        decided = pl.concat([part, given.ties(part["row"].to_numpy())], how="horizontal")
        decided = decided.sort([name for name in decided.columns if name != "row"])
        ordered = ordered.with_columns(ordered["row"].scatter(at, decided["row"]))
    result = rows.copy()
    result[several] = ordered["row"].to_numpy()
    return result


def _answers(rows: Numbers, owner: Numbers, same: Flags, given: Arrivals) -> Numbers:
    """For each place in the order of entity and beginning the row that counts from there on."""
    happened = given.event[rows]
    late = np.zeros(len(rows), dtype=bool)
    late[1:] = same[1:-1] & (happened[1:] < happened[:-1])
    gone = np.zeros(len(rows), dtype=bool) if given.retracted is None else given.retracted[rows]
    if not late.any() and not gone.any():
        return rows  # every row is the newest when it begins
    answers = rows.copy()
    entities = int(owner[-1]) + 1
    retracts = np.bincount(owner[gone], minlength=entities) > 0
    only_late = (np.bincount(owner[late], minlength=entities) > 0) & ~retracts
    if only_late.any():
        at = np.flatnonzero(only_late[owner])
        answers[at] = rows[at][_newest(owner[at], happened[at])]
    if retracts.any():
        at = np.flatnonzero(retracts[owner])
        newest = _newest_that_stays(owner[at], happened[at], gone[at])
        answers[at] = np.where(newest == NONE, NONE, rows[at][newest])
    return answers


def _newest(owner: Numbers, happened: Numbers) -> Numbers:
    """For each place the last one up to it whose event is the newest so far of its entity."""
    rank = pl.Series(happened).rank("dense").to_numpy().astype(np.int64)
    packed = (owner << 32) | rank
    newest = packed == np.maximum.accumulate(packed)
    return np.maximum.accumulate(np.where(newest, np.arange(len(packed)), 0))


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
