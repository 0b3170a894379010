"""Identities of rows that come without one: a hash of what a row says, numbered where a file says it more than once.

So a row that is in two files is one row, and a row that is twice in one file is two.
"""

import polars as pl
import xxhash

from lakehouse_assets.platform.storage.digests import shared

LINE_ID = "line_id"
_TEXTS_AT_ONCE = 5_000


def with_line_id(lines: pl.LazyFrame, *columns: str) -> pl.LazyFrame:
    """Rows of a feed with the column `line_id` (text): the hash of `columns`, numbered from the second row of a file on that has it.

    The hash is XXH3 with 128 bits: its values never change, so they can be kept in tables. A moment counts as microseconds since 1970, a
    missing value as one that no text can be.

    Args:
        lines: With `_file`, the file that a row came with.
        *columns: What a row says.
    """
    schema = lines.collect_schema()
    # To spell a moment as a date takes longer than all the rest.
    content = [pl.col(name).dt.epoch("us") if schema[name].is_temporal() else pl.col(name) for name in columns]
    texts = pl.concat_str([value.cast(pl.String).fill_null("\0") for value in content], separator="\x1f")
    hashed = lines.with_columns(texts.map_batches(_digests, return_dtype=pl.String, is_elementwise=True).alias(LINE_ID))
    return hashed.with_columns(pl.struct("_file", LINE_ID).map_batches(_numbered, return_dtype=pl.String).alias(LINE_ID))


def _digests(texts: pl.Series) -> pl.Series:
    """Their hashes, a few thousand at a time: the memory of a million short-lived objects costs more than their hashes."""
    bytes_of_rows = texts.cast(pl.Binary)
    parts = [bytes_of_rows.slice(start, _TEXTS_AT_ONCE) for start in range(0, max(texts.len(), 1), _TEXTS_AT_ONCE)]
    # XXH3: its values never change again
    return pl.concat([pl.Series(texts.name, list(map(xxhash.xxh3_128_hexdigest, part.to_list())), dtype=pl.String) for part in parts])


def _numbered(lines: pl.Series) -> pl.Series:
    """`line_id` of lines with `_file` and `line_id`. Almost all are the only ones of their kind: only the others are grouped."""
    ids = lines.struct.field(LINE_ID)
    may_repeat = shared(ids.hash())
    if may_repeat is None:
        return ids
    repeated = lines.struct.unnest().with_row_index("_at").filter(may_repeat)
    # `pl.format` panics on columns that are chunked differently, as these are.
    repeated = repeated.with_columns(_number=pl.int_range(1, pl.len() + 1).over("_file", LINE_ID)).filter(pl.col("_number") > 1)
    return ids.scatter(
        repeated["_at"], repeated.select(pl.concat_str(LINE_ID, pl.col("_number").cast(pl.String), separator="-")).to_series()
    )
