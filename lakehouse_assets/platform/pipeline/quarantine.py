"""What a quarantine holds: rejected rows, the marks of those that were released, and the source rows that they came from.

How rows get there is in `refresh`, how they come back in `replay`.
"""

from collections.abc import Mapping

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.quality.split import BROKEN
from lakehouse_assets.platform.storage.commit import Commit, Counts
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.lineage import ORDER as ROW
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

RELEASED = pl.Schema({"_released_at": TIMESTAMP, "_released_in": pl.Int64(), "_released_with": pl.String()})
"""Columns of every quarantine: when a row was released, by which replay, and with which changes to its source row (a JSON object)."""
SOURCE = "source"
"""Column with the row of the source table, next to the columns of the quarantine."""

RELEASED_AT, RELEASED_IN, RELEASED_WITH = RELEASED


def with_marks(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Rejected rows with the columns of a release."""
    existing = rows.collect_schema().names()
    return rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in RELEASED.items() if name not in existing)


def schema_of(rows: Mapping[str, pl.DataType]) -> dict[str, pl.DataType]:
    """The columns of the quarantine of a table whose function returns these."""
    columns = {name: dtype for name, dtype in rows.items() if name != BROKEN}
    return {**columns, BROKEN: pl.List(pl.String()), **RELEASED}


def fitted(bad: pl.DataFrame, quarantine: Table) -> pl.DataFrame:
    """Rejected rows with the columns of the quarantine, which may have some that the function does not return any more."""
    rows = with_marks(bad.lazy()).collect()
    missing = {name: dtype for name, dtype in quarantine.schema().items() if name not in rows.columns}
    return rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in missing.items())


def still_released(rows: pl.DataFrame, quarantine: Table) -> pl.DataFrame:
    """Rows that take the place of all that a quarantine holds, with the marks of those that were released from it."""
    if not quarantine.exists():
        return with_marks(rows.lazy()).collect()
    existing = with_marks(quarantine.scan())
    if not set(ROW) <= set(rows.columns) & set(existing.collect_schema()):
        return with_marks(rows.lazy()).collect()
    marks = existing.filter(pl.col(RELEASED_IN).is_not_null()).select(*ROW, *RELEASED)
    bare = rows.lazy().drop(list(RELEASED), strict=False)
    joined = bare.join(marks, on=list(ROW), how="left", maintain_order="left")
    return joined.select(with_marks(rows.lazy()).collect_schema().names()).collect()


def has_no_table(declaration: TableDeclaration, lakehouse: Lakehouse) -> bool:
    """Whether there is the quarantine and not its table, as where the folder of the table was deleted."""
    # In this order: a first run makes the table first.
    return lakehouse.table(declaration.quarantine).exists() and not lakehouse.table(declaration.name).exists()


def read_again(declaration: TableDeclaration, lakehouse: Lakehouse) -> None:
    """Let a quarantine without its table have no rows but those that were released, and say that it has seen nothing of its sources.

    Raises:
        CursorMoved: Another process writes to it.
    """
    rejected = lakehouse.table(declaration.quarantine)
    version = rejected.version()
    if not has_no_table(declaration, lakehouse):
        return
    commit = Commit(forgets=declaration.sources())

    def attempt(delta: DeltaTable) -> Counts:
        if delta.version() != version:
            raise CursorMoved(f"{rejected.name} is written by another process: run {declaration.name} again")
        rows = pl.scan_delta(delta)
        names = rows.collect_schema().names()
        released = with_marks(rows).filter(pl.col(RELEASED_IN).is_not_null()).select(names).collect()
        counts = Counts(removed=rejected.count() - released.height)
        properties = commit.properties(delta, counts, read_before_write=True)
        rejected.write_rows(delta, released, properties, mode="overwrite", predicate="true")
        return counts

    rejected.write(commit, attempt)


def unreleased(quarantine: Table) -> pl.LazyFrame:
    """The rows of a quarantine that wait to be fixed or replayed."""
    return with_marks(quarantine.scan()).filter(pl.col(RELEASED_IN).is_null())


def with_source(declaration: TableDeclaration, lakehouse: Lakehouse, *, released: bool = False) -> pl.LazyFrame:
    """The rows of a quarantine, those that were released only if asked for, with their source rows as the struct `source`.

    A row whose source row cannot be found has null there.
    """
    quarantine = lakehouse.table(declaration.quarantine)
    rows = with_marks(quarantine.scan()) if released else unreleased(quarantine)
    source = lakehouse.table(next(iter(declaration.inputs.values())))
    names = set(rows.collect_schema())
    if not declaration.kind.takes_rows or not source.exists() or not set(ROW) <= names & set(source.schema()):
        return rows.with_columns(pl.lit(None).alias(SOURCE))
    files = rows.select("_sequence").unique().collect()["_sequence"]
    source_rows = source.scan().filter(pl.col("_sequence").is_in(files.implode())).select(*ROW, pl.struct(pl.all()).alias(SOURCE))
    return rows.join(source_rows, on=list(ROW), how="left", maintain_order="left")
