"""Naive forecasts that a model has to beat: the last season again, and the mean of the last seasons.

They read nothing after the origin. Which of them a gate counts is not decided here.
"""

from collections.abc import Iterable, Sequence
from datetime import date

import polars as pl


def seasonal_naive(series: pl.LazyFrame, value: str, origins: Iterable[date], *, by: Sequence[str], horizons: int) -> pl.LazyFrame:
    """Each day as the same weekday of the last week before the origin; see `seasonal_window_average`."""
    return seasonal_window_average(series, value, origins, by=by, horizons=horizons, weeks=1)


def seasonal_window_average(
    series: pl.LazyFrame, value: str, origins: Iterable[date], *, by: Sequence[str], horizons: int, weeks: int = 4
) -> pl.LazyFrame:
    """Each day as the mean of the same weekday in the last weeks before the origin.

    Args:
        series: One row a day, `day`, and series, `by`, without gaps.
        value: The column that is forecast.
        origins: Last day that each forecast may see.
        by: Columns that tell the series apart.
        horizons: Days that are forecast from each origin.
        weeks: Number of weeks in the mean.

    Returns:
        `by`, `origin`, `horizon`, `day` and `value`, the forecast; null where the series does not reach back far enough.
    """
    origin, horizon = pl.col("origin"), pl.col("horizon")
    # Week 0 is the one that ends with the origin: the phase of the target day in it, then further back.
    lags = pl.LazyFrame({"week": range(weeks)}, schema={"week": pl.Int32})
    targets = (
        series.select(by)
        .unique()
        .join(pl.LazyFrame({"origin": list(origins)}, schema={"origin": pl.Date}), how="cross")
        .join(pl.LazyFrame({"horizon": range(1, horizons + 1)}, schema={"horizon": pl.Int32}), how="cross")
        .with_columns(day=origin + pl.duration(days=horizon))
    )
    keys = [*by, "origin", "horizon", "day"]
    return (
        targets.join(lags, how="cross")
        .with_columns(_then=pl.col("day") - pl.duration(days=7 * ((horizon + 6) // 7 + pl.col("week"))))
        .join(series.select(*by, pl.col("day").alias("_then"), value), on=[*by, "_then"], how="left")
        .group_by(keys)
        .agg(pl.when(pl.col(value).is_not_null().all()).then(pl.col(value).mean()))
    )
