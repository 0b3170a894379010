"""Writes runs, steps and checks into the system tables, each run once, whoever does it and however often.

A run is written when it has ended, in one commit a table; its row in `runs` comes last, so a run that stands there is whole.
Whose records are read for it is not known here.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from typing import Any, Final

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.monitoring.system import system_tables
from lakehouse_assets.platform.monitoring.system.system_tables import SystemTable
from lakehouse_assets.platform.storage.commit import Commit, Counts
from lakehouse_assets.platform.storage.evolution import evolve
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.retention import DATE
from lakehouse_assets.platform.storage.table import Table

_RUN: Final = "run_id"


@dataclass
class Recorded:
    """Rows of runs that have ended, by system table: dicts by column, without those that are null."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)


def write(lakehouse: Lakehouse, recorded: Recorded) -> int:
    """Add the runs that are not there yet, with their steps and checks; how many these were.

    Raises:
        CommitConflict: Other writers did not let this one through.
    """
    _append(lakehouse, system_tables.CHECKS, recorded.checks)
    _append(lakehouse, system_tables.STEPS, recorded.steps)
    return _append(lakehouse, system_tables.RUNS, recorded.runs)


def run_ids(lakehouse: Lakehouse, since: date | None = None) -> set[str]:
    """The runs that are written down, of those that ended on a day or later; None: all."""
    table = lakehouse.table(system_tables.RUNS.name)
    if not table.exists():
        return set()
    rows = table.scan() if since is None else table.scan().filter(pl.col(DATE) >= since)
    return set(rows.select(_RUN).collect(engine="streaming")[_RUN])


def last_end(lakehouse: Lakehouse) -> datetime | None:
    """When the run ended that ended last of those that are written down (UTC)."""
    table = lakehouse.table(system_tables.RUNS.name)
    if not table.exists():
        return None
    end: datetime | None = table.scan().select(pl.col("ended_at").max()).collect(engine="streaming").item()
    return end


def newest_runs(lakehouse: Lakehouse, limit: int, without: Collection[str] = ()) -> list[dict[str, Any]]:
    """The runs that were asked for last, the newest first, with the tables of their steps under `tables`.

    Args:
        lakehouse: Has the system tables.
        limit: How many.
        without: Ids of runs that are left out.
    """
    table, steps = lakehouse.table(system_tables.RUNS.name), lakehouse.table(system_tables.STEPS.name)
    if not table.exists():
        return []
    others = table.scan().filter(~pl.col(_RUN).is_in(list(without)))
    runs = others.sort("requested_at", descending=True).head(limit).collect(engine="streaming")
    tables: dict[str, list[str]] = {}
    if runs.height and steps.exists():
        own = steps.scan().filter(pl.col(DATE).is_in(runs[DATE].unique().implode()) & pl.col(_RUN).is_in(runs[_RUN].implode()))
        for run_id, name in own.select(_RUN, "table").sort("table").collect(engine="streaming").iter_rows():
            tables.setdefault(run_id, []).append(name)
    return [row | {"tables": tuple(tables.get(row[_RUN], ()))} for row in runs.iter_rows(named=True)]


def _append(lakehouse: Lakehouse, of: SystemTable, rows: list[dict[str, Any]]) -> int:
    if not rows:
        return 0
    table = lakehouse.table(of.name)
    table.create(of.schema, (DATE,), of.description)
    evolve(table, of.schema, of.description)
    frame = pl.DataFrame([{name: row.get(name) for name in of.schema} for row in rows], schema=of.schema)
    written = table.write(None, partial(_attempt, table, frame))
    return written.counts.written if written.counts is not None else 0


def _attempt(table: Table, frame: pl.DataFrame, delta: DeltaTable) -> Counts:
    """Append the rows of runs that the table has not. Refused by the protocol if another writer was faster, and then tried again."""
    there = pl.scan_delta(delta).filter(pl.col(DATE).is_in(frame[DATE].unique().implode())).select(_RUN).unique()
    new = frame.join(there.collect(engine="streaming"), on=_RUN, how="anti")
    counts = Counts(written=new.height)
    if new.height:
        table.write_rows(delta, new, Commit().properties(delta, counts, read_before_write=True))
    return counts
