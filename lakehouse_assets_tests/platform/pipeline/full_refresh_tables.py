"""Tables before and after their contract and function changed, each of a kind. Declaring them starts threads of Polars."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations.computed_kinds import ByPartition, Full
from lakehouse_assets.platform.declarations.row_kinds import Append, Upsert
from lakehouse_assets.platform.declarations.tables import TableDeclaration, table
from lakehouse_assets.platform.quality.contract import Contract, column

SOURCE = "shop.bronze.sales"


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
