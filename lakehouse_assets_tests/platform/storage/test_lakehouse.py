"""From names to tables."""

import polars as pl
import pytest

from lakehouse_assets.platform.storage.errors import StorageError
from lakehouse_assets.platform.storage.lakehouse import Lakehouse


def test_the_three_words_are_folders(lakehouse):
    table = lakehouse.table("sales.silver.invoice_lines__quarantine")
    assert table.uri == f"{lakehouse.root}/sales/silver/invoice_lines__quarantine"
    assert table.name == "sales.silver.invoice_lines__quarantine"


@pytest.mark.parametrize(
    "name", ["", "lines", "sales.lines", "a.b.c.d", "Sales.silver.lines", "sales..lines", "../a.b.c", "a.b.c\n", "a.b.1c", "a/b.c.d"]
)
def test_other_names_are_refused(lakehouse, name):
    with pytest.raises(StorageError, match="is not a table's name"):
        lakehouse.table(name)


def test_the_tables_that_exist_are_listed_by_name(lakehouse, tmp_path):
    assert list(lakehouse.tables()) == []
    for name in ("shop.silver.b", "shop.bronze.z", "shop.silver.a"):
        lakehouse.table(name).create({"id": pl.Int64()})
    (tmp_path / "tables" / "shop" / "silver" / "begun" / "_delta_log").mkdir(parents=True)
    assert [table.name for table in lakehouse.tables()] == ["shop.bronze.z", "shop.silver.a", "shop.silver.b"]


def test_two_roots_never_mix(tmp_path):
    one, other = (Lakehouse(str(tmp_path / name)).table("shop.silver.things") for name in ("one", "other"))
    one.create({"id": pl.Int64()})
    assert one.exists()
    assert not other.exists()
