"""Reads one landed file into a bronze frame.

The format is chosen and what the system cannot open is refused here; each format has its own module, and what is read when,
and where it is written, is decided elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from lakehouse_assets.platform.ingestion.columnar import read_parquet
from lakehouse_assets.platform.ingestion.csv_text import read_csv
from lakehouse_assets.platform.ingestion.jsonl import read_jsonl
from lakehouse_assets.platform.ingestion.records import Records, bronze_frame
from lakehouse_assets.platform.ingestion.refused import RefusedFile
from lakehouse_assets.platform.ingestion.workbook import read_xlsx

__all__ = ["Format", "Parsed", "RefusedFile", "parse"]

Format = Literal["csv", "jsonl", "parquet", "xlsx"]

_ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
}


@dataclass(frozen=True)
class Parsed:
    """A landed file that can be read.

    Attributes:
        frame: The declared columns as String, `_row` (Int64, 1 is the first record) and `_rescued` (String, a JSON object or
            null), in file order, one row a record. It reads the file anew where it can stream from it: keep the file until
            the frame has been written.
        rows: The number of rows.
    """

    frame: pl.LazyFrame
    rows: int


def parse(
    path: Path,
    *,
    columns: Sequence[str],
    required: Sequence[Sequence[str]],
    encoding: str = "utf-8",
    file_format: Format | None = None,
) -> Parsed:
    """Reads one landed file into a bronze frame.

    Text comes as it stands in the file, typed values as canonical text (`as_text`), and null stays null. In CSV an unquoted
    empty field is null and a quoted one is "". What does not fit the columns is in `_rescued`: undeclared columns under their
    names, surplus fields as `_extra`, absent ones as `_missing`, and the text of a record that cannot be split as `_line`.

    Args:
        path: The file.
        columns: The columns of the bronze table; one that the file lacks is null.
        required: Header variants. The columns of at least one must all be there; no variant means that any header will do.
        encoding: The encoding of a text format, a Python codec.
        file_format: The format; None goes by the end of the name.

    Raises:
        RefusedFile: The file cannot be read.
        LookupError: Python knows no such encoding.
    """
    try:
        _check_opens(path)
        records = _read(path, file_format or _format_by_name(path), columns, required, encoding)
    except OSError as error:
        raise RefusedFile(
            f"{path.name} cannot be opened ({error.strerror or error}). Make sure that it is there and that this process may read it."
        ) from error
    return Parsed(bronze_frame(records, columns), records.rows)


def _check_opens(path: Path) -> None:
    if path.stat().st_size == 0:
        raise RefusedFile(f"{path.name} is empty (0 bytes). Land it again, complete.")
    if not path.is_file():
        raise RefusedFile(f"{path.name} is not a file. Land a file in its place.")
    with path.open("rb"):
        pass


def _format_by_name(path: Path) -> Format:
    file_format = _ENDINGS.get(path.suffix.lower())
    if file_format is None:
        raise RefusedFile(
            f"{path.name}: no known format ends in {path.suffix!r} (known: {', '.join(_ENDINGS)}). Rename the file, or set the "
            "format of the feed."
        )
    return file_format


def _read(path: Path, file_format: Format, columns: Sequence[str], required: Sequence[Sequence[str]], encoding: str) -> Records:
    match file_format:
        case "csv":
            return read_csv(path, required, encoding)
        case "jsonl":
            return read_jsonl(path, columns, required, encoding)
        case "parquet":
            return read_parquet(path, required)
        case "xlsx":
            return read_xlsx(path, required)
