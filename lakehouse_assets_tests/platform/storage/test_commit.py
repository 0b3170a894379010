"""Law 1 in one process: a commit carries its data and its cursor."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import polars as pl
import pytest
from deltalake.exceptions import CommitFailedError

from lakehouse_assets.platform.storage import known_at, merge, scd2
from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor, Written, with_retries
from lakehouse_assets.platform.storage.errors import CommitConflict, CursorMoved
from lakehouse_assets_tests.platform.storage.fresh import rows_of

SOURCE = "shop.bronze.orders"
SCHEMA = {"id": pl.Int64(), "amount": pl.Int64()}
ROWS = pl.DataFrame({"id": [1, 2], "amount": [10, 20]})


def batch(before, after, *others):
    return Commit((Cursor(SOURCE, before, after), *others))


@pytest.fixture
def things(table):
    table.create(SCHEMA)
    return table


def test_a_cursor_moves_with_the_rows(things):
    assert things.cursor(SOURCE) is None
    written = things.append(ROWS, batch(None, 3))
    assert written == Written(1, Counts(written=2))
    assert things.cursor(SOURCE) == 3
    assert things.append(ROWS, batch(3, 7)).version == 2
    assert things.cursor(SOURCE) == 7
    assert things.cursor("another.silver.source") is None


def test_a_table_that_does_not_exist_has_consumed_nothing(table):
    assert table.cursor(SOURCE) is None


def test_version_zero_is_a_place_of_its_own(things):
    things.append(ROWS, batch(None, 0))
    assert things.cursor(SOURCE) == 0
    assert things.append(ROWS, batch(None, 0)).counts is None
    assert things.append(ROWS, batch(0, 1)).counts == Counts(written=2)


WRITES = {
    "append": lambda table, commit: table.append(ROWS, commit),
    "merge": lambda table, commit: merge.merge(table, ROWS, ["id"], commit),
    "replace": lambda table, commit: table.replace(ROWS, None, commit),
}


@pytest.mark.parametrize("name", WRITES)
def test_the_same_commit_is_applied_once(things, name):
    write = WRITES[name]
    first = write(things, batch(None, 3))
    assert first.counts is not None
    assert write(things, batch(None, 3)) == Written(first.version, None)
    assert write(things, batch(None, 2)) == Written(first.version, None)
    assert things.version() == first.version
    assert things.count() == 2


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize(("before", "after"), [(None, 4), (2, 4), (4, 5)])
def test_a_batch_that_starts_elsewhere_is_refused(things, name, before, after):
    things.append(ROWS, batch(None, 3))
    with pytest.raises(CursorMoved, match=f"'{SOURCE}' is at 3, this batch starts at {before}"):
        WRITES[name](things, batch(before, after))
    assert things.version() == 1
    assert things.cursor(SOURCE) == 3


def test_several_cursors_move_together_or_not_at_all(things):
    other = "shop.silver.products"
    things.append(ROWS, batch(None, 3, Cursor(other, None, 8)))
    assert (things.cursor(SOURCE), things.cursor(other)) == (3, 8)
    assert things.append(ROWS, batch(None, 3, Cursor(other, None, 8))).counts is None
    with pytest.raises(CursorMoved):
        things.append(ROWS, batch(3, 4, Cursor(other, None, 8)))
    assert (things.cursor(SOURCE), things.cursor(other)) == (3, 8)
    things.append(ROWS, batch(3, 4, Cursor(other, 8, 9)))
    assert (things.cursor(SOURCE), things.cursor(other)) == (4, 9)


def test_an_empty_batch_moves_its_cursor(things):
    assert things.append(ROWS.clear(), batch(None, 3)).counts == Counts()
    assert merge.merge(things, ROWS.clear(), ["id"], batch(3, 4)).counts == Counts()
    assert things.cursor(SOURCE) == 4
    assert things.count() == 0


def test_histories_and_revisions_carry_cursors_too(lakehouse):
    history = scd2.History(("id",), "sequence")
    events = pl.DataFrame({"id": [1], "sequence": [1], "valid_from": [None], "is_deleted": [False]}).with_columns(
        pl.lit(0).cast(pl.Datetime("us", "UTC")).alias("valid_from")
    )
    dimension = lakehouse.table("shop.silver.customers")
    dimension.create(history.schema(events.schema))
    features = lakehouse.table("shop.features.customers")
    known = events.select("id", pl.col("valid_from").alias("known_at"))
    features.create({**known.schema, **known_at.OWN_COLUMNS})
    revised_at = known["known_at"][0]
    for table, write in (
        (dimension, lambda commit: scd2.write(dimension, events, history, commit)),
        (features, lambda commit: known_at.revise(features, known, ["id"], revised_at, commit, event_time="id", had=None)),
    ):
        assert write(batch(None, 1)).counts == Counts(written=1)
        assert write(batch(None, 1)).counts is None
        with pytest.raises(CursorMoved):
            write(batch(None, 2))
        assert table.cursor(SOURCE) == 1


def test_a_cursor_survives_checkpoints_and_their_clean_up(things):
    for number in range(25):  # one checkpoint comes by itself
        things.append(ROWS, batch(number - 1 if number else None, number))
    things.delta().create_checkpoint()
    assert things.cursor(SOURCE) == 24
    things.delta().alter.set_table_properties({"delta.logRetentionDuration": "interval 0 seconds"})
    things.delta().create_checkpoint()
    things.delta().cleanup_metadata()
    assert not Path(things.uri, "_delta_log", f"{10:020d}.json").exists()
    assert things.cursor(SOURCE) == 24
    assert things.append(ROWS, batch(23, 24)).counts is None
    assert things.count() == 50


def test_info_is_worked_out_from_the_counts_and_stands_in_the_commit(things):
    def info(counts):
        return {"lakehouse.rows": str(counts.written), "elsewhere": "not shown"}

    things.append(ROWS, Commit(info=info))
    newest, created = things.history()
    assert (newest["version"], newest["operation"], newest["info"]) == (1, "WRITE", {"rows": "2"})
    assert created["info"] == {}
    assert newest["at"] >= created["at"]


@pytest.mark.parametrize("name", WRITES)
def test_info_can_stop_a_write(things, name):
    def info(counts):
        raise ValueError("the account does not balance")

    with pytest.raises(ValueError, match="does not balance"):
        WRITES[name](things, Commit((Cursor(SOURCE, None, 1),), info))
    assert things.version() == 0
    assert things.cursor(SOURCE) is None


def test_a_try_is_repeated_until_no_other_writer_is_faster():
    tries = []

    def attempt():
        tries.append(1)
        if len(tries) < 4:
            raise CommitFailedError("another writer was faster")
        return "done"

    assert with_retries("shop.silver.things", "tables/shop/silver/things", attempt) == "done"
    assert len(tries) == 4


def test_the_time_for_tries_ends():
    def attempt():
        raise CommitFailedError("another writer was faster")

    with pytest.raises(CommitConflict, match=r"shop\.silver\.things: other writers were faster .* nothing was written"):
        with_retries("shop.silver.things", "tables/shop/silver/things", attempt, seconds=0.05)


def test_other_errors_are_not_tried_again():
    tries = []

    def attempt():
        tries.append(1)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        with_retries("shop.silver.things", "tables/shop/silver/things", attempt)
    assert len(tries) == 1


def test_a_writer_that_was_overtaken_reads_again(things):
    overtaken = []

    def another_writer(counts):
        """Called between the reading and the commit."""
        if not overtaken:
            overtaken.append(merge.merge(things, pl.DataFrame({"id": [1], "amount": [99]}), ["id"]))
        return {}

    assert merge.merge(things, ROWS, ["id"], Commit(info=another_writer)) == Written(2, Counts(written=1, updated=1))
    assert rows_of(things) == [(1, 10), (2, 20)]


def test_creating_a_table_at_once_makes_one_version(lakehouse):
    """delta-rs, left alone, makes the second creation version 1, with its schema."""
    together = Barrier(4)

    def create(number):
        for name in "abcdefghij":
            together.wait()
            lakehouse.table(f"shop.silver.{name}").create({f"by_{number}": pl.Int64()})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(4)))
    assert [table.version() for table in lakehouse.tables()] == [0] * 10
