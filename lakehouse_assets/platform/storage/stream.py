"""Appends rows that come part by part and are never all in memory, or puts them in the place of others, in one commit.

Where the parts come from is the caller's business; rows that are in memory as a whole are written by `table`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse_assets.platform.storage import data_files, predicates, types
from lakehouse_assets.platform.storage.commit import Commit, Counts, Written
from lakehouse_assets.platform.storage.predicates import ColumnValues
from lakehouse_assets.platform.storage.table import Table

# delta-rs deals batches out to the cores: only within one they keep their order.
_ROWS_OF_A_BATCH = 100_000
_BYTES_OF_A_FRAME = 40_000_000


def append_stream(
    table: Table, rows: int, parts: Callable[[], Iterable[pl.DataFrame]], commit: Commit, *, instead_of: ColumnValues | None = None
) -> Written:
    """Add rows; with `instead_of`, in the place of the rows in that scope.

    Args:
        table: Unpartitioned.
        rows: How many there will be; `parts` answers for it.
        parts: Gives the rows, from the start for each try. What it raises comes out as it is, and then nothing was committed. It may run on
            a thread of delta-rs and must not use delta-rs itself.
        commit: As for `Table.append`.
        instead_of: Values of any columns. The new rows have to lie in the scope as well.

    Raises:
        SchemaMismatch: Columns or types differ from the table's.
        CursorMoved: As `Commit.done`.
        CommitConflict: Other writers did not let this one through.
    """

    def attempt(delta: DeltaTable) -> Counts:
        existing = pl.scan_delta(delta)
        schema = existing.collect_schema()
        if instead_of is None and rows and data_files.can_append(delta):
            counts = Counts(written=rows)
            properties = commit.properties(delta, counts, read_before_write=False)
            frames = _joined(parts(), lambda part: part.estimated_size(), _BYTES_OF_A_FRAME)
            data_files.append(delta, (types.fit(frame, schema, table.name) for frame in frames), properties)
            return counts
        removed, how = 0, {"mode": "append"}
        if instead_of is not None:
            removed = int(existing.filter(predicates.expression(instead_of)).select(pl.len()).collect().item())
            how = {"mode": "overwrite", "predicate": predicates.sql(instead_of)}
        counts = Counts(written=rows, removed=removed)
        properties = commit.properties(delta, counts, read_before_write=instead_of is not None)
        write_parts(table, delta, parts, schema, properties, **how)
        return counts

    return table.write(commit, attempt)


def write_parts(
    table: Table,
    delta: DeltaTable,
    parts: Callable[[], Iterable[pl.DataFrame]],
    schema: pl.Schema,
    properties: CommitProperties,
    **how: Any,
) -> None:
    """One commit of delta-rs' own writer, of rows that come part by part; what `parts` raises comes out as it is."""
    raised: list[Exception] = []
    reader = _reader(parts, schema, table.name, raised)
    try:
        table.write_arrow(delta, reader, properties, **how)
    except DeltaError as error:
        if raised:
            raise raised[0] from error
        raise


def _joined(parts: Iterable[pl.DataFrame], size: Callable[[pl.DataFrame], int | float], at_least: int) -> Iterator[pl.DataFrame]:
    """The same rows in frames of at least this size, but for the last one."""
    waiting: list[pl.DataFrame] = []
    total: float = 0
    for part in parts:
        waiting.append(part)
        total += size(part)
        if total >= at_least:
            yield pl.concat(waiting)
            waiting, total = [], 0
    if waiting:
        yield pl.concat(waiting)


def _reader(parts: Callable[[], Iterable[pl.DataFrame]], schema: pl.Schema, name: str, raised: list[Exception]) -> pa.RecordBatchReader:
    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for part in _joined(parts(), lambda part: part.height, _ROWS_OF_A_BATCH):
                yield from types.fit(part, schema, name).rechunk().to_arrow().to_batches()
        except Exception as error:
            raised.append(error)  # delta-rs passes on its text alone
            raise

    return pa.RecordBatchReader.from_batches(pl.DataFrame(schema=schema).to_arrow().schema, batches())
