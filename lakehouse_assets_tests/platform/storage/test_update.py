"""Columns of rows that a table holds are set by key, once; everything else stays as it was."""

import polars as pl
import pytest

from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved, ScopeError
from lakehouse_assets.platform.storage.update import update
from lakehouse_assets_tests.platform.storage.fresh import rows_of

ROWS = pl.DataFrame({"file": [1, 1, 2, 3], "row": [1, 2, 1, 1], "tags": [["a"], [], None, ["it's"]], "seen": [None, None, None, "before"]})


@pytest.fixture
def marked(table):
    table.create(ROWS.schema)
    table.append(ROWS)
    return table


def marks(*rows):
    return pl.DataFrame(rows, schema={"file": pl.Int64, "row": pl.Int64, "seen": pl.String}, orient="row")


def test_the_named_columns_of_the_named_rows_are_set(marked):
    written = update(marked, marks((1, 2, "now"), (3, 1, None)), ["file", "row"])
    assert (written.version, written.counts) == (2, Counts(updated=2))
    assert rows_of(marked) == [(1, 1, ["a"], None), (1, 2, [], "now"), (2, 1, None, None), (3, 1, ["it's"], None)]
    assert sorted(marked.changes(1, 2).collect()["file"]) == [1, 3]


def test_an_update_is_done_once_for_its_cursor_even_without_rows(marked):
    commit = Commit((Cursor("marks", None, 1),), lambda counts: {"lakehouse.marked": str(counts.updated)})
    assert update(marked, marks(), ["file", "row"], commit).counts == Counts()
    assert update(marked, marks((1, 1, "late")), ["file", "row"], commit).counts is None
    assert marked.cursor("marks") == 1
    assert marked.history(1)[0]["info"] == {"marked": "0"}
    assert rows_of(marked, "seen") == [("before",), (None,), (None,), (None,)]


def test_keys_may_be_texts(table):
    rows = pl.DataFrame({"invoice": ["895500001", "C1", "a"], "seen": ["", "", ""]})
    table.create(rows.schema)
    table.append(rows)
    assert update(table, pl.DataFrame({"invoice": ["C1", "a"], "seen": ["x", "y"]}), ["invoice"]).counts == Counts(updated=2)
    assert rows_of(table) == [("895500001", ""), ("C1", "x"), ("a", "y")]


@pytest.mark.parametrize(
    ("frame", "on", "error", "said"),
    [
        (marks((1, 1, "x"), (9, 9, "x")), ["file", "row"], CursorMoved, "has 1 of 2 rows that were to be changed"),
        (marks((1, 1, "x")).drop("row"), ["file"], CursorMoved, "has 2 of 1 rows"),
        (marks((None, 1, "x")), ["file", "row"], ScopeError, "the key has nulls in file"),
        (marks((1, 1, "x")), ["file", "nothing"], ScopeError, "lacks nothing"),
    ],
    ids=["a row that is not there", "a key that two rows have", "null", "no such column"],
)
def test_rows_that_are_not_there_once_each_stop_the_update(marked, frame, on, error, said):
    with pytest.raises(error, match=said):
        update(marked, frame, on)
    assert marked.version() == 1
    assert rows_of(marked) == sorted(ROWS.rows(), key=repr)
