"""System tables that are views: of ledgers, inference logs and the commits of tables, put together when they are read.

A view is made of the rows as its reader may see them, so what is masked in a table is masked here. No row is copied.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import polars as pl

from lakehouse_assets.platform.monitoring.system import system_tables
from lakehouse_assets.platform.monitoring.system.system_tables import SystemTable
from lakehouse_assets.platform.storage.platform_tables import COMMITS, FEEDBACK_SUFFIX
from lakehouse_assets.platform.storage.table import Table


@dataclass(frozen=True)
class View:
    """A view.

    Attributes:
        of: What it is called, and its columns.
        sources: Of the tables that exist, those whose rows it shows.
        rows: The rows of one of them under the view's columns; columns that the view has not are left out, missing ones are null.
    """

    of: SystemTable
    sources: Callable[[str], bool]
    rows: Callable[[pl.LazyFrame, str], pl.LazyFrame]

    def scan(self, tables: Iterable[Table], read: Callable[[Table], pl.LazyFrame]) -> pl.LazyFrame:
        """The rows, empty where there is no source.

        Args:
            tables: That exist.
            read: Gives the rows of a table as its reader may see them.
        """
        schema = self.of.schema
        frames = [self.rows(read(table), table.name) for table in tables if self.sources(table.name)]
        return pl.concat([pl.LazyFrame(schema=schema), *(_as(schema, frame) for frame in frames)])


def _as(schema: pl.Schema, rows: pl.LazyFrame) -> pl.LazyFrame:
    there = rows.collect_schema()
    return rows.select((pl.col(name) if name in there else pl.lit(None)).cast(dtype).alias(name) for name, dtype in schema.items())


def _layer(layer: str) -> Callable[[str], bool]:
    return lambda name: name.split(".")[1] == layer and not name.endswith(FEEDBACK_SUFFIX)


def _product(name: str) -> pl.Expr:
    return pl.lit(name.split(".", maxsplit=1)[0]).alias("product")


def _commits(rows: pl.LazyFrame, _: str) -> pl.LazyFrame:
    counted = rows.filter(pl.col("written").is_not_null())
    return counted.with_columns(pl.col("table").str.split(".").list.first().alias("product"))


def _ledger(rows: pl.LazyFrame, name: str) -> pl.LazyFrame:
    return rows.with_columns(pl.lit(name).alias("model"), _product(name))


def _requests(rows: pl.LazyFrame, name: str) -> pl.LazyFrame:
    return rows.with_columns(pl.lit(name).alias("table"), _product(name))


VIEWS: Final[Mapping[str, View]] = MappingProxyType(
    {
        view.of.name: view
        for view in (
            View(system_tables.ROW_ACCOUNTS, lambda name: name == COMMITS, _commits),
            View(system_tables.DECISIONS, _layer("models"), _ledger),
            View(system_tables.REQUESTS, _layer("inference"), _requests),
        )
    }
)
"""By name."""
