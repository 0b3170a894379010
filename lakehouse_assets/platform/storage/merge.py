"""Merging rows into a table by key: what is new comes in, what changed is updated, what the table holds already is left alone.

Which rows are which is worked out here with Polars on the touched partitions, so that an unchanged row costs no write and leaves no change row, and a
batch of new rows is a plain append. Intervals of validity are in `scd2`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from deltalake import CommitProperties, DeltaTable

from lakehouse_assets.platform.storage import predicates, types
from lakehouse_assets.platform.storage.commit import Commit, Counts, Written
from lakehouse_assets.platform.storage.errors import ScopeError
from lakehouse_assets.platform.storage.table import Table

_FOUND = "__found"


@dataclass(frozen=True)
class Difference:
    """A batch against the rows of a table: `new` and `changed` rows, and how many were `duplicates`."""

    new: pl.DataFrame
    changed: pl.DataFrame
    duplicates: int


def merge(
    table: Table,
    frame: pl.DataFrame,
    on: Sequence[str],
    commit: Commit | None = None,
    newest_by: str | None = None,
    ignore: Sequence[str] = (),
) -> Written:
    """Merge rows by key.

    Of several rows with one key the last counts, by `newest_by` if given, else by their order. A row that is older than the table's by `newest_by`, or
    that differs in nothing but columns of lineage (`_…`) and those in `ignore`, is a duplicate.

    Raises:
        ScopeError: A key is null, or the table is partitioned by a column that is not part of the key, so that a key could stand in two partitions.
        SchemaMismatch: Columns or types differ from the table's.
        CommitConflict: Other writers did not let this one through.
    """
    commit = commit or Commit()
    check_key(table.name, frame, on)

    def attempt(delta: DeltaTable) -> Counts:
        fitted = types.fit(frame, pl.scan_delta(delta).collect_schema(), table.name)
        found = difference(fitted, existing(delta, fitted, on), on, newest_by, ignore)
        counts = Counts(found.new.height, found.changed.height, found.duplicates)
        write_difference(table, delta, found, on, commit.properties(delta, counts, read_before_write=True))
        return counts

    return table.write(commit, attempt)


def check_key(name: str, frame: pl.DataFrame, on: Sequence[str]) -> None:
    """Refuse a frame that lacks a key's column or has nulls in it.

    Raises:
        ScopeError: So it is.
    """
    missing = [column for column in on if column not in frame.columns]
    if missing:
        raise ScopeError(f"{name}: the key {', '.join(on)} cannot be worked out, the frame lacks {', '.join(missing)}")
    nulls = [column for column in on if frame[column].null_count()]
    if nulls:
        raise ScopeError(f"{name}: the key has nulls in {', '.join(nulls)}; a contract keeps such rows out (nullable=False)")


def existing(delta: DeltaTable, frame: pl.DataFrame, on: Sequence[str]) -> pl.DataFrame:
    """The table's rows with the keys of `frame`, read from the partitions that these can stand in.

    Raises:
        ScopeError: The table is partitioned by a column that is not part of the key.
    """
    partitions = delta.metadata().partition_columns
    beside = sorted(set(partitions) - set(on))
    if beside:
        raise ScopeError(f"the table is partitioned by {', '.join(beside)}, which is not part of the key {', '.join(on)}")
    rows = pl.scan_delta(delta)
    if delta.version() == 0 or not frame.height:
        return pl.DataFrame(schema=rows.collect_schema())
    if partitions:
        rows = rows.filter(predicates.expression(predicates.values_of(frame, partitions)))
    return rows.join(frame.lazy().select(on).unique(), on=list(on), how="semi").collect(engine="streaming")


def difference(frame: pl.DataFrame, found: pl.DataFrame, on: Sequence[str], newest_by: str | None = None, ignore: Sequence[str] = ()) -> Difference:
    """What a batch would change. Columns that start with `_` are lineage: a row that differs in them alone did not change."""
    batch = frame.sort(newest_by, maintain_order=True) if newest_by else frame
    batch = batch.unique(on, keep="last", maintain_order=True)
    if not found.height:
        return Difference(batch, batch.clear(), frame.height - batch.height)
    values = [column for column in frame.columns if column not in (*on, *ignore) and not column.startswith("_")]
    pairs = batch.join(
        found.select(*on, *values, pl.lit(value=True).alias(_FOUND)),
        on=list(on),
        how="left",
        suffix="__old",
        maintain_order="left",
    )
    differs = pl.any_horizontal(pl.lit(value=False), *(pl.col(c).ne_missing(pl.col(f"{c}__old")) for c in values))
    if newest_by:
        differs &= pl.col(newest_by) >= pl.col(f"{newest_by}__old")
    new = pairs.filter(pl.col(_FOUND).is_null()).select(frame.columns)
    changed = pairs.filter(pl.col(_FOUND).is_not_null() & differs).select(frame.columns)
    return Difference(new, changed, frame.height - new.height - changed.height)


def write_difference(
    table: Table,
    delta: DeltaTable,
    found: Difference,
    on: Sequence[str],
    properties: CommitProperties,
    removed: pl.DataFrame | None = None,
) -> None:
    """One commit: new rows come in, changed rows are updated, rows with the keys of `removed` go."""
    if not found.changed.height and (removed is None or not removed.height):
        table.write_rows(delta, found.new, properties)
        return
    gone = "__gone"
    source = pl.concat([found.new, found.changed]).with_columns(pl.lit(value=False).alias(gone))
    if removed is not None:
        source = pl.concat([source, removed.select(source.columns[:-1]).with_columns(pl.lit(value=True).alias(gone))])
    match = " AND ".join(f"t.{predicates.identifier(c)} = s.{predicates.identifier(c)}" for c in on)
    partitions = delta.metadata().partition_columns
    if partitions:
        match += " AND " + predicates.sql(predicates.values_of(source, partitions), "t")
    columns = {predicates.identifier(c): f"s.{predicates.identifier(c)}" for c in source.columns[:-1]}
    merger = delta.merge(source.to_arrow(), match, source_alias="s", target_alias="t", streamed_exec=False, commit_properties=properties)
    merger.when_matched_delete(f"s.{gone}").when_matched_update(columns).when_not_matched_insert(
        columns, predicate=f"NOT s.{gone}"
    ).execute()
