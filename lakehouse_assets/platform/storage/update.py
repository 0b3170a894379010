"""Sets columns of existing rows, by key; no row is inserted or deleted.

Which rows are to be changed is decided above. Rows that may be new are merged: see `merge`.
"""

from collections.abc import Sequence

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.storage import predicates
from lakehouse_assets.platform.storage.commit import Commit, Counts, Written
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.merge import check_key
from lakehouse_assets.platform.storage.table import WRITER, Table


def update(table: Table, frame: pl.DataFrame, on: Sequence[str], commit: Commit | None = None) -> Written:
    """Give the rows with the keys of `frame` its values in its other columns; their remaining columns, and all other rows, stay.

    Args:
        table: Where the rows are.
        frame: The key and the columns to set, one row a key.
        on: The key. Its first column has to tell most rows apart: files are ruled out by it.
        commit: What the write carries.

    Raises:
        CursorMoved: The table does not have each of the rows exactly once (any more).
        ScopeError: Keys are null or cannot be compared: see `merge.check_key`.
        CommitConflict: Other writers did not let this one through.
    """
    commit = commit or Commit()
    check_key(table.name, frame, on)
    keys = frame.select(on)
    columns = {predicates.identifier(c): f"s.{predicates.identifier(c)}" for c in frame.columns if c not in on}
    match = " AND ".join(f"t.{predicates.identifier(c)} = s.{predicates.identifier(c)}" for c in on)

    def attempt(delta: DeltaTable) -> Counts:
        counts = Counts(updated=frame.height)
        properties = commit.properties(delta, counts, read_before_write=True)
        if not frame.height:
            table.write_rows(delta, pl.scan_delta(delta).limit(0).collect(), properties)
            return counts
        in_range = predicates.in_range(on[0], keys[on[0]])
        existing = pl.scan_delta(delta).filter(in_range).select(on).join(keys.lazy(), on=list(on), how="semi").collect(engine="streaming")
        if existing.height != keys.height or existing.n_unique() != keys.height:
            raise CursorMoved(f"{table.name} has {existing.height} of {keys.height} rows that were to be changed: read it again")
        within = predicates.sql(predicates.values_of(keys, on[:1]), "t")
        merger = delta.merge(
            frame.to_arrow(),
            f"{match} AND {within}",
            source_alias="s",
            target_alias="t",
            streamed_exec=False,
            writer_properties=WRITER,
            commit_properties=properties,
        )
        merger.when_matched_update(columns).execute()
        return counts

    return table.write(commit, attempt)
