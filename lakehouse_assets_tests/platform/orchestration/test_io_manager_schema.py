"""A plain asset whose columns change: what replaces all rows brings its own columns, what replaces some may add some."""

from datetime import date

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.platform.orchestration.io_manager import TableIOManager
from lakehouse_assets.platform.storage.errors import SchemaMismatch
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
DAILY = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-15")
FIRST = pl.DataFrame({"day": [date(2024, 1, 1)], "a": [1], "t": ["x"]})


@pytest.fixture
def lakehouse(tmp_path) -> Lakehouse:
    return Lakehouse(str(tmp_path))


def store(lakehouse: Lakehouse, frame: pl.DataFrame, **how) -> None:
    declared = {"partitions_def": DAILY, "metadata": {"partition_expr": "day"}} if how else {}

    @dg.asset(name="rows", **declared)
    def rows():
        return frame

    dg.materialize([rows], resources={"io_manager": TableIOManager(lakehouse)}, **how)


@pytest.mark.parametrize(
    "second",
    [
        FIRST.with_columns(b=pl.lit(2.5)),
        FIRST.drop("t"),
        FIRST.rename({"a": "b"}),
        FIRST.with_columns(a=pl.lit("text")),
        FIRST.with_columns(a=pl.lit(1.5)),
        FIRST.select("t", "a", "day"),
        FIRST.with_columns(b=pl.lit(2.5)).clear(),
    ],
    ids=["new column", "column less", "other name", "other type", "wider type", "other order", "no rows"],
)
def test_a_frame_that_replaces_the_whole_table_replaces_its_columns(lakehouse, second):
    store(lakehouse, FIRST)
    table = lakehouse.table("plain.assets.rows")
    identity, version = table.delta().metadata().id, table.version()
    store(lakehouse, second)
    assert table.scan().collect().select(second.columns).equals(second)
    assert set(table.schema()) == set(second.columns)
    assert (table.delta().metadata().id, table.version()) == (identity, version + 1)
    assert table.scan(version).collect().equals(FIRST), "the version before is what it was"
    store(lakehouse, FIRST)
    assert table.scan().collect().select(FIRST.columns).equals(FIRST)


def test_a_frame_that_fits_keeps_the_types_of_the_table(lakehouse):
    store(lakehouse, FIRST)
    store(lakehouse, FIRST.cast({"a": pl.Int16}))
    assert lakehouse.table("plain.assets.rows").schema()["a"] == pl.Int64


def test_a_partition_may_bring_a_column_that_the_others_do_not_have(lakehouse):
    store(lakehouse, FIRST, partition_key="2024-01-01")
    second = pl.DataFrame({"day": [date(2024, 1, 2)], "a": [2], "t": ["y"], "b": [True]})
    store(lakehouse, second, partition_key="2024-01-02")
    rows = lakehouse.table("plain.assets.rows").scan().sort("day").collect()
    assert rows.rows() == [(date(2024, 1, 1), 1, "x", None), (date(2024, 1, 2), 2, "y", True)]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (FIRST.drop("t"), "it lacks t"),
        (FIRST.with_columns(a=pl.lit("text")), "a is Int64 instead of String"),
    ],
)
def test_a_partition_that_does_not_fit_is_refused_with_the_way_out(lakehouse, second, said):
    store(lakehouse, FIRST, partition_key="2024-01-01")
    version = lakehouse.table("plain.assets.rows").version()
    with pytest.raises(SchemaMismatch, match=f"rows: what it returned does not fit plain.assets.rows, .*{said}.*Return these columns"):
        store(lakehouse, second, partition_key="2024-01-01")
    assert lakehouse.table("plain.assets.rows").version() == version
