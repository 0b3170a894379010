"""What a reader hands over, and how it becomes a bronze frame.

The header is checked here, and undeclared columns are rescued and offered here, once for all formats. How the bytes of a format
become text belongs to the reader of that format.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import polars as pl

from lakehouse_assets.platform.ingestion.refused import RefusedFile
from lakehouse_assets.platform.ingestion.scratch import Scratch

ROW = "_row"
RESCUED = "_rescued"
NOTE = "_note"

_LONGEST_NAME = 255
_NOT_IN_A_NAME = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, half surrogate pairs, ends of lines and paragraphs

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
        undeclared: Column names of the file that `header` leaves out because their values are in the notes.
    """

    header: Sequence[str]
    frame: pl.LazyFrame
    rows: int
    undeclared: Sequence[str] = ()


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
        rename = "more than once. Rename the columns and land it again."
        raise RefusedFile(
            f"{file}: the header names {_listed(twice)} {rename}", f"{file}: the header names {_unnamed(len(twice))} {rename}"
        )
    if not required:
        return
    closest = min(required, key=lambda variant: len(set(variant) - set(header)))
    missing = [name for name in closest if name not in header]
    if missing:
        unknown = [name for name in header if name not in closest]
        lacks, remedy = f"{file}: the header lacks {_listed(missing)}", "Land the file with these columns, or add its header to the feed."
        raise RefusedFile(
            f"{lacks}; it has {_listed(unknown) or 'nothing'} instead. {remedy}",
            f"{lacks}; it has {_unnamed(len(unknown))} instead. {remedy}",
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
    """Renders what a record has besides its columns as the members of a JSON object, without the braces."""
    return _JSON.encode(members)[1:-1]


def new_columns(records: Records, columns: Sequence[str], most: int) -> tuple[str, ...]:
    """Names the columns of a file that a bronze table could take on, in the order of the file.

    Left out are names that no column can have next to the others: blank ones, those that start with `_`, contain a control character or
    a backtick, look like a pattern to Polars (`*`, `^…$`), are longer than 255 bytes, or differ from another one only by case.

    Args:
        records: The records of the file.
        columns: The declared columns.
        most: A file with more new columns offers none.
    """
    names = [name for name in (*records.header, *records.undeclared) if name not in columns]
    spelled = Counter(name.casefold() for name in (*names, *columns))
    offered = tuple(name for name in names if spelled[name.casefold()] == 1 and can_be_a_column(name))
    return offered if len(offered) <= most else ()


def can_be_a_column(name: str) -> bool:
    """Whether a bronze table can have a column of this name, next to those that the platform adds."""
    return (
        bool(name.strip())
        and not name.startswith(("_", "*"))
        and not (name.startswith("^") and name.endswith("$"))
        and "`" not in name
        and not any(unicodedata.category(character) in _NOT_IN_A_NAME for character in name)
        and len(name.encode()) <= _LONGEST_NAME
    )


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


def _unnamed(count: int) -> str:
    return f"{count} names (not shown: the feed has personal columns, and a file without a header has values in their place)"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
