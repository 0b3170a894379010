"""The latest state of each key (slowly changing dimension, type 1), from change events in any order.

`fold` defines the meaning, a pure function; `write` applies it to the keys that a batch touches. A deletion stays as a row, a tombstone,
so that an older event which arrives later cannot undo it. So a table is the same whatever the order in which its events came, except for
lineage (`_…`). Histories are in `scd2`, snapshots in `snapshots`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.storage.commit import Commit, Counts, Written
from lakehouse_assets.platform.storage.merge import check_key, difference, existing, write_difference
from lakehouse_assets.platform.storage.scd2 import IS_DELETED, VALID_FROM, check_made_for, one_event_each
from lakehouse_assets.platform.storage.scopes import Scope
from lakehouse_assets.platform.storage.table import Table


@dataclass(frozen=True)
class Latest:
    """How events of one table are keyed and ordered; events and ties are as in `scd2.History`."""

    on: tuple[str, ...]
    sequence_by: str

    def schema(self, events: pl.Schema) -> pl.Schema:
        """The columns of the table, from those of its events: the same."""
        return events

    def values(self, columns: Sequence[str]) -> list[str]:
        """The columns that say something of a key. Columns that start with `_` are lineage and do not."""
        own = {*self.on, self.sequence_by, VALID_FROM}
        return [column for column in columns if column not in own and not column.startswith("_")]


def fold(latest: Latest, states: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Of each key in `states` and `events` the event with the largest sequence number, sorted by key.

    `fold(fold(none, a), b) == fold(none, a + b)` for events `a` and `b` in any order.
    """
    ordered = one_event_each(
        latest.on, latest.sequence_by, latest.values(events.columns), pl.concat([states.select(events.columns), events])
    )
    return ordered.unique(latest.on, keep="last", maintain_order=True)


def write(table: Table, events: pl.DataFrame, latest: Latest, commit: Commit | None = None, *, scope: Scope | None = None) -> Written:
    """Fold events into the table, or replace its rows in `scope` by what these events alone say.

    In the counts an event is `written` if it became the state of a new key, `updated` if it changed that of a known one, else a duplicate:
    it is known, or there is a later one.

    Raises:
        ScopeError: A key, a sequence number, `valid_from` or `is_deleted` is null or missing.
        SchemaMismatch: Columns or types differ from the table's.
        CommitConflict: Other writers did not let this one through.
    """
    commit = commit or Commit()
    check_key(table.name, events, [*latest.on, latest.sequence_by, VALID_FROM, IS_DELETED])

    def attempt(delta: DeltaTable) -> Counts:
        check_made_for(table.name, pl.scan_delta(delta).collect_schema(), latest.schema(events.schema))
        fitted = table.fit(delta, events)
        rows = scope.filter(pl.scan_delta(delta)) if scope else existing(table.name, delta, fitted, latest.on)
        before = rows.collect(engine="streaming")
        after = fold(latest, before.clear() if scope else before, fitted)
        compared = difference(table.name, after, before.lazy(), latest.on)
        removed = before.join(after, on=latest.on, how="anti")
        new, changed = compared.new.height, compared.changed.height
        counts = Counts(new, changed, events.height - new - changed, removed.height)
        properties = commit.properties(delta, counts, read_before_write=True)
        write_difference(table, delta, compared, latest.on, properties, removed=removed, before=before)
        return counts

    return table.write(commit, attempt)
