"""What drifted in the windows that were compared last, by column and slice, before the newest comparisons and with them, and all together.

The state up to some commit is cached, so that of a long log only what came behind it is read. Which verdicts are made of it is in
`drift_verdicts`, how the log is read in `drift_log`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.monitoring import cache
from lakehouse_assets.platform.monitoring.checkpoints import EVERY
from lakehouse_assets.platform.monitoring.drift.drift_log import failing, is_of, newest, of_monitor
from lakehouse_assets.platform.monitoring.drift.drift_metrics import BASELINE
from lakehouse_assets.platform.monitoring.drift.thresholds import DOMAIN
from lakehouse_assets.platform.monitoring.drift.watched_rows import WINDOW_START
from lakehouse_assets.platform.monitoring.profiling.groups import MOMENT
from lakehouse_assets.platform.monitoring.profiling.profile import TABLE
from lakehouse_assets.platform.monitoring.verdicts import Matter, is_ahead
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.types import TIMESTAMP

_MATTER: Final = ("slice_key", "slice_value", "column_name")
_STATE: Final = pl.Schema({**dict.fromkeys(_MATTER, pl.String()), WINDOW_START: MOMENT, "drifted": pl.Boolean()})
_NAMES: Final = (
    *_MATTER,
    WINDOW_START,
    "sequence",
    "table_version",
    "evaluated_at",
    "drift_type",
    "drifted",
    "data_type",
    "schema_change",
    "rows",
)
_CODE: Final = (__name__, "lakehouse_assets.platform.monitoring.drift.drift_log")
_IS_SAID: Final = pl.col("data_type").is_not_null() & (pl.col("schema_change").is_null() | pl.col("slice_key").is_null())
"""Of rows, whether they are about a column by itself: one that came or went did so in every slice."""
_IS_TABLE: Final = (pl.col("column_name") == TABLE) & pl.col("slice_key").is_null()
_TOGETHER: Final = pl.col("thresholds").list.eval(pl.element().filter(pl.element().struct.field("metric") == DOMAIN)).list.first()
Drifting = Mapping[Matter, datetime | None]
"""Columns of slices that drift, each with the start of the last such window."""


@dataclass(frozen=True)
class Recent:
    """Which windows of a column are its last ones.

    Attributes:
        windows: So many.
        least_rows: Windows of fewer rows do not count.
        every: The length of windows; None: any.
    """

    windows: int = 1
    least_rows: int = 0
    every: str | None = None


_NEWEST: Final = Recent()


@dataclass(frozen=True)
class State:
    """What drifts.

    Attributes:
        before: What drifted up to a commit.
        now: What does now.
        windows: The last windows of each column of a slice, by which that is so: the columns of `_STATE`.
    """

    before: Drifting
    now: Drifting
    windows: pl.DataFrame


def drifting(lakehouse: Lakehouse, monitor: str, after: int, now: datetime, recent: Recent = _NEWEST) -> State:
    """What drifted up to a commit of the log of drift, and what drifts now.

    Args:
        lakehouse: Has the table.
        monitor: The monitor.
        after: The number of the commit; 0: none was read.
        now: The moment (UTC).
        recent: A column drifts if it did in one of these.
    """
    key = cache.digest("drifting", monitor, recent, lakehouse.table(platform_tables.DRIFT).now().metadata().id, cache.source_of(*_CODE))
    frames = cache.read(lakehouse, key)
    about = {} if frames is None else frames["about"].row(0, named=True)
    found = None if frames is None else _from_cached(lakehouse, monitor, frames["state"], about, after, recent)
    if found is None:
        rows = _rows(lakehouse, monitor, 0, recent.every)
        found = _states(_STATE.to_frame(), rows, after, recent) or (_STATE.to_frame(), _STATE.to_frame(), rows)
    before, still, rows = found
    if after - about.get("sequence", 0) >= EVERY:
        last = {"sequence": after, "evaluated_at": rows.filter(pl.col("sequence") == after)["evaluated_at"].max()}
        if last["evaluated_at"] is not None:  # by it the log is known again
            cache.write(lakehouse, key, f"what drifts of {monitor}", {"state": before, "about": pl.DataFrame([last])}, now)
    return State(_drifting(before), _drifting(still), still)


def together_drifts(lakehouse: Lakehouse, monitor: str, recent: Recent, state: State) -> bool:
    """Whether all columns together drift in one of the last windows of the table, or it is not known of one that they do not.

    Args:
        lakehouse: Has the table.
        monitor: The monitor.
        recent: Which windows are the last ones.
        state: Of the columns.
    """
    starts = state.windows.filter(pl.col("slice_key").is_null())[WINDOW_START].unique().sort(descending=True, nulls_last=True)
    last = starts.head(recent.windows)
    rows = of_monitor(lakehouse, monitor, 0).filter(_IS_TABLE, is_of(last))
    if recent.every is not None:
        rows = rows.filter(granularity=recent.every)
    found = rows.select(WINDOW_START, "sequence", "table_version", "evaluated_at", "drift_type", "drifted", "thresholds").collect()
    is_well = pl.coalesce(~_TOGETHER.struct.field("exceeded"), ~pl.col("drifted")).fill_null(value=False)
    return not newest(found).filter(drift_type=BASELINE).select(is_well.all()).item()


def drift_still(lakehouse: Lakehouse, monitor: str, every: str | None, since: Drifting) -> set[Matter]:
    """Of what drifted in some windows, what does so by the newest comparison of them.

    Args:
        lakehouse: Has the table.
        monitor: The monitor.
        every: The length of the windows; None: any.
        since: What drifted, each with its window; all columns together too.
    """
    starts = pl.Series(list({*since.values()}), dtype=TIMESTAMP)
    rows = of_monitor(lakehouse, monitor).filter(is_of(starts))
    if every is not None:
        rows = rows.filter(granularity=every)
    found = newest(rows.select(*_NAMES, "thresholds").collect())
    columns = failing(found.filter(_IS_SAID)).filter("drifted")
    together = found.filter(_IS_TABLE, _TOGETHER.struct.field("exceeded"), drift_type=BASELINE).with_columns(column_name=None)
    there = pl.concat([one.select(*_MATTER, WINDOW_START) for one in (columns, together)], how="vertical_relaxed")
    return {matter for *of, start in there.iter_rows() if (matter := (of[0], of[1], of[2])) in since and since[matter] == start}


States = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]
"""The states before and now, and the rows that they were made of."""


def _from_cached(  # noqa: PLR0917 what was cached, and what is asked
    lakehouse: Lakehouse, monitor: str, state: pl.DataFrame, about: Mapping[str, Any], after: int, recent: Recent
) -> States | None:
    """By a cached state; None if it is later, of another log, or does not tell."""
    if about["sequence"] > after:
        return None
    rows = _rows(lakehouse, monitor, about["sequence"], recent.every)
    of_last = rows.filter(pl.col("sequence") == about["sequence"])["evaluated_at"].max()
    if of_last is None or of_last != about["evaluated_at"]:
        return None
    return _states(state, rows.filter(pl.col("sequence") > about["sequence"]), after, recent, rows)


def _states(state: pl.DataFrame, later: pl.DataFrame, after: int, recent: Recent, rows: pl.DataFrame | None = None) -> States | None:
    before, still = _went_on(state, later.filter(pl.col("sequence") <= after), recent), _went_on(state, later, recent)
    return None if before is None or still is None else (before, still, later if rows is None else rows)


def _went_on(state: pl.DataFrame, later: pl.DataFrame, recent: Recent = _NEWEST) -> pl.DataFrame | None:
    """The state with what came later: of each column of a slice the newest windows in which it was tested, and whether it drifted there.

    None if a window that a state is of was compared again and has nothing of it any more: then an older one counts, which nobody knows.
    """
    found = newest(later)
    counting = (
        failing(found.filter(_IS_SAID)).drop_nulls("drifted").filter(pl.col("rows").fill_null(recent.least_rows) >= recent.least_rows)
    )
    tested = counting.group_by(*_MATTER, WINDOW_START).agg(pl.col("drifted").any())
    again = state.join(found.select(WINDOW_START).unique(), on=WINDOW_START, how="semi", nulls_equal=True)
    if again.join(tested, on=[*_MATTER, WINDOW_START], how="anti", nulls_equal=True).height:
        return None
    kept = state.join(again, on=[*_MATTER, WINDOW_START], how="anti", nulls_equal=True)
    both = pl.concat([kept, tested.select(pl.col(name).cast(dtype) for name, dtype in _STATE.items())])
    last = both.sort(WINDOW_START, nulls_last=False, maintain_order=True).group_by(*_MATTER, maintain_order=True).tail(recent.windows)
    return last.select(list(_STATE))


def _rows(lakehouse: Lakehouse, monitor: str, since: int, every: str | None) -> pl.DataFrame:
    rows = of_monitor(lakehouse, monitor, since).filter(~is_ahead())
    if every is not None:
        rows = rows.filter(granularity=every)
    found: pl.DataFrame = rows.select(_NAMES).collect()
    return found


def _drifting(state: pl.DataFrame) -> Drifting:
    last = state.filter("drifted").group_by(*_MATTER, maintain_order=True).last().select(*_MATTER, WINDOW_START)
    return {(row[0], row[1], row[2]): row[3] for row in last.iter_rows()}
