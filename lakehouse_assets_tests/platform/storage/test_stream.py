"""Rows that come part by part go into one commit or none, in the place of no others than those that are named."""

import polars as pl
import pytest
from deltalake.exceptions import DeltaError

from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved, SchemaMismatch
from lakehouse_assets.platform.storage.stream import append_stream
from lakehouse_assets.platform.storage.table import Table

SCHEMA = {"file": pl.String(), "number": pl.Int64()}


@pytest.fixture
def table(tmp_path) -> Table:
    found = Table("shop.bronze.orders", str(tmp_path / "orders"))
    found.create(SCHEMA)
    return found


def part(file: str, *numbers: int) -> pl.DataFrame:
    return pl.DataFrame({"file": [file] * len(numbers), "number": numbers}, schema=SCHEMA)


def rows(table: Table) -> list[tuple[str, int]]:
    return table.scan().collect().rows()


def test_parts_are_one_commit_and_keep_their_order(table):
    parts = [part("a", *range(start, start + 50)) for start in range(0, 5_000, 50)]
    written = append_stream(table, 5_000, lambda: parts, Commit((Cursor("s", None, 1),)))
    assert written.version == table.version() == 1
    assert rows(table) == [("a", number) for number in range(5_000)]
    assert table.cursor("s") == 1


def test_no_parts_move_the_cursor_alone(table):
    append_stream(table, 0, list, Commit((Cursor("s", None, 1),)))
    assert (rows(table), table.cursor("s")) == ([], 1)


def test_a_stream_that_breaks_commits_nothing_and_its_error_comes_out(table):
    class Broke(Exception):
        pass

    def parts():
        yield part("a", *range(200_000))
        raise Broke("in the middle")

    with pytest.raises(Broke, match="in the middle"):
        append_stream(table, 200_001, parts, Commit((Cursor("s", None, 1),)))
    assert (table.version(), table.cursor("s")) == (0, None)


def test_a_part_that_does_not_fit_the_table_is_refused(table):
    with pytest.raises(SchemaMismatch, match="number"):
        append_stream(table, 1, lambda: [part("a", 1).with_columns(number=pl.lit("1"))], Commit())
    assert table.version() == 0


def test_the_same_batch_is_written_once(table):
    for _ in range(2):
        append_stream(table, 1, lambda: [part("a", 1)], Commit((Cursor("s", None, 1),)))
    assert rows(table) == [("a", 1)]
    with pytest.raises(CursorMoved):
        append_stream(table, 1, lambda: [part("a", 2)], Commit((Cursor("s", None, 2),)))


def test_rows_take_the_place_of_those_in_the_scope_alone(table):
    append_stream(table, 4, lambda: [part("it's", 1, 1), part("it's", 2), part("b", 1)], Commit())
    scope = {"file": ["it's"], "number": [1, 3]}
    written = append_stream(table, 1, lambda: [part("it's", 3)], Commit(), instead_of=scope)
    assert sorted(rows(table)) == [("b", 1), ("it's", 2), ("it's", 3)]
    assert written.counts is not None
    assert (written.counts.written, written.counts.removed) == (1, 2)
    kinds = table.change_feed(1, 2).collect()
    assert sorted(kinds.select("file", "number", "_change_type").rows()) == [
        ("it's", 1, "delete"),
        ("it's", 1, "delete"),
        ("it's", 3, "insert"),
    ]


def test_delta_rs_refuses_new_rows_outside_the_scope(table):
    append_stream(table, 1, lambda: [part("a", 1)], Commit())
    with pytest.raises(DeltaError, match="failed validation"):
        append_stream(table, 1, lambda: [part("b", 2)], Commit(), instead_of={"file": ["a"]})
    assert rows(table) == [("a", 1)]


def test_polars_gives_a_query_in_batches_in_order_and_raises_what_it_meets(tmp_path):
    pl.DataFrame({"number": range(30_000)}).write_csv(tmp_path / "a.csv")
    scan = pl.scan_csv(tmp_path / "a.csv")
    batches = list(scan.collect_batches(chunk_size=1_000, lazy=True))
    assert len(batches) > 1
    assert pl.concat(batches)["number"].to_list() == list(range(30_000))
    (tmp_path / "a.csv").write_text("number\n1\n" + "x\n" * 10)
    with pytest.raises(pl.exceptions.PolarsError):
        list(scan.collect_batches(chunk_size=1_000, lazy=True))
