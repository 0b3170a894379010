"""What a reader hands over, and how it becomes a bronze frame.

The header is checked here and undeclared columns are rescued here, once for all formats. How the bytes of a format become
text belongs to the reader of that format.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import polars as pl

from lakehouse_assets.platform.ingestion.refused import RefusedFile

ROW = "_row"
RESCUED = "_rescued"
NOTE = "_note"

_BATCH = 1_000  # small: Python's part of the values stays in the processor's cache
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Records:
    """The records of one file, as text.

    Attributes:
        header: The column names of the file, in its order, each once.
        frame: One row a record in file order; one String column a header position, named "0", "1", …, and `_note`: the
            members of a JSON object (`note`) that tell what else the record held, or null.
        rows: The number of records.
    """

    header: Sequence[str]
    frame: pl.LazyFrame
    rows: int


def header_names(cells: Iterable[str | None]) -> list[str]:
    """Names the columns of a file; one without a name is called after its position: `_column_3`."""
    return [cell or f"_column_{position}" for position, cell in enumerate(cells, start=1)]


def check_header(file: str, header: Sequence[str], required: Sequence[Sequence[str]]) -> None:
    """Refuses a file whose header no variant in `required` fits, or that names a column twice.

    Args:
        file: The name of the file, for the message.
        header: The column names of the file.
        required: Header variants. The columns of at least one must all be there; no variant means that any header will do.

    Raises:
        RefusedFile: The message compares the header with the closest variant.
    """
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise RefusedFile(f"{file}: the header names {_listed(twice)} more than once. Rename the columns and land it again.")
    if not required:
        return
    closest = min(required, key=lambda variant: len(set(variant) - set(header)))
    missing = [name for name in closest if name not in header]
    if missing:
        unknown = [name for name in header if name not in closest]
        raise RefusedFile(
            f"{file}: the header lacks {_listed(missing)}; it has {_listed(unknown) or 'nothing'} instead. "
            "Land the file with these columns, or add its header to the feed."
        )


def bronze_frame(records: Records, columns: Sequence[str]) -> pl.LazyFrame:
    """Lays records out as bronze: declared columns, `_row`, `_rescued`.

    Args:
        records: The records of one file.
        columns: The declared columns. One that the file lacks is null.

    Returns:
        String columns in declared order, `_row` (Int64, 1 is the first record) and `_rescued` (String): a JSON object of
        the undeclared columns and the note of the record, null when there is neither.
    """
    position = {name: str(index) for index, name in enumerate(records.header)}
    nothing = pl.lit(None, pl.String)
    declared = [(pl.col(position[name]) if name in position else nothing).alias(name) for name in columns]
    unknown = [pl.col(index).alias(name) for name, index in position.items() if name not in columns]
    return records.frame.with_row_index(ROW, offset=1).select(*declared, pl.col(ROW).cast(pl.Int64), _rescued(unknown).alias(RESCUED))


def _rescued(unknown: Sequence[pl.Expr]) -> pl.Expr:
    members = pl.concat_str(*map(_member, unknown), NOTE, separator=",", ignore_nulls=True)
    return pl.when(members != "").then(pl.format("{{{}}}", members))


def _member(cell: pl.Expr) -> pl.Expr:
    """The cell as a member of a JSON object; null if it is empty."""
    return pl.when(cell.is_not_null()).then(pl.struct(cell).struct.json_encode().str.strip_prefix("{").str.strip_suffix("}"))


def note(members: Mapping[str, Any]) -> str:
    """Renders what a record held beside its columns as the members of a JSON object, without the braces."""
    return _JSON.encode(members)[1:-1]


def frame_of(rows: Iterator[Sequence[Any]], width: int, text: pl.DataType | type[pl.DataType]) -> pl.DataFrame:
    """Builds the frame of `Records` from rows of `width` values and a note, in batches that keep Python's share small.

    Args:
        rows: Rows in file order: `width` texts or nulls, then the note or null.
        width: The number of columns.
        text: How Python holds the texts: `pl.String`, or `pl.Binary` for bytes that are known to be UTF-8.
    """
    types = {**{str(index): text for index in range(width)}, NOTE: pl.String}
    batches = [pl.DataFrame(schema=types)]
    while batch := list(islice(rows, _BATCH)):
        columns = zip(types.items(), zip(*batch, strict=True), strict=True)
        batches.append(pl.DataFrame([pl.Series(name, values, dtype) for (name, dtype), values in columns]))
    return pl.concat(batches).cast(pl.String)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
