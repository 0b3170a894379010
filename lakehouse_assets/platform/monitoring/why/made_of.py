"""The rows of an input that rows of a table were made of: the same rows of files, or those of the same keys."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from lakehouse_assets.platform.storage.lineage import LINEAGE, ORDER
from lakehouse_assets.platform.storage.predicates import in_range


@dataclass(frozen=True)
class Sides:
    """The rows of a table before and after a change."""

    before: pl.LazyFrame
    after: pl.LazyFrame

    def upstream(self, of: Callable[[pl.LazyFrame], pl.LazyFrame]) -> "Sides":
        """What each side was made of."""
        return Sides(of(self.before), of(self.after))


def of_keys(rows: pl.LazyFrame, keys: Sequence[str], below: pl.LazyFrame) -> pl.LazyFrame:
    """The rows that have keys of others."""
    wanted = below.select(keys).unique().collect(engine="streaming")
    near = rows.filter(in_range(keys[0], wanted[keys[0]]))
    return near.join(wanted.lazy(), on=list(keys), how="semi", nulls_equal=True, maintain_order="left")


def of_file_rows(rows: pl.LazyFrame, below: pl.LazyFrame) -> pl.LazyFrame:
    """The rows of a table that others were made of, by file and row.

    Where a file was read again, what it brought as before keeps the number of the first reading, under which the table has nothing any
    more: these are the rows at the same place of the file.
    """
    wanted = below.select(LINEAGE).unique().collect(engine="streaming")
    if wanted.is_empty():
        return rows.clear()
    near = rows.filter(in_range(ORDER[0], wanted[ORDER[0]]))
    same = near.join(wanted.lazy(), on=list(ORDER), how="semi", nulls_equal=True, maintain_order="left")
    known = same.select(ORDER).unique().collect(engine="streaming")
    moved = wanted.join(known, on=list(ORDER), how="anti", nulls_equal=True).select("_file", "_row")
    if moved.is_empty():
        return same
    later = rows.filter(pl.col(ORDER[0]) > wanted[ORDER[0]].min(), in_range("_file", moved["_file"]))
    there = later.join(moved.lazy(), on=["_file", "_row"], how="semi", nulls_equal=True, maintain_order="left")
    return pl.concat([same, there.join(known.lazy(), on=list(ORDER), how="anti", nulls_equal=True)])
