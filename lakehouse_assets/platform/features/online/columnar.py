"""The columnar twin of `features.windows`: the statistics of many rows at once, from the events of each.

A window ends with the last event of its row, so each statistic is a difference of running totals. It gives what `Windows.compute` and
`StreamingWindows` give, to the bit. For some events the streaming twin is faster. Where the events come from is in `window_reader`.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lakehouse_assets.platform.features.online.streaming import StreamingWindows

Numbers = npt.NDArray[np.int64]
_LARGEST_TOTAL: Final = 2.0**62
"""Running totals below it are exact in 64 bits."""


class DoesNotFit(Exception):
    """A value is so large that 64 bits do not hold the totals: the streaming twin has no such limit."""


class ColumnarWindows:
    """Works out rows of `Windows` with `every=None`.

    Args:
        twin: What is worked out.
    """

    def __init__(self, twin: StreamingWindows) -> None:
        self._lengths, self._plan, self._scale = twin.lengths, twin.plan, twin.scale
        self._ordered = any({"first", "last"} & {*statistics} for _, statistics in self._plan)

    def rows(self, ends: Sequence[int], times: Sequence[int], columns: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """The statistics of some rows by column, in the order of `StreamingWindows.columns`; of each at the time of its last event.

        Args:
            ends: For each row the place after its last event; each has one. Its events may be in any order.
            times: Of the events, in microseconds.
            columns: The values of the events by column, as `StreamingWindows.values_of` gives them.

        Raises:
            DoesNotFit: A value is too large.
            TypeError, ValueError: Values of a column do not compare.
        """
        until = np.asarray(ends, dtype=np.int64)
        first = np.concatenate(([0], until[:-1]))
        row = np.repeat(np.arange(len(until)), until - first)
        when = np.asarray(times, dtype=np.int64)
        order = np.lexsort((when, row))
        ties = self._ordered and bool(np.any((np.diff(row) == 0) & (np.diff(when[order]) == 0)))
        if ties:  # of events at one time their values decide, null last
            keys = zip(row.tolist(), times, *([(value is None, value) for value in column] for column in columns), strict=True)
            order = np.asarray([place for _, place in sorted(zip(keys, range(len(times)), strict=True))])
        if ties or bool(np.any(order[1:] < order[:-1])):
            when, places = when[order], order.tolist()
            columns = [[column[place] for place in places] for column in columns]
        made = [_Column(column, row, self._scale) for column in columns]
        ages = np.repeat(when[until - 1], until - first) - when
        found: list[list[Any]] = []
        for length in self._lengths:
            start = until - np.add.reduceat(ages < length, first)
            for place, statistics in self._plan:
                if place is None:
                    found.append((until - start).tolist())
                else:
                    found += [_STATISTICS[one](made[place], start, until) for one in statistics]
        return found


class _Column:
    """The values of a column, ordered by row and time, with what is known of windows that are `start` to `end`."""

    def __init__(self, values: Sequence[Any], row: Numbers, scale: float) -> None:
        self.values, self._row, self._scale = values, row, scale

    @cached_property
    def _is_there(self) -> npt.NDArray[np.bool_]:
        if None not in self.values:
            return np.ones(len(self.values), dtype=np.bool_)
        return np.asarray([value is not None for value in self.values])

    @cached_property
    def _there(self) -> Numbers:
        return _running(self._is_there)

    @cached_property
    def _distinct(self) -> Numbers:
        """How many events so far are the last ones of their row with their value: a window that ends with its row has all of these."""
        last = dict(zip(zip(self._row.tolist(), self.values, strict=True), range(len(self.values)), strict=True))
        is_last = np.zeros(len(self.values), dtype=np.bool_)
        is_last[[*last.values()]] = True
        return _running(is_last & self._is_there)

    @cached_property
    def _whole(self) -> Numbers:
        """The values as whole numbers of the smallest decimal; null is 0."""
        values = np.asarray([0.0 if value is None else value for value in self.values], dtype=np.float64)
        with np.errstate(over="ignore"):
            whole = np.rint(values * self._scale)
        if not float(np.max(np.abs(whole))) * len(whole) < _LARGEST_TOTAL:
            raise DoesNotFit
        return whole.astype(np.int64)

    @cached_property
    def _total(self) -> Numbers:
        return _running(self._whole)

    @cached_property
    def _squares(self) -> Any:
        whole = self._whole.astype(object)  # Python's integers: squares are beyond 64 bits
        return np.concatenate(([0], np.cumsum(whole * whole)))

    @cached_property
    def _ranks(self) -> tuple[list[Any], Numbers]:
        """The different values in their order, and where each value is among them; null is after all."""
        ordered = sorted({value for value in self.values if value is not None})
        at: dict[Any, int] = {value: place for place, value in enumerate(ordered)}
        at[None] = len(ordered)
        return ordered, np.asarray([at[value] for value in self.values])

    def count(self, start: Numbers, end: Numbers) -> list[Any]:
        return list((self._there[end] - self._there[start]).tolist())

    def distinct(self, start: Numbers, end: Numbers) -> list[Any]:
        return list((self._distinct[end] - self._distinct[start]).tolist())

    def _sums(self, start: Numbers, end: Numbers) -> npt.NDArray[np.float64]:
        return (self._total[end] - self._total[start]).astype(np.float64) / self._scale

    def sum(self, start: Numbers, end: Numbers) -> list[Any]:
        return list(self._sums(start, end).tolist())

    def mean(self, start: Numbers, end: Numbers) -> list[Any]:
        count = self._there[end] - self._there[start]
        mean = self._sums(start, end) / np.maximum(count, 1)
        return [one if many else None for one, many in zip(mean.tolist(), count.tolist(), strict=True)]

    def std(self, start: Numbers, end: Numbers) -> list[Any]:
        count = self._there[end] - self._there[start]
        total = (self._total[end] - self._total[start]).astype(object)
        spread = (count.astype(object) * (self._squares[end] - self._squares[start]) - total * total).astype(np.float64)
        std = np.sqrt(spread / np.maximum(count * (count - 1), 1).astype(np.float64)) / self._scale
        return [one if many > 1 else None for one, many in zip(std.tolist(), count.tolist(), strict=True)]

    def min(self, start: Numbers, end: Numbers) -> list[Any]:
        ordered, ranks = self._ranks
        least = np.minimum.reduceat(np.append(ranks, len(ordered)), np.column_stack((start, end)).ravel())[::2]
        return [ordered[one] if one < len(ordered) else None for one in least.tolist()]

    def max(self, start: Numbers, end: Numbers) -> list[Any]:
        ordered, ranks = self._ranks
        known = np.where(self._is_there, ranks, -1)
        most = np.maximum.reduceat(np.append(known, -1), np.column_stack((start, end)).ravel())[::2]
        return [ordered[one] if one >= 0 else None for one in most.tolist()]

    def first(self, start: Numbers, end: Numbers) -> list[Any]:
        places = np.where(self._is_there, np.arange(len(self.values)), len(self.values))
        ahead = np.minimum.accumulate(places[::-1])[::-1][start]
        return [self.values[one] if one < last else None for one, last in zip(ahead.tolist(), end.tolist(), strict=True)]

    def last(self, start: Numbers, end: Numbers) -> list[Any]:
        places = np.where(self._is_there, np.arange(len(self.values)), -1)
        before = np.maximum.accumulate(places)[end - 1]
        return [self.values[one] if one >= first else None for one, first in zip(before.tolist(), start.tolist(), strict=True)]


def _running(values: Any) -> Numbers:
    """Totals before each place, and after the last one."""
    totals = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=totals[1:])
    return totals


_STATISTICS: Final[dict[str, Callable[[_Column, Numbers, Numbers], list[Any]]]] = {
    "count": _Column.count,
    "distinct": _Column.distinct,
    "sum": _Column.sum,
    "mean": _Column.mean,
    "std": _Column.std,
    "min": _Column.min,
    "max": _Column.max,
    "first": _Column.first,
    "last": _Column.last,
}
