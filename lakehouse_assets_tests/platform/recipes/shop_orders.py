"""Invented orders of which some are charged back, by their amount, country and method, and weeks later; and a product that predicts it."""

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl

FIRST = datetime(2025, 1, 1, tzinfo=UTC)
PRODUCT = '''"""Orders, and how likely each is charged back."""

from datetime import timedelta

import polars as pl

from lakehouse_assets import Contract, Feed, Timestamp, Upsert, boolean, classifier, column, conform, feed
from lakehouse_assets import number, table, text, timestamp
from lakehouse_assets.platform.modelling.costs import Costs

HEADER = ("order", "ordered_at", "amount", "country", "method", "charged_back")
files = feed("shop.bronze.orders", Feed("orders", headers=(HEADER,)), "Orders as the shop exports them.")


class Order(Contract):
    """An order; whether it was charged back is known after 60 days."""

    order: str = column(key=True)
    ordered_at: Timestamp
    amount: float
    country: str
    method: str = column(nullable=True)
    charged_back: bool


@table("shop.silver.orders", contract=Order, kind=Upsert(("order",)), inputs={"rows": "shop.bronze.orders"})
def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Orders with their types."""
    at = timestamp("ordered_at", formats=("%Y-%m-%d %H:%M:%S",))
    words = {name: text(name) for name in ("order", "country", "method")}
    return conform(rows, **words, ordered_at=at, amount=number("amount"), charged_back=boolean("charged_back"))


fraud = classifier(
    "shop.fraud", table="shop.silver.orders", target="charged_back", entity=("order",), time="ordered_at",
    inputs={"amount": float, "country": str, "method": str}, settled=timedelta(days=60), slices=("country",),
    costs=Costs(missed="amount", false_alarm=20.0),
)
'''  # fmt: skip

Chance = Callable[[float, str, str | None], float]


def learnable(amount: float, country: str, method: str | None) -> float:
    """Columns that matter together, as no weighted sum of them says."""
    suspect = (country == "US" and method == "card") or (method == "wallet" and 30 < amount < 90)
    return 1 / (1 + math.exp(-(-3.2 + 0.6 * (math.log(amount) - 4) + (3.6 if suspect else 0.0))))


def orders(count: int, days: int = 300, chance: Chance = learnable, seed: int = 1) -> pl.DataFrame:
    """As silver has them."""
    draw, rows = random.Random(seed), []
    for number in range(count):
        amount = round(math.exp(draw.gauss(4, 1)), 2)
        country, method = draw.choice(("GB", "DE", "FR", "US")), draw.choice(("card", "invoice", "wallet", None))
        rows.append(
            {
                "order": f"{number:06d}",
                "ordered_at": FIRST + timedelta(seconds=int(86_400 * days * number / count)),
                "amount": amount,
                "country": country,
                "method": method,
                "charged_back": draw.random() < chance(amount, country, method),
            }
        )
    return pl.DataFrame(rows, schema_overrides={"ordered_at": pl.Datetime("us", "UTC")})


def as_file(rows: pl.DataFrame) -> str:
    """The file that the shop would export."""
    return rows.with_columns(pl.col("ordered_at").dt.strftime("%Y-%m-%d %H:%M:%S")).write_csv()
