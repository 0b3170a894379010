"""Reads one landed file into a bronze frame.

The format is chosen, the file is unpacked and what the system cannot open is refused here; each format has its own module, and what is
read when, and where it is written, is decided elsewhere.
"""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Literal, Self
from urllib.parse import unquote

import polars as pl
from polars import selectors
from polars.io.plugins import register_io_source

from lakehouse_assets.platform.ingestion.child import Child
from lakehouse_assets.platform.ingestion.columnar import read_parquet
from lakehouse_assets.platform.ingestion.compression import ENDINGS, MAGIC, unpack
from lakehouse_assets.platform.ingestion.csv_text import read_csv
from lakehouse_assets.platform.ingestion.header import Expected
from lakehouse_assets.platform.ingestion.jsonl import read_jsonl
from lakehouse_assets.platform.ingestion.limits import DEFAULT, Limits
from lakehouse_assets.platform.ingestion.records import Records, bronze_frame
from lakehouse_assets.platform.ingestion.refused import RefusedFile, not_whole
from lakehouse_assets.platform.ingestion.scratch import Scratch
from lakehouse_assets.platform.ingestion.text import utf8_file
from lakehouse_assets.platform.ingestion.workbook import read_xlsx

__all__ = ["Format", "Limits", "Parsed", "ReadOptions", "RefusedFile", "parse"]

Format = Literal["csv", "jsonl", "parquet", "xlsx"]

_ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "jsonl",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
}
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
# How files begin that are no text, so that one with the wrong name is called by the right one.
_BEGINNINGS = {
    b"PAR1\x15": "a parquet file",
    b"PK\x03\x04": "an XLSX workbook or another zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls) or one with a password",
    b"SQLite format 3\0": "an SQLite database",
    b"%PDF-": "a PDF document",
    **{magic: f"a {compression} file" for compression, magic in MAGIC.items()},
}


@dataclass(frozen=True)
class Parsed:
    """A landed file that can be read; a context that removes what was put on disk for reading it.

    Attributes:
        frame: The declared columns as String, `_row` (Int64, 1 is the first record) and `_rescued` (String, a JSON object or
            null), in file order, one row a record. It streams, and reads the file again where it can: keep the file until the
            frame has been written. Collecting it raises RefusedFile if the file is not any more what it was.
        rows: The number of rows.
        unknown: The columns that the file has beyond the declared ones and that a bronze table could take on (`new_columns`).
            They are in `_rescued` unless the file is parsed again with them declared.
        remarks: What somebody should know who looks for the file's content: sentences.
    """

    frame: pl.LazyFrame
    rows: int
    unknown: tuple[str, ...]
    remarks: tuple[str, ...]
    _scratch: Scratch = field(repr=False, compare=False)

    def close(self) -> None:
        """Remove what was put on disk; the frame is of no use after this. Without it, that happens when nothing refers to the frame."""
        self._scratch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


@dataclass(frozen=True)
class ReadOptions:
    """How the files of a feed are written, where that is not detected.

    Attributes:
        encoding: Of a text format, a Python codec; None: what a byte order mark tells, else UTF-8.
        separator: Of CSV, one character; None: that with which the header fits.
        has_header: Whether CSV and XLSX have a header; without one the columns are those of the first header variant.
        sheets: Of XLSX: names of the sheets to read, or patterns; none: the visible ones, all of which must have the header.
    """

    encoding: str | None = None
    separator: str | None = None
    has_header: bool = True
    sheets: tuple[str, ...] = ()


def parse(
    path: Path,
    *,
    columns: Sequence[str],
    required: Sequence[Sequence[str]],
    read_options: ReadOptions | None = None,
    encoding: str | None = None,
    file_format: Format | None = None,
    landed_as: str = "",
    limits: Limits = DEFAULT,
    scratch: Path | None = None,
    child: Child | None = None,
) -> Parsed:
    """Reads one landed file into a bronze frame.

    Text comes as it is in the file, typed values as canonical text (`as_text`), and null stays null. In CSV an unquoted
    empty field is null and a quoted one is "". What does not fit the columns is in `_rescued`, a JSON object: undeclared columns under
    `_columns`, surplus fields as `_extra`, absent ones as `_missing`, formulas without a result as `_formula`, and the text of a record
    that cannot be split as `_line`.

    Args:
        path: The file. One whose name ends in `.gz` or `.zst` is unpacked first.
        columns: The columns of the bronze table; one that the file lacks is null.
        required: Header variants. The columns of at least one must all be there; no variant means that any header will do.
        read_options: How the file is written, where that is not found out.
        encoding: The same as in `read_options`.
        file_format: The format; None goes by the end of the name, before `.gz` or `.zst`.
        landed_as: The path of the file in its feed. A folder `name=value` in it is a column of all rows, unless the file has that column.
        limits: How large the file may turn out to be.
        scratch: An existing folder for what reading puts on disk; None is the system's folder for temporary files.
        child: Reads the formats whose readers a bad file can end; None: this process does.

    Raises:
        RefusedFile: The file cannot be read.
    """
    disk = Scratch(scratch)
    expected = Expected(tuple(columns), tuple(map(tuple, required)), _in_path(landed_as))
    read_options = read_options or ReadOptions(encoding)
    try:
        before = _state(path)
        _check_opens(path)
        compression = ENDINGS.get(path.suffix.lower())
        kind = file_format or _format_by_name(path)
        source = path if compression is None else unpack(path, compression, disk, limits)
        if kind in {"csv", "jsonl"}:
            _check_is_text(source, kind)
            source = utf8_file(source, read_options.encoding, disk)
        records = _read(source, kind, expected, read_options, scratch=disk, limits=limits, child=child)
        if not _is_same(path, before):
            raise _changed(path.name)  # noqa: TRY301 - the handlers below clean up
    except OSError as error:
        disk.close()
        raise _not_opened(path.name, error) from error
    except BaseException:
        disk.close()
        raise
    frame = _guarded(bronze_frame(records, expected), records.rows, path=path, kind=kind, state=before, scratch=disk)
    unknown = expected.new_columns([*records.header, *records.undeclared])
    return Parsed(frame, records.rows, unknown, tuple(records.remarks), disk)


def _in_path(path: str) -> dict[str, str | None]:
    """The columns that the folders of a path name, as Hive does."""
    pairs = (part.partition("=") for part in PurePosixPath(path).parts[:-1] if "=" in part)
    values = {unquote(name): unquote(value) for name, _, value in pairs if name}
    return {name: None if value == _HIVE_NULL else value for name, value in values.items()}


def _state(path: Path) -> tuple[int, int, int]:
    """What changes when somebody writes to a file or puts another in its place."""
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


def _check_opens(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        name = path.name.encode(errors="backslashreplace").decode()
        raise RefusedFile(f"{name}: this name, or that of its folder, is not UTF-8. Rename it.") from error
    if not path.is_file():
        raise RefusedFile(f"{path.name} is not a file. Land a file in its place.")
    if path.stat().st_size == 0:
        raise RefusedFile(f"{path.name} is empty (0 bytes). Land it again, complete.")
    with path.open("rb"):
        pass


def _not_opened(name: str, error: OSError) -> RefusedFile:
    reason = error.strerror or error
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return RefusedFile(f"{name} cannot be unpacked or converted ({reason}). Free disk space, or set TMPDIR to a folder with more.")
    return RefusedFile(f"{name} cannot be opened ({reason}). Make sure that it is there and that this process may read it.")


def _is_same(path: Path, state: tuple[int, int, int]) -> bool:
    try:
        return _state(path) == state
    except OSError:
        return False


def _changed(name: str) -> RefusedFile:
    return RefusedFile(
        f"{name} changed while it was being read. Land files complete: write under a name that ends in .tmp, then rename. Try it again."
    )


def _format_by_name(path: Path) -> Format:
    suffix = Path(path.stem).suffix if path.suffix.lower() in ENDINGS else path.suffix
    file_format = _ENDINGS.get(suffix.lower())
    if file_format is None:
        raise RefusedFile(
            f"{path.name}: no known format ends in {suffix!r} (known: {', '.join(_ENDINGS)}, each also with {' or '.join(ENDINGS)} after "
            "it). Rename the file, or set the format of the feed."
        )
    return file_format


def _read(
    path: Path, kind: Format, expected: Expected, read_options: ReadOptions, *, scratch: Scratch, limits: Limits, child: Child | None
) -> Records:
    match kind:
        case "csv":
            return read_csv(path, expected, scratch, limits, separator=read_options.separator, has_header=read_options.has_header)
        case "jsonl":
            return read_jsonl(path, expected, scratch, limits)
        case "parquet":
            return read_parquet(path, expected, scratch, limits) if child is None else child.parquet(path, expected, scratch, limits)
        case "xlsx" if child is None:
            return read_xlsx(path, expected, limits, sheets=read_options.sheets, has_header=read_options.has_header)
        case "xlsx":
            return child.xlsx(path, expected, scratch, limits, sheets=read_options.sheets, has_header=read_options.has_header)


def _check_is_text(path: Path, kind: Format) -> None:
    with path.open("rb") as file:
        beginning = file.read(max(map(len, _BEGINNINGS)))
    for magic, name in _BEGINNINGS.items():
        if beginning.startswith(magic):
            raise RefusedFile(f"{path.name} is {name} by its first bytes, not {kind}. Rename it, or set the format of the feed.")


def _guarded(frame: pl.LazyFrame, rows: int, *, path: Path, kind: Format, state: tuple[int, int, int], scratch: Scratch) -> pl.LazyFrame:
    """Lets a frame fail at its end if the file changed since it was parsed, and keeps the scratch files while the frame is used."""

    def batches(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        if scratch.is_closed:
            raise ValueError(f"{path.name} was closed: collect the frame before, or parse the file again")
        wanted = frame if with_columns is None else frame.select(selectors.by_name(*with_columns))  # by name: `*` is one
        wanted = wanted if predicate is None else wanted.filter(predicate)
        wanted = wanted if n_rows is None else wanted.head(n_rows)
        count = 0
        try:
            for batch in wanted.collect_batches(chunk_size=batch_size):
                count += batch.height
                yield batch
        except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise (not_whole(path.name, f"{kind} file", error) if _is_same(path, state) else _changed(path.name)) from error
        if not _is_same(path, state):
            raise _changed(path.name)
        if predicate is None and n_rows is None and count != rows:
            raise RefusedFile(f"{path.name} gave {count} rows after it had given {rows}")

    return register_io_source(batches, schema=frame.collect_schema(), is_pure=True)
