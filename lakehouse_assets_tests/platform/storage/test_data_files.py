"""Files that Polars wrote and delta-rs published are as good as delta-rs' own: for readers, for statistics, and between two writers."""

import json
import threading
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from deltalake import CommitProperties, QueryBuilder, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pyarrow import parquet

from lakehouse_assets.platform.storage import data_files
from lakehouse_assets.platform.storage.merge import merge
from lakehouse_assets_tests.platform.storage.fresh import examples, files_of, fresh_table, rows_of

MOMENT = datetime(2024, 2, 29, 12, 30, 0, 1, tzinfo=UTC)
ROWS = pl.DataFrame(
    {
        "part": ["a b", "ü/x", "a=b%c", None, "it's: 100%"],
        "day": [date(2024, 2, 29), date(1, 1, 1), None, date(9999, 12, 31), date(2024, 3, 1)],
        "number": [1, 2, None, -(2**63), 2**63 - 1],
        "small": pl.Series([1, -1, None, 0, 127], dtype=pl.Int8),
        "float": [0.0, -0.0, float("nan"), float("inf"), None],
        "text": ["x" * 64, "x" * 65, "", None, "\U0001f600"],
        "flag": [True, False, None, True, True],
        "moment": [MOMENT, datetime(1, 1, 1, tzinfo=UTC), None, datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), MOMENT],
        "decimal": pl.Series([Decimal("1.50"), None, Decimal("-9.99"), Decimal(0), None], dtype=pl.Decimal(10, 2)),
        "bytes": [b"\x00", b"\xff", b"", None, b"x"],
        "list": [["a"], [], None, [None], ["b", "c"]],
        "struct": [{"a": 1, "b": "x"}, {"a": None, "b": None}, None, {"a": 2, "b": ""}, {"a": 3, "b": "y"}],
        "none": pl.Series([None] * 5, dtype=pl.String),
    }
)


def append(table, frame, *transactions):
    delta = table.delta()
    data_files.append(delta, [frame], CommitProperties(app_transactions=list(transactions)))
    return delta


@pytest.mark.parametrize("partition_by", [(), ("part",), ("day", "part"), ("flag", "number")], ids=str)
def test_every_type_is_read_back_by_every_reader(table, partition_by):
    table.create(ROWS.schema, partition_by)
    append(table, ROWS)
    by_polars, by_arrow = table.scan().collect(), pl.DataFrame(table.delta().to_pyarrow_table())
    by_datafusion = pl.DataFrame(QueryBuilder().register("things", table.delta()).execute("select * from things").read_all())
    for found in (by_polars, by_arrow, by_datafusion):
        flat = {name: dtype for name, dtype in ROWS.schema.items() if not dtype.is_nested()}
        assert_frame_equal(found.cast(flat).select(ROWS.columns), ROWS, check_row_order=False)


def test_files_say_large_strings_and_not_views(table):
    """Some readers of Arrow refuse string views."""
    table.create(ROWS.schema)
    append(table, ROWS)
    (file,) = files_of(table)
    types = {field.name: str(field.type) for field in parquet.read_schema(file)}
    assert (types["text"], types["bytes"], types["list"]) == ("large_string", "large_binary", "large_list<element: large_string>")


def test_statistics_are_those_of_delta_rs(table, lakehouse):
    """But for decimals, which have no bounds here, and for microseconds, which delta-rs cuts off from an upper bound."""
    plain = ROWS.drop("list", "struct", "decimal", "bytes", "float").with_columns(pl.col("moment").dt.truncate("1ms"))
    other = lakehouse.table("shop.silver.others")
    for each in (table, other):
        each.create(plain.schema)
    append(table, plain)
    write_deltalake(other.delta(), plain.to_arrow(), mode="append")
    ours, theirs = (pl.DataFrame(each.delta().get_add_actions(flatten=True)) for each in (table, other))
    told = [name for name in theirs.columns if name.startswith(("num_records", "null_count", "min", "max"))]
    assert_frame_equal(ours.select(told), theirs.select(told))
    assert table.count() == 5


@pytest.mark.parametrize("text", ["x" * 65, "\u00e9" * 40, "\U0001f600" * 40, "\U0010ffff" * 40, "\x7f" * 70, "\ud7ff" * 30])
def test_polars_raises_an_upper_bound_that_it_cuts_off(tmp_path, text):
    pl.DataFrame({"text": [text, text[:-1]]}).write_parquet(tmp_path / "texts.parquet")
    statistics = parquet.read_metadata(tmp_path / "texts.parquet").row_group(0).column(0).statistics
    assert statistics.min.encode() <= text[:-1].encode()
    assert statistics.max.encode() >= text.encode()


def test_bounds_that_cannot_be_written_down_are_left_out(table):
    table.create({"float": pl.Float64(), "text": pl.String(), "zero": pl.Float64()})
    append(table, pl.DataFrame({"float": [float("inf"), 1.0], "text": ["x" * 65, "a"], "zero": [0.0, 0.0]}))
    log = Path(table.uri, "_delta_log", f"{1:020d}.json").read_text().splitlines()
    (stats,) = (json.loads(json.loads(line)["add"]["stats"]) for line in log if line.startswith('{"add"'))
    assert (stats["minValues"], stats["maxValues"]) == ({"text": "a", "zero": -0.0}, {"text": "x" * 63 + "y", "zero": 0.0})
    assert str(stats["minValues"]["zero"]) == "-0.0"
    assert table.scan().filter(pl.col("float") > 5).collect().height == 1


VALUE = st.none() | st.integers(-3, 3)


@given(st.lists(st.lists(st.tuples(VALUE, VALUE), min_size=1, max_size=6), min_size=1, max_size=3), st.integers(-4, 4))
@examples(7)
def test_files_that_are_pruned_have_no_row_that_is_asked_for(batches, asked):
    schema = {"number": pl.Int64(), "text": pl.String()}
    rows = []
    with fresh_table(schema) as table:
        for batch in batches:
            frame = pl.DataFrame(batch, {"number": pl.Int64, "text": pl.Int64}, orient="row").cast({"text": pl.String})
            append(table, frame)
            rows += frame.rows()
        by_polars = table.scan().filter(pl.col("number") == asked).collect().rows()
        query = f"select * from things where number = {asked} or text < '{asked}'"
        by_datafusion = pl.DataFrame(QueryBuilder().register("things", table.delta()).execute(query).read_all()).rows()
        texts = str(asked)
        assert sorted(by_polars, key=repr) == sorted((row for row in rows if row[0] == asked), key=repr)
        wanted = [row for row in rows if row[0] == asked or (row[1] is not None and row[1] < texts)]
        assert sorted(by_datafusion, key=repr) == sorted(wanted, key=repr)


# The first and last character of each length in UTF-8 and UTF-16, and of planes.
@pytest.mark.parametrize("code", [0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xFFFF, 0x10000, 0x1FFFF, 0x20000, 0x2FFFF, 0x30000, 0x10FFFF])
@pytest.mark.parametrize("around", ["{}", "a{}", "{}" * 70], ids=["alone", "after", "long"])
def test_a_text_is_found_whatever_its_characters(code, around):
    text = around.replace("{}", chr(code))
    with fresh_table({"text": pl.String()}) as table:
        append(table, pl.DataFrame({"text": [text]}))
        query = f"select * from things where text = '{text}'"
        by_datafusion = QueryBuilder().register("things", table.delta()).execute(query).read_all().num_rows
        by_polars = table.scan().filter(pl.col("text") == text).collect().height
        assert (by_datafusion, by_polars) == (1, 1)


@pytest.mark.parametrize(("character", "found"), [("\U0001ffff", 1), ("\U00020000", 0)])
def test_delta_rs_misreads_escaped_characters_of_higher_planes_in_statistics(tmp_path, character, found):
    write_deltalake(str(tmp_path), pl.DataFrame({"text": [character]}).to_arrow())
    commit = tmp_path / "_delta_log" / f"{0:020d}.json"
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    for action in actions:
        if "add" in action:
            action["add"]["stats"] = json.dumps(json.loads(action["add"]["stats"]))
    commit.write_text("".join(json.dumps(action) + "\n" for action in actions))
    assert pl.scan_delta(str(tmp_path)).filter(pl.col("text") == character).collect().height == found


def test_delta_rs_updates_and_compacts_the_files(table):
    table.create(ROWS.schema, ("part",))
    append(table, ROWS)
    append(table, ROWS.with_columns(number=pl.lit(5, pl.Int64)))
    table.delta().optimize.compact()
    assert table.count() == 10
    rows = ROWS.filter(pl.col("part").is_not_null()).unique("part")
    table.replace(rows, {"part": rows["part"].to_list()})
    again = rows.with_columns(number=pl.lit(7, pl.Int64))
    assert merge(table, again, ["part"]).counts.updated == rows.height
    assert set(table.changes(table.version() - 1, table.version()).collect()["number"]) == {7}


def test_the_table_is_at_the_version_of_the_commit(table):
    table.create({"value": pl.Int64()})
    early, late = table.delta(), table.delta()
    one, two = pl.DataFrame({"value": [1]}), pl.DataFrame({"value": [2]})
    data_files.append(early, [one], CommitProperties())
    data_files.append(late, [two], CommitProperties())
    assert (early.version(), late.version()) == (1, 2)


def test_a_later_commit_of_another_writer_is_not_taken_for_the_own(table, monkeypatch):
    table.create({"value": pl.Int64()})
    publish = data_files.DeltaTable.create_write_transaction

    def and_another(self, *args, **kwargs):
        publish(self, *args, **kwargs)
        write_deltalake(table.uri, pl.DataFrame({"value": [2]}).to_arrow(), mode="append")

    monkeypatch.setattr(data_files.DeltaTable, "create_write_transaction", and_another)
    delta = append(table, pl.DataFrame({"value": [1]}))
    assert (delta.version(), table.version()) == (1, 2)


def test_create_write_transaction_refuses_a_transaction_that_another_writer_advanced(table):
    table.create({"value": pl.Int64()})
    early, late = table.delta(), table.delta()
    for delta, value in ((early, 1), (late, 2)):
        properties = CommitProperties(app_transactions=[Transaction("source", 1)])
        if delta is late:
            with pytest.raises(CommitFailedError):
                data_files.append(delta, [pl.DataFrame({"value": [value]})], properties)
        else:
            data_files.append(delta, [pl.DataFrame({"value": [value]})], properties)
    assert rows_of(table) == [(1,)]
    assert table.delta().transaction_version("source") == 1


def test_writers_that_share_no_transaction_all_commit(table):
    table.create({"value": pl.Int64()})
    started = threading.Barrier(4)

    def write(number):
        delta = table.delta()
        started.wait()
        data_files.append(delta, [pl.DataFrame({"value": [number]})], CommitProperties(app_transactions=[Transaction(f"s{number}", 1)]))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows_of(table) == [(0,), (1,), (2,), (3,)]
    assert table.version() == 4


def test_create_write_transaction_writes_checkpoints(table):
    table.create({"value": pl.Int64()})
    for value in range(12):
        append(table, pl.DataFrame({"value": [value]}))
    assert list(Path(table.uri, "_delta_log").glob("*.checkpoint.parquet"))
    assert table.delta().version() == 12
    assert table.count() == 12


def test_rows_keep_their_order_over_several_frames_and_files(table, monkeypatch):
    monkeypatch.setattr(data_files, "_ROWS_OF_A_FILE", 3)
    table.create({"part": pl.Int64(), "value": pl.Int64()}, ("part",))
    frames = [pl.DataFrame({"part": [value % 2 for value in part], "value": list(part)}) for part in (range(20), range(20, 25))]
    delta = table.delta()
    data_files.append(delta, frames, CommitProperties())
    assert table.count() == 25
    assert table.history(1)[0]["metrics"] == {"num_added_files": 10, "num_added_rows": 25}
    for path in files_of(table):
        values = pl.read_parquet(path, hive_partitioning=False)["value"].to_list()
        assert values == list(range(values[0], values[0] + 2 * len(values), 2))


def test_a_frame_that_fails_leaves_no_commit(table):
    table.create({"value": pl.Int64()})

    def frames():
        yield pl.DataFrame({"value": [1]})
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        data_files.append(table.delta(), frames(), CommitProperties())
    assert table.version() == 0


def test_tables_with_constraints_stay_with_delta_rs(table):
    table.create({"value": pl.Int64()})
    assert data_files.can_append(table.delta())
    table.delta().alter.add_constraint({"positive": "value > 0"})
    assert not data_files.can_append(table.delta())
    with pytest.raises(Exception, match="1 rows failed validation check"):
        table.append(pl.DataFrame({"value": [-1]}))
