"""Rolling statistics that are the same to the last bit wherever a series begins.

A rolling sum of floats carries the rounding of all rows before its window, so an incremental run would differ from a full refresh. Here
values are rounded to a fixed number of decimals and added up as integers of 128 bits, which the amounts of no company fill. The rows of a
series are in order, one a period; `.over(...)` takes several series at once. What a row or a value means is for the product to know.
"""

import math
from typing import Final

import polars as pl

LARGEST: Final = 2.0**126
"""Integers of 128 bits hold what is below it, and the sum of two."""


def rolling_sum(value: pl.Expr, rows: int, *, decimals: int = 4) -> pl.Expr:
    """Sum of the last `rows` rows, fewer at the beginning; nulls count as nothing.

    Args:
        value: Numbers or Booleans.
        rows: Length of the window, the row itself included.
        decimals: Digits after the point that count.

    Returns:
        A float; null where the window holds no value, or one with which a sum could reach 2**127: from about 10**31 on, with 4 decimals
        and a window of a year.
    """
    scaled = _scaled(value, decimals)
    total = unscaled(_whole(scaled).rolling_sum(rows, min_samples=1).cast(pl.Float64), decimals)
    return pl.when(_largest(scaled, rows) < LARGEST / rows).then(total)


def rolling_std(value: pl.Expr, rows: int, *, min_samples: int, decimals: int = 2) -> pl.Expr:
    """Sample standard deviation of the last `rows` rows, nulls left out.

    Args:
        value: Numbers.
        rows: Length of the window, the row itself included.
        min_samples: Null where the window holds fewer values; at least 2.
        decimals: Digits after the point that count.

    Returns:
        A float, right to a ten-millionth of the largest value. Null also where the squares of a window could add up to 2**127: where it
        holds an amount from about 10**16 on, with 2 decimals and a window of 28 rows.
    """
    scaled = _scaled(value, decimals)
    whole = _whole(scaled)
    count = whole.is_not_null().cast(pl.Int64).rolling_sum(rows, min_samples=1)
    total = whole.fill_null(0).rolling_sum(rows, min_samples=1).cast(pl.Float64)
    squares = (whole * whole).fill_null(0).rolling_sum(rows, min_samples=1).cast(pl.Float64)
    variance = (squares - total * total / count) / (count - 1)
    fits = _largest(scaled, rows) <= math.isqrt((2**127 - 1) // rows)
    return pl.when((count >= min_samples) & fits).then(unscaled(variance.clip(0).sqrt(), decimals))


def unscaled(value: pl.Expr, decimals: int) -> pl.Expr:
    """A float that counts the smallest decimals, in units: the float that is nearest, in a frame of any number of rows.

    Polars divides by a constant by multiplying with its inverse, unless there is one row alone; the last bit differs then.
    """
    return value / pl.when(value.is_not_null()).then(10.0**decimals)


def _scaled(value: pl.Expr, decimals: int) -> pl.Expr:
    return (value.cast(pl.Float64) * 10.0**decimals).round()


def _whole(scaled: pl.Expr) -> pl.Expr:
    """As integers. What does not fit counts as nothing: the caller leaves out what it is in."""
    return pl.when(scaled.abs() < LARGEST).then(scaled).otherwise(pl.when(scaled.is_not_null()).then(0.0)).cast(pl.Int128)


def _largest(scaled: pl.Expr, rows: int) -> pl.Expr:
    """The largest in the window; infinite if one is no number."""
    return scaled.abs().fill_nan(float("inf")).rolling_max(rows, min_samples=1)
