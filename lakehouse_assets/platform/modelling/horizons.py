"""Rows of a direct forecast: one for each origin and each day ahead of it, with what the series had on earlier days.

Series are daily, with the column `day`. Which earlier days a forecast looks at is for the product to know.
"""

from collections.abc import Sequence

import polars as pl


def with_horizons(origins: pl.LazyFrame, horizons: int) -> pl.LazyFrame:
    """Each row with an `origin` once for every day after it: `horizon`, from 1 to `horizons`, and `day`."""
    ahead = pl.LazyFrame({"horizon": range(1, horizons + 1)}, schema={"horizon": pl.Int32})
    return origins.join(ahead, how="cross").with_columns(day=pl.col("origin") + pl.duration(days=pl.col("horizon")))


def same_weekday(weeks_before: int = 0) -> pl.Expr:
    """The weekday of `day` in the week that ends with the origin, or a number of weeks before that one."""
    return pl.col("day") - pl.duration(days=7 * ((pl.col("horizon") + 6) // 7 + weeks_before))


def join_day(
    rows: pl.LazyFrame, series: pl.LazyFrame, day: pl.Expr, columns: Sequence[str], *, by: Sequence[str], prefix: str
) -> pl.LazyFrame:
    """Add what the same series had on another day; null where it has no such day.

    Args:
        rows: Has the columns of `by`, and those that `day` reads.
        series: One row for each `by` and `day`.
        day: The day to read, worked out of `rows`.
        columns: Columns of the series to add.
        by: Columns that tell the series apart.
        prefix: Stands before the names of the added columns.
    """
    other = series.select(*by, pl.col("day").alias("_other_day"), pl.col(columns).name.prefix(prefix))
    return rows.with_columns(_other_day=day).join(other, on=[*by, "_other_day"], how="left").drop("_other_day")
