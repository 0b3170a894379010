"""Tables that remember when each value became known (bitemporal): a revised value is a new row, and the one known before stays.

So a reader can ask for the values as they were known at a moment, and a late fact is never taken for one that was known all along. A key
that its sources do not give any more is retracted: a row with its last values says from when on it is gone.
Joining such tables to labels belongs to `features`.
"""

from collections.abc import Sequence
from datetime import datetime

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.storage import types
from lakehouse_assets.platform.storage.commit import Commit, Counts, Written
from lakehouse_assets.platform.storage.merge import check_key, difference, existing, latest
from lakehouse_assets.platform.storage.scopes import Scope
from lakehouse_assets.platform.storage.table import Table

KNOWN_AT, IS_RETRACTED = "known_at", "is_retracted"


def revise(
    table: Table,
    frame: pl.DataFrame,
    on: Sequence[str],
    revised_at: datetime,
    commit: Commit | None = None,
    *,
    scope: Scope | None = None,
) -> Written:
    """Add the rows whose values are not the latest known ones of their key, and retract the keys in `scope` that the frame lacks.

    The first row of a key keeps the `known_at` that the frame gives it. A later one was not known before `revised_at` (naive: UTC), nor
    before the frame says, nor before the row that it revises. Of several rows with one key the last counts.
    The table has the columns of the frame and `is_retracted`, unless nothing is ever retracted from it.

    Raises:
        ScopeError: A key or `known_at` is null, or rows cannot be told apart as in `merge`.
        SchemaMismatch: Columns or types differ from the table's.
        CommitConflict: Other writers did not let this one through.
    """
    commit = commit or Commit()
    check_key(table.name, frame, [*on, KNOWN_AT])
    earliest = pl.lit(revised_at).cast(types.TIMESTAMP)

    def attempt(delta: DeltaTable) -> Counts:
        keeps_retractions = IS_RETRACTED in pl.scan_delta(delta).collect_schema()
        fitted = table.fit(delta, frame.with_columns(pl.lit(value=False).alias(IS_RETRACTED)) if keeps_retractions else frame)
        stored = existing(table.name, delta, fitted, on) if scope is None else scope.filter(pl.scan_delta(delta))
        known = _latest(stored, on).collect(engine="streaming")
        changes = difference(table.name, latest(fitted, on, None), known.lazy(), on, ignore=[KNOWN_AT])
        before = known.select(*on, (pl.col(KNOWN_AT) + pl.duration(microseconds=1)).alias("__after"))
        revised = changes.changed.join(before, on=list(on), maintain_order="left").with_columns(
            pl.max_horizontal(KNOWN_AT, "__after", earliest)
        )
        rows = pl.concat([changes.new, revised.select(changes.new.columns)])
        unchanged = fitted.height - rows.height
        if scope is not None and keeps_retractions:
            gone = known.filter(~pl.col(IS_RETRACTED)).join(fitted, on=list(on), how="anti", maintain_order="left")
            after = pl.max_horizontal(pl.col(KNOWN_AT) + pl.duration(microseconds=1), earliest)
            gone = gone.with_columns(after.alias(KNOWN_AT), pl.lit(value=True).alias(IS_RETRACTED))
            rows = pl.concat([rows, gone.select(rows.columns)])
        counts = Counts(written=rows.height, duplicates=unchanged)
        table.write_rows(delta, rows, commit.properties(delta, counts, read_before_write=True))
        return counts

    return table.write(commit, attempt)


def as_known(rows: pl.LazyFrame, on: Sequence[str], at: datetime | None = None) -> pl.LazyFrame:
    """Of each key the row that was the latest known at a moment (None: now), without keys that were retracted by then."""
    known = _latest(rows if at is None else rows.filter(pl.col(KNOWN_AT) <= at), on)
    return known.filter(~pl.col(IS_RETRACTED)).drop(IS_RETRACTED) if IS_RETRACTED in rows.collect_schema() else known


def without_retracted(rows: pl.LazyFrame, on: Sequence[str]) -> pl.LazyFrame:
    """All rows of the keys that are not retracted now."""
    if IS_RETRACTED not in rows.collect_schema():
        return rows
    gone = _latest(rows, on).filter(IS_RETRACTED).select(on)
    return rows.filter(~pl.col(IS_RETRACTED)).drop(IS_RETRACTED).join(gone, on=list(on), how="anti")


def _latest(rows: pl.LazyFrame, on: Sequence[str]) -> pl.LazyFrame:
    return rows.sort(KNOWN_AT).unique(list(on), keep="last", maintain_order=True)
