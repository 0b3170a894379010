"""Typed values as canonical text that loses nothing, and parquet files as records of such text.

Text formats do not come here; which columns a file has to hold is decided elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse_assets.platform.ingestion.records import NOTE, Records, check_header
from lakehouse_assets.platform.ingestion.refused import RefusedFile, not_whole
from lakehouse_assets.platform.quality.masking import without_values

_FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def read_parquet(path: Path, required: Sequence[Sequence[str]]) -> Records:
    """Reads a parquet file; the frame streams from it.

    Every page is decoded once, for a damaged file shall be refused here and not fail where the frame is used.

    Args:
        path: The file.
        required: Header variants, as for `check_header`.

    Raises:
        RefusedFile: A file that is no whole parquet file, a header that does not fit, or a type that has no text.
    """
    scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    try:
        schema = scan.collect_schema()
    except pl.exceptions.DuplicateError as error:
        raise RefusedFile(f"{path.name}: {without_values(error)}. Rename the columns and land it again.") from error
    except _FAILURES as error:
        raise not_whole(path.name, "parquet file that can be read", error) from error
    texts, checks = [], {}
    for position, (name, dtype) in enumerate(schema.items()):
        if dtype.is_nested() and _holds_binary(dtype):
            raise RefusedFile(
                f"{path.name}: column {name!r} holds binary inside {dtype}, which JSON cannot hold. Land the file without it."
            )
        texts.append(as_text(pl.nth(position), dtype).alias(str(position)))
        checks[name] = _checks(pl.nth(position), dtype)
    try:
        rows = scan.select(pl.len()).collect().item()
        _run(scan, chain.from_iterable(checks.values()))
    except _FAILURES as error:
        raise _unreadable(path.name, scan, checks, error) from error
    check_header(path.name, schema.names(), required)
    return Records(schema.names(), scan.select(*texts, pl.lit(None, pl.String).alias(NOTE)), rows)


def _checks(column: pl.Expr, dtype: pl.DataType) -> list[pl.Expr]:
    """What fails if a page of a column is damaged, or a value of it has no text, as a timestamp that is too far off."""
    if dtype.is_temporal():
        return [column.null_count(), as_text(column.min(), dtype), as_text(column.max(), dtype)]
    return [(as_text(column, dtype) if dtype.is_nested() else column).null_count()]


def _run(scan: pl.LazyFrame, checks: Iterable[pl.Expr]) -> None:
    scan.select(check.alias(str(number)) for number, check in enumerate(checks)).collect(engine="streaming")


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
