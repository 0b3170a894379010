"""What `benchmarks.lookup` looks up: three feature sets of ten columns about customers, and an endpoint that reads them for an order."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import polars as pl

from lakehouse_assets import (
    ByKey,
    ClassPrior,
    Contract,
    Feed,
    Labels,
    LogLoss,
    TimeFolds,
    Timestamp,
    Upsert,
    code,
    column,
    conform,
    endpoint,
    feature_set,
    feed,
    model,
    number,
    predictions,
    table,
    timestamp,
    whole_number,
)
from lakehouse_assets.platform.declarations.features import FeatureSet

SETS, COLUMNS = 3, 10
NAMES = tuple(tuple(f"s{one}_v{number}" for number in range(COLUMNS)) for one in range(SETS))
ALL = tuple(name for names in NAMES for name in names)
MOMENT = ("%Y-%m-%dT%H:%M:%SZ",)


def _contract(name: str, columns: tuple[str, ...], **times: Any) -> type[Contract]:
    """A contract of customers with columns of numbers."""
    annotated = {"customer": int, **times, **dict.fromkeys(columns, float)}
    keys = {one: column(key=True) for one in ("customer", *(["at"] if "known_at" in times else []))}
    return type(name, (Contract,), {"__doc__": "Customers.", "__annotations__": annotated, **keys})


class Order(Contract):
    """An order."""

    order: str = column(key=True)
    at: Timestamp
    customer: int
    amount: float
    returned: bool = column(nullable=True)


class OrderFeatures(Contract):
    """What an order says."""

    order: str = column(key=True)
    at: Timestamp = column(key=True)
    known_at: Timestamp
    customer: int
    amount: float


class Score(Contract):
    """How likely an order comes back."""

    order: str = column(key=True)
    probability: float
    model_name: str
    model_version: int = column(key=True)
    feature_version: int
    scored_at: Timestamp


customers_feed = feed("lookup.bronze.customers", Feed("customers", headers=(("customer", "at", *ALL),)), "Customers.")
orders_feed = feed("lookup.bronze.orders", Feed("orders", headers=(("order", "at", "customer", "amount", "returned"),)), "Orders.")


@table(
    "lookup.silver.customers", contract=_contract("Customer", ALL, at=Timestamp), kind=Upsert(("customer",)),
    inputs={"rows": "lookup.bronze.customers"},
)  # fmt: skip
def customers(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Customers."""
    return conform(rows, customer=whole_number("customer"), at=timestamp("at", formats=MOMENT), **{name: number(name) for name in ALL})


@table("lookup.silver.orders", contract=Order, kind=Upsert(("order",)), inputs={"rows": "lookup.bronze.orders"})
def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Orders."""
    read = conform(
        rows,
        order=code("order"),
        at=timestamp("at", formats=MOMENT),
        customer=whole_number("customer"),
        amount=number("amount"),
        outcome=code("returned"),
    )
    return read.with_columns(returned=pl.col("outcome") == "yes").drop("outcome")


def _known(one: int) -> Callable[[Callable[..., pl.LazyFrame]], FeatureSet]:
    """Declares a feature set of customers with some of the columns."""
    return feature_set(
        f"lookup.features.set{one}",
        contract=_contract(f"Set{one}", NAMES[one], at=Timestamp, known_at=Timestamp),
        entity=("customer",),
        event_time="at",
        kind=ByKey("customer"),
        inputs={"rows": "lookup.silver.customers"},
        ttl=timedelta(days=365),
    )


@_known(0)
def set0(rows: pl.LazyFrame) -> pl.LazyFrame:
    """What is known of customers."""
    return rows.select("customer", "at", pl.col("at").alias("known_at"), *NAMES[0])


@_known(1)
def set1(rows: pl.LazyFrame) -> pl.LazyFrame:
    """What else is known of customers."""
    return rows.select("customer", "at", pl.col("at").alias("known_at"), *NAMES[1])


@_known(2)
def set2(rows: pl.LazyFrame) -> pl.LazyFrame:
    """What is known of customers besides."""
    return rows.select("customer", "at", pl.col("at").alias("known_at"), *NAMES[2])


@feature_set("lookup.features.orders", contract=OrderFeatures, entity=("order",), event_time="at", kind=ByKey("order"),
             inputs={"rows": "lookup.silver.orders"})  # fmt: skip
def of_orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    """What an order says."""
    return rows.select("order", "at", pl.col("at").alias("known_at"), "customer", "amount")


returned = model(
    "lookup.models.returned",
    description="Whether an order comes back.",
    labels=Labels("lookup.silver.orders", entity=("order",), at="at", target="returned", settled=timedelta(days=1)),
    features=(of_orders, set0, set1, set2),
    learner=ClassPrior("binary"),
    split=TimeFolds(),
    metric=LogLoss(),
)


@predictions("lookup.predictions.orders", contract=Score, model=returned, features="lookup.features.orders",
             key=("order", "model_version"), row_for_row=True)  # fmt: skip
def scored(champion: Any, features: pl.LazyFrame) -> pl.LazyFrame:
    """How likely each order comes back."""
    rows = features.collect()
    return rows.select("order").with_columns(champion.model.predict(rows.select(champion.model.inputs))["probability"]).lazy()


asked = endpoint("returned", predictions=scored, event="lookup.silver.orders")
