"""Formats are open: other readers see the rows that we see, whatever was done to the table."""

from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest
from deltalake import DeltaTable, QueryBuilder
from polars.testing import assert_frame_equal
from pyarrow import parquet

from lakehouse_assets.platform.storage.merge import merge

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


@pytest.fixture
def written(lakehouse):
    table = lakehouse.table("shop.silver.things")
    table.create(ROWS.schema, ("country", "day"))
    table.append(ROWS)
    table.replace(ROWS[:1].with_columns(id=pl.lit(10, pl.Int64)), {"country": ["United Kingdom"]})
    merge(table, ROWS[3:].with_columns(text=pl.lit("changed")), ["country", "day", "id"])
    table.delta().optimize.compact()
    return table


READERS = {
    "Arrow dataset": lambda uri: pl.from_arrow(DeltaTable(uri).to_pyarrow_dataset().to_table()),
    "DataFusion": lambda uri: pl.DataFrame(QueryBuilder().register("things", DeltaTable(uri)).execute("SELECT * FROM things").read_all()),
    "Polars": pl.read_delta,
}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_sees_equal_rows(written, name):
    ours = written.scan().collect().sort("id")
    theirs = READERS[name](written.uri).select(ours.columns).sort("id")
    assert ours["id"].to_list() == [2, 3, 4, 10]
    assert_frame_equal(theirs.cast({"at": ours.schema["at"]}), ours)


def test_appended_and_replaced_rows_have_plain_strings(written):
    """String views, as Polars hands them over, cannot be filtered by some readers."""
    written.append(ROWS)
    written.replace(ROWS[:1], {"country": ["United Kingdom"]})
    files = {uri for version in (written.version() - 1, written.version()) for uri in written.delta(version).file_uris()}
    newest = files - set(written.delta(written.version() - 2).file_uris())
    assert newest
    assert {str(parquet.read_schema(path).field("text").type) for path in newest} <= {"string", "large_string"}
