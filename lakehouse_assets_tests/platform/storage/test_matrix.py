"""Law 4 over all kinds of partitions, selections and writes: no row outside the scope of a write changes, and no file of theirs.

A timestamp cannot be a partition column here, so its rows lie in one partition and only appends and merges select among them. Plain assets
with any kind of Dagster's partitions go through the IO manager: their matrix is in `assets.test_io_manager_partitions`, and the cases in
which dagster-deltalake's own IO manager destroys a table stand below by name.
"""

from datetime import UTC, date, datetime, timedelta
from itertools import product

import dagster as dg
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.storage.commit import Counts
from lakehouse_assets.platform.storage.errors import ScopeError, TypeNotStorable
from lakehouse_assets.platform.storage.merge import merge
from lakehouse_assets.platform.storage.source import Source
from lakehouse_assets_tests.platform.orchestration import test_io_manager_partitions as plain
from lakehouse_assets_tests.platform.storage.fresh import examples, fresh_table, rows_of

DAYS = [date(2024, 2, 28) + timedelta(days=n) for n in range(5)]
HOURS = [datetime(2024, 1, 1, 22, tzinfo=UTC) + timedelta(hours=n) for n in range(5)]
# Partition columns with five values each, in order.
KINDS = {
    "static string": {"country": (pl.String(), ["United Kingdom", "a b/c=d%e", "o'brien", "ü", None])},
    "static integer": {"number": (pl.Int32(), [-(2**31), -1, 0, 7, 2**31 - 1])},
    "date": {"day": (pl.Date(), DAYS)},
    "hourly": {"day": (pl.Date(), DAYS[:1]), "hour": (pl.Int8(), [0, 1, 12, 22, 23])},
    "two-dimensional": {"day": (pl.Date(), DAYS), "country": (pl.String(), ["de", "fr", "it", "uk", None])},
}
TIMESTAMPS = {
    "naive timestamp": (pl.Datetime("us"), [hour.replace(tzinfo=None) for hour in HOURS]),
    "aware timestamp": (pl.Datetime("us", "UTC"), HOURS),
    "hourly timestamp": (pl.Datetime("ms", "UTC"), HOURS),
}
SELECTIONS = {"one": [2], "several": [0, 3], "range": [1, 2, 3], "all": None}
WRITES = ("replace", "merge", "append")


class Held:
    """The table in plain Python: rows as (partition values…, id, value)."""

    def __init__(self, table, names, keys):
        self.table, self.names, self.keys = table, names, keys
        self.schema = {**table.schema()}
        self.rows, self.next_id = [], 1000

    def frame(self, rows):
        return pl.DataFrame(rows, schema=self.schema, orient="row")

    def append(self, rows, scope):
        rows = [(*part, self.next_id + i, v) for i, (*part, _, v) in enumerate(rows)]
        self.next_id += len(rows)
        self.rows += rows
        assert self.table.append(self.frame(rows)).counts == Counts(written=len(rows))

    def merge(self, rows, scope):
        before = {row[:-1]: row for row in self.rows}
        after = before | {row[:-1]: row for row in rows}
        self.rows = list(after.values())
        counts = merge(self.table, self.frame(rows), self.keys).counts
        assert counts.written == len(after) - len(before)
        assert counts.written + counts.updated + counts.duplicates == len(rows)

    def replace(self, rows, scope):
        gone = [row for row in self.rows if in_scope(row, self.names, scope)]
        self.rows = [row for row in self.rows if row not in gone] + rows
        assert self.table.replace(self.frame(rows), scope).counts == Counts(written=len(rows), removed=len(gone))

    def files_outside(self, scope):
        """The files of partitions that no write in the scope may touch."""
        files = pl.DataFrame(self.table.delta().get_add_actions(flatten=True))
        parts = files.select("path", *(f"partition.{name}" for name in self.names)).rows()
        return {path for path, *part in parts if not in_scope(part, self.names, scope)}


def in_scope(row, names, scope):
    return scope is None or all(row[names.index(name)] in values for name, values in scope.items())


def scope_of(columns, chosen):
    """The values at these places in each column that has more than one; None means all rows."""
    if chosen is None:
        return None
    return {name: [values[i] for i in chosen] for name, (_, values) in columns.items() if len(values) > 1}


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
@examples(2)
def test_a_write_changes_no_row_and_no_file_outside_its_scope(kind, selection, data):
    columns, scope = KINDS[kind], scope_of(KINDS[kind], SELECTIONS[selection])
    nullable = any(None in values for _, values in columns.values())
    parts = list(product(*(values for _, values in columns.values())))
    inside = [part for part in parts if in_scope(part, list(columns), scope)]
    # A key has no null, so rows without a partition value cannot be merged.
    mergeable = [part for part in inside if None not in part]
    writes = data.draw(st.permutations(WRITES))

    def rows(among):
        drawn = st.dictionaries(st.tuples(st.sampled_from(among), st.integers(0, 2)), st.integers(0, 9), min_size=1, max_size=6)
        return [(*part, id_, v) for (part, id_), v in data.draw(drawn).items()]

    schema = {name: dtype for name, (dtype, _) in columns.items()} | {"id": pl.Int64(), "v": pl.Int64()}
    with fresh_table(schema, tuple(columns)) as table:
        held = Held(table, list(columns), [*columns, "id"])
        before = rows(parts)
        table.append(held.frame(before))
        held.rows = before
        assert rows_of(table) == sorted(before, key=repr), "created"
        for write in writes:
            files = held.files_outside(scope)
            getattr(held, write)(rows(mergeable if write == "merge" else inside), scope)
            assert rows_of(table) == sorted(held.rows, key=repr), write
            assert held.files_outside(scope) == files, write
            touched = Source(table, table.version() - 1, table.version()).touched(tuple(columns))
            assert all(in_scope(part, list(columns), scope) for part in touched.rows()), write
    assert nullable or mergeable == inside


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("kind", TIMESTAMPS)
def test_rows_of_a_timestamp_are_selected_by_key_and_not_by_partition(kind, selection, lakehouse):
    dtype, moments = TIMESTAMPS[kind]
    table = lakehouse.table("shop.silver.things")
    schema = {"at": dtype, "v": pl.Int64()}
    with pytest.raises(TypeNotStorable, match="partition column 'at'"):
        table.create(schema, ("at",))
    assert not table.exists()

    table.create(schema)
    chosen = moments if SELECTIONS[selection] is None else [moments[i] for i in SELECTIONS[selection]]
    aware = {moment: moment.replace(tzinfo=UTC) for moment in moments}
    table.append(pl.DataFrame({"at": moments, "v": 0}, schema=schema))
    merge(table, pl.DataFrame({"at": chosen, "v": 1}, schema=schema), ["at"])
    assert rows_of(table) == [(aware[moment], int(moment in chosen)) for moment in moments]
    assert table.changes(1, 2).collect().height == len(chosen)
    table.append(pl.DataFrame({"at": chosen, "v": 2}, schema=schema))
    assert table.changes(2, 3).collect().height == len(chosen)
    version = table.version()
    with pytest.raises(ScopeError, match="not partitioned by at"):
        table.replace(table.scan().collect().clear(), {"at": chosen})
    assert table.version() == version


# What dagster-deltalake's own IO manager destroys or cannot do: see `assets.test_io_manager_upstream`. By name: kind and indexes of keys.
DESTROYED_ELSEWHERE = {
    "naive timestamps": ("naive timestamp", 1, 1),
    "integer partition columns": ("static integer", 1, 1),
    "several static keys in one run": ("static string", 0, 1),
    "ranges": ("date", 1, 2),
    "ranges of timestamps": ("aware timestamp", 1, 2),
    "weekly over daily": ("weekly over daily", 1, 1),
    "hourly in two dimensions": ("hourly by integer", 1, 1),
}


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
@pytest.mark.parametrize("case", DESTROYED_ELSEWHERE)
def test_a_plain_asset_replaces_its_partitions_and_keeps_the_others(case, tmp_path):
    name, first, last = DESTROYED_ELSEWHERE[case]
    kind = plain.KINDS[name]
    touched = plain.keys_between(kind, first, last)
    others = kind.rows([key for key in plain.keys_between(kind, 0, 2) if key not in touched], v=0)
    table = plain.stored(tmp_path)
    table.create(others.schema)
    table.append(others)
    table.append(kind.rows(touched, v=0))
    with dg.DagsterInstance.ephemeral() as instance:
        plain.run(kind, instance, tmp_path, touched, kind.rows(touched, v=1))
    assert plain.content(table) == plain.as_stored(others, kind.rows(touched, v=1))
