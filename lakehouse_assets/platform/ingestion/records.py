"""What a reader hands over, and how it becomes a bronze frame.

Undeclared columns are rescued here, once for all formats. What a header says is in `header`; how the bytes of a format become text belongs
to the reader of that format.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import polars as pl

from lakehouse_assets.platform.ingestion.header import Expected
from lakehouse_assets.platform.ingestion.scratch import Scratch
from lakehouse_assets.platform.quality.masking import RESCUED

ROW = "_row"
NOTE = "_note"

_SPOOLED_BYTES = 32 * 1024 * 1024
_BATCH = 1_000  # small: Python's part of the values stays in the processor's cache
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Records:
    """The records of one file, as text.

    Attributes:
        header: The column names of the file, in its order, each once.
        frame: One row a record in file order; one String column a header position, named "0", "1", …, and `_note`: the
            members of a JSON object (`note`) that tell what else the record had, or null.
        rows: The number of records.
        undeclared: Column names of the file that `header` leaves out because their values are in the notes, under `_columns`.
        remarks: What somebody should know who looks for the file's content: sentences.
    """

    header: Sequence[str]
    frame: pl.LazyFrame
    rows: int
    undeclared: Sequence[str] = ()
    remarks: Sequence[str] = ()


def bronze_frame(records: Records, expected: Expected) -> pl.LazyFrame:
    """Lays records out as bronze: declared columns, `_row`, `_rescued`.

    Args:
        records: The records of one file.
        expected: The declared columns. One that the file lacks has the value that stands in the path of the file, or is null.

    Returns:
        String columns in declared order, `_row` (Int64, 1 is the first record) and `_rescued` (String): a JSON object, or null where
        everything of the record is in a column. Its members are the platform's: `_columns` (an object of the undeclared columns that have
        a value), and those of the note of the record.
    """
    position = {name: str(index) for index, name in enumerate(records.header)}
    declared = [
        (pl.col(position[name]) if name in position else pl.lit(expected.in_path.get(name), pl.String)).alias(name)
        for name in expected.columns
    ]
    unknown = [pl.col(index).alias(name) for name, index in position.items() if name not in set(expected.columns)]
    return records.frame.with_row_index(ROW, offset=1).select(*declared, pl.col(ROW).cast(pl.Int64), _rescued(unknown).alias(RESCUED))


def _rescued(unknown: Sequence[pl.Expr]) -> pl.Expr:
    if not unknown:
        return pl.when(pl.col(NOTE).is_not_null()).then(pl.format("{{{}}}", pl.col(NOTE)))
    columns = pl.concat_str(*map(_member, unknown), separator=",", ignore_nulls=True)
    members = pl.concat_str(pl.when(columns != "").then(pl.format('"_columns":{{{}}}', columns)), NOTE, separator=",", ignore_nulls=True)
    return pl.when(members != "").then(pl.format("{{{}}}", members))


def _member(cell: pl.Expr) -> pl.Expr:
    """The cell as a member of a JSON object; null if it is empty."""
    return pl.when(cell.is_not_null()).then(pl.struct(cell).struct.json_encode().str.strip_prefix("{").str.strip_suffix("}"))


def note(members: Mapping[str, Any]) -> str:
    """Renders what a record has besides its columns as the members of a JSON object, without the braces."""
    return _JSON.encode(members)[1:-1]


def frame_of(rows: Iterator[Sequence[Any]], width: int, name: str, scratch: Scratch) -> tuple[pl.LazyFrame, int]:
    """Builds the frame of `Records` from rows of `width` values and a note, in batches that keep Python's share small.

    Args:
        rows: Rows in file order: `width` texts or nulls, then the note or null.
        width: The number of columns.
        name: The name of the file.
        scratch: Where the rows go if they are many.

    Returns:
        The frame and its number of rows.
    """
    parts = _parts(rows, [*map(str, range(width)), NOTE])
    first, second = next(parts), next(parts, None)
    if second is None:
        return first.lazy(), first.height
    import pyarrow as pa

    target, count = scratch.file("split", name), 0
    with pa.ipc.new_file(str(target), first.to_arrow().schema) as file:
        for part in chain([first, second], parts):
            file.write_table(part.to_arrow())
            count += part.height
    return pl.scan_ipc(target, glob=False, hive_partitioning=False), count


def _parts(rows: Iterator[Sequence[Any]], names: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Gives the rows in frames of some `_SPOOLED_BYTES`, at least one."""
    batches, size = [pl.DataFrame(schema=dict.fromkeys(names, pl.String))], 0.0
    while batch := list(islice(rows, _BATCH)):
        columns = zip(names, zip(*batch, strict=True), strict=True)
        batches.append(pl.DataFrame([pl.Series(name, values, pl.String) for name, values in columns]))
        size += batches[-1].estimated_size()
        if size >= _SPOOLED_BYTES:
            yield pl.concat(batches)
            batches, size = batches[:1], 0.0
    yield pl.concat(batches)
