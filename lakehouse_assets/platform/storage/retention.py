"""Deletes the days of a table that are over. For how long days are kept is declared; when, is up to maintenance."""

from datetime import date
from typing import Final

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.storage.commit import Commit, Counts
from lakehouse_assets.platform.storage.commit_log import INFO_PREFIX
from lakehouse_assets.platform.storage.table import Table

DATE: Final = "date"
"""The partition column of tables that keep something for each day."""


def delete_before(table: Table, day: date, run_id: str) -> int:
    """Delete all rows of the days before one, which are whole partitions, and return how many.

    Args:
        table: With a column `date` by which it is partitioned.
        day: The first day that stays.
        run_id: Is written into the commit.
    """
    over = pl.col(DATE) < day

    def count(delta: DeltaTable) -> int:
        return int(pl.scan_delta(delta).filter(over).select(pl.len()).collect(engine="streaming").item())

    if not count(table.delta()):
        return 0
    commit = Commit(info=lambda _: {f"{INFO_PREFIX}run_id": run_id, f"{INFO_PREFIX}deleted_before": day.isoformat()})

    def attempt(delta: DeltaTable) -> Counts:
        counts = Counts(removed=count(delta))
        delta.delete(f"{DATE} < '{day.isoformat()}'", commit_properties=commit.properties(delta, counts, read_before_write=True))
        return counts

    written = table.write(commit, attempt)
    return 0 if written.counts is None else written.counts.removed
