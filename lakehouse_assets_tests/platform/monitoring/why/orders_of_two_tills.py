"""Two tills whose files become one gold table that is watched: `land` lands a day of one of them, as it should be or not."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from lakehouse_assets import ByKey, Contract, Drift, Feed, Timestamp, Upsert, column, conform, feed, monitor, number, table, text, timestamp
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.monitoring.evaluation import Evaluation
from lakehouse_assets.platform.monitoring.judgements import Judgement
from lakehouse_assets.platform.orchestration.autoload import Products
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import land_text, run_declared, tables_of

START = date(2026, 1, 5)
BASE = 30
"""Days that are landed as they should be."""
ROWS = 120
TILLS = ("north", "south")
HEADER = ("sale", "paid_at", "Price", "country", "shopper")


class Sale(Contract):
    """A sale."""

    sale: str = column(key=True)
    paid_at: Timestamp
    amount: float = column(nullable=True)
    country: str = column(nullable=True)
    shopper: str = column(nullable=True, personal=True)


class Order(Contract):
    """An order."""

    sale: str = column(key=True)
    paid_at: Timestamp
    gross: float = column(nullable=True)
    abroad: bool = column(nullable=True)
    country: str = column(nullable=True)


north, south = (feed(f"tills.bronze.{name}", Feed(name, headers=(HEADER,), personal=("shopper",)), "Files of a till.") for name in TILLS)


def _typed(rows: pl.LazyFrame) -> pl.LazyFrame:
    return conform(
        rows,
        sale=text("sale"),
        paid_at=timestamp("paid_at", formats=("%Y-%m-%dT%H:%M:%S",)),
        amount=number("Price"),
        country=text("country"),
        shopper=text("shopper"),
    )


@table("tills.silver.north", contract=Sale, kind=Upsert(("sale",)), inputs={"rows": "tills.bronze.north"})
def silver_north(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales."""
    return _typed(rows)


@table("tills.silver.south", contract=Sale, kind=Upsert(("sale",)), inputs={"rows": "tills.bronze.south"})
def silver_south(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales."""
    return _typed(rows)


INPUTS = {"northern": "tills.silver.north", "southern": "tills.silver.south"}


@table("tills.gold.orders", contract=Order, kind=ByKey("sale"), inputs=INPUTS)
def orders(northern: pl.LazyFrame, southern: pl.LazyFrame) -> pl.LazyFrame:
    """Orders of both tills, with tax."""
    both = pl.concat([northern, southern])
    return both.select("sale", "paid_at", "country", gross=pl.col("amount") * 1.2, abroad=pl.col("country") != "GB")


@table("tills.gold.orders", contract=Order, kind=ByKey("sale"), inputs=INPUTS)
def orders_without_tax(northern: pl.LazyFrame, southern: pl.LazyFrame) -> pl.LazyFrame:
    """Orders of both tills, with a tax that somebody meant to be a percent."""
    both = pl.concat([northern, southern])
    return both.select("sale", "paid_at", "country", gross=pl.col("amount") * 20, abroad=pl.col("country") != "GB")


class OrderWithoutCountry(Contract):
    """An order."""

    sale: str = column(key=True)
    paid_at: Timestamp
    gross: float = column(nullable=True)
    abroad: bool = column(nullable=True)


@table("tills.gold.orders", contract=OrderWithoutCountry, kind=ByKey("sale"), inputs=INPUTS)
def orders_without_country(northern: pl.LazyFrame, southern: pl.LazyFrame) -> pl.LazyFrame:
    """Orders of both tills, from which somebody took the country."""
    both = pl.concat([northern, southern])
    return both.select("sale", "paid_at", gross=pl.col("amount") * 1.2, abroad=pl.col("country") != "GB")


watched = monitor("tills.monitors.orders_moved", of="tills.gold.orders", kind=Drift("paid_at", against="tills.gold.orders@1"))


def products(gold=orders) -> Products:
    """What is declared."""
    return Products(Catalog((north, south, silver_north, silver_south, gold, watched)))


def rows_of(till: str, day: int) -> pl.DataFrame:
    """What a till sold on a day."""
    random = np.random.default_rng([TILLS.index(till), day])
    at = datetime.combine(START + timedelta(days=day), datetime.min.time())
    return pl.DataFrame(
        {
            "sale": [f"{till}-{day}-{one}" for one in range(ROWS)],
            "paid_at": [(at + timedelta(minutes=5 * one)).isoformat() for one in range(ROWS)],
            "Price": (15 * random.lognormal(0, 0.6, ROWS)).round(2),
            "country": random.choice(["GB", "FR", "DE"], ROWS, p=[0.6, 0.25, 0.15]),
            "shopper": [f"Ada {one} Smith" for one in range(ROWS)],
        }
    )


def land(settings: Settings, till: str, day: int, *changed: pl.Expr) -> str:
    """Land the file of a day, with changed columns, and give its name."""
    name = f"{till}_{START + timedelta(days=day)}.csv"
    land_text(settings, till, name, rows_of(till, day).with_columns(changed).write_csv())
    return name


def judged(settings: Settings, gold=orders) -> Judgement:
    """Refresh all tables and judge the gold one, as a run does."""
    declared = products(gold)
    run_declared(settings, declared)
    judgement = evaluation_of(settings, gold).run([watched])
    return judgement[0]


def evaluation_of(settings: Settings, gold=orders) -> Evaluation:
    """Of the monitor, at a moment after all that was landed."""

    def refuse(*_: str) -> None:
        raise AssertionError(_)

    now = datetime.combine(START + timedelta(days=BASE + 5), datetime.min.time(), UTC)
    return Evaluation(tables_of(settings), products(gold).catalog, refuse, now, "run", refuse)
