"""Replaces the rows of a scope by others, in one commit that writes only what differs.

Which rows belong into the scope is determined above. Rows that are only added or merged by key are written by `table` and `merge`.
"""

from collections.abc import Sequence

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.far_times import as_python_holds
from lakehouse_assets.platform.storage import merge
from lakehouse_assets.platform.storage.commit import Commit, Counts, Written
from lakehouse_assets.platform.storage.errors import ScopeError
from lakehouse_assets.platform.storage.scopes import Scope
from lakehouse_assets.platform.storage.table import Table

_TIMES = "__times"


def replace(table: Table, frame: pl.DataFrame, scope: Scope, identity: Sequence[str], commit: Commit) -> Written:
    """Put the rows of `frame` in the place of the table's rows in `scope`.

    In the counts a row is `written` if it is new, `updated` if it changed an existing row, a duplicate if the table has it already; rows of
    the scope that `frame` lacks are `removed`.

    Args:
        table: The table.
        frame: All rows of the scope.
        scope: What is replaced. Rows outside of it stay, in their files unless they share one with a row that changed.
        identity: The columns that tell rows apart. Without any, rows are compared as wholes, and the table is rewritten if one differs.
        commit: What the write carries.

    Raises:
        ScopeError: A row of the frame lies outside the scope, or two rows have one identity.
        SchemaMismatch: Columns or types differ from the table's.
        CommitConflict: Other writers did not let this one through.
    """
    outside = scope.outside(frame)
    if outside.height:
        raise ScopeError(f"{table.name}: {outside.height} rows lie outside the scope of this write ({scope}), the first: {_first(outside)}")
    if identity:
        merge.check_key(table.name, frame, identity)
        if repeated := frame.height - frame.n_unique(list(identity)):
            raise ScopeError(f"{table.name}: {repeated} rows repeat a value of {', '.join(identity)}, which tells rows apart")

    def attempt(delta: DeltaTable) -> Counts:
        fitted = table.fit(delta, frame)
        existing = scope.filter(pl.scan_delta(delta)).collect(engine="streaming")
        if identity:
            found = merge.difference(table.name, fitted, existing.lazy(), identity)
            gone = existing.join(fitted, on=list(identity), how="anti")
            counts = Counts(found.new.height, found.changed.height, found.duplicates, gone.height)
            properties = commit.properties(delta, counts, read_before_write=True)
            # Rows may move to another partition: those are written over where they are.
            merge.write_difference(table, delta, found, identity, properties, removed=gone, before=existing)
            return counts
        new, gone = multiset_difference(fitted, existing), multiset_difference(existing, fitted)
        counts = Counts(written=new.height, duplicates=fitted.height - new.height, removed=gone.height)
        properties = commit.properties(delta, counts, read_before_write=True)
        if gone.height:
            rest = scope.outside(pl.scan_delta(delta).collect(engine="streaming"))
            table.write_rows(delta, pl.concat([rest, fitted]), properties, mode="overwrite", predicate="true")
        else:
            table.write_rows(delta, new, properties)
        return counts

    return table.write(commit, attempt)


def multiset_difference(frame: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """The rows of `frame` that `other` lacks; a row that is in both as often is in neither difference."""
    columns = frame.columns
    numbered = [rows.with_columns(pl.int_range(pl.len()).over(columns).alias(_TIMES)) for rows in (frame, other.select(columns))]
    return numbered[0].join(numbered[1], on=[*columns, _TIMES], how="anti", nulls_equal=True, maintain_order="left").drop(_TIMES)


def _first(rows: pl.DataFrame) -> str:
    return ", ".join(f"{name}={value}" for name, value in as_python_holds(rows.head(1)).row(0, named=True).items() if value is not None)
