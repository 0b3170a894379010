"""Merging rows into a table by key: what is new comes in, what changed is updated, what the table holds already is left alone.

Which rows are which is worked out here with Polars on the touched partitions, so that an unchanged row costs no write and leaves no change
row, and a batch of new rows is a plain append. Intervals of validity are in `scd2`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from deltalake import CommitProperties, DeltaTable

from lakehouse_assets.platform.storage import predicates
from lakehouse_assets.platform.storage.commit import Commit, Counts, Written
from lakehouse_assets.platform.storage.errors import ScopeError
from lakehouse_assets.platform.storage.table import WRITER, Table

_HELD = "__held"
_GONE = "__gone"
# The order in which rows of a feed came: the number of the file, and the row in it.
_LINEAGE = ("_sequence", "_row")
# For so many rows it pays to look at the keys of the table first: mostly there are none of them, and the other columns need not be read.
_MANY_ROWS = 50_000


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
    *,
    newest_by: str | None = None,
    ignore: Sequence[str] = (),
    whole: pl.Expr | None = None,
) -> Written:
    """Merge rows by key.

    Of several rows with one key the last counts, by `newest_by` if given (null is the oldest), else by their order. A row that is older
    than the table's by `newest_by`, or that differs in nothing but columns of lineage (`_…`) and those in `ignore`, is a duplicate: the
    table keeps its row as it is, with the `newest_by` at which it last changed.

    `whole` names rows of the table, by a condition on its columns, of which `frame` is the whole: those that it lacks are removed, and
    those that it has count whatever the table holds.

    Raises:
        ScopeError: Rows cannot be told apart: see `check_key`, `existing` and `difference`.
        SchemaMismatch: Columns or types differ from the table's.
        CommitConflict: Other writers did not let this one through.
    """
    commit = commit or Commit()
    check_key(table.name, frame, on)
    if newest_by is not None and newest_by not in frame.columns:
        raise ScopeError(f"{table.name}: which of two rows is newer cannot be worked out, the frame lacks {newest_by}")

    def attempt(delta: DeltaTable) -> Counts:
        fitted = table.fit(delta, frame)
        if whole is not None:
            fitted = latest(fitted, on, newest_by)
        held = existing(table.name, delta, fitted, on)
        found = difference(table.name, fitted, held, on, newest_by=newest_by if whole is None else None, ignore=ignore)
        gone = _gone(delta, fitted, on, whole)
        duplicates = frame.height - found.new.height - found.changed.height
        counts = Counts(found.new.height, found.changed.height, duplicates, gone.height)
        properties = commit.properties(delta, counts, read_before_write=True)
        write_difference(table, delta, found, on, properties, removed=gone)
        return counts

    return table.write(commit, attempt)


def _gone(delta: DeltaTable, frame: pl.DataFrame, on: Sequence[str], whole: pl.Expr | None) -> pl.DataFrame:
    """The rows of the table that a frame, which is the whole of them, does not have any more."""
    if whole is None or not delta.file_uris():
        return frame.clear()
    held = pl.scan_delta(delta).filter(whole)
    return held.join(frame.lazy().select(on), on=list(on), how="anti").collect(engine="streaming")


def check_key(name: str, frame: pl.DataFrame, on: Sequence[str]) -> None:
    """Refuse a frame whose rows cannot be told apart by the key.

    Raises:
        ScopeError: A key's column is missing, has nulls, or holds floats or nested values, which readers compare differently.
    """
    missing = [column for column in on if column not in frame.columns]
    if missing or not on:
        raise ScopeError(f"{name}: the key {', '.join(on)} cannot be worked out, the frame lacks {', '.join(missing) or 'it'}")
    nulls = [column for column in on if frame[column].null_count()]
    if nulls:
        raise ScopeError(f"{name}: the key has nulls in {', '.join(nulls)}; a contract keeps such rows out (nullable=False)")
    vague = [f"{column} ({frame.schema[column]})" for column in on if frame.schema[column].is_float() or frame.schema[column].is_nested()]
    if vague:
        raise ScopeError(f"{name}: a key cannot hold floats or nested values: {', '.join(vague)}")


def check_partitions(name: str, delta: DeltaTable, on: Sequence[str]) -> list[str]:
    """The columns that the table is partitioned by.

    Raises:
        ScopeError: One of them is not part of the key, so that a key could stand in two partitions.
    """
    partitions = delta.metadata().partition_columns
    beside = sorted(set(partitions) - set(on))
    if beside:
        raise ScopeError(f"{name} is partitioned by {', '.join(beside)}, which is not part of the key {', '.join(on)}")
    return partitions


def existing(name: str, delta: DeltaTable, frame: pl.DataFrame, on: Sequence[str]) -> pl.LazyFrame:
    """The table's rows with the keys of `frame`, read from the partitions that these can stand in.

    Raises:
        ScopeError: The table is partitioned by a column that is not part of the key, so that a key could stand in two partitions.
    """
    partitions = check_partitions(name, delta, on)
    rows = pl.scan_delta(delta)
    if not frame.height or not delta.file_uris():
        return pl.LazyFrame(schema=rows.collect_schema())
    if partitions:
        rows = rows.filter(predicates.expression(predicates.values_of(frame, partitions)))
    # The statistics of the files rule out those of other days or numbers.
    for column, dtype in frame.select(on).schema.items():
        if column not in partitions and (dtype.is_temporal() or dtype.is_integer()):
            rows = rows.filter(pl.col(column).is_between(frame[column].min(), frame[column].max()))
    keys = frame.lazy().select(on).unique()
    if frame.height >= _MANY_ROWS:
        keys = rows.select(on).join(keys, on=list(on), how="semi").collect(engine="streaming").lazy()
        if not keys.collect().height:
            return pl.LazyFrame(schema=rows.collect_schema())
    return rows.join(keys, on=list(on), how="semi")


def difference(
    name: str,
    frame: pl.DataFrame,
    held: pl.LazyFrame,
    on: Sequence[str],
    *,
    newest_by: str | None = None,
    ignore: Sequence[str] = (),
) -> Difference:
    """What a batch would change in the rows `held`; the arguments are those of `merge`.

    Raises:
        ScopeError: `held` has a key twice, as after an append beside the merges.
    """
    batch = latest(frame, on, newest_by)
    compared = [column for column in frame.columns if column not in (*on, *ignore) and not column.startswith("_")]
    needed = dict.fromkeys([*compared, *([newest_by] if newest_by else [])])
    old = held.select(*on, pl.struct(pl.lit(value=True).alias(_HELD), *needed).alias(_HELD)).collect(engine="streaming")
    if not old.height:
        return Difference(batch, batch.clear(), frame.height - batch.height)
    ties = [] if set(_LINEAGE) <= set(frame.columns) else [name for name in compared if not frame.schema[name].is_nested()]
    differs = pl.any_horizontal(pl.lit(value=False), *(pl.col(c).ne_missing(pl.col(_HELD).struct.field(c)) for c in compared))
    is_new = pl.col(_HELD).is_null()
    pairs = batch.lazy().join(old.lazy(), on=list(on), how="left", maintain_order="left")
    found = pairs.select(is_new.alias("new"), (~is_new & differs & ~_is_older(newest_by, ties)).alias("changed")).collect()
    if found.height != batch.height:
        raise ScopeError(f"{name} holds a key of {', '.join(on)} twice, so it is not clear which row would change: remove one")
    new, changed = batch.filter(found["new"]), batch.filter(found["changed"])
    return Difference(new, changed, frame.height - new.height - changed.height)


def latest(frame: pl.DataFrame, on: Sequence[str], newest_by: str | None) -> pl.DataFrame:
    """Of each key the row that counts: the newest, else the one that came last."""
    if frame.n_unique(list(on)) == frame.height:
        return frame
    order = [newest_by] if newest_by else []
    # Of rows that are equally new the later one counts, or where rows have no order, the one with the larger values: so order does not matter.
    lineage = [name for name in _LINEAGE if name in frame.columns]
    order += lineage or [
        name for name in frame.columns if newest_by and name not in on and name[0] != "_" and not frame.schema[name].is_nested()
    ]
    rows = frame.sort(order, maintain_order=True) if order else frame
    return rows.unique(on, keep="last", maintain_order=True)


def _is_older(newest_by: str | None, ties: Sequence[str]) -> pl.Expr:
    """Whether a row is older than the table's, or equally new and smaller in the columns of `ties`."""
    if newest_by is None:
        return pl.lit(value=False)
    is_less = pl.lit(value=False)
    for name in reversed([newest_by, *ties]):
        ours, theirs = pl.col(name), pl.col(_HELD).struct.field(name)
        below = (ours < theirs).fill_null(value=False) | (ours.is_null() & theirs.is_not_null())
        is_less = below | (ours.eq_missing(theirs) & is_less)
    return is_less


def write_difference(
    table: Table,
    delta: DeltaTable,
    found: Difference,
    on: Sequence[str],
    properties: CommitProperties,
    *,
    removed: pl.DataFrame | None = None,
) -> None:
    """One commit: new rows come in, changed rows are updated, rows with the keys of `removed` go."""
    gone = found.new.clear() if removed is None else removed.select(found.new.columns)
    if not found.changed.height and not gone.height:
        table.write_rows(delta, found.new, properties)
        return
    stays = pl.concat([found.new, found.changed]).with_columns(pl.lit(value=False).alias(_GONE))
    source = pl.concat([stays, gone.with_columns(pl.lit(value=True).alias(_GONE))])
    match = " AND ".join(f"t.{predicates.identifier(c)} = s.{predicates.identifier(c)}" for c in on)
    partitions = delta.metadata().partition_columns
    if partitions:
        match += " AND " + predicates.sql(predicates.values_of(source, partitions), "t")
    columns = {predicates.identifier(c): f"s.{predicates.identifier(c)}" for c in found.new.columns}
    merger = delta.merge(
        source.to_arrow(),
        match,
        source_alias="s",
        target_alias="t",
        streamed_exec=False,
        writer_properties=WRITER,
        commit_properties=properties,
    )
    merger.when_matched_delete(f"s.{_GONE}").when_matched_update(columns).when_not_matched_insert(
        columns, predicate=f"NOT s.{_GONE}"
    ).execute()
