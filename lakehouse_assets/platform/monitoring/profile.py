"""Profiles: statistics of each column of a table, by windows of time and slices, as a frame that can be written to a Delta table as it is.

The names are those of the profile metrics table of Databricks' data profiling (docs.databricks.com, "Data profiling metric tables"):
`granularity`, `slice_key`, `slice_value`, `column_name` (`:table` for the row about all columns), `data_type`, `count` (values; of the
table: rows), `num_nulls`, `num_nan`, `num_zeros`, `percent_null`, `percent_nan`, `percent_zeros`, `percent_distinct` (from 0 to 100),
`distinct_count`, `avg`, `min`, `max`, `stddev`, `median`, `quantiles`, `min_length`, `max_length`, `avg_length`, `frequent_items`,
`non_null_columns`. Its `window` is `window_start` and `window_end` here. `num_infinite`, `cell_counts` and `items_complete` are ours.

Rows are read in one streaming pass, batch by batch; of a table whose cells are not known a sample is read first. What is compared with
what is in `drift_metrics`.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from lakehouse_assets.platform.monitoring.cells import Cells, Counts, Numbers, Texts, cells_of, kind_of
from lakehouse_assets.platform.monitoring.groups import CannotProfile, Groups, Slicing
from lakehouse_assets.platform.monitoring.sketches import Distinct, Frequent

TABLE = ":table"
ITEM = pl.Struct({"item": pl.String, "count": pl.Int64})
SCHEMA = pl.Schema(
    {
        "window_start": pl.Datetime("us", "UTC"),
        "window_end": pl.Datetime("us", "UTC"),
        "granularity": pl.String(),
        "slice_key": pl.String(),
        "slice_value": pl.String(),
        "column_name": pl.String(),
        "data_type": pl.String(),
        **dict.fromkeys(("count", "num_nulls", "num_nan", "num_infinite", "num_zeros", "distinct_count"), pl.Int64()),
        **dict.fromkeys(("percent_null", "percent_nan", "percent_zeros", "percent_distinct"), pl.Float64()),
        **dict.fromkeys(("avg", "min", "max", "stddev", "median"), pl.Float64()),
        "quantiles": pl.List(pl.Float64()),
        "min_length": pl.Int64(),
        "max_length": pl.Int64(),
        "avg_length": pl.Float64(),
        "frequent_items": pl.List(ITEM),
        "items_complete": pl.Boolean(),
        "non_null_columns": pl.List(pl.String()),
        "cell_counts": pl.List(pl.Int64()),
    }
)
LEVELS = np.linspace(0, 1, 101)
"""Of `quantiles`: the percentiles."""
SAMPLED = 100_000
"""Rows of the sample from which cells are made."""
BLOCKS = 128
"""Stretches of time in which a baseline is counted, to see how much rows that are near each other are alike."""
MOST_FREQUENT_ITEMS = 1_000
_BATCH = 200_000
_PARTS = 32
_VALUES = 20_000_000
_MOMENT = "__moment"


@dataclass(frozen=True)
class Profile:
    """A profile.

    Attributes:
        frame: A row for each window, slice and column, as `SCHEMA` says.
        cells: Of each column, in which values were counted.
        blocks: Of each column the counts in stretches of time, a row each, in order; none if the rows have no time.
        time: The column of time.
    """

    frame: pl.DataFrame
    cells: Mapping[str, Cells]
    blocks: Mapping[str, Counts] = field(default_factory=dict)
    time: str | None = None


def profile(rows: pl.LazyFrame, groups: Groups | None = None, cells: Mapping[str, Cells] | None = None, *, blocks: bool = False) -> Profile:
    """Profile rows.

    Args:
        rows: A table, or some of it. It is read once; twice if cells have to be made.
        groups: Windows and slices; None: all rows together.
        cells: Of the baseline that the rows will be compared with. A column that has none, or is of another kind, gets its own.
        blocks: Whether to count in stretches of time as well, as a baseline needs it; the groups name the column of time.

    Raises:
        CannotProfile: A column of the groups does not exist, or there are too many groups.
    """
    groups = groups or Groups()
    schema = rows.collect_schema()
    groups.check(schema)
    if not len(schema):
        raise CannotProfile("the table has no columns")
    known: dict[str, Cells] = {
        name: one for name, one in (cells or {}).items() if name in schema and isinstance(one, kind_of(schema[name]))
    }
    stretches = _sampled(rows, groups, schema, known) if len(known) < len(schema) or blocks else None
    columns = [_Column(number, name, schema[name], known[name]) for number, name in enumerate(schema)]
    marked = groups.marked(rows)
    slicings = groups.slicings(marked)
    for column in columns:
        column.open(slicings, 0 if stretches is None or not blocks else len(stretches) + 1)
    moments = [groups.moment(schema).to_physical().alias(_MOMENT)] if groups.time and blocks else []
    marks = [name for name in marked.collect_schema() if name not in schema]
    views = marked.select(*marks, *moments, *(part for column in columns for part in column.views()))
    _count(views, columns, slicings, stretches if blocks else None)
    counted = {column.name: column.blocks for column in columns if column.blocks is not None}
    return Profile(_frame(columns, slicings, groups), {column.name: column.cells for column in columns}, counted, groups.time)


def _sampled(rows: pl.LazyFrame, groups: Groups, schema: pl.Schema, known: dict[str, Cells]) -> npt.NDArray[np.int64] | None:
    """Add the cells of columns that have none; gives the moments that bound stretches of time, if the rows have a time."""
    missing = [name for name in schema if name not in known]
    columns = list(dict.fromkeys([*missing, *([groups.time] if groups.time else [])]))
    count = rows.select(pl.len()).collect(engine="streaming").item()
    chosen = rows.select(columns)
    if count > SAMPLED:
        # Multiples of the golden ratio lie evenly, whatever repeats in the order of the rows.
        place = (pl.col("__row").cast(pl.UInt64) * 2_654_435_769) % 2**32
        chosen = chosen.with_row_index("__row").filter(place < int(SAMPLED / count * 2**32)).drop("__row")
    sample = chosen.collect(engine="streaming")
    known.update({name: cells_of(sample[name]) for name in missing})
    if groups.time is None:
        return None
    moments = np.sort(sample.select(groups.moment(schema).to_physical()).to_series().drop_nulls().to_numpy())
    stretches = min(BLOCKS, len(moments) // 20)
    return moments[np.arange(1, stretches) * len(moments) // stretches] if stretches > 1 else None


class _Column:
    """What is counted of one column, in all groups at once."""

    def __init__(self, number: int, name: str, dtype: pl.DataType, cells: Cells) -> None:
        self.name, self.dtype, self.cells = name, dtype, cells
        self.view, self.hashes = f"v{number}", f"h{number}"
        self.is_number, self.is_text = isinstance(cells, Numbers), isinstance(cells, Texts)
        # Whole numbers that a float would make equal.
        self.is_long = dtype.is_integer() or dtype.is_decimal()
        self.blocks: Counts | None = None
        self.sums: list[dict[int, dict[str, Any]]] = []
        self.shared = np.arange(cells.size + 2) < cells.size
        self.shared[[at for at, _ in cells.items()]] = False

    def open(self, slicings: Sequence[Slicing], blocks: int) -> None:
        """Make room for the groups."""
        width = self.cells.size + 2
        self.counts = [np.zeros((slicing.size, width), dtype=np.int64) for slicing in slicings]
        self.distinct = [Distinct(slicing.size) for slicing in slicings]
        self.frequent = [Frequent(slicing.size) for slicing in slicings]
        if blocks:
            self.blocks = np.zeros((blocks, width), dtype=np.int64)

    def views(self) -> Iterator[pl.Expr]:
        """What is read of the column."""
        yield self.cells.view(self.name, self.dtype).alias(self.view)
        if self.is_long:
            yield pl.col(self.name).hash().alias(self.hashes)

    def moments(self) -> Iterator[pl.Expr]:
        """Sums that add up over batches, each under its own name."""
        value = pl.col(self.view)
        if isinstance(self.cells, Numbers):
            finite = pl.when(value.is_finite()).then(value)
            apart = finite - self.cells.center
            yield from (
                finite.count().alias(f"{self.view}_finite"),
                apart.sum().alias(f"{self.view}_sum"),
                (apart * apart).sum().alias(f"{self.view}_squares"),
                finite.min().alias(f"{self.view}_min"),
                finite.max().alias(f"{self.view}_max"),
                (value == 0).sum().alias(f"{self.view}_zeros"),
            )
        elif self.is_text:
            length = value.str.len_chars().cast(pl.Int64)
            yield from (
                length.sum().alias(f"{self.view}_sum"),
                length.min().alias(f"{self.view}_min"),
                length.max().alias(f"{self.view}_max"),
            )

    def add(self, batch: pl.DataFrame, codes: Sequence[npt.NDArray[np.intp]], blocks: npt.NDArray[np.intp] | None) -> None:
        """Count a batch, given the group of each row in each slicing, and its stretch of time."""
        values, width = batch[self.view], self.cells.size + 2
        cells = self.cells.codes(values)
        for number, groups in enumerate(codes):
            self.counts[number] += _crossed(groups, cells, len(self.counts[number]), width)
        if blocks is not None and self.blocks is not None:
            self.blocks += _crossed(blocks, cells, len(self.blocks), width)
        if self.cells.test is None:
            return
        # A value that has a cell of its own is counted there.
        others = np.flatnonzero(self.shared[cells])
        if not len(others):
            return
        hashes = (batch[self.hashes].gather(others) if self.is_long else values.gather(others).hash()).to_numpy()
        for number, groups in enumerate(codes):
            self.distinct[number].add(groups[others], hashes)
            if self.is_text:
                self.frequent[number].add(groups[others], values.gather(others), hashes)


def _crossed(groups: npt.NDArray[np.intp], cells: npt.NDArray[np.intp], rows: int, width: int) -> Counts:
    codes = cells if rows == 1 else groups * width + cells
    return np.bincount(codes, minlength=rows * width).reshape(rows, width)


def _count(views: pl.LazyFrame, columns: Sequence[_Column], slicings: Sequence[Slicing], stretches: npt.NDArray[np.int64] | None) -> None:
    """The one pass: each batch is counted by threads, a column each."""
    parts: list[list[pl.DataFrame]] = [[] for _ in slicings]
    sums = [expression for column in columns for expression in column.moments()]
    with ThreadPoolExecutor(pl.thread_pool_size()) as threads:

        def take(batch: pl.DataFrame) -> None:
            codes = [slicing.codes(batch) for slicing in slicings]
            blocks = None if stretches is None else np.searchsorted(stretches, batch[_MOMENT].fill_null(0).to_numpy(), side="right")
            list(threads.map(lambda column: column.add(batch, codes, blocks), columns))
            for found, slicing, groups in zip(parts, slicings, codes, strict=True):
                if slicing.size == 1:
                    found.append(batch.select(pl.lit(0).alias("__group"), *sums))
                else:
                    added = batch.with_columns(__group=groups).group_by("__group").agg(sums)
                    found.append(added.with_columns(pl.col("__group").cast(pl.Int32)))
                if len(found) > _PARTS:
                    found[:] = [_added(found)]

        # Part by part, because what is read faster than it is counted piles up in memory.
        rows, part = views.select(pl.len()).collect(engine="streaming").item(), max(_BATCH, _VALUES // max(len(columns), 1))
        for start in range(0, rows, part):
            for batch in views.slice(start, part).collect_batches(chunk_size=_BATCH, engine="streaming"):
                take(batch)
    for column in columns:
        column.sums = [{row["__group"]: row for row in _added(found).to_dicts()} if found else {} for found in parts]


def _added(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Sums of several batches, by group."""
    how = {"min": pl.Expr.min, "max": pl.Expr.max}
    names = [name for name in parts[0].columns if name != "__group"]
    return pl.concat(parts).group_by("__group").agg(how.get(name.rpartition("_")[2], pl.Expr.sum)(pl.col(name)) for name in names)


def _frame(columns: Sequence[_Column], slicings: Sequence[Slicing], groups: Groups) -> pl.DataFrame:
    """The rows of the profile; groups without rows have none."""
    rows: list[dict[str, Any]] = []
    for number, slicing in enumerate(slicings):
        items = [column.frequent[number].by_group() for column in columns]
        distinct = [column.distinct[number].counts() for column in columns]
        for code in range(slicing.size):
            count = int(columns[0].counts[number][code].sum())
            if not count and (slicing.size > 1 or number):
                continue
            window, value = slicing.group(code)
            where = {"window_start": window, "granularity": groups.every, "slice_key": slicing.key, "slice_value": value}
            about = [_row(column, number, code, int(distinct[at][code]), items[at].get(code, [])) for at, column in enumerate(columns)]
            present = [row["column_name"] for row in about if row["count"]]
            rows += [where | row for row in ({"column_name": TABLE, "count": count, "non_null_columns": present}, *about)]
    lists = [_listed(name, [row.pop(name, None) for row in rows]) for name in ("quantiles", "cell_counts")]
    frame = pl.DataFrame(rows, schema={name: dtype for name, dtype in SCHEMA.items() if name not in {"quantiles", "cell_counts"}})
    frame = frame.with_columns(lists).select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
    if groups.every is None:
        return frame
    return frame.with_columns(window_end=pl.col("window_start").dt.offset_by(groups.every)).sort("window_start", maintain_order=True)


def _listed(name: str, arrays: Sequence[npt.NDArray[Any] | None]) -> pl.Series:
    """A column of lists from arrays: as values of Python they would take longer than the counting."""
    known = [(at, array) for at, array in enumerate(arrays) if array is not None]
    at = np.repeat([at for at, _ in known], [len(array) for _, array in known]).astype(np.int64)
    values = np.concatenate([array for _, array in known]) if known else np.empty(0)
    listed = pl.DataFrame({"at": at, name: values}).group_by("at").agg(name)
    places = pl.DataFrame({"at": np.arange(len(arrays))}, schema={"at": pl.Int64})
    return places.join(listed, on="at", how="left", maintain_order="left")[name]


def _row(column: _Column, number: int, code: int, distinct: int, others: list[tuple[str, int]]) -> dict[str, Any]:
    """The statistics of a column in one group."""
    counts = column.counts[number][code]
    cells, nulls, nans = counts[:-2], int(counts[-2]), int(counts[-1])
    values, rows = int(counts.sum()) - nulls, int(counts.sum())
    row: dict[str, Any] = {
        "column_name": column.name,
        "data_type": str(column.dtype),
        "count": values,
        "num_nulls": nulls,
        "percent_null": 100 * nulls / rows if rows else None,
        "cell_counts": cells,
    }
    if column.cells.test is None:
        return row
    items = [(text, int(cells[at])) for at, text in column.cells.items() if cells[at]]
    shared = values - nans - sum(count for _, count in items)
    complete = shared == sum(count for _, count in others)
    row["distinct_count"] = distinct = len(items) + (len(others) if complete else min(distinct, shared))
    row["percent_distinct"] = 100 * distinct / values if values else None
    items = sorted([*items, *others], key=lambda item: (-item[1], item[0]))
    row["frequent_items"] = [{"item": text, "count": count} for text, count in items[:MOST_FREQUENT_ITEMS]]
    row["items_complete"] = complete and len(items) <= MOST_FREQUENT_ITEMS
    sums = column.sums[number].get(code, {})
    take = {name: sums.get(f"{column.view}_{name}") for name in ("finite", "sum", "squares", "min", "max", "zeros")}
    if isinstance(column.cells, Numbers):
        row |= _numbers(column.cells, cells, nans, values, take)
    elif values:
        row |= {"min_length": take["min"], "max_length": take["max"], "avg_length": (take["sum"] or 0) / values}
    return row


def _numbers(cells: Numbers, counts: Counts, nans: int, values: int, sums: Mapping[str, Any]) -> dict[str, Any]:
    finite, zeros = sums["finite"] or 0, sums["zeros"] or 0
    row: dict[str, Any] = {
        "num_nan": nans,
        "num_infinite": values - nans - finite,
        "num_zeros": zeros,
        "percent_nan": 100 * nans / values if values else None,
        "percent_zeros": 100 * zeros / values if values else None,
    }
    if not finite:
        return row
    mean = sums["sum"] / finite
    quantiles = cells.quantiles(counts, sums["min"], sums["max"], LEVELS)
    row |= {"avg": cells.center + mean, "min": sums["min"], "max": sums["max"], "quantiles": quantiles, "median": quantiles[50]}
    if finite > 1:
        row["stddev"] = float(np.sqrt(max(sums["squares"] - finite * mean * mean, 0.0) / (finite - 1)))
    return row
