"""The monitor of volume: whether as many rows came to a table today as on the same weekdays before."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import polars as pl

from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.monitors import Monitor, MonitorKind, Verdict, Watched
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline import commit_statistics
from lakehouse_assets.platform.quality.monitors import WEEKS, Arrival, volume
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.wording import counted

_OF_USUAL = 10


@dataclass(frozen=True)
class Volume(MonitorKind):
    """About as many rows as on the same weekdays before: see `quality.monitors.volume` for how many that are.

    Attributes:
        time: A column of dates or timestamps: the rows of yesterday are compared, by this column (a day is one in UTC). None: the rows that
            came today, by the row accounts of the table's commits; for tables to which rows come, as those of feeds and what is written
            row for row.
    """

    time: str | None = None

    word: ClassVar[str] = "volume"

    @property
    def demands(self) -> str:
        """See `MonitorKind.demands`."""
        if self.time is None:
            return "About as many rows came today as on the same weekdays before."
        return f"About as many rows are of yesterday, by {self.time}, as of the same weekdays before."

    def problems_with(self, monitor: Monitor, declared: Mapping[str, Declaration]) -> Iterator[str]:
        """See `MonitorKind.problems_with`."""
        if self.time is not None:
            yield from monitor.problems_with_column("time", self.time, declared, (pl.Date, pl.Datetime), "dates or timestamps")
        elif monitor.of not in declared or not rows_come_to(declared[monitor.of]):
            yield (
                f"{monitor.name}: Volume() counts the rows that come, and the commits of {monitor.of} do not say how many came: name its "
                "column of dates or timestamps, as in Volume(time='day')"
            )

    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        """See `MonitorKind.evaluate`."""
        table = watched.lakehouse.table(watched.monitor.of)
        if self.time is None:
            return [usual_volume(table, watched.lakehouse, watched.now)]
        declared = watched.catalog.get(watched.monitor.of)
        return [volume_by(table, self.time, watched.now, shows=declared is None or self.time not in declared.personal)]


def rows_come_to(declaration: Declaration) -> bool:
    """Whether the commits of a table say how many rows came: not where rows are computed again."""
    if isinstance(declaration, TableDeclaration):
        return declaration.kind.takes_rows and declaration.row_for_row
    return declaration.feed_name is not None


def volume_by(table: Table, time: str, now: datetime, *, shows: bool = True) -> Verdict:
    """Whether as many rows are of yesterday as of the same weekdays before. Of a table that has no row of these weeks, it is not said.

    Days before these weeks, days to come, and a few rows long before the others are no history: a time may be wrong.

    Args:
        table: The table.
        time: The column of dates or of timestamps in UTC.
        now: The moment to judge at (UTC).
        shows: Whether a value may be shown: not where the column is personal.

    Raises:
        NoSuchTable: It does not exist.
    """
    today = datetime.combine(now.date(), datetime.min.time(), UTC)
    yesterday = today - timedelta(microseconds=1)
    day = pl.col(time).dt.date()
    over = day <= yesterday.date()  # rows may be of days to come
    rows, newest = table.scan().select(pl.len(), newest=day.filter(over).max()).collect(engine="streaming").row(0)
    if newest is None:
        which = " of a day that is over" if rows else ""
        return Verdict(None, f"Not evaluated: the table has no rows{which} yet.", metric="rows_today")
    if newest < (today - timedelta(weeks=WEEKS)).date():
        ago = f"{newest}, {counted((yesterday.date() - newest).days, 'day')} before yesterday" if shows else "long ago"
        text = f"Not evaluated: the newest {time} is {ago}. After {WEEKS} weeks without rows none are expected."
        return Verdict(None, text, {"newest": str(newest)} if shows else {}, metric="rows_today", value=0, rows=0)
    near = over & (day >= newest - timedelta(weeks=WEEKS + 1))
    counts = table.scan().filter(near).group_by(day.alias("day")).len().collect(engine="streaming")
    arrivals = [Arrival(datetime.combine(on, datetime.min.time(), UTC), rows) for on, rows in counts.iter_rows()]
    what = f"are of yesterday, {yesterday:%A} {yesterday.date()}, by {time}"
    if newest < yesterday.date():
        what += f" (the newest is {newest})" if shows else ""
    # The weekdays of a table that stands still are no usual ones: by and by nothing at all would be as usual.
    return volume(arrivals, _begins(arrivals), yesterday, what=what, until=min(newest, yesterday.date() - timedelta(days=1)))


def _begins(arrivals: Sequence[Arrival]) -> datetime:
    """When the history of a table begins that has rows of these days: a few rows with a wrong time are no history.

    It is the first day with a tenth of the rows of the day in the middle. That day may not be whole.
    """
    usual = statistics.median(arrival.rows for arrival in arrivals)
    return min(arrival.at for arrival in arrivals if arrival.rows >= usual / _OF_USUAL)


def usual_volume(table: Table, lakehouse: Lakehouse, now: datetime) -> Verdict:
    """Whether as many rows came to a table today as on the same weekdays before, from the row accounts of its commits.

    Args:
        table: The table.
        lakehouse: Has the statistics of its commits.
        now: The moment to judge at (UTC).
    """
    begin = now - timedelta(weeks=2 * WEEKS + 1)
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
    before = [arrival.at.date() for arrival in arrivals if arrival.rows and arrival.at.date() < now.date()]
    last = max(before, default=None)
    if last is not None and last < now.date() - timedelta(weeks=WEEKS) and last == max(arrival.at.date() for arrival in arrivals):
        text = f"Not evaluated: rows came last on {last}. After {WEEKS} weeks without rows none are expected."
        return Verdict(None, text, {"newest": str(last)}, metric="rows_today", value=0, rows=0)
    return volume(arrivals, since, now, why, until=last)
