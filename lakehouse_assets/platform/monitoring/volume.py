"""The monitor of volume: whether as many rows came to a table today as on the same weekdays before."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

import polars as pl

from lakehouse_assets.platform.declarations.monitors import MonitorKind, Verdict, Watched
from lakehouse_assets.platform.pipeline import commit_statistics
from lakehouse_assets.platform.quality.monitors import WEEKS, Arrival, volume
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table


@dataclass(frozen=True)
class Volume(MonitorKind):
    """About as many rows came today as on the same weekdays before, by the row accounts of the table's commits."""

    word: ClassVar[str] = "volume"

    @property
    def demands(self) -> str:
        """See `MonitorKind.demands`."""
        return "About as many rows came today as on the same weekdays before."

    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        """See `MonitorKind.evaluate`."""
        return [usual_volume(watched.lakehouse.table(watched.monitor.of), watched.lakehouse, watched.now)]


def usual_volume(table: Table, lakehouse: Lakehouse, now: datetime) -> Verdict:
    """Whether as many rows came to a table today as on the same weekdays before, from the row accounts of its commits.

    Args:
        table: The table.
        lakehouse: Has the statistics of its commits.
        now: The moment to judge at (UTC).
    """
    begin = now - timedelta(weeks=WEEKS + 1)
    if not table.exists():
        return volume([], now, now)
    commits = commit_statistics.commits_since(lakehouse, table, begin)
    came = commits.rows.filter(pl.col("rows_in").is_not_null() & ~pl.col("repeated"))
    arrivals = [Arrival(at, rows) for at, rows in came.select("at", "rows_in").iter_rows()]
    since = min(commits.rows["at"], default=now)
    why = (
        ""
        if commits.missing is None
        else f"the commits of {table.name} up to version {commits.missing} are in neither its log nor the statistics"
    )
    return volume(arrivals, since, now, why)
