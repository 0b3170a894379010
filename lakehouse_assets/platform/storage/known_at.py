"""Tables that remember when each value became known (bitemporal): a revised value is a new row, and the one known before stays.

So a reader can ask for the values as they were known at a moment, and a late fact is never taken for one that was known all along. A key
that its sources do not give any more is retracted: a row with its last values says from when on it is gone. Rows that other code computed
are another version of the table; they stand side by side, and a reader asks for one (`of_version`).
Joining such tables to labels belongs to `features`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.storage import types
from lakehouse_assets.platform.storage.commit import Commit, Counts, Written
from lakehouse_assets.platform.storage.merge import check_key, difference, existing, latest
from lakehouse_assets.platform.storage.scopes import Everything, Scope
from lakehouse_assets.platform.storage.table import Table

KNOWN_AT, IS_RETRACTED, KNOWN_AT_ASSUMED = "known_at", "is_retracted", "known_at_assumed"
VERSION, REPLACED_KNOWN_AT = "feature_set_version", "replaced_known_at"
OWN_COLUMNS: Final = {
    IS_RETRACTED: pl.Boolean(),
    KNOWN_AT_ASSUMED: pl.Boolean(),
    VERSION: pl.Int64(),
    REPLACED_KNOWN_AT: types.TIMESTAMP,
}
"""The columns that `revise` adds to those of the frame."""
_CLOSE: Final = 1e-9
"""Share by which a number may differ that other code computed, which adds in another order."""


def revise(
    table: Table,
    frame: pl.DataFrame,
    on: Sequence[str],
    revised_at: datetime,
    commit: Commit | None = None,
    *,
    event_time: str,
    had: int | None,
    version: int = 1,
    scope: Scope | None = None,
    changed: Scope | None = None,
) -> Written:
    """Add the rows whose values are not the latest known ones of their key, and retract the keys in `scope` that the frame lacks.

    A row is known from when it came: from `revised_at` on, or from the `known_at` that the frame gives it if that is later. A revision is
    not known before the row that it revises. One exception: the first row of a key whose event time is after all that the table had is
    history that came in order. It keeps the `known_at` of the frame, and `known_at_assumed` says so.
    Of several rows with one key the last counts. The table has the columns of the frame and `OWN_COLUMNS`.

    The first write of a version, with all keys in its scope, is known from now on like any other. `replaced_known_at` says from when on the
    value of the version before was known in whose place a row stands, if the row is made from the same facts.

    Args:
        table: The table.
        frame: Key, `known_at` and values.
        on: The key.
        revised_at: When the rows came: the time of the commit (naive: UTC).
        commit: What the commit carries.
        event_time: Column by which it is told whether rows come in order.
        had: The version of the table that the rows are in order after; None: it had nothing.
        version: Of the code that computed the rows; rows of other versions are left alone.
        scope: Whose keys are retracted if the frame lacks them; None: none.
        changed: Of the first write of a version, the rows that are made from facts which the version before did not have; None: all.

    Raises:
        ScopeError: A key or `known_at` is null, or rows cannot be told apart as in `merge`.
        SchemaMismatch: Columns or types differ from the table's.
        CommitConflict: Other writers did not let this one through.
    """
    commit = commit or Commit()
    check_key(table.name, frame, [*on, KNOWN_AT])
    now = pl.lit(revised_at).cast(types.TIMESTAMP)
    own: dict[str, Any] = {IS_RETRACTED: False, KNOWN_AT_ASSUMED: False, VERSION: version, REPLACED_KNOWN_AT: None}
    added = [pl.lit(value, OWN_COLUMNS[name]).alias(name) for name, value in own.items()]
    late = [pl.lit(value=False).alias(KNOWN_AT_ASSUMED), pl.lit(None, types.TIMESTAMP).alias(REPLACED_KNOWN_AT)]

    def attempt(delta: DeltaTable) -> Counts:
        fitted = table.fit(delta, frame.with_columns(added))
        stored = existing(table.name, delta, fitted, on) if scope is None else scope.filter(pl.scan_delta(delta))
        known = _latest(stored.filter(pl.col(VERSION) == version), on).collect(engine="streaming")
        ignored = [KNOWN_AT, KNOWN_AT_ASSUMED, REPLACED_KNOWN_AT]
        changes = difference(table.name, latest(fitted, on, None), known.lazy(), on, ignore=ignored)
        in_order = _in_order(table, changes.new, event_time, had)
        new = changes.new.with_columns(
            pl.when(in_order).then(KNOWN_AT).otherwise(pl.max_horizontal(KNOWN_AT, now)).alias(KNOWN_AT),
            (in_order & (pl.col(KNOWN_AT) < now)).alias(KNOWN_AT_ASSUMED),
        )
        if isinstance(scope, Everything) and not known.height:
            same = new.clear() if changed is None else changed.outside(new)
            new = _with_replaced(new, stored.filter(pl.col(VERSION) == version - 1), on, same)
        before = known.select(*on, (pl.col(KNOWN_AT) + pl.duration(microseconds=1)).alias("__after"))
        revised = changes.changed.join(before, on=list(on), maintain_order="left").with_columns(
            pl.max_horizontal(KNOWN_AT, "__after", now).alias(KNOWN_AT), *late
        )
        rows = pl.concat([new, revised.select(new.columns)])
        unchanged = fitted.height - rows.height
        if scope is not None:
            gone = known.filter(~pl.col(IS_RETRACTED)).join(fitted, on=list(on), how="anti", maintain_order="left")
            after = pl.max_horizontal(pl.col(KNOWN_AT) + pl.duration(microseconds=1), now)
            gone = gone.with_columns(after.alias(KNOWN_AT), pl.lit(value=True).alias(IS_RETRACTED), *late)
            rows = pl.concat([rows, gone.select(rows.columns)])
        counts = Counts(written=rows.height, duplicates=unchanged)
        table.write_rows(delta, rows, commit.properties(delta, counts, read_before_write=True))
        return counts

    return table.write(commit, attempt)


def _in_order(table: Table, new: pl.DataFrame, event_time: str, had: int | None) -> pl.Expr:
    """Whether a new row is after all that the table had."""
    if had is None or not new.height:
        return pl.lit(value=True)
    # What is before the first of the new rows need not be read.
    near = table.scan(had).filter(pl.col(event_time) >= new[event_time].min())
    newest = near.select(pl.col(event_time).max()).collect(engine="streaming").item()
    return pl.lit(value=True) if newest is None else pl.col(event_time) > pl.lit(newest, new.schema[event_time])


def _with_replaced(new: pl.DataFrame, before: pl.LazyFrame, on: Sequence[str], same: pl.DataFrame) -> pl.DataFrame:
    """The first rows of a version; those among `same` with the time from which on the value was known whose place they take."""
    known = _latest(before, on).filter(~pl.col(IS_RETRACTED)).join(same.lazy().select(on), on=list(on), how="semi")
    times = known.select(*on, pl.coalesce(REPLACED_KNOWN_AT, KNOWN_AT).alias(REPLACED_KNOWN_AT)).collect(engine="streaming")
    columns = new.columns
    return new.drop(REPLACED_KNOWN_AT).join(times, on=list(on), how="left", maintain_order="left").select(columns)


def is_same(frame: pl.DataFrame, rows: pl.LazyFrame, on: Sequence[str], version: int, changed: Scope) -> bool:
    """Whether other code gave the values that a version has of the same facts, in all columns that the version has values in.

    Args:
        frame: What the other code gave.
        rows: Of the table.
        on: The key.
        version: That is compared.
        changed: The rows that are made from facts which the version does not have.
    """
    known = _latest(rows.filter(pl.col(VERSION) == version), on).filter(~pl.col(IS_RETRACTED)).collect(engine="streaming")
    # Compared as they are stored: a category is stored as its name, a small number as a larger one.
    stored = pl.Schema(
        {name: dtype for name, dtype in known.schema.items() if name in frame.columns and types.holds(dtype, frame.schema[name])}
    )
    before, now = changed.outside(known), changed.outside(frame.cast(stored))
    values = [name for name in before.columns if name not in {*on, KNOWN_AT, *OWN_COLUMNS} and before[name].null_count() < before.height]
    if before.is_empty() or before.height != now.height or any(before.schema[name] != now.schema.get(name) for name in values):
        return False
    both = before.join(now.select(*on, pl.struct(values).alias("__now")), on=list(on), how="inner", nulls_equal=True)
    if both.height != before.height:
        return False
    return bool(both.select(pl.all_horizontal(pl.lit(value=True), *(_is_close(name, before.schema[name]) for name in values)).all()).item())


def has_all_columns(rows: pl.LazyFrame, version: int) -> bool:
    """Whether a version has rows, and values in each column that the newest version has values in."""
    newest = pl.col(VERSION) == pl.col(VERSION).max()
    of_both = {"own": rows.filter(pl.col(VERSION) == version), "newest": rows.filter(newest)}
    filled = {name: part.select(pl.all().is_not_null().any()).collect(engine="streaming") for name, part in of_both.items()}
    return all(
        own or not now for own, now in zip(filled["own"].drop(OWN_COLUMNS).row(0), filled["newest"].drop(OWN_COLUMNS).row(0), strict=True)
    )


def _is_close(name: str, dtype: pl.DataType) -> pl.Expr:
    before, now = pl.col(name), pl.col("__now").struct.field(name)
    same = before.eq_missing(now)
    if not dtype.is_float():
        return same
    return same | ((before - now).abs() <= _CLOSE * pl.max_horizontal(before.abs(), now.abs())).fill_null(value=False)


def of_version(rows: pl.LazyFrame, version: int | None = None) -> pl.LazyFrame:
    """The rows of one version of a feature set (None: the newest), as if it had been there all along.

    A row that stands in the place of one of the version before counts as known since that one was, and `known_at_assumed` says so. The
    columns `feature_set_version` and `replaced_known_at` are left out; rows without them are given back as they are.
    """
    if VERSION not in rows.collect_schema():
        return rows
    is_wanted = pl.col(VERSION) == (pl.col(VERSION).max() if version is None else version)
    replaces = pl.col(REPLACED_KNOWN_AT).is_not_null()
    return (
        rows.filter(is_wanted)
        .with_columns(pl.coalesce(REPLACED_KNOWN_AT, KNOWN_AT).alias(KNOWN_AT), pl.col(KNOWN_AT_ASSUMED) | replaces)
        .drop(VERSION, REPLACED_KNOWN_AT)
    )


def as_known(rows: pl.LazyFrame, on: Sequence[str], at: datetime | None = None) -> pl.LazyFrame:
    """Of each key the row that was the latest known at a moment (None: now), without keys that were retracted by then.

    It reads the newest version; for another one, give it what `of_version` gives.
    """
    rows = of_version(rows)
    known = _latest(rows if at is None else rows.filter(pl.col(KNOWN_AT) <= at), on)
    return known.filter(~pl.col(IS_RETRACTED)).drop(IS_RETRACTED) if IS_RETRACTED in rows.collect_schema() else known


def without_retracted(rows: pl.LazyFrame, on: Sequence[str]) -> pl.LazyFrame:
    """All rows of the keys that are not retracted now, of the newest version."""
    rows = of_version(rows)
    if IS_RETRACTED not in rows.collect_schema():
        return rows
    gone = _latest(rows, on).filter(IS_RETRACTED).select(on)
    return rows.filter(~pl.col(IS_RETRACTED)).drop(IS_RETRACTED).join(gone, on=list(on), how="anti")


def _latest(rows: pl.LazyFrame, on: Sequence[str]) -> pl.LazyFrame:
    return rows.sort(KNOWN_AT).unique(list(on), keep="last", maintain_order=True)
