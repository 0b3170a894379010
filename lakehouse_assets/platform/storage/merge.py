"""Merging rows into a table by key: new rows are inserted, changed rows updated, and rows that are the same are not written.

Which rows are which is determined here with Polars on the touched partitions, so that an unchanged row costs no write and leaves no change
row, and a batch of new rows is a plain append. Intervals of validity are in `scd2`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from deltalake import CommitProperties, DeltaTable

from lakehouse_assets.platform.storage import lineage, predicates
from lakehouse_assets.platform.storage.commit import Commit, Counts, Written
from lakehouse_assets.platform.storage.digests import digest, shared
from lakehouse_assets.platform.storage.errors import ScopeError
from lakehouse_assets.platform.storage.table import WRITER, Table

_EXISTING = "__existing"
_REMOVED = "__removed"
_DIGEST = "__digest"
# From so many rows on it pays to compare digests of keys first: mostly none is in the table, and its other columns need not be read.
_MANY_ROWS = 50_000


@dataclass(frozen=True)
class Difference:
    """A batch compared with a table: `new` and `changed` rows, and the number of `duplicates`."""

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
    by_lineage: bool = True,
) -> Written:
    """Merge rows by key.

    Of several rows with one key the last counts, by `newest_by` if given (null is the oldest), else by their order. A row that is older
    than the table's by `newest_by`, or that differs in nothing but columns of lineage (`_…`) and those in `ignore`, is a duplicate: the
    table keeps its row as it is, with the `newest_by` at which it last changed. Of equally new rows the one that came later counts, or
    with `by_lineage=False` the given one, whatever lineage the table's has.

    Raises:
        ScopeError: The key does not identify rows: see `check_key`, `existing` and `difference`.
        SchemaMismatch: Columns or types differ from the table's.
        CommitConflict: Other writers did not let this one through.
    """
    commit = commit or Commit()
    check_key(table.name, frame, on)
    if newest_by is not None and newest_by not in frame.columns:
        raise ScopeError(f"{table.name}: which of two rows is newer cannot be determined, the frame lacks {newest_by}")

    def attempt(delta: DeltaTable) -> Counts:
        batch = latest(table.fit(delta, frame), on, newest_by)
        before = existing(table.name, delta, batch, on)
        compared = difference(table.name, batch, before, on, newest_by=newest_by, ignore=ignore, by_lineage=by_lineage)
        duplicates = frame.height - compared.new.height - compared.changed.height
        counts = Counts(compared.new.height, compared.changed.height, duplicates)
        properties = commit.properties(delta, counts, read_before_write=True)
        write_difference(table, delta, compared, on, properties)
        return counts

    return table.write(commit, attempt)


def changed_keys(table: Table, frame: pl.DataFrame, on: Sequence[str], newest_by: str | None) -> pl.DataFrame:
    """The keys of the rows that `merge` would change with `by_lineage=False`, in the types of `frame`; nothing is written.

    Raises:
        ScopeError: As `merge`.
        SchemaMismatch: As `merge`.
    """
    check_key(table.name, frame, on)
    types = frame.select(on).schema
    delta = table.delta()
    batch = latest(table.fit(delta, frame), on, newest_by)
    before = existing(table.name, delta, batch, on)
    return difference(table.name, batch, before, on, newest_by=newest_by, by_lineage=False).changed.select(on).cast(types)


def check_key(name: str, frame: pl.DataFrame, on: Sequence[str]) -> None:
    """Refuse a frame whose rows cannot be told apart by the key.

    Raises:
        ScopeError: A key's column is missing, has nulls, or holds floats or nested values, which readers compare differently.
    """
    missing = [column for column in on if column not in frame.columns]
    if missing or not on:
        raise ScopeError(f"{name}: the key {', '.join(on)} cannot be determined, the frame lacks {', '.join(missing) or 'it'}")
    nulls = [column for column in on if frame[column].null_count()]
    if nulls:
        raise ScopeError(f"{name}: the key has nulls in {', '.join(nulls)}; a contract keeps such rows out (nullable=False)")
    vague = [f"{column} ({frame.schema[column]})" for column in on if frame.schema[column].is_float() or frame.schema[column].is_nested()]
    if vague:
        raise ScopeError(f"{name}: a key cannot hold floats or nested values: {', '.join(vague)}")


def check_partitions(name: str, delta: DeltaTable, on: Sequence[str], moves: Sequence[str] = ()) -> list[str]:
    """The columns of the key that the table is partitioned by, besides which it may be partitioned by those of `moves`.

    Raises:
        ScopeError: One of them is not part of the key, so that two partitions could have the same key.
    """
    partitions = [column for column in delta.metadata().partition_columns if column not in moves]
    not_in_key = sorted(set(partitions) - set(on))
    if not_in_key:
        raise ScopeError(f"{name} is partitioned by {', '.join(not_in_key)}, which is not part of the key {', '.join(on)}")
    return partitions


def existing(name: str, delta: DeltaTable, frame: pl.DataFrame, on: Sequence[str], moves: Sequence[str] = ()) -> pl.LazyFrame:
    """The table's rows with the keys of `frame`, read from the partitions of `frame`.

    A key's rows may be in several partitions by the columns of `moves`: these are all read.

    Raises:
        ScopeError: As `check_partitions`.
    """
    partitions = check_partitions(name, delta, on, moves)
    rows = pl.scan_delta(delta)
    if not frame.height or not delta.file_uris():
        return pl.LazyFrame(schema=rows.collect_schema())
    if partitions:
        rows = rows.filter(predicates.expression(predicates.values_of(frame, partitions)))
    # The statistics of the files rule out those of other days or numbers.
    for column, dtype in frame.select(on).schema.items():
        if column not in partitions and (dtype.is_temporal() or dtype.is_integer()):
            rows = rows.filter(predicates.in_range(column, frame[column]))
    keys = frame.select(on)
    if frame.height >= _MANY_ROWS:
        keys = _may_exist(rows, keys)
        if not keys.height:
            return pl.LazyFrame(schema=rows.collect_schema())
    return rows.join(keys.lazy(), on=list(on), how="semi")


def _may_exist(rows: pl.LazyFrame, keys: pl.DataFrame) -> pl.DataFrame:
    """The keys without those that `rows` certainly do not have."""
    wanted = keys.select(digest(keys.columns).alias(_DIGEST))
    common = rows.select(digest(keys.columns).alias(_DIGEST)).join(wanted.lazy(), on=_DIGEST, how="semi").collect(engine="streaming")
    return keys.filter(wanted[_DIGEST].is_in(common[_DIGEST].implode())) if common.height else keys.clear()


def difference(
    name: str,
    frame: pl.DataFrame,
    before: pl.LazyFrame,
    on: Sequence[str],
    *,
    newest_by: str | None = None,
    ignore: Sequence[str] = (),
    by_lineage: bool = True,
) -> Difference:
    """What a batch with one row a key (`latest`) would change in the rows `before`; the arguments are those of `merge`.

    Raises:
        ScopeError: `before` has a key twice, as after an append to a table that is merged into.
    """
    compared = [column for column in frame.columns if column not in (*on, *ignore) and not column.startswith("_")]
    # Of equally new rows the one that came later counts, as in `latest`.
    has_order = set(lineage.ORDER) <= set(frame.columns) and set(lineage.ORDER) <= set(before.collect_schema())
    ties = list(lineage.ORDER) if has_order else [name for name in compared if not frame.schema[name].is_nested()]
    ties = ties if by_lineage else []
    needed = dict.fromkeys([*compared, *([newest_by, *ties] if newest_by else [])])
    old = before.select(*on, pl.struct(pl.lit(value=True).alias(_EXISTING), *needed).alias(_EXISTING)).collect(engine="streaming")
    if not old.height:
        return Difference(frame, frame.clear(), 0)
    differs = pl.any_horizontal(pl.lit(value=False), *(pl.col(c).ne_missing(pl.col(_EXISTING).struct.field(c)) for c in compared))
    is_new = pl.col(_EXISTING).is_null()
    pairs = frame.lazy().join(old.lazy(), on=list(on), how="left", maintain_order="left")
    rows = pairs.select(is_new.alias("new"), (~is_new & differs & ~_is_older(newest_by, ties)).alias("changed")).collect()
    if rows.height != frame.height:
        raise ScopeError(f"{name} has a key of {', '.join(on)} twice, so it is not clear which row would change: remove one")
    new, changed = frame.filter(rows["new"]), frame.filter(rows["changed"])
    return Difference(new, changed, frame.height - new.height - changed.height)


def latest(frame: pl.DataFrame, on: Sequence[str], newest_by: str | None) -> pl.DataFrame:
    """Of each key the row that counts, in the order of the frame."""
    may_repeat = shared(frame.select(digest(on)).to_series())
    if may_repeat is None:
        return frame
    # Of rows that are equally new the later one counts; where rows have no order, the one with the larger values, so order does not matter.
    came = list(lineage.ORDER) if set(lineage.ORDER) <= set(frame.columns) else []
    values = [name for name in frame.columns if newest_by and name not in on and name[0] != "_" and not frame.schema[name].is_nested()]
    order = list(dict.fromkeys([*([newest_by] if newest_by else []), *(came or values)]))
    position = "__position"
    rows = frame.select(*dict.fromkeys([*on, *order])).with_row_index(position)
    rows = rows.filter(may_repeat)
    rows = rows.sort(order, maintain_order=True) if order else rows
    superseded = rows.filter(~pl.struct(on).is_last_distinct())[position]
    return frame.filter(pl.repeat(value=True, n=frame.height, eager=True).scatter(superseded, values=False))


def _is_older(newest_by: str | None, ties: Sequence[str]) -> pl.Expr:
    """Whether a row is older than the table's, or equally new and smaller in the columns of `ties`."""
    if newest_by is None:
        return pl.lit(value=False)
    is_less = pl.lit(value=False)
    for name in reversed([newest_by, *ties]):
        ours, theirs = pl.col(name), pl.col(_EXISTING).struct.field(name)
        below = (ours < theirs).fill_null(value=False) | (ours.is_null() & theirs.is_not_null())
        is_less = below | (ours.eq_missing(theirs) & is_less)
    return is_less


def write_difference(
    table: Table,
    delta: DeltaTable,
    compared: Difference,
    on: Sequence[str],
    properties: CommitProperties,
    *,
    removed: pl.DataFrame | None = None,
    before: pl.DataFrame | None = None,
) -> None:
    """One commit: new rows are inserted, changed rows updated, rows with the keys of `removed` deleted.

    Where the table is partitioned by a column outside the key, `before` has the changed rows as they are in the table, at least their key
    and partition: only those partitions are scanned and rewritten.
    """
    deleted = compared.new.clear() if removed is None else removed.select(compared.new.columns)
    if not compared.changed.height and not deleted.height:
        table.write_rows(delta, compared.new, properties)
        return
    kept = pl.concat([compared.new, compared.changed]).with_columns(pl.lit(value=False).alias(_REMOVED))
    source = pl.concat([kept, deleted.with_columns(pl.lit(value=True).alias(_REMOVED))])
    match = " AND ".join(f"t.{predicates.identifier(c)} = s.{predicates.identifier(c)}" for c in on)
    partitions = delta.metadata().partition_columns
    if partitions:
        targets = source if before is None else before.join(source, on=list(on), how="semi")
        match += " AND " + predicates.sql(predicates.values_of(targets, partitions), "t")
    columns = {predicates.identifier(c): f"s.{predicates.identifier(c)}" for c in compared.new.columns}
    merger = delta.merge(
        source.to_arrow(),
        match,
        source_alias="s",
        target_alias="t",
        streamed_exec=False,
        writer_properties=WRITER,
        commit_properties=properties,
    )
    merger.when_matched_delete(f"s.{_REMOVED}").when_matched_update(columns).when_not_matched_insert(
        columns, predicate=f"NOT s.{_REMOVED}"
    ).execute()
