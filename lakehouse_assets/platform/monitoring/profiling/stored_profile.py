"""A profile as frames, and back: all that another profile is compared with, so that its rows need not be read again.

What it takes to go on counting (how many values differ, moments) is left out: the frame of the profile has what came of it. Where frames
are kept is not known here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from lakehouse_assets.platform.monitoring.profiling.cells import Cells, Numbers, Opaque, Texts
from lakehouse_assets.platform.monitoring.profiling.counting import Blocks, Column
from lakehouse_assets.platform.monitoring.profiling.groups import Groups
from lakehouse_assets.platform.monitoring.profiling.profile import Profile
from lakehouse_assets.platform.monitoring.profiling.sketches import Frequent

_COUNTS = pl.List(pl.Int64())
_COLUMNS = pl.Schema(
    {
        "edges": pl.List(pl.Float64()),
        "exact": pl.Float64(),
        "single": pl.Boolean(),
        "values": pl.List(pl.String()),
        "rare": pl.List(pl.String()),
        "counts": _COUNTS,
        "blocks": _COUNTS,
        "tails": _COUNTS,
        "tails_counts": _COUNTS,
        "coarser": pl.Int64(),
    }
)
_BLOCKS = pl.Schema({"bounds": _COUNTS, "follows": pl.List(pl.Boolean()), "every": pl.String()})


def to_frames(profile: Profile) -> dict[str, pl.DataFrame]:
    """A profile as frames, by their names."""
    columns = list(profile.columns.values())
    frequent = [one.frequent.counted().with_columns(column=pl.lit(number, pl.Int64)) for number, one in enumerate(columns)]
    blocks = profile.blocks
    of_blocks = [] if blocks is None else [(blocks.bounds.tolist(), blocks.follows.tolist(), blocks.every)]
    return {
        "frame": profile.frame,
        "types": pl.DataFrame(schema={one.name: one.dtype for one in columns}),
        "columns": pl.concat(_row(one) for one in columns),
        "frequent": pl.concat(frequent),
        "keys": profile.keys.with_columns(order=pl.Series(profile.order, dtype=pl.Int64)),
        "block_keys": profile.block_keys,
        "blocks": pl.DataFrame(of_blocks, schema=_BLOCKS, orient="row"),
    }


def from_frames(frames: Mapping[str, pl.DataFrame], groups: Groups) -> Profile:
    """The profile that frames were made of.

    Args:
        frames: As `to_frames` gives them.
        groups: Of that profile.
    """
    keys, block_keys, rows = frames["keys"], frames["block_keys"], frames["columns"]
    frequent = frames["frequent"].partition_by("column", as_dict=True, include_key=False)
    columns = {}
    for number, (name, dtype) in enumerate(frames["types"].schema.items()):
        column = columns[name] = Column(number, name, dtype, _cells(rows[number]))
        parts = {part: rows[part][number].to_numpy().copy() for part, of in _COLUMNS.items() if of == _COUNTS}
        column.counts = parts["counts"].reshape(keys.height, column.cells.size + 2)
        column.blocks = parts["blocks"].reshape(block_keys.height, column.cells.size + 2)
        column.tails.restore(rows["coarser"][number], parts["tails"], parts["tails_counts"])
        if (number,) in frequent:
            column.frequent = Frequent(frequent[number,])
    blocks = None
    for bounds, follows, every in frames["blocks"].iter_rows():
        blocks = Blocks(np.array(bounds, dtype=np.int64), np.array(follows, dtype=bool), every)
    order = keys["order"].to_numpy().astype(np.intp)
    return Profile(frames["frame"], columns, keys.drop("order"), order, groups, block_keys, blocks)


def _row(column: Column) -> pl.DataFrame:
    coarser, keys, counts = column.tails.state
    given = {"counts": column.counts.ravel(), "blocks": column.blocks.ravel(), "tails": keys, "tails_counts": counts}
    known = {name: pl.Series(name, values, dtype=pl.Int64).implode() for name, values in given.items()}
    row = pl.DataFrame([{**_cells_stored(column.cells), "coarser": coarser}], schema=_COLUMNS)
    return row.with_columns(known.values())


def _cells_stored(cells: Cells) -> dict[str, Any]:
    if isinstance(cells, Numbers):
        return {"edges": list(cells.edges), "exact": cells.exact, "single": cells.single}
    return {"values": list(cells.values), "rare": None if cells.rare is None else list(cells.rare)} if isinstance(cells, Texts) else {}


def _cells(stored: pl.DataFrame) -> Cells:
    row = stored.select("edges", "exact", "single", "values", "rare").row(0, named=True)
    if row["edges"] is not None:
        return Numbers(tuple(row["edges"]), row["exact"], row["single"])
    if row["values"] is not None:
        return Texts(tuple(row["values"]), None if row["rare"] is None else tuple(row["rare"]))
    return Opaque()
