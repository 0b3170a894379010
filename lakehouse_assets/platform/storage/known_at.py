"""Tables that remember when each value became known (bitemporal): a revised value is a new row, and the one known before stays.

So a reader can ask for the values as they were known at a moment, and a late fact is never taken for one that was known all along.
Joining such tables to labels belongs to `features`.
"""

from collections.abc import Sequence
from datetime import datetime

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.storage import types
from lakehouse_assets.platform.storage.commit import Commit, Counts, Written
from lakehouse_assets.platform.storage.merge import check_key, difference, existing, latest
from lakehouse_assets.platform.storage.table import Table

KNOWN_AT = "known_at"


def revise(table: Table, frame: pl.DataFrame, on: Sequence[str], revised_at: datetime, commit: Commit | None = None) -> Written:
    """Add the rows whose values are not the latest known ones of their key.

    The first row of a key keeps the `known_at` that the frame gives it. A later one was not known before `revised_at` (naive: UTC), nor
    before the frame says, nor before the row that it revises. Of several rows with one key the last counts.

    Raises:
        ScopeError: A key or `known_at` is null, or rows cannot be told apart as in `merge`.
        SchemaMismatch: Columns or types differ from the table's.
        CommitConflict: Other writers did not let this one through.
    """
    commit = commit or Commit()
    check_key(table.name, frame, [*on, KNOWN_AT])
    earliest = pl.lit(revised_at).cast(types.TIMESTAMP)

    def attempt(delta: DeltaTable) -> Counts:
        fitted = table.fit(delta, frame)
        known = as_known(existing(table.name, delta, fitted, on), on).collect(engine="streaming")
        changes = difference(table.name, latest(fitted, on, None), known.lazy(), on, ignore=[KNOWN_AT])
        before = known.select(*on, (pl.col(KNOWN_AT) + pl.duration(microseconds=1)).alias("__after"))
        revised = changes.changed.join(before, on=list(on), maintain_order="left").with_columns(
            pl.max_horizontal(KNOWN_AT, "__after", earliest)
        )
        rows = pl.concat([changes.new, revised.select(changes.new.columns)])
        counts = Counts(written=rows.height, duplicates=fitted.height - rows.height)
        table.write_rows(delta, rows, commit.properties(delta, counts, read_before_write=True))
        return counts

    return table.write(commit, attempt)


def as_known(rows: pl.LazyFrame, on: Sequence[str], at: datetime | None = None) -> pl.LazyFrame:
    """Of each key the row that was the latest known at a moment (None: now)."""
    known = rows if at is None else rows.filter(pl.col(KNOWN_AT) <= at)
    return known.sort(KNOWN_AT).unique(list(on), keep="last", maintain_order=True)
