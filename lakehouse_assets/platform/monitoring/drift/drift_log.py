"""The logs of profiles and of drift as they are read: the newest of each window, and what monitors judge of it.

How windows are profiled, compared and appended is in `profile_tables`, what is said of them in `drift_verdicts`.
"""

from typing import Final

import polars as pl

from lakehouse_assets.platform.monitoring.drift.drift_metrics import BASELINE, DRIFT_SCHEMA
from lakehouse_assets.platform.monitoring.drift.watched_rows import WINDOW_START
from lakehouse_assets.platform.monitoring.profiling.profile import SCHEMA
from lakehouse_assets.platform.monitoring.verdicts import is_ahead
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.retention import DATE
from lakehouse_assets.platform.storage.types import TIMESTAMP

_ABOUT = {
    "monitor": pl.String(),
    "table": pl.String(),
    "table_id": pl.String(),
    "table_version": pl.Int64(),
    "evaluated_at": TIMESTAMP,
    "sequence": pl.Int64(),
}
PROFILES_SCHEMA: Final = pl.Schema({**_ABOUT, **{name: dtype for name, dtype in SCHEMA.items() if name != "cell_counts"}, DATE: pl.Date()})
FOUND_SCHEMA: Final = pl.Schema({**DRIFT_SCHEMA, "rows": pl.Int64(), "avg": pl.Float64()})
"""Drift, with the rows of the window and slice and the average of the column in them."""
DRIFTS_SCHEMA: Final = pl.Schema({**_ABOUT, **FOUND_SCHEMA, DATE: pl.Date()})
GONE: Final = "its rows are gone"
"""Why a window is not tested that had rows before."""
_MATTER: Final = ("slice_key", "slice_value", "column_name")


def newest(rows: pl.DataFrame) -> pl.DataFrame:
    """Of each window the rows that were added last, without windows whose rows went by then.

    Order is that of commits. Only rows of earlier releases, which have no `sequence`, are told apart by version and clock.

    Args:
        rows: Of one monitor, of either table.
    """
    for part in ("sequence", "table_version", "evaluated_at"):
        if part in rows.columns:
            known = pl.col(part) if part == "evaluated_at" else pl.col(part).fill_null(0)
            rows = rows.filter(known == known.max().over(WINDOW_START))
    return rows


def unread(lakehouse: Lakehouse, monitor: str, every: str | None, after: int | None) -> tuple[pl.DataFrame, int | None]:
    """The newest drift of each window that was added behind a watermark, and the number of the last commit that was read.

    Args:
        lakehouse: Has the table.
        monitor: The monitor.
        every: The length of the windows.
        after: The number of the commit that was read last; None: none was. Rows of earlier releases have been read.
    """
    rows = of_monitor(lakehouse, monitor, (after or 0) + 1).filter(pl.col("sequence") > (after or 0)).collect()
    return newest(rows.filter(granularity=every)), rows["sequence"].max()  # type: ignore[return-value]


def of_windows(lakehouse: Lakehouse, monitor: str, every: str | None, windows: pl.Series) -> pl.DataFrame:
    """The newest drift of some windows, whenever it was added, and of the newest window that there is.

    Args:
        lakehouse: Has the table.
        monitor: The monitor.
        every: The length of the windows.
        windows: Their starts.
    """
    rows = of_monitor(lakehouse, monitor).filter(granularity=every)
    last = rows.filter(~is_ahead()).select(pl.col(WINDOW_START).max()).collect().to_series()
    wanted = pl.concat([one.cast(TIMESTAMP) for one in (windows, last)]).unique()
    return newest(rows.filter(pl.col(WINDOW_START).is_in(wanted.implode(), nulls_equal=True)).collect())


def is_of(windows: pl.Series) -> pl.Expr:
    """Of rows of either table, whether they are about some windows; files that have only earlier ones are not read."""
    wanted = windows.cast(TIMESTAMP)
    is_one = pl.col(WINDOW_START).is_in(wanted.unique().implode(), nulls_equal=True)
    # By a list of values no file is left out, by a bound files are.
    return is_one if wanted.has_nulls() or wanted.is_empty() else (pl.col(WINDOW_START) >= wanted.min()) & is_one


def failing(found: pl.DataFrame) -> pl.DataFrame:
    """Drift as monitors judge it: a window that agrees with the baseline came back to it, however unlike the window before it is.

    So one faulty day is one bad window, and not the day after it too.
    """
    agrees = ((pl.col("drift_type") == BASELINE) & ~pl.col("drifted")).any().over(WINDOW_START, *_MATTER)
    is_back = agrees & (pl.col("drift_type") != BASELINE) & pl.col("drifted")
    return found.with_columns(drifted=pl.when(is_back).then(pl.lit(value=False)).otherwise("drifted"))


def of_monitor(lakehouse: Lakehouse, monitor: str, since: int = 0) -> pl.LazyFrame:
    """The drift of a monitor; rows of earlier releases come first.

    Args:
        lakehouse: Has the table.
        monitor: The monitor.
        since: The number of the first commit that is wanted; 0: all. Files of earlier ones are not read.
    """
    rows = lakehouse.table(platform_tables.DRIFT).scan().filter(pl.col("monitor") == monitor)
    has_order = "sequence" in rows.collect_schema()
    if since and has_order:  # of the column itself: by an expression of it no file is left out
        rows = rows.filter(pl.col("sequence") >= since)
    return rows.with_columns(sequence=pl.col("sequence").fill_null(0) if has_order else pl.lit(0, pl.Int64))
