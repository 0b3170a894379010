"""The statistics of counted columns: quantiles, moments, frequent items, as the frame of a profile.

What is counted is in `counting`, the names of the frame's columns are those of `profile.SCHEMA`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from lakehouse_assets.platform.monitoring.profiling.cells import Numbers
from lakehouse_assets.platform.monitoring.profiling.counting import Column
from lakehouse_assets.platform.monitoring.profiling.moments import Moments

LEVELS = np.linspace(0, 1, 101)
"""Of `quantiles`: the percentiles."""
MOST_FREQUENT_ITEMS = 100
_LEAST_FREQUENT_ITEMS, _ITEMS = 10, 100_000
_ENTRIES = 4_000_000

Array = npt.NDArray[Any]


class Axis:
    """The finite numbers of one column, or of the same column twice, in cells that are narrow in the tails too.

    Args:
        columns: Which have the same cells.

    Attributes:
        lower: The smallest number of each cell.
        upper: The largest.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        cells = numbers(columns[0])
        self._columns, (self._first, self._last) = columns, cells.inner
        coarser = max(column.tails.coarser for column in columns)
        for column in columns:
            if column.tails.coarser < coarser:
                column.tails.coarsen(coarser)
        self._entries = [column.tails.entries() for column in columns]
        self._codes = np.unique(np.concatenate([codes for _, codes, _ in self._entries]))
        below = int((self._codes < 0).sum())
        self._inner = slice(below, below + self._last - self._first)
        lower, upper = columns[0].tails.bounds(self._codes)
        inner = [bound[self._first : self._last] for bound in cells.bounds]
        self.lower = np.concatenate([lower[:below], inner[0], lower[below:]])
        self.upper = np.concatenate([upper[:below], inner[1], upper[below:]])

    def counts(self, which: int, groups: Array) -> Array:
        """The counts of some groups of a column in these cells, a row each."""
        column, (of, codes, found) = self._columns[which], self._entries[which]
        rows, places = np.unique(groups, return_inverse=True)
        counts = np.zeros((len(rows), len(self.lower)), dtype=np.int64)
        counts[:, self._inner] = column.counts[rows, self._first : self._last]
        row = np.searchsorted(rows, of)
        row[row == len(rows)] = 0
        wanted = rows[row] == of
        at = np.searchsorted(self._codes, codes[wanted])
        at[at >= self._inner.start] += self._last - self._first
        counts[row[wanted], at] = found[wanted]
        return counts[places]

    def parts(self, size: int) -> Iterator[slice]:
        """So many rows in parts that fit into memory."""
        step = max(1, _ENTRIES // max(len(self.lower), 1))
        yield from (slice(start, start + step) for start in range(0, size, step))


def numbers(column: Column) -> Numbers:
    """The cells of a column of numbers.

    Raises:
        TypeError: It has none.
    """
    if not isinstance(column.cells, Numbers):
        raise TypeError(f"{column.name} has no numbers")
    return column.cells


def frame_of(
    columns: Sequence[Column], keys: pl.DataFrame, order: Sequence[str | None], table: str
) -> tuple[pl.DataFrame, npt.NDArray[np.intp]]:
    """The rows of a profile: of each group that of the table, then one a column.

    Args:
        columns: As they were counted.
        keys: Of the groups.
        order: The slice keys in their order, None first.
        table: The name in the row of the table.

    Returns:
        The rows, and the groups as they follow each other.
    """
    slicing = keys["slice_key"].replace_strict(list(order), range(len(order)), return_dtype=pl.Int64)
    sorted_keys = keys.with_columns(slicing=slicing).with_row_index("group")
    sorted_keys = sorted_keys.sort("window_start", "slicing", "slice_value", nulls_last=True)
    in_order, rank = sorted_keys["group"].to_numpy().astype(np.intp), np.empty(keys.height, dtype=np.int64)
    rank[in_order] = np.arange(keys.height)
    has = np.stack([column.counts.sum(axis=1) > column.counts[:, -2] for column in columns], axis=1)
    names = np.array([column.name for column in columns], dtype=object)
    whole = {
        "column_name": [table] * keys.height,
        "count": columns[0].counts.sum(axis=1),
        "non_null_columns": [names[row].tolist() for row in has],
    }
    frames = [pl.DataFrame(whole, schema_overrides={"non_null_columns": pl.List(pl.String)}), *map(_about, columns)]
    ordered = [
        frame.with_columns(keys.get_columns()).with_columns(order=pl.Series(rank * len(frames) + number))
        for number, frame in enumerate(frames)
    ]
    return pl.concat(ordered, how="diagonal_relaxed").sort("order").drop("order"), in_order


def _about(column: Column) -> pl.DataFrame:
    """The statistics of a column, a row for each group."""
    counts, groups = column.counts, len(column.counts)
    nulls, rows = counts[:, -2], counts.sum(axis=1)
    values = rows - nulls
    found: dict[str, Any] = {
        "column_name": [column.name] * groups,
        "data_type": [str(column.dtype)] * groups,
        "count": values,
        "num_nulls": nulls,
        "percent_null": _percent(nulls, rows),
        "cell_counts": _lists(counts[:, :-2]),
    }
    if column.cells.test is None:
        return pl.DataFrame(found)
    found |= _numbers(column, values) if isinstance(column.cells, Numbers) else _lengths(column)
    return pl.DataFrame(found).with_columns(_items(column, values).get_columns())


def _items(column: Column, values: Array) -> pl.DataFrame:
    """How many values differ, and the frequent ones."""
    groups = len(values)
    at = np.array([cell for cell, _ in column.cells.items()], dtype=np.intp)
    texts = pl.Series([text for _, text in column.cells.items()], dtype=pl.String)
    known = column.counts[:, at]
    row, item = np.nonzero(known)
    own = pl.DataFrame({"group": row.astype(np.int64), "item": texts.gather(item), "count": known[row, item]})
    others = column.frequent.counted()
    shared = column.shared(np.arange(groups))
    listed = np.zeros((2, groups), dtype=np.int64)
    of = others["group"].to_numpy()
    listed[0], listed[1] = np.bincount(of, minlength=groups), np.bincount(of, others["count"].to_numpy(), minlength=groups)
    complete = listed[1] == shared
    about = np.minimum(column.distinct.counts(groups), shared)
    distinct = (known > 0).sum(axis=1) + np.where(complete, listed[0], about)
    most = max(_LEAST_FREQUENT_ITEMS, min(MOST_FREQUENT_ITEMS, _ITEMS // max(groups, 1)))
    ranked = pl.concat([own, others]).sort(["group", "count", "item"], descending=[False, True, False])
    top = ranked.group_by("group", maintain_order=True).agg(frequent_items=pl.struct("item", "count").head(most))
    every = pl.DataFrame({"group": np.arange(groups, dtype=np.int64)}).join(top, on="group", how="left", maintain_order="left")
    empty = pl.lit([], dtype=every.schema["frequent_items"])
    return every.select(
        distinct_count=pl.Series(distinct),
        percent_distinct=_percent(distinct, values),
        frequent_items=pl.col("frequent_items").fill_null(empty),
        items_complete=pl.Series(complete & (distinct <= most)),
    )


def _numbers(column: Column, values: Array) -> dict[str, Any]:
    moments, nans = column.moments, column.counts[:, -1]
    groups = len(values)
    count, low, high = (part[:groups] for part in (moments.count, moments.low, moments.high))
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(moments.squares[:groups] / (count - 1))
    mean, spread = _exact(moments, groups), np.where(low == high, 0.0, spread)
    some, several = count > 0, (count > 1) & np.isfinite(spread)
    quantiles = _quantiles(column, some, low, high)
    return {
        "num_nan": nans,
        "num_infinite": values - nans - count.astype(np.int64),
        "num_zeros": moments.zeros[:groups].astype(np.int64),
        "percent_nan": _percent(nans, values),
        "percent_zeros": _percent(moments.zeros[:groups], values),
        "avg": _where(some, mean),
        "stddev": _where(several, spread),
        "min": _where(some, low),
        "max": _where(some, high),
        "median": _where(some, quantiles[:, len(LEVELS) // 2]),
        "quantiles": _lists(quantiles).set(pl.Series(~some), None),
    }


def _lengths(column: Column) -> dict[str, Any]:
    moments, groups = column.moments, len(column.counts)
    some = moments.count[:groups] > 0
    low, high = (_where(some, part[:groups]).cast(pl.Int64) for part in (moments.low, moments.high))
    return {"min_length": low, "max_length": high, "avg_length": _where(some, _exact(moments, groups))}


def _exact(moments: Moments, groups: int) -> Array:
    """The means; of numbers that are all the same that number, which the sum of many misses by a little."""
    low, high = moments.low[:groups], moments.high[:groups]
    found: Array = np.where(low == high, low, moments.mean[:groups])
    return found


def _quantiles(column: Column, some: Array, low: Array, high: Array) -> Array:
    """Exact where cells have one value, else in between the bounds of a cell."""
    found, axis, groups = np.zeros((len(some), len(LEVELS))), Axis([column]), np.flatnonzero(some)
    for part in axis.parts(len(groups)):
        for group, counts in zip(groups[part], axis.counts(0, groups[part]), strict=True):
            cells = np.flatnonzero(counts)
            after = np.cumsum(counts[cells])
            ranks = np.maximum(np.ceil(LEVELS * after[-1]), 1) - 0.5
            at = np.searchsorted(after, ranks)
            inside = (ranks - after[at]) / counts[cells[at]] + 1
            lower, upper = (np.clip(bound[cells[at]], low[group], high[group]) for bound in (axis.lower, axis.upper))
            found[group] = lower * (1 - inside) + upper * inside
            alone = lower == upper
            found[group, alone] = lower[alone]
    return found


def _percent(part: Array, whole: Array) -> pl.Series:
    with np.errstate(divide="ignore", invalid="ignore"):
        return _where(whole > 0, 100 * part / whole)


def _where(condition: Array, values: Array) -> pl.Series:
    """The values; null where a condition does not hold."""
    return pl.Series(values).set(pl.Series(~condition), None)


def _lists(rows: Array) -> pl.Series:
    """A list from each row."""
    return pl.Series(np.ascontiguousarray(rows)).arr.to_list() if rows.shape[1] else pl.Series([[]] * len(rows), dtype=pl.List(pl.Int64))
