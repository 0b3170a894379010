"""Histories of versions (slowly changing dimension, type 2): change events in any order become intervals of validity.

`fold` is the whole meaning, a pure function; `write` applies it to the keys that a batch touches. Where events come from does not belong
here.

An interval is half-open, [`valid_from`, `valid_to`). Intervals of a key follow each other without a gap; one is empty if a later event says
that it was valid earlier. A deletion is an interval too, a tombstone, so that an older event which arrives later cannot undo it. An event
that says what the one before it said opens no interval, but is remembered in `repeats`: an event that arrives late and lies between the
two needs it. So a table is the same whatever the order in which its events came, except for lineage (`_…`): an interval has the lineage of
one of the events that said it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.storage import types
from lakehouse_assets.platform.storage.commit import Commit, Counts, Written
from lakehouse_assets.platform.storage.merge import check_key, difference, existing, write_difference
from lakehouse_assets.platform.storage.table import Table

VALID_FROM, VALID_TO, IS_CURRENT, IS_DELETED, REPEATS = "valid_from", "valid_to", "is_current", "is_deleted", "repeats"
_INTERVAL = "__interval"


@dataclass(frozen=True)
class History:
    """How events of one table are keyed and ordered.

    Events have the columns `on`, `sequence_by`, `valid_from` (UTC), `is_deleted`, and the values. Events of a key with the same sequence
    number are one event: if they disagree, the latest `valid_from` and the largest values count, whichever came first.
    """

    on: tuple[str, ...]
    sequence_by: str

    def schema(self, events: pl.Schema) -> pl.Schema:
        """The columns of the table, from those of its events."""
        repeat = pl.Struct({self.sequence_by: events[self.sequence_by], VALID_FROM: types.TIMESTAMP})
        return pl.Schema({**events, VALID_TO: types.TIMESTAMP, IS_CURRENT: pl.Boolean(), REPEATS: pl.List(repeat)})

    def values(self, columns: Sequence[str]) -> list[str]:
        """The columns that make a new version when they change. Columns that start with `_` are lineage and do not."""
        own = {*self.on, self.sequence_by, VALID_FROM, VALID_TO, IS_CURRENT, REPEATS}
        return [column for column in columns if column not in own and not column.startswith("_")]


def fold(history: History, intervals: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """The intervals after all events that stand in `intervals` and in `events`, sorted by key and sequence.

    `fold(fold(none, a), b) == fold(none, a + b)` for events `a` and `b` in any order.
    """
    key, sequence = list(history.on), history.sequence_by
    values = history.values(events.columns)
    said = _one_event_each(history, pl.concat([_events_of(history, intervals, events.columns), events]))
    first = pl.int_range(pl.len()).over(key) == 0
    opens = first | pl.any_horizontal(pl.col(v).ne_missing(pl.col(v).shift(1)) for v in values)
    said = said.with_columns(opens.cum_sum().alias(_INTERVAL), pl.col(VALID_FROM).cum_max().over(key))
    repeat = pl.struct(sequence, VALID_FROM)
    folded = said.group_by(_INTERVAL, maintain_order=True).agg(pl.all().first(), repeat.slice(1).alias(REPEATS))
    valid_to = pl.col(VALID_FROM).shift(-1).over(key)
    folded = folded.with_columns(valid_to.alias(VALID_TO), (valid_to.is_null() & ~pl.col(IS_DELETED)).alias(IS_CURRENT))
    return folded.select(list(history.schema(events.schema)))


def _one_event_each(history: History, events: pl.DataFrame) -> pl.DataFrame:
    identity = [*history.on, history.sequence_by]
    values = history.values(events.columns)
    events = events.with_columns(pl.col(VALID_FROM).max().over(identity))
    descending = [False] * len(identity) + [True] * len(values)
    return events.sort([*identity, *values], descending=descending, nulls_last=True, maintain_order=True).unique(
        identity, keep="first", maintain_order=True
    )


def _events_of(history: History, intervals: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    repeats = intervals.explode(REPEATS, empty_as_null=False).with_columns(
        pl.col(REPEATS).struct.field(name).alias(name) for name in (history.sequence_by, VALID_FROM)
    )
    return pl.concat([intervals.select(columns), repeats.select(columns)])


def write(table: Table, events: pl.DataFrame, history: History, commit: Commit | None = None) -> Written:
    """Fold events into the table.

    In the counts an event is `written` if it opened an interval, `merged` if it repeats what was valid, a duplicate if it was known.

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
        fitted = types.fit(events, {name: schema[name] for name in schema if name in events.columns}, table.name)
        before = existing(table.name, delta, fitted, history.on).collect(engine="streaming")
        after = table.fit(delta, fold(history, before, fitted))
        known = _events_of(history, before, identity)
        fresh = fitted.select(identity).unique().join(known, on=identity, how="anti")
        written = fresh.join(after, on=identity, how="semi").height
        counts = Counts(written, fresh.height - written, events.height - fresh.height)
        gone = before.join(after, on=identity, how="anti")
        found = difference(table.name, after, before.lazy(), identity)
        properties = commit.properties(delta, counts, read_before_write=True)
        write_difference(table, delta, found, identity, properties, removed=gone)
        return counts

    return table.write(commit, attempt)
