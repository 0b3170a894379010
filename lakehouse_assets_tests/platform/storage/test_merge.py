"""Merging by key, held against a dictionary; what did not change is not written."""

import math
from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.storage import merge as merging
from lakehouse_assets.platform.storage.commit import Counts
from lakehouse_assets.platform.storage.errors import SchemaMismatch, ScopeError
from lakehouse_assets.platform.storage.merge import merge
from lakehouse_assets_tests.platform.storage.fresh import examples, files_of, fresh_table, rows_of

SCHEMA = {
    "region": pl.String(),
    "id": pl.Int64(),
    "seen": pl.Int64(),
    "text": pl.String(),
    "price": pl.Float64(),
    "tags": pl.List(pl.String()),
    "stamp": pl.Int64(),
    "_row": pl.Int64(),
}
KEY = ["region", "id"]
ROW = st.tuples(
    st.sampled_from(["it's", "b c"]),
    st.integers(0, 3),
    st.none() | st.integers(0, 3),
    st.none() | st.sampled_from(["it's", 'say "so"; --', "", "ü\n"]),
    st.none() | st.sampled_from([0.5, math.nan, math.inf]),
    st.none() | st.lists(st.none() | st.sampled_from(["x", "y'"]), max_size=2),
    st.none() | st.integers(0, 3),
    st.integers(0, 3),
)
COLUMNS = list(SCHEMA)
COMPARED = [COLUMNS.index(name) for name in ("seen", "text", "price", "tags")]


def merged_by_hand(held, batch, newest_by):
    """What the table holds afterwards, the rows that came or changed, and the counts.

    Without `_sequence` and `_row`, of two equally new rows the one with the larger values counts, in whatever order they come.
    """

    def age(row, *ties):
        names = [newest_by, "seen", "text", "price", *ties] if newest_by else []
        values = [row[COLUMNS.index(name)] for name in names]
        return [(0, 0) if value is None else (2, 0) if value != value else (1, value) for value in values]  # noqa: PLR0124 NaN

    latest = {}
    for row in batch:
        if row[:2] not in latest or age(row, "stamp") >= age(latest[row[:2]], "stamp"):
            latest[row[:2]] = row
    new = {key: row for key, row in latest.items() if key not in held}
    changed = {
        key: row
        for key, row in latest.items()
        if key in held and age(row) >= age(held[key]) and any(repr(row[i]) != repr(held[key][i]) for i in COMPARED)
    }
    counts = Counts(len(new), len(changed), len(batch) - len(new) - len(changed))
    return held | new | changed, sorted([*new.values(), *changed.values()], key=repr), counts


@given(
    st.lists(st.lists(ROW, max_size=8), min_size=1, max_size=3),
    st.sampled_from([(), ("region",), ("region", "id")]),
    st.sampled_from([None, "seen", "stamp", "_row"]),
    st.sampled_from([0, merging._MANY_ROWS]),
)
@examples(20)
def test_batches_are_merged_as_into_a_dictionary(batches, partition_by, newest_by, many_rows):
    """Whether keys are compared by their digests first, or not."""
    with fresh_table(SCHEMA, partition_by) as table, pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "_MANY_ROWS", many_rows)
        held = {}
        for batch in batches:
            files = files_of(table)
            written = merge(table, pl.DataFrame(batch, SCHEMA, orient="row"), KEY, newest_by=newest_by, ignore=["stamp"])
            held, came, counts = merged_by_hand(held, batch, newest_by)
            assert written.counts == counts
            assert repr(rows_of(table)) == repr(sorted(held.values(), key=repr))
            assert repr(sorted(table.changes(written.version - 1, written.version).collect().rows(), key=repr)) == repr(came)
            if not came:
                assert files_of(table) == files


THINGS = {"id": pl.Int64(), "seen": pl.Int64(), "text": pl.String(), "_file": pl.String()}


def frame(*rows):
    return pl.DataFrame(rows, THINGS, orient="row")


@pytest.fixture
def things(table):
    table.create(THINGS)
    merge(table, frame((1, 5, "a", "first"), (2, 5, "b", "first")), ["id"])
    return table


def test_rows_that_did_not_change_are_not_written(things):
    files = files_of(things)
    written = merge(things, frame((1, 5, "a", "second"), (2, 5, "b", "second")), ["id"])
    assert written.counts == Counts(duplicates=2)
    assert files_of(things) == files
    assert things.changes(1, written.version).collect().is_empty()
    assert set(things.scan().collect()["_file"]) == {"first"}


def test_one_changed_row_is_one_change(things):
    written = merge(things, frame((1, 6, "a", "second"), (2, 5, "b", "second"), (3, 1, "c", "second")), ["id"])
    assert written.counts == Counts(written=1, updated=1, duplicates=1)
    assert sorted(things.changes(1, 2).collect().rows()) == [(1, 6, "a", "second"), (3, 1, "c", "second")]


def test_the_later_of_two_rows_counts(things):
    assert merge(things, frame((1, 1, "x", "f"), (1, 0, "y", "f")), ["id"]).counts == Counts(updated=1, duplicates=1)
    assert rows_of(things)[0] == (1, 0, "y", "f")


def test_the_newer_of_two_rows_counts(things):
    assert merge(things, frame((1, 7, "x", "f"), (1, 6, "y", "f"), (2, 4, "z", "f")), ["id"], newest_by="seen").counts == Counts(
        updated=1, duplicates=2
    )
    assert rows_of(things) == [(1, 7, "x", "f"), (2, 5, "b", "first")]


def test_no_time_is_older_than_any(things):
    assert merge(things, frame((1, None, "x", "f"), (3, None, "c", "f")), ["id"], newest_by="seen").counts == Counts(
        written=1, duplicates=1
    )
    assert merge(things, frame((3, 0, "d", "f")), ["id"], newest_by="seen").counts == Counts(updated=1)
    assert merge(things, frame((3, None, "e", "f")), ["id"], newest_by="seen").counts == Counts(duplicates=1)
    assert rows_of(things, "id", "text") == [(1, "a"), (2, "b"), (3, "d")]


def test_a_table_of_keys_alone(table):
    table.create({"id": pl.Int64()})
    assert merge(table, pl.DataFrame({"id": [1, 2, 1]}), ["id"]).counts == Counts(written=2, duplicates=1)
    assert merge(table, pl.DataFrame({"id": [2, 3]}), ["id"]).counts == Counts(written=1, duplicates=1)
    assert rows_of(table) == [(1,), (2,), (3,)]


def test_names_that_sql_would_trip_over(table):
    names = ["Customer ID", 'q"x', "a.b", "UPPER", "select", "s`t", "ünï", "a'b", "a,b", "__t"]
    table.create({"key part": pl.String(), **dict.fromkeys(names, pl.Int64())}, ("key part",))
    for value in (1, 2):
        merge(table, pl.DataFrame({"key part": ["x"], **{name: [value] for name in names}}), ["key part"])
    table.replace(table.scan().collect(), {"key part": ["x"]})
    assert rows_of(table) == [("x", *[2] * len(names))]


KEYS = {
    "string": ["a'b", ""],
    "integer": [-(2**63), 2**63 - 1],
    "boolean": [True, False],
    "date": [date(1, 1, 1), date(9999, 12, 31)],
    "timestamp": [datetime(2011, 7, 1, 12, 0, 0, 1, tzinfo=UTC), datetime(1900, 1, 1, tzinfo=UTC)],
    "decimal": [Decimal("0.01"), Decimal("-123456789.99")],
    "binary": [b"\x00", b"\xff"],
}


@pytest.mark.parametrize("many_rows", [0, 50_000])
@pytest.mark.parametrize("name", KEYS)
def test_keys_of_every_type_that_can_be_compared(table, name, many_rows, monkeypatch):
    monkeypatch.setattr(merging, "_MANY_ROWS", many_rows)
    rows = pl.DataFrame({"key": KEYS[name], "value": [1, 2]})
    table.create(rows.schema)
    assert merge(table, rows, ["key"]).counts == Counts(written=2)
    assert merge(table, rows.with_columns(value=pl.lit(9, pl.Int64)), ["key"]).counts == Counts(updated=2)
    assert merge(table, rows.with_columns(value=pl.lit(9, pl.Int64)), ["key"]).counts == Counts(duplicates=2)
    assert rows_of(table, "value") == [(9,), (9,)]


@pytest.mark.parametrize("on", [["id"], ["name"], ["id", "name"]], ids=str)
def test_keys_that_share_a_digest_are_told_apart(table, on, monkeypatch):
    monkeypatch.setattr(merging, "_MANY_ROWS", 0)
    monkeypatch.setattr(merging, "digest", lambda key: pl.col(key[0]).is_null().cast(pl.UInt64))
    rows = pl.DataFrame({"id": [1, 2, 3], "name": ["a", "b", "c"], "value": [1, 1, 1]})
    table.create(rows.schema)
    assert merge(table, rows, on).counts == Counts(written=3)
    later = pl.DataFrame({"id": [3, 4, 1, 4], "name": ["c", "d", "a", "d"], "value": [2, 1, 1, 2]})
    assert merge(table, later, on).counts == Counts(written=1, updated=1, duplicates=2)
    assert rows_of(table) == [(1, "a", 1), (2, "b", 1), (3, "c", 2), (4, "d", 2)]


@pytest.mark.parametrize("dtype", [pl.Float64(), pl.List(pl.Int64), pl.Struct({"a": pl.Int64})], ids=str)
def test_keys_that_readers_compare_differently_are_refused(table, dtype):
    table.create({"key": dtype, "value": pl.Int64()})
    with pytest.raises(ScopeError, match=r"shop\.silver\.things: a key cannot hold floats or nested values: key"):
        merge(table, pl.DataFrame(schema={"key": dtype, "value": pl.Int64}), ["key"])


@pytest.mark.parametrize(
    ("rows", "on", "error", "said"),
    [
        (frame((None, 1, "a", "f")), ["id"], ScopeError, "nulls in id"),
        (frame((1, 1, "a", "f")), ["id", "line"], ScopeError, "lacks line"),
        (frame((1, 1, "a", "f")), [], ScopeError, "cannot be determined"),
        (frame((1, 1, "a", "f")).with_columns(id=pl.lit("1")), ["id"], SchemaMismatch, "'id' is String"),
    ],
)
def test_rows_that_cannot_be_told_apart_are_refused(things, rows, on, error, said):
    with pytest.raises(error, match=said):
        merge(things, rows, on)
    assert things.version() == 1


def test_a_key_that_could_stand_in_two_partitions_is_refused(table):
    table.create({"day": pl.Date(), "id": pl.Int64()}, ("day",))
    with pytest.raises(ScopeError, match=r"shop\.silver\.things is partitioned by day, which is not part of the key id"):
        merge(table, pl.DataFrame({"day": [date(2011, 7, 1)], "id": [1]}), ["id"])


def test_rows_that_cannot_be_ordered_are_refused(things):
    with pytest.raises(ScopeError, match="lacks when"):
        merge(things, frame((1, 6, "b", "f")), ["id"], newest_by="when")


def test_a_key_that_the_table_holds_twice_is_a_clear_error(things):
    things.append(frame((1, 5, "a", "by another way")))
    with pytest.raises(ScopeError, match=r"shop\.silver\.things has a key of id twice"):
        merge(things, frame((1, 6, "b", "f")), ["id"])
    assert merge(things, frame((2, 6, "b", "f")), ["id"]).counts == Counts(updated=1)


def test_a_table_that_another_program_began_is_read_before_it_is_merged_into(lakehouse):
    """Its version 0 holds rows already."""
    table = lakehouse.table("shop.silver.foreign")
    pl.DataFrame({"id": [1], "value": [1]}).write_delta(table.uri)
    assert merge(table, pl.DataFrame({"id": [1, 2], "value": [5, 6]}), ["id"]).counts == Counts(written=1, updated=1)
    assert rows_of(table) == [(1, 5), (2, 6)]


def test_keys_that_would_change_have_the_types_of_the_frame(table):
    types = {
        "kind": pl.Enum(["b", "a"]),
        "brand": pl.Categorical(),
        "number": pl.UInt32(),
        "day": pl.Datetime("ms"),
        "value": pl.Int64(),
    }
    rows = pl.DataFrame(
        {"kind": ["a", "b"], "brand": "x", "number": 2**32 - 1, "day": datetime(2024, 1, 1, tzinfo=UTC).replace(tzinfo=None), "value": 1},
        types,
    )
    table.create(types)
    merge(table, rows, list(types)[:-1])
    later = rows.with_columns(value=pl.Series([2, 1]))
    changed = merging.changed_keys(table, later, list(types)[:-1], None)
    assert changed.equals(later.head(1).drop("value"))
    assert changed.schema == later.drop("value").schema
