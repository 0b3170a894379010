"""A digest of the content of rows: equal rows have equal digests, in whatever order they come and on any number of threads.

It is stored and compared years later, so it is made of the values alone, and not of how a library hashes or stores them.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl


def content_digest(rows: pl.DataFrame, key: Sequence[str]) -> str:
    """SHA-256 of names, types and values, in hexadecimal.

    Args:
        rows: The rows; their columns may come in any order.
        key: Columns that tell the rows apart. Of rows that agree in them, the order counts.
    """
    digest = hashlib.sha256(f"{rows.height} rows".encode())
    ordered = rows.sort([_plain(rows[name]).alias(name) for name in key], maintain_order=True) if key else rows
    for name in sorted(ordered.columns):
        values = ordered[name]
        digest.update(f"\0{name}\0{values.dtype}\0".encode())
        digest.update(np.packbits(values.is_null().to_numpy()).tobytes())
        for part in _bytes(_plain(values)):
            digest.update(part)
    return digest.hexdigest()


def _plain(values: pl.Series) -> pl.Series:
    """The values as numbers or texts."""
    dtype = values.dtype
    if dtype == pl.Boolean:
        return values.cast(pl.UInt8)
    if dtype.is_temporal():
        return values.to_physical()
    if dtype in (pl.Int128, pl.Binary) or dtype.is_decimal() or isinstance(dtype, pl.Enum | pl.Categorical):
        return values.bin.encode("hex") if dtype == pl.Binary else values.cast(pl.String)
    if dtype.is_nested() or dtype == pl.Null:
        return pl.Series(values.name, [None if value is None else repr(value) for value in values.to_list()], pl.String)
    return values


def _bytes(values: pl.Series) -> list[Any]:
    """Parts that a hash takes: bytes and arrays."""
    if values.dtype == pl.String:
        texts = values.fill_null("")
        return [texts.str.len_bytes().to_numpy().astype("<u4").tobytes(), "".join(texts.to_list()).encode()]
    numbers = values.fill_null(0).to_numpy()
    if values.dtype.is_float() and (strange := np.isnan(numbers)).any():  # there are many kinds of NaN
        numbers = np.where(strange, np.nan, numbers).astype(numbers.dtype)
    return [np.ascontiguousarray(numbers.astype(numbers.dtype.newbyteorder("<"), copy=False)).data.cast("B")]
