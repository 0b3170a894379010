"""Tables for tests: made for one test or one example of a property, gone afterwards."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from hypothesis import settings

from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets_tests import sweeps


def examples(few: int) -> settings:
    """A property with real tables: few examples, in a full sweep ten times as many; no limit on the time of one."""
    return sweeps.examples(few, 10 * few, database=None)


@contextmanager
def fresh_table(schema: Mapping[str, pl.DataType], partition_by: tuple[str, ...] = ()) -> Iterator[Table]:
    with tempfile.TemporaryDirectory() as root:
        table = Lakehouse(root).table("shop.silver.things")
        table.create(schema, partition_by)
        yield table


def rows_of(table: Table, *columns: str) -> list[tuple]:
    """All rows in an order of their own, nulls included."""
    rows = table.scan().collect()
    return sorted(rows.select(columns or rows.columns).rows(), key=repr)


def paths_of(table: Table, partition: str = "") -> set[str]:
    """The data files of the table as it is now, or of one of its partitions."""
    return {uri for uri in table.delta().file_uris() if f"/{partition}" in uri}


def files_of(table: Table) -> set[str]:
    """The data and change files that lie in the table's folder."""
    return {str(path) for path in Path(table.uri).rglob("*.parquet") if "_delta_log" not in path.parts}
