"""Rolling statistics that are the same to the last bit wherever a series begins.

A rolling sum of floats carries the rounding of all rows before its window, so an incremental run would differ from a full refresh. Here
values are rounded to a fixed number of decimals and added up as integers. The rows of a series are in order, one a period; `.over(...)`
takes several series at once. What a row or a value means is for the product to know.
"""

import polars as pl


def rolling_sum(value: pl.Expr, rows: int, *, decimals: int = 4) -> pl.Expr:
    """Sum of the last `rows` rows, fewer at the beginning; nulls count as nothing.

    Args:
        value: Numbers or Booleans.
        rows: Length of the window, the row itself included.
        decimals: Digits after the point that count.

    Returns:
        A float; null where the window holds no value.
    """
    return _whole(value, decimals).rolling_sum(rows, min_samples=1) / 10.0**decimals


def rolling_std(value: pl.Expr, rows: int, *, min_samples: int, decimals: int = 2) -> pl.Expr:
    """Sample standard deviation of the last `rows` rows, nulls left out.

    Args:
        value: Numbers whose squares add up to less than 2**63 when they are counted in units of the last decimal.
        rows: Length of the window, the row itself included.
        min_samples: Null where the window holds fewer values; at least 2.
        decimals: Digits after the point that count.
    """
    whole = _whole(value, decimals)
    count = whole.is_not_null().cast(pl.Int64).rolling_sum(rows, min_samples=1)
    total = whole.fill_null(0).rolling_sum(rows, min_samples=1).cast(pl.Float64)
    squares = (whole * whole).fill_null(0).rolling_sum(rows, min_samples=1).cast(pl.Float64)
    variance = (squares - total * total / count) / (count - 1)
    return pl.when(count >= min_samples).then(variance.clip(0).sqrt() / 10.0**decimals)


def _whole(value: pl.Expr, decimals: int) -> pl.Expr:
    return (value.cast(pl.Float64) * 10.0**decimals).round().cast(pl.Int64)
