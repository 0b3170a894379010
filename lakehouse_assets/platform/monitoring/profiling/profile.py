"""Profiles: statistics of each column of a table, by windows of time and slices, as a frame that can be written to a Delta table as it is.

The names are those of the profile metrics table of Databricks' data profiling (docs.databricks.com, "Data profiling metric tables"):
`granularity`, `slice_key`, `slice_value`, `column_name` (`:table` for the row about all columns), `data_type`, `count` (values; of the
table: rows), `num_nulls`, `num_nan`, `num_zeros`, `percent_null`, `percent_nan`, `percent_zeros`, `percent_distinct` (from 0 to 100),
`distinct_count`, `avg`, `min`, `max`, `stddev`, `median`, `quantiles`, `min_length`, `max_length`, `avg_length`, `frequent_items`,
`non_null_columns`. Its `window` is `window_start` and `window_end` here. `num_infinite`, `cell_counts` and `items_complete` are ours.

Rows are read in one streaming pass, batch by batch; of a table whose cells are not known a sample is read first. What is compared with
what is in `drift_metrics`.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from lakehouse_assets.platform.monitoring.drift.thresholds import LEAST_ROWS
from lakehouse_assets.platform.monitoring.profiling.cells import Cells, Opaque, Texts, cells_of, kind_of
from lakehouse_assets.platform.monitoring.profiling.counting import BATCH, Blocks, Column, count
from lakehouse_assets.platform.monitoring.profiling.groups import CannotProfile, Groups, chosen_windows
from lakehouse_assets.platform.monitoring.profiling.statistics import frame_of

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
SAMPLED = 100_000
"""Rows of the sample from which cells are made, at least, if there are so many."""
STRETCHES, MOST_WINDOWS, MOST_BLOCKS = 64, 512, 2_048
"""Stretches of a baseline that are counted each by itself; windows of it; and windows times slices."""
_LEAST_WINDOWS = 24


@dataclass(frozen=True)
class Profile:
    """A profile.

    Attributes:
        frame: A row for each window, slice and column, as `SCHEMA` says.
        columns: What was counted of each column, in the order of `keys`.
        keys: The groups: `window_start`, `slice_key`, `slice_value`.
        order: The groups as they follow each other in the frame.
        groups: How the rows are grouped.
        block_keys: The blocks in the order of what is counted in them: `window_start` is the number of the block.
        blocks: The stretches or windows of a baseline that are counted each by itself; None: its rows have no time, or none is wanted.
    """

    frame: pl.DataFrame
    columns: Mapping[str, Column]
    keys: pl.DataFrame
    order: npt.NDArray[np.intp]
    groups: Groups
    block_keys: pl.DataFrame
    blocks: Blocks | None = None

    @property
    def cells(self) -> dict[str, Cells]:
        """Of each column, in which values were counted; those of texts know what is rare here."""
        return {name: _knowing(column, self.keys) for name, column in self.columns.items()}


def profile(
    rows: pl.LazyFrame,
    groups: Groups | None = None,
    cells: Mapping[str, Cells] | None = None,
    *,
    blocks: bool = False,
    every: str | None = None,
) -> Profile:
    """Profile rows.

    Args:
        rows: A table, or some of it. It is read once; if cells or blocks are not known, a sample is read first.
        groups: Windows and slices; None: all rows together.
        cells: Of the baseline that the rows will be compared with. A column that has none, or is of another kind, gets its own.
        blocks: Whether to count in blocks as well, as a baseline needs it; the groups name the column of time.
        every: The length of the windows that will be compared with this baseline; None: blocks are stretches of about as many rows each.

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
    known |= {name: Opaque() for name, dtype in schema.items() if kind_of(dtype) is Opaque}
    in_blocks = None
    if len(known) < len(schema) or (blocks and groups.time):
        sample, share = _sampled(
            rows, [*(name for name in schema if name not in known), *([groups.time] if groups.time else []), *groups.slices]
        )
        unknown = [name for name in schema if name not in known]
        with ThreadPoolExecutor(pl.thread_pool_size()) as threads:
            known |= zip(unknown, threads.map(lambda name: cells_of(sample[name]), unknown), strict=True)
        if blocks and groups.time:
            in_blocks = _blocks(sample, groups, schema, share, every)
    columns = [Column(number, name, schema[name], known[name]) for number, name in enumerate(schema)]
    keys, block_keys = count(rows, groups, columns, in_blocks)
    frame, order = frame_of(columns, keys, (None, *groups.slices), TABLE)
    frame = frame.with_columns(
        granularity=pl.lit(groups.every, pl.String),
        window_end=pl.col("window_start").dt.offset_by(groups.every) if groups.every else pl.lit(None),
    )
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in frame.columns]
    frame = frame.with_columns(missing).select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
    return Profile(frame, {column.name: column for column in columns}, keys, order, groups, block_keys, in_blocks)


def _sampled(rows: pl.LazyFrame, names: list[str]) -> tuple[pl.DataFrame, float]:
    """Some rows, evenly spread, and which share of all they are; one pass, without knowing how many there are."""
    chosen = rows.select(list(dict.fromkeys(names)))
    kept: list[tuple[pl.DataFrame, npt.NDArray[np.uint64]]] = []
    limit, start, height = 2**32, 0, 0
    for batch in chosen.collect_batches(chunk_size=BATCH, maintain_order=True, engine="streaming"):
        # Multiples of the golden ratio lie evenly, whatever repeats in the order of the rows.
        place = np.arange(start, start + batch.height, dtype=np.uint64) * np.uint64(2_654_435_769) % np.uint64(2**32)
        start += batch.height
        here = place < limit
        kept.append((batch.filter(pl.Series(here)), place[here]))
        height += kept[-1][0].height
        while height > 2 * SAMPLED:
            limit //= 2
            kept = [(part.filter(pl.Series(places < limit)), places[places < limit]) for part, places in kept]
            height = sum(part.height for part, _ in kept)
    sample = pl.concat([part for part, _ in kept]) if kept else pl.DataFrame(schema=chosen.collect_schema())
    return sample, sample.height / max(start, 1)


def _blocks(sample: pl.DataFrame, groups: Groups, schema: pl.Schema, share: float, every: str | None) -> Blocks | None:
    """The blocks of a baseline, by a sample of it."""
    moments = sample.select(groups.moment(schema)).to_series().drop_nulls()
    if every is None:
        stretches = min(STRETCHES, int(len(moments) / max(share, 1e-9) / LEAST_ROWS))
        ordered = np.sort(moments.to_physical().to_numpy())
        bounds = np.unique(ordered[np.arange(1, stretches) * len(ordered) // stretches]) if stretches > 1 else ordered[:0]
        return Blocks(bounds, np.ones(len(bounds) + 1, dtype=bool), None)
    found = moments.dt.truncate(every).rename("start").value_counts().sort("start")
    slices = sum(sample[key].n_unique() for key in groups.slices)
    most = max(_LEAST_WINDOWS, min(MOST_WINDOWS, MOST_BLOCKS // (1 + slices)))
    rows = (found["count"].to_numpy() / max(share, 1e-9)).astype(np.int64)
    return Blocks(*chosen_windows(found["start"].to_physical().to_list(), rows, most, LEAST_ROWS), every)


def _knowing(column: Column, keys: pl.DataFrame) -> Cells:
    if not isinstance(column.cells, Texts):
        return column.cells
    return replace(column.cells, rare=column.rare(np.flatnonzero(keys["slice_key"].is_null().to_numpy())))
