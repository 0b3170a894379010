"""Which versions of tables a backup takes, while others write them."""

from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.declarations.row_kinds import Append
from lakehouse_assets.platform.declarations.tables import table
from lakehouse_assets.platform.operations.backup_files import FolderFiles
from lakehouse_assets.platform.operations.backup_pins import Pin, Pins
from lakehouse_assets.platform.pipeline import marks
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.quality.contract import Contract, column
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.platform.pipeline.orders import land, orders, refresh

BAD = ("tea", "x")


class Item(Contract):
    """What was rejected."""

    item: str = column()


@table("shop.gold.rejected", contract=Item, kind=Append(), inputs={"rows": orders.quarantine})
def rejected(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Items of rejected rows."""
    return rows.select("item")


def test_a_quarantine_that_others_read_is_taken_as_it_belongs_to_its_table(tmp_path):
    lakehouse = Lakehouse(str(tmp_path))
    land(lakehouse, [("tea", "1"), BAD])
    refresh(lakehouse)
    Refresh(rejected, lakehouse, "r").run()
    quarantine = lakehouse.table(orders.quarantine).version()
    pins = Pins(lakehouse, FolderFiles(Path(tmp_path)))
    pins.take([rejected.name, orders.name])
    for _ in range(3):
        land(lakehouse, [BAD])
        refresh(lakehouse)
    pins.close()
    assert lakehouse.table(orders.quarantine).version() > quarantine
    assert pins.taken[orders.quarantine].version == quarantine


@pytest.mark.parametrize("mark", [value for name, value in vars(marks).items() if name.isupper() and isinstance(value, str)])
def test_a_mark_of_a_table_on_itself_is_no_version_of_what_it_names(tmp_path, mark):
    pin = Pin(Lakehouse(str(tmp_path)).table("shop.gold.rejected"), 0, {f"{mark}/{orders.name}": 7, orders.name: 3})
    assert [*Pins(pin.table, FolderFiles(tmp_path)).reads(pin)] == [(orders.name, 3)]
