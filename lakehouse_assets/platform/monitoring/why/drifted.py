"""Why columns of a table drifted: which of them matter most, since when, and where each change came in."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations.monitors import Cause, Watched
from lakehouse_assets.platform.monitoring.drift.drift_log import newest, of_monitor
from lakehouse_assets.platform.monitoring.drift.drift_metrics import BASELINE, CONSECUTIVE
from lakehouse_assets.platform.monitoring.drift.drift_verdicts import GONE_ITEM
from lakehouse_assets.platform.monitoring.drift.importance import Importance, importances
from lakehouse_assets.platform.monitoring.verdicts import backwards
from lakehouse_assets.platform.monitoring.why.origin import column_gone
from lakehouse_assets.platform.monitoring.why.trace import NOTHING_KNOWN, Trace
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.wording import listed

FOLLOWED: Final = 3
"""So many columns are followed upstream; those that matter less are only ranked."""
NEIGHBOURS: Final = 7
"""Windows before the change that it is compared with, and windows of it that are read."""
_MOST_ITEMS: Final = 5
_REACHES: Final = (16, 256, None)
"""So many windows back the begin of a change is looked for, before all are."""
_BEGIN: Final = datetime(1, 1, 1, tzinfo=UTC)
_OF_WINDOWS: Final = (
    *("window_start", "sequence", "table_version", "evaluated_at"),
    *("column_name", "drift_type", "slice_key", "slice_value", "drifted"),
)
MOST_TIMES: Final = 1_000.0
"""What is further above its threshold counts as so many times."""


@dataclass(frozen=True)
class Drifted:
    """What drifted in a table.

    Attributes:
        watched: The monitor.
        time: The column that windows are cut by.
        bad: The failed verdicts of one evaluation, as rows of the table of verdicts.
    """

    watched: Watched
    time: str
    bad: Sequence[Mapping[str, Any]]

    def causes(self) -> list[Cause]:
        """For each column of the newest window that failed, the one that matters most first."""
        columns = [row for row in self.bad if row["column_name"] and row["window_start"] is not None]
        # What differs from the window before only may be the end of a change.
        judged = [row for row in columns if not _is_consecutive(row)] or columns
        if not judged:
            return []
        newest = max(row["window_start"] for row in judged)
        of_column: dict[str, Mapping[str, Any]] = {}
        for row in judged:
            known = of_column.get(row["column_name"])
            if row["window_start"] == newest and (known is None or (known["slice_key"] is not None, -excess(known)) > _order(row)):
                of_column[row["column_name"]] = row
        ranked = [(self._weight(row), row) for row in of_column.values()]
        ranked.sort(key=lambda one: (-one[0][0], str(one[1]["column_name"])))
        return [
            self._cause(row, weight, share, is_followed=place < FOLLOWED and weight > 0)
            for place, ((weight, share), row) in enumerate(ranked)
        ]

    def _weight(self, row: Mapping[str, Any]) -> tuple[float, float | None]:
        """How far above its threshold it is, times what champions owe to the column: all, if that is not known."""
        shares = [share for one in self._importances if (share := one.of(self.watched.monitor.of, row["column_name"])) is not None]
        share = max(shares, default=None)
        return excess(row) * (1.0 if share is None else share), share

    @cached_property
    def _importances(self) -> list[Importance]:
        watched = self.watched
        return importances(watched.catalog, watched.lakehouse, watched.registry, watched.monitor.of)

    def _cause(self, row: Mapping[str, Any], weight: float, share: float | None, *, is_followed: bool) -> Cause:
        column, start = str(row["column_name"]), row["window_start"]
        steps = self._steps(row) if is_followed else []
        text = steps[-1] if steps else f"{column} of {self.watched.monitor.of}"
        return Cause(text, column, start, weight, share, tuple(steps))

    def _steps(self, row: Mapping[str, Any]) -> list[str]:
        start, end = row["window_start"], row["window_end"]
        of, column = self.watched.lakehouse.table(self.watched.monitor.of), str(row["column_name"])
        if of.exists() and column not in of.schema():
            return [column_gone(of, column, self._version_before(row))]
        length = end - start
        since = self._begin_of(row)
        chosen = {} if not row["slice_key"] else {row["slice_key"]: row["slice_value"]}
        trace = Trace(
            self.watched.lakehouse,
            self.watched.catalog,
            self.time,
            (since, min(end, since + NEIGHBOURS * length)),
            (since - NEIGHBOURS * length, since),
            chosen,
            self._version_before(row),
        )
        gone, followed = self._gone(row, since, trace), trace.follow(of.name, column)
        # The last step is what an alert says: which files lack a value says more than that nothing is known.
        return [*followed, *gone] if followed and followed[-1].endswith(NOTHING_KNOWN) else [*gone, *followed]

    def _gone(self, row: Mapping[str, Any], since: datetime, trace: Trace) -> list[str]:
        """What vanished of the column, and which files lack it: also where it was too rare to be followed upstream."""
        items = [name.removeprefix(GONE_ITEM) for name in json.loads(row["numbers"] or "{}") if name.startswith(GONE_ITEM)]
        if not items:
            return []
        table, column, start, end = self.watched.monitor.of, str(row["column_name"]), row["window_start"], row["window_end"]
        there, steps = trace.when(table, column, items), list[str]()
        back = there.filter(pl.col("moment").is_between(start, end, closed="left"))["value"].unique().sort().to_list()
        if back:  # the window was corrected since
            steps.append(f"{column} of {table}: there are rows of {listed(back, _MOST_ITEMS)} in this window now")
        if not (gone := [item for item in items if item not in back]):
            return steps
        of_gone = there.filter(pl.col("value").is_in(gone))
        last: datetime | None = of_gone.filter(pl.col("moment") < start)["moment"].max()  # type: ignore[assignment]
        # The column may have begun to drift before, in another way.
        begun, length = (since if last is None or last < since else start), end - start
        until = "" if of_gone.filter(pl.col("moment") >= end).is_empty() else f" until {end:%Y-%m-%d}"
        steps.append(f"{column} of {table}: no row of {listed(gone, _MOST_ITEMS)} since {begun:%Y-%m-%d}{until}")
        near = replace(trace, after=(begun, min(end, begun + NEIGHBOURS * length)), before=(begun - NEIGHBOURS * length, begun))
        files = near.lacking(table, column, gone)
        return [*steps, *([files] if files else [])]

    def _begin_of(self, row: Mapping[str, Any]) -> datetime:
        """The first of the windows in a row in which the column drifted."""
        start: datetime = row["window_start"]
        table = self.watched.lakehouse.table(platform_tables.DRIFT)
        if not table.exists():
            return start
        of = [
            pl.col("column_name") == row["column_name"],
            pl.col("drift_type") == BASELINE,
            pl.col("slice_key").eq_missing(pl.lit(row["slice_key"] or None, pl.String)),
            pl.col("slice_value").eq_missing(pl.lit(row["slice_value"], pl.String)),
            pl.col("drifted").is_not_null(),
        ]
        # A window whose rows went has no row of the column.
        earlier = of_monitor(self.watched.lakehouse, self.watched.monitor.name).filter(
            pl.col("window_start") <= row["window_start"], pl.col("granularity") == row["granularity"]
        )
        length = None if row["window_end"] is None else row["window_end"] - row["window_start"]
        for reach in _REACHES:
            near = earlier
            if reach is not None and length is not None and reach * length < row["window_start"] - _BEGIN:
                near = earlier.filter(pl.col("window_start") > row["window_start"] - reach * length)
            known = newest(near.select(_OF_WINDOWS).collect()).filter(*of).sort("window_start", descending=True)
            for at, drifted in known.select("window_start", "drifted").iter_rows():
                if not drifted:
                    return start
                start = at
        return start

    def _version_before(self, row: Mapping[str, Any]) -> int | None:
        """The newest version of the table that was judged before without this column failing."""
        version = self.watched.lakehouse.table(self.watched.monitor.of).version()
        own = (pl.col("monitor") == self.watched.monitor.name) & (pl.col("table_version") < version)
        failed = (pl.col("passed") == False) & (pl.col("column_name") == row["column_name"])  # noqa: E712 it may be null
        found: int | None = None
        for rows in backwards(self.watched.lakehouse, own):
            judged = rows.group_by("table_version").agg(
                failed.fill_null(value=False).any().alias("failed"), pl.col("passed").any().alias("some")
            )
            found = judged.filter(~pl.col("failed"), pl.col("some"))["table_version"].max()  # type: ignore[assignment]
            # More may have been said of the oldest version.
            if found is not None and found > judged["table_version"].min():  # type: ignore[operator]
                break
        return found


def _is_consecutive(row: Mapping[str, Any]) -> bool:
    return bool(row["numbers"]) and json.loads(row["numbers"]).get("compared_with") == CONSECUTIVE


def _order(row: Mapping[str, Any]) -> tuple[bool, float]:
    return (row["slice_key"] is not None, -excess(row))


def excess(row: Mapping[str, Any]) -> float:
    """How many times its threshold the value is; of what has none, as a change of type, the most that counts."""
    value, threshold = row["value"], row["threshold"]
    if value is None or threshold is None:
        return MOST_TIMES
    return float(min(abs(value) / max(abs(threshold), 1e-12), MOST_TIMES))
