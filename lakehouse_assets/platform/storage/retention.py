"""Deletes the days of a table that are over. For how long days are kept is declared; when, is up to maintenance."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time
from typing import Final

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor, cursor_of
from lakehouse_assets.platform.storage.commit_log import INFO_PREFIX
from lakehouse_assets.platform.storage.table import Table

DATE: Final = "date"
"""The partition column of tables that keep something for each day."""
_DELETED_BEFORE: Final = "lakehouse.deleted-before"
# The watermark of the first day that stays, as its ordinal.
Kept = Callable[[DeltaTable], list[str]]


def delete_before(table: Table, day: date, run_id: str, by: str = DATE, kept: tuple[str, Kept] | None = None) -> int:
    """Delete all rows of the days before one, and return how many.

    Args:
        table: If it is partitioned by a column `date`, days are whole partitions; else files are written again.
        day: The first day that stays (UTC).
        run_id: Is written into the commit.
        by: Column of dates or timestamps that says of which day a row is; rows without one stay.
        kept: A column of texts, and what tells which of its values stay, however old they are.
    """

    def over(delta: DeltaTable) -> tuple[int, str]:
        values = [] if kept is None else kept[1](delta)
        first = day.isoformat() if by == DATE else f"{day.isoformat()}T00:00:00Z"
        sql = f"\"{by}\" < '{first}'"
        rows = pl.scan_delta(delta).filter(is_before(day, by))
        if kept is not None and values:
            rows = rows.filter(~pl.col(kept[0]).is_in(values))
            sql += f' AND "{kept[0]}" NOT IN ({", ".join(_quoted(value) for value in values)})'
        return int(rows.select(pl.len()).collect(engine="streaming").item()), sql

    if not over(table.delta())[0]:
        return 0
    commit = Commit(info=lambda _: {f"{INFO_PREFIX}run_id": run_id, f"{INFO_PREFIX}deleted_before": day.isoformat()})

    def attempt(delta: DeltaTable) -> Counts:
        count, sql = over(delta)
        counts, until = Counts(removed=count), cursor_of(delta, _DELETED_BEFORE)
        mark = Cursor(_DELETED_BEFORE, until, max(until or 0, day.toordinal()))
        properties = replace(commit, cursors=(mark,)).properties(delta, counts, read_before_write=True)
        delta.delete(sql, commit_properties=properties)
        return counts

    written = table.write(commit, attempt)
    return 0 if written.counts is None else written.counts.removed


def deleted_before(delta: DeltaTable) -> date | None:
    """The first day of which nothing was deleted; None: no day was."""
    first = cursor_of(delta, _DELETED_BEFORE)
    return None if first is None else date.fromordinal(first)


def is_before(day: date, by: str = DATE) -> pl.Expr:
    """Whether a row is of an earlier day, by a column of dates or, unless it is `date`, of timestamps (UTC)."""
    return pl.col(by) < (day if by == DATE else datetime.combine(day, time(), UTC))


def _quoted(value: str) -> str:
    escaped = value.replace("'", "''")
    return f"'{escaped}'"
