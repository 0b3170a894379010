"""Snapshots: whatever the order in which they come, the table is the same, and a key that one lacks is retired at its time."""

import random
from datetime import UTC, datetime, timedelta
from itertools import combinations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.storage.commit import Counts
from lakehouse_assets.platform.storage.errors import SchemaMismatch, ScopeError
from lakehouse_assets.platform.storage.snapshots import ASSUMED, SNAPSHOTS, Snapshots, fold, write
from lakehouse_assets_tests.platform.storage.fresh import examples, files_of, fresh_table, paths_of

START = datetime(2011, 1, 1, tzinfo=UTC)
ROWS = pl.Schema(
    {
        "id": pl.Int64(),
        "sequence": pl.Int64(),
        "valid_from": pl.Datetime("us", "UTC"),
        "is_deleted": pl.Boolean(),
        "segment": pl.String(),
        "price": pl.Int64(),
    }
)
WAYS = {
    "all intervals": Snapshots(("id",), "sequence"),
    "all intervals, prices unversioned": Snapshots(("id",), "sequence", ("price",)),
    "last state": Snapshots(("id",), "sequence", history=False),
}
each_way = pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)


def day(number):
    return START + timedelta(days=number)


def frame(*rows):
    """Rows of id, sequence, day of `valid_from`, is_deleted, segment and price."""
    return pl.DataFrame([(id_, sequence, day(valid), *rest) for id_, sequence, valid, *rest in rows], ROWS, orient="row")


def marks(*pairs):
    return pl.DataFrame(pairs, {"id": pl.Int64, "sequence": pl.Int64}, orient="row")


def empty(how):
    return pl.DataFrame(schema=how.schema(ROWS))


def by_hand(how, rows, rejected=()):
    """The table, by the words of the module, from all snapshots at once and with every key looked up in every one."""
    times, latest = {}, 0
    for sequence in sorted({row[1] for row in rows}):
        latest = max(latest, *(row[2] for row in rows if row[1] == sequence))
        times[sequence] = day(latest)
    table = []
    for id_ in sorted({row[0] for row in rows if not row[3]}):
        there = [row for row in rows if row[0] == id_ and not row[3]]
        found = {row[1]: max((one[4:] for one in there if one[1] == row[1]), key=rank) for row in there}
        marked = [sequence for key, sequence in rejected if key == id_ and sequence not in found]
        own = intervals_by_hand(how, times, found, marked)
        ends = [interval["sequence"] for interval in own[1:]] + [None]
        for interval, end in zip(own, ends, strict=True):
            row = {"id": id_, "sequence": interval["sequence"], "valid_from": times[interval["sequence"]]}
            row |= {"is_deleted": interval["is_deleted"], "segment": interval["values"][0], "price": interval["values"][1]}
            row |= {"valid_to": times.get(end), "is_current": end is None and not row["is_deleted"]} if how.history else {}
            row |= {"repeats": interval["repeats"]} if how.unversioned else {}
            assumed = sorted(s for s in marked if s >= interval["sequence"] and (end is None or s < end))
            if how.history or end is None:
                table.append(row | {SNAPSHOTS: None, ASSUMED: assumed or None})
    if table:
        lasts = {row["id"]: number for number, row in enumerate(table)}
        last = next((number for number in lasts.values() if not table[number]["is_deleted"]), lasts[table[0]["id"]])
        table[last][SNAPSHOTS] = [{"sequence": sequence, "valid_from": time} for sequence, time in times.items()]
    return table


def intervals_by_hand(how, times, found, marked):
    """The intervals of one key, from its values by snapshot."""
    own = []
    for sequence, time in times.items():
        if sequence < min(found) or sequence in marked:
            continue
        said, last = found.get(sequence), own[-1] if own else None
        repeat = [] if said is None else [{"sequence": sequence, "valid_from": time, "price": said[1]}]
        if last and (said is None) == last["is_deleted"] and (said is None or versioned(how, said) == versioned(how, last["values"])):
            if said is not None and said != last["values"]:
                last |= {"values": said, "repeats": last["repeats"] + repeat}
            continue
        own.append({"sequence": sequence, "is_deleted": said is None, "values": said or last["values"], "repeats": repeat})
    return own


def rank(values):
    return [(value is not None, value) for value in values]


def versioned(how, values):
    return values[:1] if how.unversioned else values


# A snapshot: its number, and for each of up to four keys nothing, a row that says it is gone, or values. Few numbers, keys and values.
VALUES = st.sampled_from([None, ("a", 1), ("a", 2), ("b", 1), (None, 1)])


@st.composite
def some_snapshots(draw, most=6):
    """Snapshots as lists of rows; their times may run backwards."""
    numbers = draw(st.lists(st.integers(1, 9), max_size=most, unique=True))
    snapshots = []
    for number in numbers:
        valid = draw(st.integers(1, 9))
        content = draw(st.tuples(VALUES, VALUES, VALUES, VALUES).filter(any))
        rows = [(id_, number, valid, False, *values) for id_, values in enumerate(content) if values]
        gone = [(id_, number, valid, True, None, None) for id_, values in enumerate(content) if not values and draw(st.booleans())]
        snapshots.append(rows + gone)
    return snapshots


def flat(snapshots):
    return [row for snapshot in snapshots for row in snapshot]


def in_batches(snapshots, chance):
    """The snapshots in any order, some of them twice, cut anywhere between them; the rows of each in any order."""
    waiting = chance.sample(snapshots, len(snapshots)) + chance.sample(snapshots, len(snapshots) // 3)
    while waiting:
        cut = chance.randint(1, len(waiting))
        rows = flat(waiting[:cut])
        yield chance.sample(rows, len(rows))
        waiting = waiting[cut:]


@each_way
@given(snapshots=some_snapshots(), chance=st.randoms(use_true_random=False))
@examples(7)
def test_any_order_and_any_batches_give_one_table(how, snapshots, chance):
    table, done = empty(how), []
    for batch in in_batches(snapshots, chance):
        table = fold(how, table, frame(*batch))
        done += batch
        assert table.to_dicts() == by_hand(how, done)
    assert table.schema == how.schema(ROWS)


FIVE = [
    [(1, 1, 1, False, "a", 1), (2, 1, 1, False, "a", 1), (3, 1, 1, False, "a", 1)],
    [(2, 2, 5, False, "b", 1), (3, 2, 5, False, "a", 2), (1, 2, 5, True, None, None)],
    [(1, 3, 3, False, "a", 1), (2, 3, 3, False, "b", 1), (3, 3, 3, False, "a", 2)],
    [(0, 4, 4, False, None, 1), (3, 4, 4, False, "a", 1), (3, 4, 4, False, "a", 1)],
    [(0, 5, 6, False, None, 1), (1, 5, 6, False, "a", 1), (3, 5, 6, False, "b", 1)],
]


@pytest.mark.parametrize("how", [WAYS["all intervals, prices unversioned"], WAYS["last state"]])
def test_every_permutation_and_every_batching_of_five_snapshots_gives_one_table(how):
    """A batch may come on top of every other set of snapshots; all ways to get anywhere are made of such steps."""
    number = range(len(FIVE))
    sets = [frozenset(chosen) for size in range(len(FIVE) + 1) for chosen in combinations(number, size)]
    tables = {chosen: fold(how, empty(how), frame(*flat(FIVE[one] for one in chosen))) for chosen in sets if chosen}
    for chosen, table in tables.items():
        assert table.to_dicts() == by_hand(how, flat(FIVE[one] for one in chosen))
        for before in sets:
            if before and before < chosen:
                assert fold(how, tables[before], frame(*flat(FIVE[one] for one in chosen - before))).equals(table)


@pytest.mark.parametrize("how", [WAYS["all intervals"], WAYS["all intervals, prices unversioned"]])
@given(snapshots=some_snapshots(), chance=st.randoms(use_true_random=False))
@examples(5)
def test_a_rejected_row_keeps_its_key_as_it_was(how, snapshots, chance):
    rejected = [row[:2] for row in flat(snapshots) if chance.random() < 0.25 and not row[3]]
    snapshots = [[row for row in rows if row[:2] not in rejected] for rows in snapshots]
    snapshots = [rows for rows in snapshots if any(not row[3] for row in rows)]
    # A key that is not known yet cannot be remembered to have been there.
    firsts = [(rows, [pair for pair in rejected if pair[1] == rows[0][1]]) for rows in sorted(snapshots, key=lambda rows: rows[0][1])[:1]]
    others = [
        (rows, [pair for pair in rejected if pair[1] == rows[0][1]]) for rows in snapshots if [rows] != [first for first, _ in firsts]
    ]
    known = {row[0] for rows, _ in firsts for row in rows if not row[3]}
    table, done, marked = empty(how), [], []
    for rows, pairs in firsts + chance.sample(others, len(others)):
        of_known = [pair for pair in pairs if pair[0] in known]
        table = fold(how, table, frame(*rows), marks(*of_known))
        done, marked = done + rows, marked + of_known
        assert table.to_dicts() == by_hand(how, done, marked)


@each_way
@given(snapshots=some_snapshots(), chance=st.randoms(use_true_random=False))
@examples(4)
def test_a_real_table_is_the_same_in_any_order_too(how, snapshots, chance):
    with fresh_table(how.schema(ROWS), chance.choice([(), ("is_current",), ("id", "is_current")] if how.history else [()])) as table:
        done = []
        for batch in in_batches(snapshots, chance):
            counts = write(table, frame(*batch), how).counts
            done += batch
            assert rows_in(table) == by_hand(how, done)
            assert counts.written + counts.updated + counts.duplicates == len(batch)


def rows_in(table):
    rows = table.scan().sort("id", "sequence").collect()
    return rows.to_dicts()


@each_way
def test_many_snapshots_of_many_keys_in_any_order(how):
    chance = random.Random(11)
    snapshots = []
    for number in chance.sample(range(1, 200), 40):
        keys = chance.sample(range(90), chance.randint(40, 90))
        snapshots.append([(id_, number, number + chance.randint(0, 3), False, chance.choice("aaab"), chance.randint(1, 2)) for id_ in keys])
    table, expected = empty(how), by_hand(how, flat(snapshots))
    while snapshots:
        cut = chance.randint(1, 6)
        taken, snapshots = flat(snapshots[:cut]), snapshots[cut:]
        table = fold(how, table, frame(*chance.sample(taken, len(taken))))
    assert table.to_dicts() == expected


SCD2, LAST = WAYS["all intervals"], WAYS["last state"]


@pytest.fixture
def catalogue(table):
    table.create(SCD2.schema(ROWS))
    return table


def seen(table, *columns):
    return table.scan().sort("id", "sequence").select(columns).collect().rows()


def test_a_key_that_a_snapshot_lacks_is_retired_at_its_time_and_shows_what_was_last_known(catalogue):
    write(catalogue, frame((1, 1, 1, False, "a", 1), (2, 1, 1, False, "b", 1)), SCD2)
    assert write(catalogue, frame((2, 5, 5, False, "b", 1)), SCD2).counts == Counts(duplicates=1)
    assert seen(catalogue, "id", "segment", "is_deleted", "valid_from", "valid_to", "is_current") == [
        (1, "a", False, day(1), day(5), False),
        (1, "a", True, day(5), None, False),
        (2, "b", False, day(1), None, True),
    ]


def test_a_key_of_a_late_snapshot_is_retired_by_the_next_known_one(catalogue):
    write(catalogue, frame((2, 1, 1, False, "b", 1)), SCD2)
    write(catalogue, frame((2, 9, 9, False, "b", 1)), SCD2)
    write(catalogue, frame((1, 5, 5, False, "a", 1), (2, 5, 5, False, "b", 1)), SCD2)
    assert seen(catalogue, "id", "is_deleted", "valid_from", "valid_to") == [
        (1, False, day(5), day(9)),
        (1, True, day(9), None),
        (2, False, day(1), None),
    ]


def test_a_rejected_row_does_not_retire_its_key_and_is_mended_by_a_later_one(catalogue):
    write(catalogue, frame((1, 1, 1, False, "a", 1), (2, 1, 1, False, "b", 1)), SCD2)
    write(catalogue, frame((2, 5, 5, False, "b", 1)), SCD2, assumed=marks((1, 5)))
    write(catalogue, frame((1, 9, 9, False, "a", 1), (2, 9, 9, False, "b", 1)), SCD2)
    assert seen(catalogue, "id", "valid_to", ASSUMED) == [(1, None, [5]), (2, None, None)]
    write(catalogue, frame((1, 5, 5, False, "c", 1)), SCD2)
    assert seen(catalogue, "id", "segment", "valid_to", ASSUMED) == [
        (1, "a", day(5), None),
        (1, "c", day(9), None),
        (1, "a", None, None),
        (2, "b", None, None),
    ]


@pytest.mark.parametrize("later", [[], [(1, 3, 3, False, "b", 1), (2, 3, 3, False, "b", 1)]], ids=["the newest", "an older one"])
def test_a_second_part_of_a_snapshot_brings_back_the_keys_that_the_first_part_lacks(catalogue, later):
    first = [(1, 1, 1, False, "a", 1), (2, 1, 1, False, "b", 1)]
    part, other = [(2, 2, 2, False, "b", 1)], [(1, 2, 2, False, "a", 1)]
    for rows in filter(None, (first, part, later)):
        write(catalogue, frame(*rows), SCD2)
    write(catalogue, frame(*other), SCD2)
    assert rows_in(catalogue) == by_hand(SCD2, first + part + later + other)


def test_a_snapshot_that_says_nothing_new_costs_one_row(catalogue):
    rows = [(id_, 0, 0, False, "a", 1) for id_ in range(500)]
    for number in range(5):
        write(catalogue, frame(*((id_, number, number, *rest) for id_, _, _, *rest in rows)), SCD2)
    assert catalogue.count() == 500
    assert set(catalogue.changes(catalogue.version() - 1, catalogue.version()).collect()["id"]) == {0}
    assert [moment["sequence"] for moment in seen(catalogue, SNAPSHOTS)[0][0]] == list(range(5))
    assert all(known is None for (known,) in seen(catalogue, SNAPSHOTS)[1:])


def test_a_snapshot_rewrites_no_file_of_closed_intervals(table):
    """Also where the smallest key is retired: the numbers of snapshots are kept at a current one."""
    table.create(SCD2.schema(ROWS), ("is_current",))
    write(table, frame((1, 1, 1, False, "a", 1), (2, 1, 1, False, "b", 1), (3, 1, 1, False, "c", 1)), SCD2)
    write(table, frame((2, 2, 2, False, "x", 1), (3, 2, 2, False, "c", 1)), SCD2)
    closed = paths_of(table, "is_current=false")
    write(table, frame((2, 3, 3, False, "x", 1), (3, 3, 3, False, "c", 1)), SCD2)
    assert paths_of(table, "is_current=false") == closed
    write(table, frame((2, 4, 4, False, "x", 1), (3, 4, 4, False, "y", 1), (4, 4, 4, False, "z", 1)), SCD2)
    assert closed < paths_of(table, "is_current=false")
    assert seen(table, "id", "sequence", "segment", "is_current") == [
        (1, 1, "a", False),
        (1, 2, "a", False),
        (2, 1, "b", False),
        (2, 2, "x", True),
        (3, 1, "c", False),
        (3, 4, "y", True),
        (4, 4, "z", True),
    ]


def test_the_same_snapshot_again_changes_nothing(catalogue):
    rows = frame((1, 1, 1, False, "a", 1), (2, 1, 1, False, "b", 1))
    write(catalogue, rows, SCD2)
    write(catalogue, frame((1, 2, 2, False, "b", 1)), SCD2)
    files = files_of(catalogue)
    assert write(catalogue, rows, SCD2).counts == Counts(duplicates=2)
    assert files_of(catalogue) == files


def test_the_last_state_is_one_row_a_key(table):
    table.create(LAST.schema(ROWS))
    write(table, frame((1, 1, 1, False, "a", 1), (2, 1, 1, False, "b", 1)), LAST)
    assert write(table, frame((2, 5, 5, False, "c", 1), (3, 5, 5, False, "a", 1)), LAST).counts == Counts(written=1, updated=1)
    assert seen(table, "id", "sequence", "segment", "is_deleted") == [(1, 5, "a", True), (2, 5, "c", False), (3, 5, "a", False)]


def test_a_table_is_made_anew_of_what_is_given_alone(catalogue):
    write(catalogue, frame((1, 1, 1, False, "a", 1), (2, 1, 1, False, "b", 1)), SCD2)
    rows = frame((2, 2, 2, False, "x", 1))
    assert write(catalogue, rows, SCD2, full_refresh=True).counts == Counts(written=1, removed=2)
    assert rows_in(catalogue) == by_hand(SCD2, [(2, 2, 2, False, "x", 1)])
    assert write(catalogue, rows.clear(), SCD2, full_refresh=True).counts == Counts(removed=1)
    assert catalogue.count() == 0


def test_a_snapshot_in_which_nothing_is_there_is_not_written(catalogue):
    with pytest.raises(ScopeError, match="no row of the snapshot 1 is there"):
        write(catalogue, frame((1, 1, 1, True, None, None)), SCD2)


def test_a_table_of_another_way_is_refused_with_what_to_do(catalogue):
    with pytest.raises(SchemaMismatch, match=r"columns repeats do not fit\. `lakehouse run shop\.silver\.things --full-refresh`"):
        write(catalogue, frame((1, 1, 1, False, "a", 1)), WAYS["all intervals, prices unversioned"])
    assert catalogue.version() == 0


def test_a_table_that_is_partitioned_beside_the_key_is_refused(table):
    table.create(SCD2.schema(ROWS), ("segment",))
    with pytest.raises(ScopeError, match="partitioned by segment"):
        write(table, frame((1, 1, 1, False, "a", 1)), SCD2)
