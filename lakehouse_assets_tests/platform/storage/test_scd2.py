"""Histories of versions: whatever the order and the batches in which events come, the table is the same."""

import random
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.storage.commit import Counts
from lakehouse_assets.platform.storage.errors import SchemaMismatch, ScopeError
from lakehouse_assets.platform.storage.scd2 import History, fold, write
from lakehouse_assets.platform.storage.scopes import Everything
from lakehouse_assets_tests.platform.storage.fresh import examples, files_of, fresh_table, paths_of

START = datetime(2011, 1, 1, tzinfo=UTC)
HISTORY = History(on=("id",), sequence_by="sequence")
UNVERSIONED = History(on=("id",), sequence_by="sequence", unversioned=("tags",))
EVENTS = pl.Schema(
    {
        "id": pl.Int64(),
        "sequence": pl.Int64(),
        "valid_from": pl.Datetime("us", "UTC"),
        "is_deleted": pl.Boolean(),
        "segment": pl.String(),
        "tags": pl.List(pl.String()),
    }
)
SCHEMA = HISTORY.schema(EVENTS)
NONE = pl.DataFrame(schema=SCHEMA)


def day(number):
    return START + timedelta(days=number)


def events(*rows):
    """Rows of id, sequence, day of `valid_from`, is_deleted, segment and tags (the last two may be left out)."""
    full = [(id_, sequence, day(valid), deleted, *rest, *[None] * (2 - len(rest))) for id_, sequence, valid, deleted, *rest in rows]
    return pl.DataFrame(full, EVENTS, orient="row")


# Few keys, numbers and values, so that events meet: repetitions, late ones, one number twice, a later one that was valid earlier.
EVENT = st.tuples(
    st.integers(1, 2),
    st.integers(1, 5),
    st.integers(1, 6),
    st.booleans(),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from([None, [], ["x"]]),
)


def folded_by_hand(rows, history=HISTORY):
    """The intervals, by the words of the module: (id, sequence, valid_from, is_deleted, segment, tags, valid_to, is_current, repeats)."""
    intervals = []
    for id_ in sorted({row[0] for row in rows}):
        by_sequence = {}
        for _, sequence, valid, *values in (row for row in rows if row[0] == id_):
            known = by_sequence.setdefault(sequence, [valid, values])
            known[0] = max(known[0], valid)
            known[1] = max(known[1], values, key=lambda values: [(value is not None, value) for value in values])
        own, latest = [], 0
        for sequence, (valid, values) in sorted(by_sequence.items()):
            latest = max(latest, valid)
            repeat = {"sequence": sequence, "valid_from": day(latest)} | ({"tags": values[2]} if history.unversioned else {})
            versioned = 5 if history.unversioned else 6
            if own and own[-1][3:versioned] == values[: versioned - 3]:
                own[-1][8].append(repeat)
                own[-1][5] = values[2]
            else:
                own.append([id_, sequence, day(latest), *values, None, False, [repeat] if history.unversioned else []])
        for interval, following in pairwise(own):
            interval[6] = following[2]
        own[-1][7] = not own[-1][3]
        intervals += map(tuple, own)
    return intervals


def in_batches(rows, chance):
    """The rows in any order, some of them twice, cut anywhere."""
    rows = chance.sample(rows, len(rows)) + chance.sample(rows, len(rows) // 3)
    while rows:
        cut = chance.randint(1, len(rows))
        yield rows[:cut]
        rows = rows[cut:]


@given(st.lists(EVENT, max_size=10), st.randoms(use_true_random=False))
@examples(34)
def test_any_order_and_any_batches_give_one_table(rows, chance):
    table, done = NONE, []
    for batch in in_batches(rows, chance):
        table = fold(HISTORY, table, events(*batch))
        done += batch
        assert table.rows() == folded_by_hand(done)
    assert fold(HISTORY, NONE, events(*rows)).equals(table)
    assert table.schema == SCHEMA


@given(st.lists(EVENT, min_size=1, max_size=10))
@examples(17)
def test_intervals_of_a_key_follow_each_other_without_a_gap(rows):
    for (id_,), intervals in fold(HISTORY, NONE, events(*rows)).group_by("id", maintain_order=True):
        assert intervals["sequence"].is_sorted()
        assert intervals["valid_to"].to_list() == [*intervals["valid_from"][1:], None]
        assert all(interval["valid_from"] <= interval["valid_to"] for interval in intervals[:-1].iter_rows(named=True))
        last = intervals.row(-1, named=True)
        assert intervals["is_current"].to_list() == [False] * (len(intervals) - 1) + [not last["is_deleted"]]
        assert id_ in {row[0] for row in rows}


@given(
    st.lists(EVENT, max_size=8), st.randoms(use_true_random=False), st.sampled_from([(), ("id",), ("is_current",), ("id", "is_current")])
)
@examples(10)
def test_a_real_table_is_the_same_in_any_order_too(rows, chance, partition_by):
    with fresh_table(SCHEMA, partition_by) as table:
        done, counted = [], 0
        for batch in in_batches(rows, chance):
            known = {row[:2] for row in done}
            counts = write(table, events(*batch), HISTORY).counts
            done += batch
            assert table.scan().sort("id", "sequence").collect().rows() == folded_by_hand(done)
            fresh = {row[:2] for row in batch} - known
            assert counts.written + counts.updated == len(fresh)
            assert counts.duplicates == len(batch) - len(fresh)
            counted += counts.written + counts.updated
        assert counted == len({row[:2] for row in done})


def intervals_of(table, *columns):
    return table.scan().sort("id", "sequence").select(columns).collect().rows()


@pytest.fixture
def customers(table):
    table.create(SCHEMA)
    return table


def test_a_change_ends_an_interval_and_opens_the_next(customers):
    assert write(customers, events((1, 1, 1, False, "a"), (1, 2, 5, False, "b")), HISTORY).counts == Counts(written=2)
    assert intervals_of(customers, "segment", "valid_from", "valid_to", "is_current") == [
        ("a", day(1), day(5), False),
        ("b", day(5), None, True),
    ]


def test_an_event_that_says_the_same_opens_none(customers):
    assert write(customers, events((1, 1, 1, False, "a"), (1, 2, 5, False, "a")), HISTORY).counts == Counts(written=1, updated=1)
    assert intervals_of(customers, "segment", "valid_from", "valid_to", "is_current") == [("a", day(1), None, True)]


def test_a_late_event_between_two_that_said_the_same_splits_their_interval(customers):
    write(customers, events((1, 1, 1, False, "a"), (1, 3, 5, False, "a")), HISTORY)
    assert write(customers, events((1, 2, 3, False, "b")), HISTORY).counts == Counts(written=1)
    assert intervals_of(customers, "segment", "valid_from", "valid_to") == [
        ("a", day(1), day(3)),
        ("b", day(3), day(5)),
        ("a", day(5), None),
    ]


def test_an_older_event_does_not_undo_a_deletion(customers):
    write(customers, events((1, 1, 1, False, "a"), (1, 9, 9, True)), HISTORY)
    write(customers, events((1, 5, 5, False, "b")), HISTORY)
    assert intervals_of(customers, "segment", "is_deleted", "valid_from", "valid_to", "is_current") == [
        ("a", False, day(1), day(5), False),
        ("b", False, day(5), day(9), False),
        (None, True, day(9), None, False),
    ]
    write(customers, events((1, 10, 12, False, "c")), HISTORY)
    assert intervals_of(customers, "segment", "is_current")[-1] == ("c", True)


def test_a_deletion_may_come_before_everything_else(customers):
    write(customers, events((1, 9, 9, True)), HISTORY)
    write(customers, events((1, 1, 1, False, "a")), HISTORY)
    assert intervals_of(customers, "segment", "valid_to", "is_current") == [("a", day(9), False), (None, None, False)]


def test_a_later_event_that_was_valid_earlier_leaves_an_empty_interval(customers):
    write(customers, events((1, 1, 5, False, "a"), (1, 2, 3, False, "b")), HISTORY)
    assert intervals_of(customers, "segment", "valid_from", "valid_to") == [("a", day(5), day(5)), ("b", day(5), None)]


def test_what_did_not_change_is_not_written(customers):
    write(customers, events((1, 1, 1, False, "a"), (2, 1, 1, False, "b")), HISTORY)
    files = files_of(customers)
    assert write(customers, events((1, 1, 1, False, "a")), HISTORY).counts == Counts(duplicates=1)
    assert files_of(customers) == files
    write(customers, events((1, 2, 2, False, "c")), HISTORY)
    assert set(customers.changes(2, 3).collect()["id"]) == {1}


def test_a_change_of_a_current_row_rewrites_no_file_of_closed_intervals(table):
    table.create(SCHEMA, ("is_current",))
    write(table, events((1, 1, 1, False, "a"), (1, 2, 2, False, "b"), (2, 1, 1, False, "c"), (3, 1, 1, False, "d")), HISTORY)
    closed, current = paths_of(table, "is_current=false"), paths_of(table, "is_current=true")
    write(table, events((1, 3, 3, False, "e"), (2, 2, 3, True), (4, 1, 3, False, "f")), HISTORY)
    assert closed < paths_of(table, "is_current=false")
    assert not current & paths_of(table, "is_current=true")
    assert intervals_of(table, "id", "segment", "is_current") == [
        (1, "a", False),
        (1, "b", False),
        (1, "e", True),
        (2, "c", False),
        (2, None, False),
        (3, "d", True),
        (4, "f", True),
    ]


def test_a_later_event_of_a_current_key_reads_no_closed_interval(table):
    table.create(SCHEMA, ("is_current",))
    first = ((1, 1, 1, False, "a"), (1, 2, 2, False, "b"), (2, 1, 1, False, "c"), (2, 2, 2, False, "d"), (2, 4, 4, False, "d"))
    write(table, events(*first, (4, 1, 1, True)), HISTORY)
    for path in Path(table.uri, "is_current=false").glob("*.parquet"):
        path.unlink()
    assert write(table, events((1, 3, 3, False, "e"), (2, 5, 5, False, "f")), HISTORY).counts == Counts(written=2)
    # A known, a repeated and a late event, and a key without a current row, which may have been deleted.
    for other in ((1, 2, 2, False, "b"), (2, 4, 4, False, "d"), (2, 3, 3, False, "g"), (3, 1, 1, False, "h")):
        with pytest.raises(FileNotFoundError):
            write(table, events(other), HISTORY)


def test_new_keys_rewrite_no_file(table):
    table.create(SCHEMA, ("is_current",))
    write(table, events((1, 1, 1, False, "a"), (1, 2, 2, False, "b")), HISTORY)
    before = paths_of(table)
    write(table, events((2, 1, 1, False, "a"), (2, 2, 2, False, "b")), HISTORY)
    assert before < paths_of(table)


def test_a_late_event_changes_closed_intervals_in_their_partition(table):
    table.create(SCHEMA, ("is_current",))
    write(table, events((1, 1, 1, False, "a"), (1, 5, 5, False, "b"), (2, 1, 1, False, "c")), HISTORY)
    current = paths_of(table, "is_current=true")
    write(table, events((1, 3, 3, False, "d")), HISTORY)
    assert paths_of(table, "is_current=true") == current
    assert intervals_of(table, "segment", "valid_from", "valid_to", "is_current") == [
        ("a", day(1), day(3), False),
        ("d", day(3), day(5), False),
        ("b", day(5), None, True),
        ("c", day(1), None, True),
    ]


def test_lineage_makes_no_version(table):
    schema = pl.Schema({**EVENTS, "_file": pl.String()})
    table.create(HISTORY.schema(schema))
    rows = events((1, 1, 1, False, "a"))
    write(table, rows.with_columns(_file=pl.lit("first")), HISTORY)
    files = files_of(table)
    write(table, rows.with_columns(_file=pl.lit("second")), HISTORY)
    assert files_of(table) == files
    assert intervals_of(table, "_file") == [("first",)]


def test_names_and_values_that_sql_would_trip_over(table):
    history = History(on=("Customer ID",), sequence_by="no.")
    rows = events((1, 1, 1, False, "it's"), (1, 3, 3, False, "it's")).rename({"id": "Customer ID", "sequence": "no."})
    table.create(history.schema(rows.schema), ("Customer ID",))
    write(table, rows, history)
    write(table, rows[:1].with_columns(pl.lit(2, pl.Int64).alias("no."), segment=pl.lit('"; --')), history)
    assert table.scan().sort("no.").collect()["segment"].to_list() == ["it's", '"; --', "it's"]


@pytest.mark.parametrize("column", ["id", "sequence", "valid_from", "is_deleted"])
def test_an_event_without_its_place_in_the_history_is_refused(customers, column):
    rows = events((1, 1, 1, False, "a"))
    with pytest.raises(ScopeError, match=f"nulls in {column}"):
        write(customers, rows.with_columns(pl.lit(None, rows.schema[column]).alias(column)), HISTORY)
    with pytest.raises(ScopeError, match=f"lacks {column}"):
        write(customers, rows.drop(column), HISTORY)
    assert customers.version() == 0


def test_events_with_other_columns_than_the_table_are_refused(customers):
    with pytest.raises(SchemaMismatch, match="price"):
        write(customers, events((1, 1, 1, False, "a")).with_columns(price=1.0), HISTORY)
    with pytest.raises(SchemaMismatch, match="segment"):
        write(customers, events((1, 1, 1, False, "a")).drop("segment"), HISTORY)
    assert customers.version() == 0


SIX = [
    (1, 1, 3, False, "a", ["x"]),
    (1, 2, 2, False, "a", []),
    (1, 2, 5, False, "a", None),
    (1, 3, 4, False, "b", None),
    (1, 4, 6, True, None, None),
    (1, 5, 7, False, "a", ["x"]),
]


@pytest.mark.parametrize("history", [HISTORY, UNVERSIONED], ids=["all versioned", "tags unversioned"])
def test_every_permutation_and_every_batching_of_six_events_gives_one_table(history):
    """A batch may come on top of every other set of events; all ways to get anywhere are made of such steps."""
    sets = [frozenset(chosen) for size in range(1, 7) for chosen in combinations(range(6), size)]
    none = pl.DataFrame(schema=history.schema(EVENTS))
    tables = {chosen: fold(history, none, events(*(SIX[one] for one in chosen))) for chosen in sets}
    for chosen, table in tables.items():
        assert table.rows() == folded_by_hand([SIX[one] for one in chosen], history)
        for before in sets:
            if before < chosen:
                assert fold(history, tables[before], events(*(SIX[one] for one in chosen - before))).equals(table)


@given(st.lists(EVENT, max_size=10), st.randoms(use_true_random=False))
@examples(14)
def test_any_order_and_any_batches_give_one_table_where_columns_are_unversioned(rows, chance):
    table, done = pl.DataFrame(schema=UNVERSIONED.schema(EVENTS)), []
    for batch in in_batches(rows, chance):
        table = fold(UNVERSIONED, table, events(*batch))
        done += batch
        assert table.rows() == folded_by_hand(done, UNVERSIONED)


@pytest.mark.parametrize("history", [HISTORY, UNVERSIONED], ids=["all versioned", "tags unversioned"])
def test_thousands_of_shuffled_events(history):
    chance = random.Random(5)
    tags = [None, [], ["x"], ["y"]]
    rows = [
        (chance.randrange(100), chance.randrange(80), chance.randrange(90), chance.random() < 0.2, chance.choice("ab"), chance.choice(tags))
        for _ in range(3_000)
    ]
    table, waiting = pl.DataFrame(schema=history.schema(EVENTS)), rows + chance.sample(rows, 500)
    chance.shuffle(waiting)
    while waiting:
        cut = chance.randint(1, 700)
        table, waiting = fold(history, table, events(*waiting[:cut])), waiting[cut:]
    assert table.rows() == folded_by_hand(rows, history)


def test_an_unversioned_column_shows_its_latest_value_and_opens_no_interval(table):
    table.create(UNVERSIONED.schema(EVENTS))
    write(table, events((1, 1, 1, False, "a", ["x"])), UNVERSIONED)
    assert write(table, events((1, 9, 9, False, "a", ["z"])), UNVERSIONED).counts == Counts(updated=1)
    assert intervals_of(table, "tags", "valid_from", "valid_to") == [(["z"], day(1), None)]
    write(table, events((1, 5, 5, False, "b", ["y"])), UNVERSIONED)
    assert intervals_of(table, "segment", "tags", "valid_from") == [("a", ["x"], day(1)), ("b", ["y"], day(5)), ("a", ["z"], day(9))]


def test_a_table_is_made_anew_of_what_is_given_alone(customers):
    write(customers, events((1, 1, 1, False, "a"), (1, 2, 2, False, "b"), (2, 1, 1, False, "b")), HISTORY)
    assert write(customers, events((1, 2, 2, False, "c")), HISTORY, scope=Everything()).counts == Counts(written=1, removed=2)
    assert intervals_of(customers, "id", "sequence", "segment") == [(1, 2, "c")]


def test_other_unversioned_columns_than_the_table_was_made_with_are_refused(customers):
    with pytest.raises(SchemaMismatch, match=r"its columns repeats do not fit\. `lakehouse run shop\.silver\.things --full-refresh`"):
        write(customers, events((1, 1, 1, False, "a")), UNVERSIONED)


def test_many_keys_at_once(customers):
    chance = random.Random(7)
    rows = [(id_, sequence, sequence, chance.random() < 0.1, chance.choice("ab")) for id_ in range(300) for sequence in range(4)]
    chance.shuffle(rows)
    write(customers, events(*rows[:600]), HISTORY)
    write(customers, events(*rows[600:]), HISTORY)
    assert customers.scan().sort("id", "sequence").collect().rows() == folded_by_hand([(*row, None) for row in rows])


@given(st.lists(EVENT, max_size=8, unique_by=lambda row: row[:2]))
@examples(10)
def test_of_events_in_their_order_each_row_is_one_that_was_written(rows):
    """What is counted is events. One that comes late may open or close intervals of events that came before it, which are counted once."""
    written = 0
    with fresh_table(SCHEMA) as table:
        for row in sorted(rows, key=lambda row: row[1]):
            counts = write(table, events(row), HISTORY).counts
            written += counts.written
            assert counts.written + counts.updated + counts.duplicates == 1
            assert table.count() == written


def test_an_event_that_comes_late_opens_an_interval_of_another_too(customers):
    write(customers, events((1, 1, 1, False, "a"), (1, 3, 3, False, "a")), HISTORY)
    assert customers.count() == 1
    counts = write(customers, events((1, 2, 2, False, "b")), HISTORY).counts
    assert counts == Counts(written=1), "one event came"
    assert customers.count() == 3, "and the one after it, which had repeated what was valid, now opens an interval"
