"""Mistakes in declarations are met when the code loads: each message names file and line, what is wrong, and the nearest name.

The mistakes that only a run can meet, those of a function, name the function's place.
"""

import importlib
import re
import sys
from dataclasses import dataclass
from datetime import date

import polars as pl
import pytest

from lakehouse_assets.platform.declarations.kind import Plan
from lakehouse_assets.platform.declarations.loading import load_packages
from lakehouse_assets.platform.declarations.tables import FunctionError
from lakehouse_assets.platform.pipeline.refresh import compute
from lakehouse_assets.platform.quality.contract import ContractBroken
from lakehouse_assets.platform.storage.scopes import Everything

SHOP = '''"""A shop."""

from datetime import date, timedelta

import polars as pl

from lakehouse_assets import (
    Append, ByKey, ByPartition, Contract, Dimension, Feed, Full, SCD1, Timestamp, Trailing, Upsert,
    column, conform, feed, feature_set, number, rule, table, text,
)
from lakehouse_assets import day as day_of

orders = feed("shop.bronze.orders", Feed("orders", headers=(("order", "day", "customer", "amount"),), personal=("customer",)), "Orders.")
customers = feed("shop.bronze.customers", Feed("customers", headers=(("customer", "city", "stamp"),)), "Customers.")


class Order(Contract):
    order: str = column(key=True)
    day: date = column()
    customer: str = column(references="shop.silver.customers.customer")
    amount: float = column(ge=0)


class Customer(Contract, fresh_by="seen", fresh_within=timedelta(days=2)):
    customer: str = column(key=True)
    city: str = column()
    seen: date = column()


class Daily(Contract):
    day: date = column(key=True)
    amount: float = column()
    positive = rule("positive", pl.col("amount") >= 0)


@table("shop.silver.orders", contract=Order, kind=Append(), inputs={"rows": "shop.bronze.orders"})
def clean(rows: pl.LazyFrame) -> pl.LazyFrame:
    return conform(rows, order=text("order"), day=day_of("day"), customer=text("customer"), amount=number("amount"))


by_customer = Upsert(key=("customer",), newest_by="seen")


@table("shop.silver.customers", contract=Customer, kind=by_customer, inputs={"rows": "shop.bronze.customers"})
def known(rows: pl.LazyFrame) -> pl.LazyFrame:
    return conform(rows, customer=text("customer"), city=text("city"), seen=day_of("stamp"))


@table(
    "shop.gold.daily",
    contract=Daily,
    kind=ByPartition("day"),
    inputs={"lines": "shop.silver.orders"},
    dimensions={"people": Dimension("shop.silver.customers", key="customer")},
)
def daily(lines: pl.LazyFrame, people: pl.LazyFrame) -> pl.LazyFrame:
    return lines.group_by("day").agg(pl.col("amount").sum())


@table("shop.gold.tail", contract=Daily, kind=Trailing("day", timedelta(days=2)), inputs={"days": "shop.gold.daily"})
def tail(days: pl.LazyFrame) -> pl.LazyFrame:
    return days


@table("shop.gold.by_key", contract=Daily, kind=ByKey("day"), inputs={"days": "shop.gold.daily"}, partition_by=("day",))
def by_key(days: pl.LazyFrame) -> pl.LazyFrame:
    return days
'''


@dataclass(frozen=True)
class Mistake:
    """A change of the shop, the text of the line that has to be named, and what has to be said."""

    old: str
    new: str
    said: str
    line: str = ""


AT_LOAD = {
    "column of a partition": Mistake('ByPartition("day")', 'ByPartition("dya")', "names the column 'dya'.*Did you mean day?", "def daily"),
    "column of a key": Mistake('ByKey("day")', 'ByKey("dya")', "'dya'.*Did you mean day?", "def by_key"),
    "column of a tail": Mistake('Trailing("day"', 'Trailing("dya"', "'dya'.*Did you mean day?", "def tail"),
    "key of Upsert": Mistake('key=("customer",), newest', 'key=("custmer",), newest', "'custmer'.*Did you mean customer?", "def known"),
    "newest_by": Mistake('newest_by="seen"', 'newest_by="sene"', "'sene'.*Did you mean seen?", "def known"),
    "partition_by": Mistake('partition_by=("day",)', 'partition_by=("dya",)', "'dya'.*Did you mean day?", "def by_key"),
    "fresh_by": Mistake('fresh_by="seen"', 'fresh_by="sene"', "'sene'.*Did you mean seen?", "def known"),
    "fresh_by of a text": Mistake('fresh_by="seen"', 'fresh_by="city"', "'city' is no column of dates", "def known"),
    "key of a dimension": Mistake('key="customer")}', 'key="custmer")}', "no column 'custmer'.*Did you mean customer?", "@table(\n"),
    "table of a dimension": Mistake(
        'Dimension("shop.silver.cust', 'Dimension("shop.silver.csut', "did you mean shop.silver.customers?", "@table(\n"
    ),
    "table of an input": Mistake(
        '"lines": "shop.silver.orders"', '"lines": "shop.silver.ordres"', "did you mean shop.silver.orders?", "@table(\n"
    ),
    "table of a reference": Mistake(
        'references="shop.silver.cust', 'references="shop.silver.csut', "Did you mean shop.silver.customers", "def clean"
    ),
    "column of a reference": Mistake('customers.customer")', 'customers.custmer")', "Did you mean customer?", "def clean"),
    "reference without a column": Mistake(
        'references="shop.silver.customers.customer"', 'references="customers"', "customers", "customer: str"
    ),
    "parameter that is no input": Mistake("def tail(days", "def tail(dais", "takes 'dais'.*Did you mean days?", "def tail"),
    "input that is no parameter": Mistake(
        "def daily(lines: pl.LazyFrame, people: pl.LazyFrame)", "def daily(lines: pl.LazyFrame)", "does not take 'people'", "@table(\n"
    ),
    "keyword of table": Mistake("partition_by=", "partitoned_by=", "'partitoned_by'.*Did you mean partition_by?", "def by_key"),
    "keyword of a kind": Mistake("newest_by=", "newest=", "'newest'.*Did you mean newest_by?", "by_customer = "),
    "keyword of a feed": Mistake("personal=", "personel=", "'personel'.*Did you mean personal?", "orders = feed"),
    "keyword of a column": Mistake("column(ge=0)", "column(nulable=True)", "nulable.*Did you mean nullable?", "amount: float"),
    "keyword of a contract": Mistake("fresh_within=", "fresh_withn=", "fresh_withn.*Did you mean fresh_within?", "class Customer"),
    "public name": Mistake(
        "Trailing, Upsert", "Trailling, Upsert", "'Trailling'.*Did you mean Trailing?", "from lakehouse_assets import ("
    ),
    "type": Mistake("day: date = column(key=True)", "day: dat = column(key=True)", "'dat' is not defined. Did you mean date?", "day: dat "),
    "type that no column has": Mistake("city: str", "city: object", "city", "def known"),
    "level": Mistake("column(ge=0)", 'column(ge=0, level="eror")', "not 'eror'. Did you mean error?", "amount: float"),
    "column of a rule": Mistake('pl.col("amount") >= 0', 'pl.col("amont") >= 0', "'amont'.*Did you mean amount?", "@table(\n"),
    "personal column of a feed": Mistake(
        'personal=("customer",)', 'personal=("custmer",)', "'custmer': did you mean 'customer'?", "orders = feed"
    ),
    "kind as a class": Mistake("kind=Append()", "kind=Append", "it is the class: write Append", "def clean"),
    "input as a declaration": Mistake(
        '"lines": "shop.silver.orders"',
        '"lines": clean',
        "is the declaration of shop.silver.orders: name the table, as in 'shop.silver.orders'",
        "@table(\n",
    ),
    "inputs as a list": Mistake('{"days": "shop.gold.daily"}, part', '["shop.gold.daily"], part', "inputs=.*is no dict", "def by_key"),
    "dimension as a text": Mistake(
        'Dimension("shop.silver.customers", key="customer")', '"shop.silver.customers"', "write Dimension", "@table(\n"
    ),
    "contract left out": Mistake("contract=Order, ", "", "missing 1 required keyword-only argument: 'contract'", "def clean"),
    "a contract that is none": Mistake("contract=Order", "contract=orders", "is no subclass of Contract", "def clean"),
    "key that the contract lacks": Mistake("customer: str = column(key=True)", "customer: str = column()", "has no key", "def known"),
    "name of two words": Mistake('"shop.gold.tail"', '"gold.tail"', "'gold.tail' is no name of a table", "def tail"),
    "two declarations of one name": Mistake(
        '"shop.gold.tail"', '"shop.gold.by_key"', "two declarations have the name shop.gold.by_key", "def by_key"
    ),
    "two feeds of one folder": Mistake('Feed("customers"', 'Feed("Orders"', "both read the files of feed 'Orders'", "customers = feed"),
    "a circle": Mistake(
        '"lines": "shop.silver.orders"', '"lines": "shop.gold.tail"', "shop.gold.daily, shop.gold.tail: .* in a circle", "@table(\n"
    ),
    "a table that reads itself": Mistake(
        '"days": "shop.gold.daily"}, part', '"days": "shop.gold.by_key"}, part', "reads itself", "def by_key"
    ),
    "two inputs of Append": Mistake(
        '"rows": "shop.bronze.orders"}', '"rows": "shop.bronze.orders", "b": "shop.bronze.customers"}', "", "def clean"
    ),
    "no inputs": Mistake('inputs={"rows": "shop.bronze.orders"}', "inputs={}", "inputs is empty", "def clean"),
}


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A function that loads a package with the product `shop` of a text."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(source: str):
        folder = tmp_path / "mistaken" / "shop"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tables.py").write_text(source, encoding="utf-8")
        for name in [name for name in sys.modules if name.partition(".")[0] == "mistaken"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return load_packages([importlib.import_module("mistaken")], lambda product: product)

    return load


def line_of(source: str, text: str) -> int:
    """The line in which a text begins; of a function, that of its decorator."""
    at = source.index(text)
    if text.startswith("def "):
        at = source.rindex("\n@", 0, at) + 1
    return source.count("\n", 0, at) + 1


def test_the_shop_without_a_mistake_loads(shop):
    found = shop(SHOP)
    assert not found.broken
    assert len(found.catalog.declarations) == 7


@pytest.mark.parametrize("mistake", AT_LOAD.values(), ids=AT_LOAD)
def test_a_mistake_is_met_when_the_code_loads(shop, mistake):
    source = SHOP.replace(mistake.old, mistake.new, 1)
    assert source != SHOP
    [broken] = shop(source).broken
    place = f"mistaken/shop/tables.py:{line_of(source, mistake.line)}: "
    assert broken.error.startswith(place), (place, broken.error)
    assert re.search(mistake.said.replace("?", r"\?"), broken.error), broken.error
    assert len(broken.error) < 400, broken.error
    assert len(broken.error.splitlines()) <= 2


ROWS = {"day": [date(2026, 1, 1)], "amount": [1.0], "order": ["A"], "customer": ["Ann"]}
BODY = 'return lines.group_by("day").agg(pl.col("amount").sum())'
AT_RUN = {
    "a frame that is not lazy": (f"{BODY}.collect()", "returned a DataFrame instead of a LazyFrame: call .lazy"),
    "nothing is returned": (BODY.removeprefix("return "), "returned a NoneType instead of a LazyFrame: return the rows"),
    "a column that is not there": (BODY.replace('"amount"', '"amont"'), "names the column 'amont', .*: .*amount.*Did you mean amount?"),
    "a column of a group that is not there": (BODY.replace('"day"', '"dya"'), "names the column 'dya', which .* day, amount"),
    "a column that is not there to be dropped": ('return lines.drop("amont")', "names the column 'amont', .*Did you mean amount?"),
    "a column that is not there to be renamed": ('return lines.rename({"amont": "x"})', "names the column 'amont', .*Did you mean amount?"),
    "a key of a join": ('return lines.join(people, on="custmer")', "names the column 'custmer', .*Did you mean customer?"),
    "a name": (BODY.replace("lines.", "line."), "failed, at {file}:{body}: NameError: name 'line' is not defined. Did you mean lines?"),
    "a method": (BODY.replace(".agg", ".ag"), "failed, at {file}:{body}: AttributeError: .* no attribute 'ag'. Did you mean agg?"),
    "an argument": ("return lines.head(m=1)", "failed, at {file}:{body}: TypeError: .*unexpected keyword argument 'm'"),
    "a key of a dict": ("return {}['x']", "failed, at {file}:{body}: KeyError: 'x'"),
    "a number": ("return lines.limit(1 // 0)", "failed, at {file}:{body}: ZeroDivisionError"),
}


@pytest.mark.parametrize(("body", "said"), AT_RUN.values(), ids=AT_RUN)
def test_a_mistake_in_a_function_is_said_with_its_place(shop, body, said):
    source = SHOP.replace(BODY, body, 1)
    daily = shop(source).catalog["shop.gold.daily"]
    rows = pl.LazyFrame(ROWS)
    with pytest.raises(FunctionError) as failed:
        compute(daily, Plan({"lines": rows, "people": rows.select("customer", city=pl.lit("York"))}, Everything()))
    file = "mistaken/shop/tables.py"
    text, place = str(failed.value), f"{file}:{line_of(source, 'def daily')}"
    assert re.search(said.format(file=file, body=line_of(source, body)).replace("?", r"\?").replace("{}", r"\{\}"), text), text
    assert text.startswith(f"shop.gold.daily: its function daily ({place}) ")
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (BODY + '.rename({"amount": "amuont"})', r"column amount (Float64) is missing (amuont is there); column amuont is not in the"),
        (BODY + '.drop("amount")', "column amount (Float64) is missing. Nothing"),
        (BODY + ".with_columns(more=1)", "column more is not in the contract. Nothing"),
        (BODY + '.cast({"amount": pl.Int64})', "column amount is Int64, the contract says Float64. Nothing"),
    ],
)
def test_columns_that_differ_from_the_contract_are_said_with_the_place_of_the_function(shop, body, said):
    source = SHOP.replace(BODY, body, 1)
    daily, rows = shop(source).catalog["shop.gold.daily"], pl.LazyFrame(ROWS)
    with pytest.raises(ContractBroken) as broken:
        compute(daily, Plan({"lines": rows, "people": rows}, Everything()))
    assert said in str(broken.value)
    assert f"change the table's function (mistaken/shop/tables.py:{line_of(source, 'def daily')}) or its contract" in str(broken.value)
