"""Makes a stored table follow its declaration: created when it is written first, evolved where that is safe, refused where it is not.

A contract may gain a nullable column, widen a type, change a rule, a description or a tag. A new key, new partitions, a narrower type or a
column less need a full refresh, which keeps the table's id and versions. Tables that keep what they once recorded, as feature sets and
predictions do, keep the columns too: rows have null in those that their declaration did not have.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from lakehouse_assets.platform.declarations.kind import Plan
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline import contracts, quarantine
from lakehouse_assets.platform.pipeline.batch import Batch
from lakehouse_assets.platform.pipeline.marks import FUNCTION, LAYOUT, PROGRESS
from lakehouse_assets.platform.quality.contract import columns_of, schema_of
from lakehouse_assets.platform.storage.commit import Cursor
from lakehouse_assets.platform.storage.evolution import evolve, schema_changes
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.lineage import NOT_STORED
from lakehouse_assets.platform.storage.table import Table

_DIVISION = f"{PROGRESS}/division"


class FullRefreshNeeded(ValueError):
    """A declaration changed in a way that the stored table cannot follow. Nothing was written."""


def follow(declaration: TableDeclaration, lakehouse: Lakehouse) -> None:
    """Evolve a stored table to its declaration, if it exists.

    Raises:
        FullRefreshNeeded: It cannot follow, with the command.
    """
    stored = lakehouse.table(declaration.name)
    if not stored.exists():
        return
    if needed := list(needs_full_refresh(declaration, lakehouse)):
        raise FullRefreshNeeded(
            f"{declaration.name}: its declaration differs from the stored table in a way that this cannot follow: {'; '.join(needed)}. "
            f"`lakehouse run {declaration.name} --full-refresh` computes it again in place: its versions and its readers go on. Where a "
            f"column was renamed, `lakehouse run '{declaration.name}+' --full-refresh` does the same to the tables that read it"
        )
    evolve(stored, declaration.schema, declaration.description)
    rejected = lakehouse.table(declaration.quarantine)
    if rejected.exists():
        changes = schema_changes(rejected.schema(), schema_of(declaration.contract))
        evolve(rejected, {**rejected.schema(), **changes.new, **changes.wider})


def differs(declaration: TableDeclaration, lakehouse: Lakehouse) -> bool:
    """Whether a stored table has to follow its declaration: the next refresh evolves it, or says that it needs a full refresh."""
    changes = schema_changes(lakehouse.table(declaration.name).schema(), declaration.schema)
    return bool(changes.new or changes.wider) or next(needs_full_refresh(declaration, lakehouse), None) is not None


def needs_full_refresh(declaration: TableDeclaration, lakehouse: Lakehouse) -> Iterator[str]:
    """What changed in the declaration that an existing table cannot follow."""
    stored = lakehouse.table(declaration.name)
    table = stored.now()
    partitions = tuple(table.metadata().partition_columns)
    if partitions != declaration.partitions:
        yield f"it is partitioned by {_list(partitions)}, and now by {_list(declaration.partitions)}"
    elif stored.cursor(LAYOUT) not in {None, declaration.layout_number}:
        before = contracts.recorded(declaration, lakehouse)
        key = tuple(before["key"]) if before else ()
        is_key = set(key) != set(declaration.identity) and bool(before)
        yield (
            f"its key was {_list(key)}, and now is {_list(declaration.identity)}"
            if is_key
            else "its inputs, its kind, or what the kind goes by, are others"
        )
    changes = schema_changes(stored.schema(), declaration.schema)
    for name, text in changes.other.items():
        yield f"column {name} is {text}"
    for name in changes.gone if declaration.kind.rewrites else ():
        if not name.startswith("_"):
            yield f"column {name} is not declared any more"
    for name in changes.wider:
        if name in partitions:
            yield f"partition column {name} has another type"
    nullable = {info.name for info in columns_of(declaration.contract) if info.nullable}
    for name in changes.new if declaration.kind.rewrites else ():
        if name not in nullable and stored.count():
            yield f"column {name} is new and may not be null, so existing rows have no value for it"


def with_former_columns(declaration: TableDeclaration, stored: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with null in the columns that only rows of former declarations have."""
    if declaration.kind.rewrites or not stored.exists():
        return rows
    former = [name for name in schema_changes(stored.schema(), declaration.schema).gone if not name.startswith("_")]
    return rows.with_columns(pl.lit(None, dtype=stored.schema()[name]).alias(name) for name in former if name not in rows.columns)


def follow_rows(declaration: TableDeclaration, lakehouse: Lakehouse, rows: Mapping[str, pl.DataType], marks: Mapping[str, int]) -> None:
    """Create the table, with the watermarks `marks`, and its quarantine, unless they exist.

    Columns of lineage that the function returns for the first time are added.
    """
    lineage = {name: dtype for name, dtype in rows.items() if name.startswith("_") and name not in NOT_STORED}
    stored = lakehouse.table(declaration.name)
    if stored.exists():
        stored.add_columns(lineage)
    else:
        marks = {LAYOUT: declaration.layout_number, FUNCTION: declaration.function_number, **marks}
        stored.create({**declaration.schema, **lineage}, declaration.partitions, declaration.description, marks)
    rejected = lakehouse.table(declaration.quarantine)
    columns = quarantine.schema_of(rows)
    if rejected.exists():
        rejected.add_columns(columns)
    else:
        rejected.create(columns, description=f"Rows that broke a rule of {declaration.name}, each with every rule that it broke.")


# --- batches that are committed in parts


def progress(stored: Table, batch: Batch, parts: Sequence[Plan], code: str) -> int:
    """How many parts of a batch are committed; none if it was divided in another way then, since parts are known by their position.

    Args:
        stored: The table.
        batch: What is read.
        parts: Of the batch.
        code: What computes them: parts that another code committed are computed again.
    """
    expected = {f"{PROGRESS}/{name}": source.after for name, source in batch.sources.items()} | {_DIVISION: _division(parts, code)}
    same = all(stored.cursor(name) == number for name, number in expected.items())
    return (stored.cursor(PROGRESS) or 0) if same else 0


def progress_cursors(stored: Table, batch: Batch, parts: Sequence[Plan], code: str, committed: int) -> tuple[Cursor, ...]:
    """What the commit of a part says: up to which versions the batch goes, how it is divided, and how many parts are committed with it."""
    numbers = {f"{PROGRESS}/{name}": source.after for name, source in batch.sources.items()}
    numbers |= {_DIVISION: _division(parts, code), PROGRESS: committed}
    return tuple(Cursor(name, stored.cursor(name), number) for name, number in numbers.items())


def _division(parts: Sequence[Plan], code: str) -> int:
    return zlib.crc32("\n".join([code, *(repr(part.scope) for part in parts)]).encode())


def progress_names(stored: Table, batch: Batch) -> tuple[str, ...]:
    """The watermarks that the last part takes away."""
    names = [PROGRESS, _DIVISION, *(f"{PROGRESS}/{name}" for name in batch.sources)]
    return tuple(name for name in names if stored.cursor(name) is not None)


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nothing"
