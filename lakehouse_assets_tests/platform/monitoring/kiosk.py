"""A kiosk that is watched: a bronze table that a test fills, a silver and a gold table, and monitors as the test declares them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import ClassVar

import dagster as dg
import polars as pl

from lakehouse_assets import ByKey, Contract, Upsert, column, table
from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.monitors import Monitor, MonitorKind, Verdict, Watched
from lakehouse_assets.platform.monitoring import verdicts
from lakehouse_assets.platform.orchestration.autoload import Products
from lakehouse_assets.platform.orchestration.code_location import definitions
from lakehouse_assets_tests.running import tables_of

BRONZE, SILVER, GOLD = "kiosk.bronze.sales", "kiosk.silver.sales", "kiosk.gold.days"
ROWS = pl.Schema({"sale": pl.Int64(), "day": pl.Date(), "amount": pl.Int64()})
DAY = date(2026, 3, 2)


class Sale(Contract):
    """A sale."""

    sale: int = column(key=True)
    day: date
    amount: int = column(ge=0)


class Day(Contract):
    """A day."""

    day: date = column(key=True)
    amount: int


@table(SILVER, contract=Sale, kind=Upsert(("sale",)), inputs={"rows": BRONZE})
def sales(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales."""
    return rows


@table(GOLD, contract=Day, kind=ByKey("day"), inputs={"rows": SILVER})
def days(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Days."""
    return rows.group_by("day").agg(pl.col("amount").sum())


@dataclass(frozen=True)
class Says(MonitorKind):
    """Says what it is given, or raises it."""

    said: tuple[Verdict, ...] = ()
    raised: BaseException | None = None

    word: ClassVar[str] = "says"

    @property
    def demands(self) -> str:
        """See `MonitorKind.demands`."""
        return "All is well."

    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        """See `MonitorKind.evaluate`."""
        if self.raised is not None:
            raise self.raised
        return self.said


def land(settings, *rows: tuple[int, date, int]) -> None:
    """Put rows into bronze."""
    bronze = tables_of(settings).table(BRONZE)
    bronze.create(ROWS)
    bronze.append(pl.DataFrame(rows, schema=ROWS, orient="row"))


def defs_of(settings, *monitors: Monitor, tables: Sequence[Declaration] = (sales, days)) -> dg.Definitions:
    """The code location of the kiosk."""
    return definitions(settings, Products(Catalog((*tables, *monitors), frozenset({BRONZE}))))


def stored(settings) -> pl.DataFrame:
    """All verdicts, oldest first."""
    return tables_of(settings).table(verdicts.TABLE).scan().sort("evaluated_at", "monitor").collect()


def noon(day: date = DAY) -> datetime:
    """The middle of a day."""
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
