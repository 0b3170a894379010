"""Naive forecasts that a model has to beat: the last season again, and the mean of the last seasons.

They read nothing after the origin. Which of them a gate counts is not decided here.
"""

from collections.abc import Iterable, Sequence
from datetime import date

import polars as pl

from lakehouse_assets.platform.modelling.horizons import join_day, same_weekday, with_horizons


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
        by: Columns that tell the series apart, if there are several.
        horizons: Days that are forecast from each origin.
        weeks: Number of weeks in the mean.

    Returns:
        `by`, `origin`, `horizon`, `day` and `value`, the forecast; null where the series does not reach back far enough.
    """
    starts = pl.LazyFrame({"origin": list(origins)}, schema={"origin": pl.Date})
    rows = with_horizons(series.select(by).unique().join(starts, how="cross") if by else starts, horizons)
    for week in range(weeks):
        rows = join_day(rows, series, same_weekday(week), [value], by=by, prefix=f"{week}_weeks_before_")
    # A mean over columns adds up in a fixed order, so it is the same to the bit from run to run.
    mean = pl.mean_horizontal([f"{week}_weeks_before_{value}" for week in range(weeks)], ignore_nulls=False)
    return rows.select(*by, "origin", "horizon", "day", mean.alias(value))
