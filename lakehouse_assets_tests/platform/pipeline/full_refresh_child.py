"""Fully refreshes a small table in processes that die at one place: before or after a commit or the deletion of a file.

`python -m lakehouse_assets_tests.platform.pipeline.full_refresh_child` takes orders as `crash_child` does; `table` of an order is a name of
`CHANGED`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations.computed_kinds import ByPartition, Full
from lakehouse_assets.platform.declarations.row_kinds import Append, Upsert
from lakehouse_assets.platform.declarations.tables import TableDeclaration, table
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.quality.contract import Contract, column
from lakehouse_assets.platform.storage import inventory
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.crash_child import Places, serve, watch

SOURCE = "shop.bronze.sales"
BATCH_ROWS = 4
"""As many as one commit of the source has, so there are as many batches as commits."""


class Sale(Contract, max_bad_share=1.0):
    """A sale."""

    part: str = column(key=True)
    id: int = column(key=True)
    amount: int = column(ge=0)


class Strict(Sale, max_bad_share=1.0):
    """A sale of more than ten."""

    amount: int = column(gt=10)
    note: str = column(nullable=True)


def sales(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales."""
    return rows


def strict(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The same, ten times as much, with a note."""
    return rows.with_columns(pl.col("amount") * 10, note=pl.col("part").str.to_uppercase())


def _declared(name: str, kind: Any) -> TableDeclaration:
    return table(f"shop.silver.{name}", contract=Sale, kind=kind, inputs={"rows": SOURCE})(sales)


BEFORE: Mapping[str, TableDeclaration] = {
    "append": _declared("append", Append()),
    "upsert": _declared("upsert", Upsert(("part", "id"))),
    "by_partition": _declared("by_partition", ByPartition("part")),
    "full": _declared("full", Full()),
}
CHANGED = {
    **{name: replace(one, contract=Strict, function=strict) for name, one in BEFORE.items()},
    # Other partitions, too: the table cannot evolve, and is rewritten as a whole.
    "other_layout": replace(BEFORE["upsert"], contract=Strict, function=strict, partition_by=("part",)),
}


class DeletingFiles:
    """A file system whose deletions are places."""

    def __init__(self, files: Any, places: Places) -> None:
        self._files, self.delete_file = files, places.around(files.delete_file, "delete")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)


def run(order: dict[str, Any]) -> list[str]:
    """Carry out an order; the names of the places, if there is an end."""
    places = Places(order["fatal"], order["when"], in_bucket=False)
    watch(places)
    file_system = inventory.file_system
    inventory.file_system = lambda table: DeletingFiles(file_system(table), places)
    full_refresh(Refresh(CHANGED[order["table"]], Lakehouse(order["root"]), "again", batch_rows=BATCH_ROWS))
    return places.names


if __name__ == "__main__":
    serve(run)
