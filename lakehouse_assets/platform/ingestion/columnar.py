"""Typed values as canonical text that loses nothing, and parquet files as records of such text.

Text formats do not come here; which columns a file has to hold is decided elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse_assets.platform.ingestion.header import Expected, check_width
from lakehouse_assets.platform.ingestion.limits import Limits
from lakehouse_assets.platform.ingestion.records import NOTE, Records
from lakehouse_assets.platform.ingestion.refused import RefusedFile, not_whole
from lakehouse_assets.platform.ingestion.scratch import Scratch
from lakehouse_assets.platform.quality.masking import without_values

_FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
_ROWS_OF_A_COPY = 50_000


def read_parquet(path: Path, expected: Expected, scratch: Scratch, limits: Limits, *, rows: int | None = None) -> Records:
    """Reads a parquet file; the frame streams from it.

    Every page is decoded once, for a damaged file shall be refused here and not fail where the frame is used.

    Args:
        path: The file.
        expected: The declared columns.
        scratch: Where a file goes whose timestamps Polars cannot read (`_with_far_times`).
        limits: The limits on the text that the file comes to and the number of columns.
        rows: How many it has, if another process found it right already: then only the footer is read.

    Raises:
        RefusedFile: A file that is no whole parquet file or too large, a header that does not fit, or a type that has no text.
    """
    try:
        scan = _scan(path, scratch)
        schema = scan.collect_schema()
    except pl.exceptions.DuplicateError as error:
        raise RefusedFile(f"{path.name}: {without_values(error)}. Rename the columns and land it again.") from error
    except _FAILURES as error:
        raise not_whole(path.name, "parquet file that can be read", error) from error
    check_width(path.name, len(schema), limits.columns)
    texts, checks = [], {}
    for position, (name, dtype) in enumerate(schema.items()):
        if dtype.is_nested() and _holds_binary(dtype):
            raise RefusedFile(
                f"{path.name}: column {name!r} holds binary inside {dtype}, which JSON cannot hold. Land the file without it."
            )
        texts.append(as_text(pl.nth(position), dtype).alias(str(position)))
        checks[name] = _checks(pl.nth(position), dtype)
    header = expected.recognised(schema.names())
    if rows is None:
        try:
            rows, size = _run(scan, chain.from_iterable(checks.values()))
        except _FAILURES as error:
            raise _unreadable(path.name, scan, checks, error) from error
        if size > limits.unpacked:
            raise RefusedFile(f"{path.name} holds {size:,} bytes of text; at most {limits.unpacked:,} are read. Land it in smaller files.")
    expected.check(path.name, header)
    return Records(header, scan.select(*texts, pl.lit(None, pl.String).alias(NOTE)), rows)


def _scan(path: Path, scratch: Scratch) -> pl.LazyFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    has_times = any(dtype == pl.Datetime("ns") or dtype.is_nested() for dtype in scan.collect_schema().dtypes())
    if not has_times:
        return scan
    try:
        physical = pq.read_metadata(path).schema
    except (OSError, ValueError, pa.ArrowException):
        return scan  # what is wrong with it is found when it is read
    if not any(physical.column(index).physical_type == "INT96" for index in range(len(physical))):
        return scan
    return _with_far_times(path, scan, scratch)


def _with_far_times(path: Path, scan: pl.LazyFrame, scratch: Scratch) -> pl.LazyFrame:
    """The rows of a file whose timestamps are INT96, as Spark and Impala write them.

    Polars reads those as nanoseconds, and gives the bound of this type, of the year 1677 or 2262, for every time beyond it. A file that has
    such times is copied with times in microseconds.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = pq.ParquetFile(path, coerce_int96_timestamp_unit="us")
    target = scratch.file("times", path.name)
    with pa.ipc.new_file(str(target), source.schema_arrow) as file:
        for batch in source.iter_batches(_ROWS_OF_A_COPY):
            file.write_batch(batch)
    copied = pl.scan_ipc(target, glob=False, hive_partitioning=False)
    first, last = (pl.lit(date(year, 1, 1)).cast(pl.Datetime("us")) for year in (1678, 2262))
    times = [pl.nth(position) for position, dtype in enumerate(copied.collect_schema().dtypes()) if dtype == pl.Datetime("us")]
    has_nested = any(dtype.is_nested() for dtype in copied.collect_schema().dtypes())
    is_far = [~time.dt.replace_time_zone(None).is_between(first, last).all() for time in times]
    if has_nested or copied.select(pl.any_horizontal(pl.lit(value=False), *is_far)).collect(engine="streaming").item():
        return copied
    return scan


def _checks(column: pl.Expr, dtype: pl.DataType) -> list[pl.Expr]:
    """The bytes of text, about, that a column comes to, null if that does not matter.

    To ask for them fails if a page of the column is damaged, or a value has no text, as a timestamp that is too far off.
    """
    if dtype.is_temporal():
        ends = [as_text(end, dtype).is_null().cast(pl.Int64) * 0 for end in (column.min(), column.max())]
        return [column.null_count() * 0, *ends]
    if dtype.is_nested():
        return [as_text(column, dtype).str.len_bytes().cast(pl.Int64).sum()]
    if dtype == pl.String:
        return [column.str.len_bytes().cast(pl.Int64).sum()]
    if dtype == pl.Binary:
        return [column.bin.size().cast(pl.Int64).sum()]
    return [column.null_count() * 0]


def _run(scan: pl.LazyFrame, checks: Iterable[pl.Expr]) -> tuple[int, int]:
    """The number of rows, and the sum of what the checks give."""
    found = scan.select(pl.len().alias("rows"), *(check.alias(str(number)) for number, check in enumerate(checks)))
    rows, *sizes = found.collect(engine="streaming").row(0)
    return int(rows), sum(size or 0 for size in sizes)


def _unreadable(file: str, scan: pl.LazyFrame, checks: Mapping[str, Sequence[pl.Expr]], error: BaseException) -> RefusedFile:
    """Finds out why a file could not be read through: it is damaged, or a column holds values that have no text."""
    for position, (name, exprs) in enumerate(checks.items()):
        try:
            _run(scan, exprs)
        except _FAILURES as failure:
            try:
                scan.select(pl.nth(position).null_count()).collect(engine="streaming")
            except _FAILURES:
                break
            reason = without_values(failure)
            return RefusedFile(f"{file}: column {name!r} holds a value that has no text ({reason}). Correct it or land text.")
    return not_whole(file, "parquet file that can be read", error)


def as_text(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Renders a typed column as String; null stays null; an extension type is what it is stored as.

    Integers `7`; floats as the shortest digits that read back to the same value, `13085.0`; decimals with their scale;
    booleans `true`; dates `2009-12-01`; timestamps `2009-12-01 07:45:00`, with as many decimals as they need, and those with a
    time zone in UTC, `+00:00` at the end; durations in ISO 8601; binary in base64; lists and structs as compact JSON, in which
    a float that is no number is null.
    """
    stored: Any = dtype
    while isinstance(stored, pl.BaseExtension):
        column, stored = column.ext.storage(), stored.ext_storage()
    match stored:
        case pl.Datetime():
            in_utc, offset = (column, "") if stored.time_zone is None else (column.dt.convert_time_zone("UTC"), "%:z")
            return in_utc.dt.to_string("%Y-%m-%d %H:%M:%S%.f" + offset)
        case pl.Time():
            return column.dt.to_string("%H:%M:%S%.f")
        case pl.Duration():
            return column.dt.to_string("iso")
        case pl.Binary():
            return column.bin.encode("base64")
        case _ if stored.is_nested():
            # Only a struct can be encoded: wrap the value under an empty name, then take '{"":' and '}' off again.
            wrapped = pl.struct(column.alias("")).struct.json_encode()
            return pl.when(column.is_not_null()).then(wrapped.str.slice(4).str.strip_suffix("}"))
        case _:
            return column.cast(pl.String)


def _holds_binary(dtype: Any) -> bool:
    match dtype:
        case pl.BaseExtension():
            return _holds_binary(dtype.ext_storage())
        case pl.List() | pl.Array():
            return _holds_binary(dtype.inner)
        case pl.Map():
            return _holds_binary(dtype.key) or _holds_binary(dtype.value)
        case pl.Struct():
            return any(_holds_binary(field.dtype) for field in dtype.fields)
        case _:
            return bool(dtype == pl.Binary)
