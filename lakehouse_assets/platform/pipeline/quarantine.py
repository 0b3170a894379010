"""What a quarantine holds: rejected rows, the marks of those that were released, and the source rows that they came from.

How rows get there is in `refresh`, how they come back in `replay`.
"""

import polars as pl

from lakehouse_assets.platform.declarations.declare import Changes, TableAsset
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

RELEASED = pl.Schema({"_released_at": TIMESTAMP, "_released_in": pl.Int64(), "_released_with": pl.String()})
"""Columns of every quarantine: when a row was released, by which replay, and with which changes to its source row (a JSON object)."""
ROW = ("_sequence", "_row")
"""What tells the rows of a feed apart: the number of the file and the row in it."""
LINEAGE = ("_file", *ROW)
SOURCE = "source"
"""Column with the row of the source table, beside the columns of the quarantine."""

RELEASED_AT, RELEASED_IN, RELEASED_WITH = RELEASED


def with_marks(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Rows of a quarantine with the columns of a release, which one that was made earlier does not have."""
    held = rows.collect_schema().names()
    return rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in RELEASED.items() if name not in held)


def still_released(rows: pl.DataFrame, quarantine: Table) -> pl.DataFrame:
    """Rows that take the place of all that a quarantine holds, with the marks of those that were released from it."""
    held = with_marks(quarantine.scan())
    if not set(ROW) <= set(rows.columns) & set(held.collect_schema()):
        return with_marks(rows.lazy()).collect()
    marks = held.filter(pl.col(RELEASED_IN).is_not_null()).select(*ROW, *RELEASED)
    return rows.lazy().join(marks, on=list(ROW), how="left", maintain_order="left").collect()


def unreleased(quarantine: Table) -> pl.LazyFrame:
    """The rows of a quarantine that wait to be mended or replayed."""
    return with_marks(quarantine.scan()).filter(pl.col(RELEASED_IN).is_null())


def with_source(asset: TableAsset, lakehouse: Lakehouse, *, released: bool = False) -> pl.LazyFrame:
    """The rows of a quarantine, those that were released only if asked for, with their source rows as the struct `source`.

    A row whose source row cannot be found has null there.
    """
    quarantine = lakehouse.table(asset.quarantine)
    rows = with_marks(quarantine.scan()) if released else unreleased(quarantine)
    changes = [lakehouse.table(read.table) for read in asset.reads.values() if isinstance(read, Changes)]
    names = set(rows.collect_schema())
    if not len(changes) == len(asset.reads) == 1 or not changes[0].exists() or not set(ROW) <= names & set(changes[0].schema()):
        return rows.with_columns(pl.lit(None).alias(SOURCE))
    files = rows.select("_sequence").unique().collect()["_sequence"]
    held = changes[0].scan().filter(pl.col("_sequence").is_in(files.implode())).select(*ROW, pl.struct(pl.all()).alias(SOURCE))
    return rows.join(held, on=list(ROW), how="left", maintain_order="left")
