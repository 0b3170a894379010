"""Which columns of its inputs a column of a table is computed from: what Polars reads of empty inputs to give it."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import polars as pl
from polars.io.plugins import register_io_source

from lakehouse_assets.platform.declarations.tables import TableDeclaration


def columns_read(table: TableDeclaration, column: str, schemas: Mapping[str, pl.Schema]) -> dict[str, list[str]] | None:
    """By the name of each input and dimension, the columns that are read for one column of a table; None if that cannot be told.

    What rows are chosen or joined by is among them.

    Args:
        table: The table.
        column: One of its columns.
        schemas: Columns and types of all that it reads, by table.
    """
    read: dict[str, list[str]] = {}
    given = {**table.inputs, **{parameter: one.table for parameter, one in table.dimensions.items()}}
    try:
        frames = {name: _empty(schemas[source], partial(read.__setitem__, source)) for name, source in given.items()}
        table(**frames).select(column).collect()
    except Exception:  # noqa: BLE001 a function may refuse empty rows, or need more than its frames
        return None
    return read


def _empty(schema: pl.Schema, tell: Callable[[list[str]], None]) -> pl.LazyFrame:
    def rows(wanted: list[str] | None, predicate: pl.Expr | None, _rows: int | None, _batch: int | None) -> Iterator[pl.DataFrame]:
        tell(list(schema) if wanted is None else wanted)
        frame = schema.to_frame()
        chosen = frame if predicate is None else frame.filter(predicate)
        yield chosen if wanted is None else chosen.select(wanted)

    return register_io_source(rows, schema=schema)
