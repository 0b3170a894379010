"""Snapshots of a whole source, in any order, become intervals of validity or the latest state of each key.

`fold` defines the meaning, a pure function; `write` applies it to the table. Which snapshots are not to be believed is in `retirements`,
change events are in `scd2` and `scd1`.

A snapshot is all rows with one number, and is whole: a key that it lacks was retired at its time, if it was known by then. So an interval
stands for all snapshots from its own to the next interval's, and a snapshot that says what the one before it said costs no row. Its number
and time are kept once, in `snapshots` of the smallest current key's last row: a snapshot that arrives late takes back what its successor
said only from that successor on. The time of a snapshot is the latest `valid_from` in it or in one before it.

A retired key shows what was last known of it. A key whose row in a snapshot was rejected is assumed to be there as before, and `assumed`
remembers that, for when an older snapshot arrives late.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.storage import types
from lakehouse_assets.platform.storage.commit import Commit, Counts, Written
from lakehouse_assets.platform.storage.errors import ScopeError
from lakehouse_assets.platform.storage.merge import check_key, check_partitions, difference, write_difference
from lakehouse_assets.platform.storage.scd2 import (
    IS_CURRENT,
    IS_DELETED,
    REPEATS,
    VALID_FROM,
    VALID_TO,
    check_made_for,
    one_event_each,
)
from lakehouse_assets.platform.storage.table import Table

SNAPSHOTS, ASSUMED = "snapshots", "assumed"
_KNOWN, _FRESH, _NEXT = "__known", "__fresh", "__next"
_AT, _BEFORE, _GROUP = "__at", "__before", "__group"


@dataclass(frozen=True)
class Snapshots:
    """How snapshots become the rows of one table.

    Rows have the columns `on`, `sequence_by`, `valid_from` (UTC), `is_deleted`, and the values. A row that says `is_deleted` is as good as
    none. Rows of a key with the same number are one row: if they disagree, the one in the later file
    counts (see `scd2.one_event_each`).

    Attributes:
        on: The key.
        sequence_by: The number of a snapshot: the one with the larger number is the later one.
        unversioned: Values that open no interval when they change.
        history: Whether the table keeps all intervals (SCD2) or each key's last one (SCD1). The last one begins with the first snapshot
            from which on a key was as it is now. Then a row that comes later for a snapshot in which the key was still different is
            not used.
    """

    on: tuple[str, ...]
    sequence_by: str
    unversioned: tuple[str, ...] = ()
    history: bool = True

    @property
    def identity(self) -> list[str]:
        """What tells intervals apart."""
        return [*self.on, self.sequence_by]

    def schema(self, rows: pl.Schema) -> pl.Schema:
        """The columns of the table, from those of the rows."""
        number = rows[self.sequence_by]
        moment = pl.Struct({self.sequence_by: number, VALID_FROM: types.TIMESTAMP})
        added: dict[str, pl.DataType] = {}
        if self.history:
            added |= {VALID_TO: types.TIMESTAMP, IS_CURRENT: pl.Boolean()}
        if self.unversioned:
            own = {name: rows[name] for name in self.unversioned}
            added |= {REPEATS: pl.List(pl.Struct({self.sequence_by: number, VALID_FROM: types.TIMESTAMP, **own}))}
        return pl.Schema({**rows, **added, SNAPSHOTS: pl.List(moment), ASSUMED: pl.List(number)})

    def values(self, columns: Sequence[str]) -> list[str]:
        """The columns that say something of a key. Columns that start with `_` are lineage and do not."""
        own = {*self.identity, VALID_FROM, IS_DELETED, VALID_TO, IS_CURRENT, REPEATS, SNAPSHOTS, ASSUMED}
        return [column for column in columns if column not in own and not column.startswith("_")]


def fold(how: Snapshots, existing: pl.DataFrame, rows: pl.DataFrame, assumed: pl.DataFrame | None = None) -> pl.DataFrame:
    """The intervals after all snapshots in `existing` and in `rows`, sorted by key and number.

    `fold(fold(none, a), b) == fold(none, a + b)` for snapshots `a` and `b` in any order. `existing` may lack the intervals that end before
    the first snapshot in `rows` and `assumed` (see `rows_since`); the result then lacks them too.

    Args:
        how: What the rows mean.
        existing: Rows of the table.
        rows: One or more snapshots, with a row that is not deleted in each.
        assumed: Keys and numbers of rows that were rejected.
    """
    times = _times(how, existing, rows)
    told = _recorded(how, existing, times, rows.columns)
    there = one_event_each(how.on, how.sequence_by, how.values(rows.columns), rows.filter(~pl.col(IS_DELETED)))
    there = there.with_columns(pl.lit(value=False).alias(_BEFORE))
    if not how.history:
        # What a key was before its last interval is not known: a row from then changes nothing.
        earlier = told.filter(_BEFORE).select(*how.on, pl.col(how.sequence_by).alias(_AT))
        there = there.join(earlier, on=how.on, how="left", maintain_order="left")
        there = there.filter(pl.col(_AT).is_null() | (pl.col(how.sequence_by) > pl.col(_AT))).drop(_AT)
    marks = _marks(how, existing, times, there, assumed)
    restated = _restated(how, told, there, times, marks)
    silent = pl.concat([told, restated]).filter(pl.col(IS_DELETED)).join(there, on=how.identity, how="anti")
    loud = pl.concat([told, restated]).filter(~pl.col(IS_DELETED))
    moments = times.select(how.sequence_by, VALID_FROM)
    said = pl.concat([loud, silent, there]).drop(VALID_FROM).join(moments, on=how.sequence_by, maintain_order="left")
    said = one_event_each(how.on, how.sequence_by, how.values(rows.columns), said.select(told.columns))
    return _with_bookkeeping(how, _intervals(how, said, rows.columns), times, marks).select(list(how.schema(rows.schema)))


def _times(how: Snapshots, existing: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Each snapshot with its time, whether `existing` knows it, whether it is in `rows`, and the next one that `existing` knows."""
    known = known_snapshots(existing).with_columns(pl.lit(value=True).alias(_KNOWN), pl.lit(value=False).alias(_FRESH))
    fresh = rows.select(how.sequence_by, VALID_FROM).with_columns(pl.lit(value=False).alias(_KNOWN), pl.lit(value=True).alias(_FRESH))
    times = pl.concat([known, fresh]).group_by(how.sequence_by).agg(pl.col(VALID_FROM).max(), pl.col(_KNOWN, _FRESH).any())
    following = pl.when(_KNOWN).then(how.sequence_by).shift(-1).backward_fill()
    return times.sort(how.sequence_by).with_columns(pl.col(VALID_FROM).cum_max(), following.alias(_NEXT))


def known_snapshots(existing: pl.DataFrame) -> pl.DataFrame:
    """Number and time of the snapshots that the table knows."""
    return existing.select(SNAPSHOTS).drop_nulls().explode(SNAPSHOTS).unnest(SNAPSHOTS)


def _recorded(how: Snapshots, existing: pl.DataFrame, times: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """What `existing` says, one row for each change; `_BEFORE` marks where a key was different in a way that is not known any more."""
    told = existing
    if how.unversioned:
        remembered = [how.sequence_by, VALID_FROM, *how.unversioned]
        own = existing.filter(~pl.col(IS_DELETED)).explode(REPEATS, empty_as_null=False)
        own = own.with_columns(pl.col(REPEATS).struct.field(name).alias(name) for name in remembered)
        told = pl.concat([existing.filter(IS_DELETED).select(columns), own.select(columns)])
    told = told.select(*columns, pl.lit(value=False).alias(_BEFORE))
    if how.history:
        return told
    previous = times.filter(_KNOWN).select(how.sequence_by, pl.col(how.sequence_by).shift(1).alias(_AT))
    before = told.join(previous.drop_nulls(), on=how.sequence_by).with_columns(
        pl.col(_AT).alias(how.sequence_by), pl.lit(value=True).alias(_BEFORE), pl.lit(value=False).alias(IS_DELETED)
    )
    return pl.concat([before.select(told.columns), told])


def _marks(how: Snapshots, existing: pl.DataFrame, times: pl.DataFrame, there: pl.DataFrame, assumed: pl.DataFrame | None) -> pl.DataFrame:
    """The keys and snapshots of which only a rejected row is known."""
    marks = existing.select(*how.on, ASSUMED).drop_nulls().explode(ASSUMED).rename({ASSUMED: how.sequence_by})
    if assumed is not None:
        known = times.filter(_KNOWN)
        marks = pl.concat([marks, assumed.select(marks.columns).join(known, on=how.sequence_by, how="anti")])
    return marks.unique().join(there, on=how.identity, how="anti")


def _restated(how: Snapshots, told: pl.DataFrame, there: pl.DataFrame, times: pl.DataFrame, marks: pl.DataFrame) -> pl.DataFrame:
    """What has to be said for each key because of the snapshots in `rows`: that these lack it, and that the next known one does not.

    After an assumption too the next known snapshot has to say what it said: what was assumed may change.
    """
    keys = pl.concat([told.select(how.on), there.select(how.on)]).unique()
    fresh = times.filter(_FRESH)
    numbers = pl.concat([fresh[how.sequence_by], fresh[_NEXT].drop_nulls()]).unique().to_frame(how.sequence_by)
    after = marks.join(times, on=how.sequence_by).select(*how.on, pl.col(_NEXT).alias(how.sequence_by)).drop_nulls()
    asked = pl.concat([keys.join(numbers, how="cross"), after]).unique()
    for said in (marks, told):
        asked = asked.join(said, on=how.identity, how="anti")
    since = (
        pl.concat([told.select(how.identity), there.select(how.identity)]).group_by(how.on).agg(pl.col(how.sequence_by).min().alias(_AT))
    )
    asked = asked.join(since, on=how.on).filter(pl.col(how.sequence_by) > pl.col(_AT)).drop(_AT)
    # What `existing` said then is what it said last; it said nothing of a key that it did not know, nor in a snapshot that it did not know.
    places = pl.concat([told.select(how.identity).with_row_index(_AT), asked.select(pl.lit(None, pl.UInt32).alias(_AT), *how.identity)])
    places = places.sort(how.identity).with_columns(pl.col(_AT).forward_fill().over(how.on))
    known = times.filter(_KNOWN).select(how.sequence_by)
    places = places.join(asked, on=how.identity, how="semi").join(
        known.with_columns(pl.lit(value=True).alias(_KNOWN)), on=how.sequence_by, how="left"
    )
    places = places.with_columns(pl.when(_KNOWN).then(_AT))
    states = told.drop(how.identity).with_row_index(_AT)
    restated = places.drop(_KNOWN).join(states, on=_AT, how="left")
    return restated.select(told.columns).with_columns(pl.col(IS_DELETED).fill_null(value=True), pl.col(_BEFORE).fill_null(value=False))


def _intervals(how: Snapshots, said: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Rows that follow each other in time, put together where nothing that counts changes."""
    values = how.values(columns)
    said = said.filter(_changes(how, values))
    said = said.with_columns(_changes(how, [name for name in values if name not in how.unversioned]).cum_sum().alias(_GROUP))
    own = pl.struct(how.sequence_by, VALID_FROM, *how.unversioned)
    intervals = said.group_by(_GROUP, maintain_order=True).agg(
        pl.exclude(list(how.unversioned)).first(),
        pl.col(list(how.unversioned)).last(),
        own.filter(~pl.col(IS_DELETED)).alias(REPEATS),
    )
    is_first = pl.int_range(pl.len()).over(how.on) == 0
    retired = pl.col(IS_DELETED) & ~is_first
    valid_to = pl.col(VALID_FROM).shift(-1).over(how.on)
    intervals = intervals.with_columns(
        *(pl.when(retired).then(pl.col(name).shift(1)).otherwise(name).alias(name) for name in values),
        valid_to.alias(VALID_TO),
        (valid_to.is_null() & ~pl.col(IS_DELETED)).alias(IS_CURRENT),
    )
    return intervals if how.history else intervals.unique(how.on, keep="last", maintain_order=True)


def _changes(how: Snapshots, values: Sequence[str]) -> pl.Expr:
    """Whether a row says something else than the one before it, which may be of another key."""
    is_first = pl.int_range(pl.len()).over(how.on) == 0
    state = [pl.col(name) != pl.col(name).shift(1) for name in (IS_DELETED, _BEFORE)]
    differs = pl.any_horizontal(pl.lit(value=False), *(pl.col(name).ne_missing(pl.col(name).shift(1)) for name in values))
    return is_first | pl.any_horizontal(state) | (~pl.col(IS_DELETED) & differs)


def _with_bookkeeping(how: Snapshots, intervals: pl.DataFrame, times: pl.DataFrame, marks: pl.DataFrame) -> pl.DataFrame:
    places = pl.concat(
        [intervals.select(*how.identity, _GROUP), marks.select(*how.identity, pl.lit(None, intervals.schema[_GROUP]).alias(_GROUP))]
    )
    places = places.sort(how.identity).with_columns(pl.col(_GROUP).forward_fill().over(how.on)).join(marks, on=how.identity, how="semi")
    lists = places.drop_nulls(_GROUP).group_by(_GROUP).agg(pl.col(how.sequence_by).sort().alias(ASSUMED))
    # The smallest key is first, and its last row knows all snapshots; a current one, since each snapshot changes that row.
    current = intervals.filter(IS_CURRENT)
    first = (current if current.height else intervals).head(1).select(how.on)
    last = intervals.join(first, on=how.on, how="semi").select(pl.col(_GROUP).last())
    all_of_them = last.with_columns(times.select(pl.struct(how.sequence_by, VALID_FROM).implode()).to_series().alias(SNAPSHOTS))
    for noted in (lists, all_of_them):
        intervals = intervals.join(noted, on=_GROUP, how="left", maintain_order="left")
    return intervals


def rows_since(how: Snapshots, table: pl.LazyFrame, since: Any) -> pl.DataFrame:
    """The rows of the table that snapshots from number `since` on may change.

    For a new snapshot, the usual case, these are the last intervals of all keys, and the rest of the history is not read.
    """
    if not how.history:
        return table.collect(engine="streaming")
    last = table.filter(pl.col(VALID_TO).is_null()).collect(engine="streaming")
    newest = known_snapshots(last)[how.sequence_by].max()
    if newest is None or since > newest:
        return last
    following = pl.col(how.sequence_by).shift(-1).over(how.on, order_by=how.sequence_by)
    return table.filter(following.is_null() | (following >= since)).collect(engine="streaming")


def earliest(how: Snapshots, rows: pl.DataFrame, assumed: pl.DataFrame | None) -> Any:
    """The number of the first snapshot in a batch; None if there is none."""
    numbers = [frame[how.sequence_by].min() for frame in (rows, assumed) if frame is not None and frame.height]
    return min(numbers) if numbers else None  # type: ignore[type-var]


def write(
    table: Table,
    rows: pl.DataFrame,
    how: Snapshots,
    commit: Commit | None = None,
    *,
    assumed: pl.DataFrame | None = None,
    full_refresh: bool = False,
) -> Written:
    """Fold snapshots into the table, or with `full_refresh` replace all its rows by what these say.

    In the counts a row is `written` if it opened an interval (with `history=False`: came with a new key), `updated` if it changed one, else
    a duplicate: it says what was known. Rows that say nothing but that a key was retired are added besides.

    Args:
        table: Where to.
        rows: Whole snapshots.
        how: What they mean.
        commit: What the write carries.
        assumed: Keys and numbers of rows that were rejected.
        full_refresh: Whether the table's rows are replaced and do not count.

    Raises:
        ScopeError: A key, a number, `valid_from` or `is_deleted` is null or missing, or no row of a snapshot is there.
        SchemaMismatch: Columns or types differ from the table's.
        CommitConflict: Other writers did not let this one through.
    """
    commit = commit or Commit()
    check_key(table.name, rows, [*how.identity, VALID_FROM, IS_DELETED])
    numbers = rows.group_by(how.sequence_by).agg(pl.col(IS_DELETED).all()).filter(IS_DELETED)[how.sequence_by]
    if numbers.len():
        raise ScopeError(f"{table.name}: no row of the snapshot {numbers[0]} is there, so it cannot be told from one that failed")

    def attempt(delta: DeltaTable) -> Counts:
        check_partitions(table.name, delta, how.on, (IS_CURRENT,))
        scanned = pl.scan_delta(delta)
        schema = scanned.collect_schema()
        check_made_for(table.name, schema, how.schema(rows.schema))
        fitted = types.fit(rows, {name: schema[name] for name in schema if name in rows.columns}, table.name)
        since = earliest(how, rows, assumed)
        before = scanned.collect(engine="streaming") if full_refresh else pl.DataFrame(schema=schema)
        if since is not None and not full_refresh:
            before = rows_since(how, scanned, since)
        existing = before.clear() if full_refresh else before
        after = table.fit(delta, fold(how, existing, fitted, assumed)) if since is not None else before
        if full_refresh and since is None:
            after = before.clear()
        compared = difference(table.name, after, before.lazy(), how.identity)
        removed = before.join(after, on=how.identity, how="anti")
        counts = _counts(how, fitted, existing, after, removed.height if full_refresh else 0)
        properties = commit.properties(delta, counts, read_before_write=True)
        write_difference(table, delta, compared, how.identity, properties, removed=removed, before=before)
        return counts

    return table.write(commit, attempt)


def _counts(how: Snapshots, rows: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame, removed: int) -> Counts:
    came = rows.select(how.identity).unique()
    opened = came.join(after, on=how.identity, how="semi").join(before, on=how.identity, how="anti")
    if how.history:
        written = opened.height
        merged = (
            0 if not how.unversioned else _own(how, came, after).join(_own(how, came, before), on=how.identity, how="anti").height - written
        )
    else:
        written = opened.join(before, on=how.on, how="anti").height
        merged = opened.height - written
    return Counts(written, merged, rows.height - written - merged, removed)


def _own(how: Snapshots, came: pl.DataFrame, intervals: pl.DataFrame) -> pl.DataFrame:
    """Which of the rows that came are remembered on their own."""
    numbers = intervals.select(*how.on, pl.col(REPEATS).list.eval(pl.element().struct.field(how.sequence_by)).alias(how.sequence_by))
    return came.join(numbers.explode(how.sequence_by, empty_as_null=False), on=how.identity, how="semi")
