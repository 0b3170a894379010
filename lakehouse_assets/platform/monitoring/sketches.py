"""What is kept of many values in bounded memory: how many differ, and which are frequent. Each sketch keeps all groups of rows at once.

A sketch is told batch by batch; which rows belong to which group is decided in `groups`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

_REGISTERS = 262_144
_MOST_BITS, _LEAST_BITS = 12, 6
_FREQUENT = 100_000
_MOST_FREQUENT, _LEAST_FREQUENT = 1_000, 20
_FEW = 20_000
_BUCKETS = 65_536


class Distinct:
    """Counts different values by a HyperLogLog of their hashes, within a few per cent.

    Args:
        groups: How many groups there are. The standard error is 1.6 % of one group, and 13 % of the most that there can be.
    """

    def __init__(self, groups: int) -> None:
        self._bits = max(_LEAST_BITS, min(_MOST_BITS, int(np.log2(_REGISTERS / groups))))
        self._ranks = np.zeros(groups << self._bits, dtype=np.uint8)

    def add(self, groups: npt.NDArray[np.intp], hashes: npt.NDArray[np.uint64]) -> None:
        """Take a batch of values by their hashes."""
        places = (groups << self._bits) + (hashes & np.uint64((1 << self._bits) - 1)).astype(np.intp)
        rest = (hashes >> np.uint64(self._bits)) | np.uint64(1)
        # The exponent of a float is the place of the first bit that is set.
        ranks = (64 - self._bits - ((rest.astype(np.float64).view(np.int64) >> 52) - 1023)).astype(np.uint8)
        higher = ranks > self._ranks[places]
        np.maximum.at(self._ranks, places[higher], ranks[higher])

    def counts(self) -> npt.NDArray[Any]:
        """About so many values differ in each group."""
        size = 1 << self._bits
        ranks = self._ranks.reshape(-1, size).astype(np.float64)
        estimate = 0.7213 / (1 + 1.079 / size) * size * size / np.exp2(-ranks).sum(axis=1)
        empty = (ranks == 0).sum(axis=1)
        few = (estimate <= 2.5 * size) & (empty > 0)
        estimate[few] = size * np.log(size / empty[few])
        found: npt.NDArray[Any] = np.round(estimate).astype(np.int64)
        return found


class Frequent:
    """The frequent texts of each group, among those that have no cell of their own.

    Counts are exact while there are few different texts. Of many only texts that stand out in a batch are counted, so a count is the least
    that it can be, and `complete` is false.

    Args:
        groups: How many groups there are.
    """

    def __init__(self, groups: int) -> None:
        self.complete = True
        self._kept = max(_LEAST_FREQUENT, min(_MOST_FREQUENT, _FREQUENT // groups))
        self._found = pl.DataFrame(schema={"group": pl.Int64, "item": pl.String, "count": pl.Int64})

    def add(self, groups: npt.NDArray[np.intp], texts: pl.Series, hashes: npt.NDArray[np.uint64]) -> None:
        """Take a batch of texts."""
        if not len(texts):
            return
        if len(texts) > _FEW:
            # Texts of which each is rare share no bucket with a frequent one, mostly.
            buckets = (hashes % _BUCKETS).astype(np.intp)
            heavy = np.bincount(buckets, minlength=_BUCKETS) * _MOST_FREQUENT > len(texts)
            chosen = heavy[buckets]
            self.complete = self.complete and bool(chosen.all())
            groups, texts = groups[chosen], texts.filter(pl.Series(chosen))
        batch = pl.DataFrame({"group": groups.astype(np.int64), "item": texts}).with_columns(count=pl.lit(1, pl.Int64))
        together = pl.concat([self._found, batch.group_by("group", "item").agg(pl.col("count").sum())])
        together = together.group_by("group", "item").agg(pl.col("count").sum())
        ranked = together.sort(["group", "count", "item"], descending=[False, True, False])
        self._found = ranked.filter(pl.int_range(pl.len()).over("group") < self._kept)
        self.complete = self.complete and self._found.height == ranked.height

    def by_group(self) -> dict[int, list[tuple[str, int]]]:
        """The texts of each group with their counts, the most frequent first."""
        parts = self._found.partition_by("group", as_dict=True)
        return {int(key[0]): part.select("item", "count").rows() for key, part in parts.items()}
