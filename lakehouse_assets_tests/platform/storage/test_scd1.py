"""The latest state of each key: whatever the order and the batches in which events come, the table is the same."""

import random
from itertools import combinations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.storage.commit import Counts
from lakehouse_assets.platform.storage.errors import SchemaMismatch, ScopeError
from lakehouse_assets.platform.storage.scd1 import Latest, fold, write
from lakehouse_assets.platform.storage.scopes import Everything
from lakehouse_assets_tests.platform.storage.fresh import examples, files_of, fresh_table
from lakehouse_assets_tests.platform.storage.test_scd2 import EVENT, EVENTS, SCHEMA, day, events, in_batches

LATEST = Latest(("id",), "sequence")
NONE = pl.DataFrame(schema=EVENTS)


def by_hand(rows):
    """Of each key the event with the largest number; of several with that number the latest time and the largest values."""
    states = []
    for id_ in sorted({row[0] for row in rows}):
        last = max(row[1] for row in rows if row[0] == id_)
        said = [row for row in rows if row[:2] == (id_, last)]
        values = max((row[3:] for row in said), key=lambda values: [(value is not None, value) for value in values])
        states.append((id_, last, day(max(row[2] for row in said)), *values))
    return states


@given(st.lists(EVENT, max_size=10), st.randoms(use_true_random=False))
@examples(20)
def test_any_order_and_any_batches_give_one_table(rows, chance):
    table, done = NONE, []
    for batch in in_batches(rows, chance):
        table = fold(LATEST, table, events(*batch))
        done += batch
        assert table.rows() == by_hand(done)


SIX = [
    (1, 1, 1, False, "a", None),
    (1, 2, 5, False, "b", ["x"]),
    (1, 2, 3, False, "b", []),
    (1, 3, 2, True, None, None),
    (2, 9, 1, True, None, None),
    (2, 4, 4, False, "a", None),
]


def test_every_permutation_and_every_batching_of_six_events_gives_one_table():
    """A batch may come on top of every other set of events; all ways to get anywhere are made of such steps."""
    sets = [frozenset(chosen) for size in range(1, 7) for chosen in combinations(range(6), size)]
    tables = {chosen: fold(LATEST, NONE, events(*(SIX[one] for one in chosen))) for chosen in sets}
    for chosen, table in tables.items():
        assert table.rows() == by_hand([SIX[one] for one in chosen])
        for before in sets:
            if before < chosen:
                assert fold(LATEST, tables[before], events(*(SIX[one] for one in chosen - before))).equals(table)


def test_thousands_of_shuffled_events():
    chance = random.Random(5)
    rows = [
        (chance.randrange(200), chance.randrange(40), chance.randrange(60), chance.random() < 0.2, chance.choice("abc"), None)
        for _ in range(5_000)
    ]
    table, waiting = NONE, rows + chance.sample(rows, 500)
    chance.shuffle(waiting)
    while waiting:
        cut = chance.randint(1, 900)
        table, waiting = fold(LATEST, table, events(*waiting[:cut])), waiting[cut:]
    assert table.rows() == by_hand(rows)


@given(st.lists(EVENT, max_size=8), st.randoms(use_true_random=False), st.sampled_from([(), ("id",)]))
@examples(3)
def test_a_real_table_is_the_same_in_any_order_too(rows, chance, partition_by):
    with fresh_table(EVENTS, partition_by) as table:
        done = []
        for batch in in_batches(rows, chance):
            keys = {row[0] for row in done}
            counts = write(table, events(*batch), LATEST).counts
            done += batch
            assert table.scan().sort("id").collect().rows() == by_hand(done)
            assert counts.written == len({row[0] for row in done} - keys)
            assert counts.written + counts.updated + counts.duplicates == len(batch)


@pytest.fixture
def customers(table):
    table.create(EVENTS)
    return table


def states_of(table, *columns):
    return table.scan().sort("id").select(columns).collect().rows()


def test_an_older_event_does_not_undo_a_newer_one_nor_a_deletion(customers):
    write(customers, events((1, 5, 5, False, "b"), (2, 9, 9, True)), LATEST)
    assert write(customers, events((1, 4, 4, False, "a"), (2, 8, 8, False, "a")), LATEST).counts == Counts(duplicates=2)
    assert states_of(customers, "segment", "is_deleted") == [("b", False), (None, True)]
    assert write(customers, events((1, 6, 6, True), (2, 10, 10, False, "c")), LATEST).counts == Counts(updated=2)
    assert states_of(customers, "segment", "is_deleted") == [(None, True), ("c", False)]


def test_the_same_events_again_change_nothing(customers):
    rows = events((1, 1, 1, False, "a"), (1, 2, 2, False, "b"), (2, 1, 1, False, "b"))
    assert write(customers, rows, LATEST).counts == Counts(written=2, duplicates=1)
    files = files_of(customers)
    assert write(customers, rows, LATEST).counts == Counts(duplicates=3)
    assert files_of(customers) == files


def test_lineage_is_that_of_the_event_that_counts(table):
    table.create(pl.Schema({**EVENTS, "_file": pl.String()}))
    rows = events((1, 2, 2, False, "a"))
    write(table, rows.with_columns(_file=pl.lit("first")), LATEST)
    write(table, rows.with_columns(_file=pl.lit("second")), LATEST)
    write(table, rows.with_columns(pl.lit(1, pl.Int64).alias("sequence"), _file=pl.lit("third")), LATEST)
    assert states_of(table, "_file") == [("first",)]


def test_a_table_is_made_anew_of_what_is_given_alone(customers):
    write(customers, events((1, 9, 9, False, "a"), (2, 1, 1, False, "b")), LATEST)
    assert write(customers, events((1, 1, 1, False, "c")), LATEST, scope=Everything()).counts == Counts(updated=1, removed=1)
    assert states_of(customers, "id", "sequence", "segment") == [(1, 1, "c")]


def test_a_key_that_moves_to_another_partition_is_there_once(table):
    table.create(EVENTS, ("segment",))
    table.append(events((1, 1, 1, False, "a"), (2, 1, 1, False, "a")))
    rows = events((1, 2, 2, False, "b"), (2, 1, 1, False, "a"))
    assert write(table, rows, LATEST, scope=Everything()).counts == Counts(updated=1, duplicates=1)
    assert states_of(table, "id", "segment") == [(1, "b"), (2, "a")]


@pytest.mark.parametrize("column", ["id", "sequence", "valid_from", "is_deleted"])
def test_an_event_without_its_place_is_refused(customers, column):
    rows = events((1, 1, 1, False, "a"))
    with pytest.raises(ScopeError, match=f"nulls in {column}"):
        write(customers, rows.with_columns(pl.lit(None, rows.schema[column]).alias(column)), LATEST)
    assert customers.version() == 0


def test_a_table_with_a_history_is_refused_with_what_to_do(table):
    table.create(SCHEMA)
    with pytest.raises(SchemaMismatch, match="made under another declaration"):
        write(table, events((1, 1, 1, False, "a")), LATEST)
