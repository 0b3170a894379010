"""Rolling statistics that are the same to the last bit wherever a series begins.

A rolling sum of floats carries the rounding of all rows before its window, so an incremental run would differ from a full refresh. Here
values are rounded to a fixed number of decimals and added up as integers of 128 bits, which the amounts of no company fill. The rows of a
series are in order, one a period; `.over(...)` takes several series at once. What a row or a value means is for the product to know.
"""

import math

import polars as pl


def rolling_sum(value: pl.Expr, rows: int, *, decimals: int = 4) -> pl.Expr:
    """Sum of the last `rows` rows, fewer at the beginning; nulls count as nothing.

    Args:
        value: Numbers or Booleans. Polars refuses numbers from 2**63 on, counted in units of the last decimal.
        rows: Length of the window, the row itself included.
        decimals: Digits after the point that count.

    Returns:
        A float; null where the window holds no value.
    """
    return _whole(value, decimals).rolling_sum(rows, min_samples=1).cast(pl.Float64) / 10.0**decimals


def rolling_std(value: pl.Expr, rows: int, *, min_samples: int, decimals: int = 2) -> pl.Expr:
    """Sample standard deviation of the last `rows` rows, nulls left out.

    Args:
        value: Numbers. Polars refuses those from 2**63 on, counted in units of the last decimal.
        rows: Length of the window, the row itself included.
        min_samples: Null where the window holds fewer values; at least 2.
        decimals: Digits after the point that count.

    Returns:
        A float, right to a ten-millionth of the largest value. Null also where the squares of a window could add up to 2**127: where it
        holds an amount from about 10**16 on, with 2 decimals and a window of 28 rows.
    """
    whole = _whole(value, decimals)
    largest = whole.abs().rolling_max(rows, min_samples=1)
    count = whole.is_not_null().cast(pl.Int64).rolling_sum(rows, min_samples=1)
    total = whole.fill_null(0).rolling_sum(rows, min_samples=1).cast(pl.Float64)
    squares = (whole * whole).fill_null(0).rolling_sum(rows, min_samples=1).cast(pl.Float64)
    variance = (squares - total * total / count) / (count - 1)
    fits = largest <= pl.lit(math.isqrt((2**127 - 1) // rows), pl.Int128)
    return pl.when((count >= min_samples) & fits).then(variance.clip(0).sqrt() / 10.0**decimals)


def _whole(value: pl.Expr, decimals: int) -> pl.Expr:
    return (value.cast(pl.Float64) * 10.0**decimals).round().cast(pl.Int64).cast(pl.Int128)
