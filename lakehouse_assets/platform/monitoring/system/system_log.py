"""Writes runs, steps and checks into the system tables, each run once, whoever does it and however often.

A run is written when it has ended, in one commit a table; its row in `runs` comes last, so a run that stands there is whole.
Whose records are read for it is not known here.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.monitoring.system import system_tables
from lakehouse_assets.platform.monitoring.system.system_tables import SystemTable
from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor, cursor_of
from lakehouse_assets.platform.storage.errors import CursorMoved
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


def write(lakehouse: Lakehouse, recorded: Recorded, cursors: Sequence[Cursor] = ()) -> int:
    """Add the runs that are not there yet, with their steps and checks; how many these were.

    Args:
        lakehouse: Has the system tables.
        recorded: The rows.
        cursors: How far what they come from was read: the commit of the runs advances them.

    Raises:
        CursorMoved: Another process has advanced them: read again.
        CommitConflict: Other writers did not let this one through.
    """
    _append(lakehouse, system_tables.CHECKS, recorded.checks)
    _append(lakehouse, system_tables.STEPS, recorded.steps)
    return _append(lakehouse, system_tables.RUNS, recorded.runs, cursors)


def watermark(lakehouse: Lakehouse) -> Callable[[str], int | None]:
    """By the name of a cursor, how far what runs are written down from was read; None if never."""
    table = lakehouse.table(system_tables.RUNS.name)
    if not table.exists():
        return lambda _: None
    return partial(cursor_of, table.now())


def run_ids(lakehouse: Lakehouse) -> set[str]:
    """The runs that are written down."""
    table = lakehouse.table(system_tables.RUNS.name)
    return set(table.scan().select(_RUN).collect(engine="streaming")[_RUN]) if table.exists() else set()


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


def _append(lakehouse: Lakehouse, of: SystemTable, rows: list[dict[str, Any]], cursors: Sequence[Cursor] = ()) -> int:
    if not rows and not cursors:
        return 0
    table = lakehouse.table(of.name)
    table.create(of.schema, (DATE,), of.description)
    evolve(table, of.schema, of.description)
    frame = pl.DataFrame([{name: row.get(name) for name in of.schema} for row in rows], schema=of.schema)
    written = table.write(None, partial(_attempt, table, frame, cursors))
    return written.counts.written if written.counts is not None else 0


def _attempt(table: Table, frame: pl.DataFrame, cursors: Sequence[Cursor], delta: DeltaTable) -> Counts:
    """Append the rows of runs that the table has not. Refused by the protocol if another writer was faster, and then tried again."""
    if any(cursor_of(delta, cursor.source) != cursor.before for cursor in cursors):
        raise CursorMoved("another process has written runs down since: read again")
    there = pl.scan_delta(delta).filter(pl.col(DATE).is_in(frame[DATE].unique().implode())).select(_RUN).unique()
    new = frame.join(there.collect(engine="streaming"), on=_RUN, how="anti")
    counts = Counts(written=new.height)
    if new.height or cursors:
        table.write_rows(delta, new, Commit(tuple(cursors)).properties(delta, counts, read_before_write=True))
    return counts
