"""Formats are open: other readers see the rows that we see, whatever was done to the table, and need nothing new to open it."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, QueryBuilder
from polars.testing import assert_frame_equal
from pyarrow import parquet

from lakehouse_assets.platform.storage import restore
from lakehouse_assets.platform.storage.maintenance import COMPACTED, Keep, maintain
from lakehouse_assets.platform.storage.merge import merge
from lakehouse_assets.platform.storage.update import update

ROWS = pl.DataFrame(
    {
        "country": ["United Kingdom", "it's", None, "fr"],
        "day": [date(2011, 7, 1), None, date(2011, 7, 3), date(2011, 7, 4)],
        "id": [1, 2, 3, 4],
        "amount": [0.5, None, float("inf"), -0.0],
        "price": [Decimal("1.25"), None, Decimal("-0.01"), Decimal(0)],
        "text": ["a", "", None, "日本\n"],
        "at": [datetime(2011, 7, 1, 12, 0, 0, 1, tzinfo=UTC), None, datetime(1900, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)],
        "tags": [["x", None], [], None, ["y"]],
        "more": [{"a": 1, "b": "x"}, None, {"a": None, "b": None}, {"a": 4, "b": ""}],
    },
    schema_overrides={"price": pl.Decimal(12, 2)},
)


# Names of folders that readers of paths and of SQL trip over, each with a row of its own.
AWKWARD = ["United Kingdom", "it's", 'say "so"', "a/b", "a=b", "100%25", "%2F", "#?*[x]", "ü", "日本", "~^&+,:", "NULL", ".."]


@pytest.fixture
def written(lakehouse):
    """A table with appended, replaced, merged and updated rows, restored once, and then maintained."""
    table = lakehouse.table("shop.silver.things")
    table.create(ROWS.schema, ("country", "day"))
    table.append(ROWS)
    table.replace(ROWS[:1].with_columns(id=pl.lit(10, pl.Int64)), {"country": ["United Kingdom"]})
    merge(table, ROWS[3:].with_columns(text=pl.lit("changed")), ["country", "day", "id"])
    before = table.version()
    table.replace(ROWS.clear(), None)
    restore.restore(table, before, "test")
    table.append(pl.concat([ROWS[:1]] * len(AWKWARD)).with_columns(country=pl.Series(AWKWARD), id=pl.int_range(100, 100 + len(AWKWARD))))
    table.add_columns({"note": pl.String()})
    update(table, pl.DataFrame({"id": [4, 100], "note": ["seen", "by us"]}), ["id"])
    for number in range(20):  # more than a log goes without a checkpoint
        table.append(table.scan().limit(1).collect().with_columns(id=pl.lit(1000 + number, pl.Int64), country=pl.lit("fr")))
    return table


def maintained(table):
    keep = Keep(None, (), timedelta(0), datetime.now(UTC) + timedelta(days=3))
    done = maintain(table, keep, "maintenance")
    assert (COMPACTED in done.done, done.why_not) == (True, "")
    return table


READERS = {
    "pyarrow dataset": lambda uri: pl.from_arrow(DeltaTable(uri).to_pyarrow_dataset().to_table()),
    "delta-rs query engine": lambda uri: pl.DataFrame(
        QueryBuilder().register("things", DeltaTable(uri)).execute("SELECT * FROM things").read_all()
    ),
    "Polars": pl.read_delta,
}
IDS = [2, 3, 4, 10, *range(100, 100 + len(AWKWARD)), *range(1000, 1020)]


def assert_equal_rows(table, theirs):
    ours = table.scan().collect().sort("id")
    assert ours["id"].to_list() == IDS
    assert_frame_equal(theirs.select(ours.columns).sort("id").cast({"at": ours.schema["at"]}), ours)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_sees_equal_rows_before_and_after_maintenance(written, name):
    assert_equal_rows(written, READERS[name](written.uri))
    assert_equal_rows(maintained(written), READERS[name](written.uri))


def test_daft_sees_equal_rows_after_maintenance(written, monkeypatch):
    monkeypatch.setenv("DO_NOT_TRACK", "1")  # read when it is imported
    import daft

    rows = daft.read_deltalake(maintained(written).uri).to_arrow()
    assert_equal_rows(written, pl.from_arrow(rows))


def test_a_table_needs_no_more_than_every_reader_knows(written):
    """Reader 1 and writer at most 4, or writer features that readers need not know; see the Delta protocol, "Table Features"."""
    maintained(written)
    protocol = written.delta().protocol()
    assert protocol.min_reader_version == 1
    assert protocol.reader_features is None
    assert protocol.min_writer_version <= 4 or set(protocol.writer_features) <= {"appendOnly", "invariants", "changeDataFeed"}
    metadata = written.delta().metadata()
    assert not [name for name in metadata.configuration if "columnMapping" in name or "deletionVector" in name or "rowTracking" in name]
    logged = [json.loads(line) for path in Path(written.uri, "_delta_log").glob("*.json") for line in path.read_text().splitlines()]
    assert not [action for action in logged if (action.get("add") or {}).get("deletionVector")]
    schema = json.loads(written.delta().schema().to_json())
    assert not [column for column in schema["fields"] if column["metadata"]]
    assert not list(Path(written.uri, "_delta_log").glob("*.checkpoint.*-*.parquet"))  # v2 checkpoints carry a UUID


def test_appended_and_replaced_rows_have_plain_strings(written):
    """String views, as Polars hands them over, cannot be filtered by some readers."""
    rows = ROWS.with_columns(note=pl.lit("plain"))
    written.append(rows)
    written.replace(rows[:1], {"country": ["United Kingdom"]})
    files = {uri for version in (written.version() - 1, written.version()) for uri in written.delta(version).file_uris()}
    newest = files - set(written.delta(written.version() - 2).file_uris())
    assert newest
    assert {str(parquet.read_schema(path).field("text").type) for path in newest} <= {"string", "large_string"}
