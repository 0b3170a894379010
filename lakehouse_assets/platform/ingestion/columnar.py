"""Typed values as canonical text that loses nothing, and parquet files as records of such text.

Text formats do not come here; which columns a file has to hold is decided elsewhere.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse_assets.platform.ingestion.records import NOTE, Records, check_header
from lakehouse_assets.platform.ingestion.refused import RefusedFile, not_whole


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
        rows = scan.select(pl.len()).collect().item()
        scan.null_count().collect(engine="streaming")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise not_whole(path.name, "parquet file", error) from error
    check_header(path.name, schema.names(), required)
    texts = []
    for position, (name, dtype) in enumerate(schema.items()):
        if dtype.is_nested() and _holds_binary(dtype):
            raise RefusedFile(
                f"{path.name}: column {name!r} holds binary inside {dtype}, which JSON cannot hold. Land the file without it."
            )
        texts.append(as_text(pl.nth(position), dtype).alias(str(position)))
    return Records(schema.names(), scan.select(*texts, pl.lit(None, pl.String).alias(NOTE)), rows)


def as_text(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Renders a typed column as String; null stays null.

    Integers `7`; floats as the shortest digits that read back to the same value, `13085.0`; decimals with their scale;
    booleans `true`; dates `2009-12-01`; timestamps `2009-12-01 07:45:00`, with as many decimals as they need, and those with a
    time zone in UTC, `+00:00` at the end; durations in ISO 8601; binary in base64; lists and structs as compact JSON, in which
    a float that is no number is null.
    """
    match dtype:
        case pl.Datetime():
            in_utc, offset = (column, "") if dtype.time_zone is None else (column.dt.convert_time_zone("UTC"), "%:z")
            return in_utc.dt.to_string("%Y-%m-%d %H:%M:%S%.f" + offset)
        case pl.Time():
            return column.dt.to_string("%H:%M:%S%.f")
        case pl.Duration():
            return column.dt.to_string("iso")
        case pl.Binary():
            return column.bin.encode("base64")
        case _ if dtype.is_nested():
            # Only a struct can be encoded: wrap the value under an empty name, then take '{"":' and '}' off again.
            wrapped = pl.struct(column.alias("")).struct.json_encode()
            return pl.when(column.is_not_null()).then(wrapped.str.slice(4).str.strip_suffix("}"))
        case _:
            return column.cast(pl.String)


def _holds_binary(dtype: Any) -> bool:
    match dtype:
        case pl.List() | pl.Array():
            return _holds_binary(dtype.inner)
        case pl.Struct():
            return any(_holds_binary(field.dtype) for field in dtype.fields)
        case _:
            return bool(dtype == pl.Binary)
