"""What is kept of many values in bounded memory: how many differ, which are frequent, and how far out the ends lie.

Each sketch keeps all groups of rows at once, makes room as groups are met, and is told batch by batch; which rows belong to which group is
decided in `groups`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

_REGISTERS = 1 << 20
_MOST_BITS, _LEAST_BITS = 12, 6
_FREQUENT = 100_000
_MOST_FREQUENT, _LEAST_FREQUENT = 1_000, 20
_FEW = 20_000
_BUCKETS, _SLOTS = 1 << 16, 1 << 15
_MANTISSA, _CODES = 45, 20
_MOST_ENTRIES = 1 << 17

Integers = npt.NDArray[np.intp]


def grown(array: npt.NDArray[Any], size: int, fill: float = 0) -> npt.NDArray[Any]:
    """An array with room for so many groups."""
    if size <= len(array):
        return array
    wider = np.full((max(size, 2 * len(array)), *array.shape[1:]), fill, dtype=array.dtype)
    wider[: len(array)] = array
    return wider


def once(keys: npt.NDArray[np.uint64]) -> tuple[Integers, npt.NDArray[np.int64]]:
    """Places at which all keys of a batch stand, of few keys about once each, and how many keys each place stands for.

    Args:
        keys: Hashes: their last bits are spread evenly.
    """
    slots = (keys & np.uint64(_SLOTS - 1)).view(np.int64)
    last = np.zeros(_SLOTS, dtype=np.int32)
    last[slots] = np.arange(len(keys), dtype=np.int32)
    alone = np.flatnonzero(keys.take(last.take(slots)) != keys)
    counts = np.bincount(slots, minlength=_SLOTS)
    counts -= np.bincount(slots[alone], minlength=_SLOTS)
    taken = np.flatnonzero(counts)
    return np.concatenate([last[taken], alone]), np.concatenate([counts[taken], np.ones(len(alone), dtype=np.int64)])


class Distinct:
    """Counts different values by a HyperLogLog of their hashes. The standard error is 1.6 % up to 256 groups, and 5 % of two thousand."""

    def __init__(self) -> None:
        self._bits = _MOST_BITS
        self._ranks = np.zeros((1, 1 << self._bits), dtype=np.uint8)

    def telling(self, hashes: npt.NDArray[np.uint64], size: int) -> Integers:
        """Which of some hashes may change what is counted of so many groups: fewer and fewer, the more was counted."""
        self._make_room(size)
        lowest = int(self._ranks[:size].min())
        # A hash that begins with no more zeros than every register has seen changes none of them.
        return np.flatnonzero(hashes < np.uint64(1 << (64 - lowest))) if lowest else np.arange(len(hashes))

    def add(self, groups: Integers, hashes: npt.NDArray[np.uint64], size: int) -> None:
        """Take a batch of values by their hashes; there are so many groups by now."""
        self._make_room(size)
        places = (groups << self._bits) + (hashes & np.uint64((1 << self._bits) - 1)).astype(np.intp)
        rest = (hashes >> np.uint64(self._bits)) | np.uint64(1)
        # The exponent of a float is the place of the first bit that is set.
        ranks = (64 - self._bits - ((rest.astype(np.float64).view(np.int64) >> 52) - 1023)).astype(np.uint8)
        flat = self._ranks.reshape(-1)
        higher = ranks > flat[places]
        np.maximum.at(flat, places[higher], ranks[higher])

    def counts(self, groups: int) -> npt.NDArray[np.int64]:
        """About so many values differ in each group."""
        self._make_room(groups)
        size = 1 << self._bits
        ranks = self._ranks[:groups].astype(np.float64)
        estimate = 0.7213 / (1 + 1.079 / size) * size * size / np.exp2(-ranks).sum(axis=1)
        empty = (ranks == 0).sum(axis=1)
        few = (estimate <= 2.5 * size) & (empty > 0)
        estimate[few] = size * np.log(size / empty[few])
        found: npt.NDArray[np.int64] = np.round(estimate).astype(np.int64)
        return found

    def _make_room(self, size: int) -> None:
        self._ranks = grown(self._ranks, size)
        while self._ranks.size > _REGISTERS and self._bits > _LEAST_BITS:
            # Which half of the registers a hash is in is its highest bit of them; without it the rank is the same.
            self._bits -= 1
            self._ranks = np.maximum(self._ranks[:, : 1 << self._bits], self._ranks[:, 1 << self._bits :])


class Frequent:
    """The frequent texts of each group, among those that have no cell of their own.

    Counts are exact while there are few different texts. Of many only texts that stand out in a batch are counted, so a count is the least
    that it can be, and all counts together are fewer than the rows.

    Args:
        found: What was counted before, as `counted` gives it.
    """

    def __init__(self, found: pl.DataFrame | None = None) -> None:
        self._found = pl.DataFrame(schema={"group": pl.Int64, "item": pl.String, "count": pl.Int64}) if found is None else found

    def add(self, groups: Integers, texts: pl.Series, hashes: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64], size: int) -> None:
        """Take the texts of a batch with their counts; there are so many groups by now."""
        if (rows := counts.sum()) > _FEW:
            # Texts of which each is rare share no bucket with a frequent one, mostly.
            buckets = (hashes & np.uint64(_BUCKETS - 1)).view(np.int64)
            heavy = np.bincount(buckets, counts, minlength=_BUCKETS) * _MOST_FREQUENT > rows
            chosen = np.flatnonzero(heavy.take(buckets)) if heavy.any() else np.empty(0, dtype=np.intp)
            groups, texts, counts = groups[chosen], texts.gather(chosen), counts[chosen]
        if not len(texts):
            return
        batch = pl.DataFrame({"group": groups.astype(np.int64), "item": texts, "count": counts})
        together = pl.concat([self._found, batch]).group_by("group", "item").agg(pl.col("count").sum())
        if together.height > (kept := max(_LEAST_FREQUENT, min(_MOST_FREQUENT, _FREQUENT // size))):
            ranked = together.sort(["group", "count", "item"], descending=[False, True, False])
            together = ranked.filter(pl.int_range(pl.len()).over("group") < kept)
        self._found = together

    def counted(self) -> pl.DataFrame:
        """The texts with their counts, as `group`, `item`, `count`."""
        return self._found


class Tails:
    """The numbers of both tails of cells, in buckets whose width grows with the distance from where the tail begins (by less than 1 %).

    Args:
        low: The lower tail has the numbers up to this one.
        high: The upper tail has those above this one.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high, self.coarser = low, high, 0
        self._keys, self._counts = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)

    @property
    def state(self) -> tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """All that `restore` needs."""
        return self.coarser, self._keys, self._counts

    def restore(self, coarser: int, keys: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> None:
        """Be as another one with the same ends was."""
        self.coarser, self._keys, self._counts = coarser, keys, counts

    def add(self, groups: Integers, numbers: npt.NDArray[np.float64]) -> None:
        """Take the finite numbers of a batch that lie in a tail."""
        if not len(numbers):
            return
        above = numbers > self.high
        with np.errstate(over="ignore"):
            distance = np.where(above, numbers - self.high, self.low - numbers)
        # The largest float stands for a distance that is none.
        distance = np.clip(distance, 0, np.finfo(np.float64).max)
        code = (distance.view(np.int64) >> (_MANTISSA + self.coarser)) + 1
        keys = (groups.astype(np.int64) << _CODES) + np.where(above, code, -code) + (1 << (_CODES - 1))
        self._merge(*np.unique(keys, return_counts=True))
        while len(self._keys) > _MOST_ENTRIES and self.coarser < 6:
            self.coarsen(self.coarser + 1)

    def coarsen(self, to: int) -> None:
        """Make buckets 2 to the power of so many times as wide as they were at first."""
        groups, codes = self._split()
        halved = np.sign(codes) * (((np.abs(codes) - 1) >> (to - self.coarser)) + 1)
        keys, counts, self.coarser = (groups << _CODES) + halved + (1 << (_CODES - 1)), self._counts, to
        self._keys, self._counts = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        self._merge(keys, counts)

    def entries(self) -> tuple[Integers, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The groups, codes (negative ones are of the lower tail, further out the larger) and counts of all buckets that have rows."""
        return *self._split(), self._counts

    def bounds(self, codes: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The smallest and the largest number of buckets."""
        shift = _MANTISSA + self.coarser
        at = np.abs(codes) - 1
        near, far = (at << shift).view(np.float64), ((at + 1) << shift).view(np.float64)
        far = np.where(np.isfinite(far), far, np.finfo(np.float64).max)
        with np.errstate(over="ignore"):
            above, below = (self.high + near, self.high + far), (self.low - far, self.low - near)
        return np.where(codes > 0, above[0], below[0]), np.where(codes > 0, above[1], below[1])

    def _split(self) -> tuple[Integers, npt.NDArray[np.int64]]:
        groups = (self._keys >> _CODES).astype(np.intp)
        return groups, (self._keys & ((1 << _CODES) - 1)) - (1 << (_CODES - 1))

    def _merge(self, keys: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> None:
        together, places = np.unique(np.concatenate([self._keys, keys]), return_inverse=True)
        self._counts = np.bincount(places, np.concatenate([self._counts, counts]), minlength=len(together)).astype(np.int64)
        self._keys = together
