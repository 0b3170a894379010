"""Histories of versions (slowly changing dimension, type 2): change events in any order become intervals of validity.

`fold` defines the meaning, a pure function; `write` applies it to the keys that a batch touches. Where events come from does not belong
here.

An interval is half-open, [`valid_from`, `valid_to`). Intervals of a key follow each other without a gap; one is empty if a later event says
that it was valid earlier. A deletion is an interval too, a tombstone, so that an older event which arrives later cannot undo it. An event
that says what the one before it said opens no interval, but is remembered in `repeats`: an event that arrives late and lies between the
two needs it. So a table is the same whatever the order in which its events came, except for lineage (`_…`): an interval has the lineage of
one of the events that said it.

A table may be partitioned by `is_current`. Then the interval that an event closes moves to the other partition, and a later event of a
current key reads and rewrites files of current intervals alone: there is at most one a key, however long the history is. An event that
arrives late, or a deleted key that returns, concerns closed intervals too.

Columns may be named that open no interval when they change. An interval shows what its latest event says of them, and `repeats` then
remembers all its events, the first too, each with its own values of these columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.storage import types
from lakehouse_assets.platform.storage.commit import Commit, Counts, Written
from lakehouse_assets.platform.storage.errors import SchemaMismatch
from lakehouse_assets.platform.storage.lineage import ORDER
from lakehouse_assets.platform.storage.merge import check_key, difference, existing, write_difference
from lakehouse_assets.platform.storage.scopes import Scope
from lakehouse_assets.platform.storage.table import Table

VALID_FROM, VALID_TO, IS_CURRENT, IS_DELETED, REPEATS = "valid_from", "valid_to", "is_current", "is_deleted", "repeats"
_INTERVAL = "__interval"
_NEWEST = "__newest"


@dataclass(frozen=True)
class History:
    """How events of one table are keyed and ordered.

    Events have the columns `on`, `sequence_by`, `valid_from` (UTC), `is_deleted`, and the values. Events of a key with the same sequence
    number are one event: if they disagree, the one in the later file counts (see `one_event_each`).

    Attributes:
        on: The key.
        sequence_by: The number of an event: of two events of a key, the one with the larger number is the later one.
        unversioned: Values that open no interval when they change.
    """

    on: tuple[str, ...]
    sequence_by: str
    unversioned: tuple[str, ...] = ()

    def schema(self, events: pl.Schema) -> pl.Schema:
        """The columns of the table, from those of its events."""
        own = {name: events[name] for name in self.unversioned}
        repeat = pl.Struct({self.sequence_by: events[self.sequence_by], VALID_FROM: types.TIMESTAMP, **own})
        return pl.Schema({**events, VALID_TO: types.TIMESTAMP, IS_CURRENT: pl.Boolean(), REPEATS: pl.List(repeat)})

    def values(self, columns: Sequence[str]) -> list[str]:
        """The columns that say something of a key. Columns that start with `_` are lineage and do not."""
        own = {*self.on, self.sequence_by, VALID_FROM, VALID_TO, IS_CURRENT, REPEATS}
        return [column for column in columns if column not in own and not column.startswith("_")]


def fold(history: History, intervals: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """The intervals after all events that stand in `intervals` and in `events`, sorted by key and sequence.

    `fold(fold(none, a), b) == fold(none, a + b)` for events `a` and `b` in any order.
    """
    key, sequence = list(history.on), history.sequence_by
    versioned = [column for column in history.values(events.columns) if column not in history.unversioned]
    ordered = one_event_each(
        key, sequence, history.values(events.columns), pl.concat([_events_of(history, intervals, events.columns), events])
    )
    first = pl.int_range(pl.len()).over(key) == 0
    opens = first | pl.any_horizontal(pl.col(v).ne_missing(pl.col(v).shift(1)) for v in versioned)
    ordered = ordered.with_columns(opens.cum_sum().alias(_INTERVAL), pl.col(VALID_FROM).cum_max().over(key))
    remembered = pl.struct(sequence, VALID_FROM, *history.unversioned)
    folded = ordered.group_by(_INTERVAL, maintain_order=True).agg(
        pl.exclude(list(history.unversioned)).first(),
        pl.col(list(history.unversioned)).last(),
        (remembered if history.unversioned else remembered.slice(1)).alias(REPEATS),
    )
    valid_to = pl.col(VALID_FROM).shift(-1).over(key)
    folded = folded.with_columns(valid_to.alias(VALID_TO), (valid_to.is_null() & ~pl.col(IS_DELETED)).alias(IS_CURRENT))
    return folded.select(list(history.schema(events.schema)))


def one_event_each(on: Sequence[str], sequence_by: str, values: Sequence[str], events: pl.DataFrame) -> pl.DataFrame:
    """One event for each key and sequence number, sorted by them.

    Of events from files the one counts that came last: a source that sends a number again with other values corrects it. Of others, which
    have no order, the latest `valid_from` and the largest values count.
    """
    identity = [*on, sequence_by]
    came = list(ORDER) if set(ORDER) <= set(events.columns) else []
    if not came:
        events = events.with_columns(pl.col(VALID_FROM).max().over(identity))
    descending = [False] * len(identity) + [True] * (len(came) + len(values))
    return events.sort([*identity, *came, *values], descending=descending, nulls_last=True, maintain_order=True).unique(
        identity, keep="first", maintain_order=True
    )


def conflicting(history: "History", known: pl.DataFrame, events: pl.DataFrame) -> int:
    """How many events from files say something else than another with their key and number: they correct it, or are corrected."""
    if not set(ORDER) <= set(events.columns):
        return 0
    identity, values = [*history.on, history.sequence_by], history.values(events.columns)
    told = known.select(*identity, *values).unique()
    return pl.concat([told, events.select(*identity, *values)]).unique().height - told.height - _fresh(identity, told, events)


def _fresh(identity: Sequence[str], known: pl.DataFrame, events: pl.DataFrame) -> int:
    return events.select(identity).unique().join(known, on=list(identity), how="anti").height


def _events_of(history: History, intervals: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """The events that intervals were made of."""
    remembered = [name for name in (history.sequence_by, VALID_FROM, *history.unversioned) if name in columns]
    repeats = intervals.explode(REPEATS, empty_as_null=False).with_columns(
        pl.col(REPEATS).struct.field(name).alias(name) for name in remembered
    )
    opening = intervals.clear() if history.unversioned else intervals
    return pl.concat([opening.select(columns), repeats.select(columns)])


def check_made_for(name: str, schema: pl.Schema, wanted: pl.Schema) -> None:
    """Refuse a table that was made for another way of keeping changes.

    Raises:
        SchemaMismatch: A column that this way of keeping changes adds is missing, unknown or of another type.
    """
    added = (VALID_TO, IS_CURRENT, REPEATS, "snapshots", "assumed")
    other = [column for column in added if schema.get(column) != wanted.get(column)]
    if other:
        raise SchemaMismatch(
            f"{name} was made under another declaration of its write: its columns {', '.join(other)} do not fit. "
            f"`lakehouse run {name} --full-refresh` computes it again in place"
        )


def write(table: Table, events: pl.DataFrame, history: History, commit: Commit | None = None, *, scope: Scope | None = None) -> Written:
    """Fold events into the table, or replace its rows in `scope` by what these events alone say.

    In the counts an event is `written` if it opened an interval, `updated` if it repeats what was valid or says something else than another
    with its number, a duplicate if it was known.

    Raises:
        ScopeError: A key, a sequence number, `valid_from` or `is_deleted` is null or missing.
        SchemaMismatch: Columns or types differ from the table's.
        CommitConflict: Other writers did not let this one through.
    """
    commit = commit or Commit()
    identity = [*history.on, history.sequence_by]
    check_key(table.name, events, [*identity, VALID_FROM, IS_DELETED])

    def attempt(delta: DeltaTable) -> Counts:
        schema = pl.scan_delta(delta).collect_schema()
        check_made_for(table.name, schema, history.schema(events.schema))
        fitted = types.fit(events, {name: schema[name] for name in schema if name in events.columns}, table.name)
        before = scope.filter(pl.scan_delta(delta)).collect(engine="streaming") if scope else _concerned(table.name, delta, fitted, history)
        folded_before = before.clear() if scope else before
        after = table.fit(delta, fold(history, folded_before, fitted))
        known = _events_of(history, folded_before, identity)
        fresh = fitted.select(identity).unique().join(known, on=identity, how="anti")
        written = fresh.join(after, on=identity, how="semi").height
        removed = before.join(after, on=identity, how="anti")
        corrections = conflicting(history, _events_of(history, folded_before, fitted.columns), fitted)
        repeated = events.height - fresh.height - corrections
        counts = Counts(written, fresh.height - written + corrections, repeated, removed.height if scope else 0)
        compared = difference(table.name, after, before.lazy(), identity)
        properties = commit.properties(delta, counts, read_before_write=True)
        write_difference(table, delta, compared, identity, properties, removed=removed, before=before)
        return counts

    return table.write(commit, attempt)


def _concerned(name: str, delta: DeltaTable, events: pl.DataFrame, history: History) -> pl.DataFrame:
    """The intervals that events may change: of a key whose events are all later than its current interval that one, of others all."""
    key, sequence = list(history.on), history.sequence_by
    current = existing(name, delta, events, key, (IS_CURRENT,)).filter(IS_CURRENT).collect(engine="streaming")
    repeated = pl.col(REPEATS).list.eval(pl.element().struct.field(sequence)).list.max()
    newest = current.select(*key, pl.max_horizontal(sequence, repeated).alias(_NEWEST))
    ahead = events.group_by(key).agg(pl.col(sequence).min()).join(newest, on=key).filter(pl.col(sequence) > pl.col(_NEWEST)).select(key)
    others = events.join(ahead, on=key, how="anti")
    if not others.height:
        return current
    return pl.concat(
        [current.join(ahead, on=key, how="semi"), existing(name, delta, others, key, (IS_CURRENT,)).collect(engine="streaming")]
    )
