"""Snapshots that would retire too much at once are refused, and only these."""

import polars as pl
import pytest

from lakehouse_assets.platform.storage.errors import SchemaMismatch
from lakehouse_assets.platform.storage.retirements import SHARE_COUNTS_FROM_KEYS, judge, refused_snapshots
from lakehouse_assets.platform.storage.snapshots import fold, write
from lakehouse_assets_tests.platform.storage.test_snapshots import LAST, ROWS, SCD2, empty, frame, marks

ALL = range(100)


def snapshot(number, keys):
    return [(id_, number, number, False, "a", 1) for id_ in keys]


def held(*snapshots, how=SCD2):
    return fold(how, empty(how), frame(*(row for rows in snapshots for row in rows)))


def refused(held, *snapshots, how=SCD2, at_most=0.2, assumed=None):
    rows = frame(*(row for rows in snapshots for row in rows))
    return {found.number: found.reason for found in judge(how, held, rows, at_most, assumed)}


@pytest.mark.parametrize("how", [SCD2, LAST], ids=["all intervals", "last state"])
def test_a_snapshot_may_retire_the_share_that_is_set_and_no_more(how):
    before = held(snapshot(1, ALL), how=how)
    assert refused(before, snapshot(2, range(80)), how=how) == {}
    assert refused(before, snapshot(2, range(79)), how=how) == {2: "it lacks 21 of the 100 keys that were current before it"}
    assert refused(before, snapshot(2, range(79)), how=how, at_most=0.21) == {}


def test_few_keys_are_not_judged_by_a_share():
    few = SHARE_COUNTS_FROM_KEYS - 1
    assert refused(held(snapshot(1, range(few))), snapshot(2, [0])) == {}
    assert list(refused(held(snapshot(1, range(few + 1))), snapshot(2, [0]))) == [2]


def test_new_keys_and_the_first_snapshot_are_no_reason():
    assert refused(empty(SCD2), snapshot(1, range(5))) == {}
    assert refused(held(snapshot(1, ALL)), snapshot(2, range(1_000))) == {}


def test_keys_that_were_retired_before_are_not_counted_again():
    assert refused(held(snapshot(1, ALL), snapshot(2, range(80))), snapshot(3, range(64))) == {}


def test_each_snapshot_of_a_batch_is_references_now_the_last_good_one():
    batch = [snapshot(1, ALL), snapshot(2, range(50)), snapshot(3, range(95)), snapshot(4, range(70)), snapshot(5, range(76))]
    assert list(refused(empty(SCD2), *batch)) == [2, 4]


def test_a_late_snapshot_is_references_now_what_was_current_just_before_it():
    known = held(snapshot(1, ALL), snapshot(9, range(1_000)))
    assert refused(known, snapshot(5, range(90))) == {}
    assert list(refused(known, snapshot(5, range(10)))) == [5]
    last = held(snapshot(1, ALL), snapshot(9, range(1_000)), how=LAST)
    assert refused(last, snapshot(5, range(10)), how=LAST) == {}


def test_a_snapshot_that_the_table_knows_is_not_refused_again():
    known = held(snapshot(1, ALL), snapshot(2, range(10)))
    assert refused(known, snapshot(2, range(5))) == {}


def test_a_key_whose_row_was_rejected_is_not_lacking():
    before = held(snapshot(1, ALL))
    rejected = marks(*((id_, 2) for id_ in range(70, 90)))
    assert refused(before, snapshot(2, range(70)), assumed=rejected) == {}
    # The keys of the rejected rows are still current after it.
    assert list(refused(before, snapshot(2, range(70)), snapshot(3, range(60)), assumed=rejected)) == [3]


def test_rows_that_come_later_for_a_snapshot_whose_rows_were_rejected_are_not_references_now_the_rest_of_it():
    rejected = marks(*((id_, 2) for id_ in ALL))
    before = fold(SCD2, held(snapshot(1, ALL)), frame(), rejected)
    assert refused(before, snapshot(2, range(5))) == {}


def test_a_snapshot_in_which_nothing_is_there_is_refused():
    gone = frame(*((id_, 2, 2, True, None, None) for id_ in range(3)))
    assert [found.reason for found in judge(SCD2, held(snapshot(1, range(3))), gone, 1.0)] == ["no row of it is there"]


def test_the_verdict_on_a_real_table_says_what_to_do_and_is_the_same_until_the_table_moves(table):
    table.create(SCD2.schema(ROWS))
    write(table, frame(*snapshot(1, ALL)), SCD2)
    rows = frame(*snapshot(2, range(10)))
    (found,) = refused_snapshots(table, rows, SCD2, 0.2)
    assert found.reason == (
        "shop.silver.things: the snapshot with sequence 2 (valid from 2011-01-03 00:00:00+00:00) is not taken: it lacks 90 of the 100 keys "
        "that were current before it, and at most 20.0% may be retired at once. Its 10 rows are in the quarantine. If it was cut off, land "
        "it whole; if it is right, raise retire_at_most in the table's declaration, then `lakehouse run shop.silver.things --full-refresh`."
    )
    assert refused_snapshots(table, rows, SCD2, 0.2) == (found,)
    assert refused_snapshots(table, rows, SCD2, 0.2, full_refresh=True) == ()
    assert refused_snapshots(table, rows.clear(), SCD2, 0.2) == ()


def test_a_table_of_another_way_is_refused(table):
    table.create(pl.Schema(ROWS))
    with pytest.raises(SchemaMismatch, match="made under another declaration"):
        refused_snapshots(table, frame(*snapshot(1, ALL)), SCD2, 0.2)
