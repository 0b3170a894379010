"""What an order is when it is paid: its basket, its account, what the bank said of it, and what follows from that."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations.learning import CONTRIBUTIONS
from lakehouse_assets.platform.quality.contract import schema_of
from lakehouse_assets.products.order_fraud import features, fraud, orders
from lakehouse_assets.products.order_fraud.contracts import Order, OrderScore
from lakehouse_assets.products.sales.contracts import Chargeback, Customer, InvoiceLine, Payment, ProductGroup

PAID = datetime(2024, 5, 6, 10, tzinfo=UTC)


def frame(contract: Any, usual: dict[str, Any], rows: tuple[dict[str, Any], ...]) -> pl.LazyFrame:
    schema = schema_of(contract)
    return pl.LazyFrame([{**dict.fromkeys(schema), **usual, **row} for row in rows], schema=schema)


def payments(*rows: dict[str, Any]) -> pl.LazyFrame:
    usual = {
        "invoice": "500001",
        "paid_at": PAID,
        "method": "card",
        "card": "c1",
        "device": "d1",
        "ip_country": "France",
        "billing_country": "France",
        "amount": 50.0,
        "customer_id": "7",
    }
    return frame(Payment, usual, rows)


def lines(*rows: dict[str, Any]) -> pl.LazyFrame:
    usual = {"invoice": "500001", "month": date(2024, 5, 1), "stock_code": "1", "quantity": 1, "unit_price": 10.0, "line_type": "sale"}
    numbered = tuple({"line_id": str(number)} | row for number, row in enumerate(rows))
    return frame(InvoiceLine, usual, numbered).with_columns(amount=pl.col("quantity") * pl.col("unit_price"))


GROUPS = frame(
    ProductGroup, {"component": "base"}, ({"stock_code": "1", "product_group": "bags"}, {"stock_code": "2", "product_group": "tea"})
)
NOBODY = frame(Customer, {}, ())
NO_LINES = frame(InvoiceLine, {}, ())


def order(lines: pl.LazyFrame, customers: pl.LazyFrame = NOBODY, **payment: Any) -> dict[str, Any]:
    return orders.orders(payments(payment), lines, NO_LINES, GROUPS, customers).collect().row(0, named=True)


def test_the_basket_is_of_goods_alone_and_the_share_of_resale_goods_by_value():
    found = order(
        lines(
            {"quantity": 3},
            {"stock_code": "2", "unit_price": 70.0},
            {"stock_code": "2", "unit_price": 5.0, "line_type": "carriage"},
            {"stock_code": "1", "invoice": "500002"},
        )
    )
    assert (found["lines"], found["units"], found["dearest"], found["resale_share"]) == (2, 4, 70.0, 0.3)
    unlisted = order(lines({"stock_code": "nowhere"}))
    assert unlisted["resale_share"] == 0.0
    free = order(lines({"unit_price": 0.0}))
    assert free["resale_share"] is None


def test_an_order_is_there_when_its_payment_and_its_invoice_have_come():
    def made(lines: pl.LazyFrame, rejected: pl.LazyFrame) -> list[tuple[Any, ...]]:
        return orders.orders(payments({}), lines, rejected, GROUPS, NOBODY).select("amount", "lines", "resale_share").collect().rows()

    of_it, of_another, carriage = lines({}), lines({"invoice": "500009"}), lines({"line_type": "carriage"})
    assert made(of_another, NO_LINES) == []
    assert made(of_another, of_another) == []
    assert made(of_it, of_it) == [(50.0, 1, 1.0)]
    assert made(of_another, of_it) == [(50.0, None, None)], "all of its lines were rejected"
    assert made(carriage, NO_LINES) == [(50.0, None, None)]


def test_an_account_is_as_old_as_its_first_entry_in_the_register():
    register = frame(
        Customer,
        {"customer_id": "7", "sequence": 1, "is_deleted": False},
        ({"valid_from": PAID - timedelta(days=30)}, {"valid_from": PAID - timedelta(days=2), "sequence": 2}),
    )
    assert order(lines({}), register)["account_age"] == 30.0
    assert order(lines({}), register, customer_id=None)["account_age"] is None
    opened_by_it = frame(Customer, {"customer_id": "7"}, ({"valid_from": PAID + timedelta(minutes=5)},))
    assert order(lines({}), opened_by_it)["account_age"] == 0.0


def test_only_a_chargeback_that_says_fraud_is_one():
    def label(*reasons: str) -> tuple[bool | None, datetime | None]:
        said = frame(Chargeback, {"invoice": "500001", "reported_at": PAID + timedelta(days=9)}, tuple({"reason": one} for one in reasons))
        row = orders.labels(payments({}), said).collect().row(0, named=True)
        return row["is_fraud"], row["reported_at"]

    assert label() == (None, None)
    assert label("not received") == (None, None)
    assert label("fraud") == (True, PAID + timedelta(days=9))


def test_features_of_an_order_come_from_the_order_alone():
    one = orders.orders(payments({"ip_country": "Spain", "customer_id": None}), lines({}), NO_LINES, GROUPS, NOBODY)
    row = features.orders(one).collect().row(0, named=True)
    assert (row["abroad"], row["has_account"], row["hour"], row["known_at"]) == (True, False, 10, PAID)
    assert set(one.collect_schema()) == set(schema_of(Order))


def test_every_feature_of_a_window_has_words():
    of_windows = {name for name in fraud.fraud.examples.inputs if name.rpartition("_")[2] in {"1h", "1d", "30d"}}
    assert of_windows == {name for name in fraud.WORDS if name in of_windows}
    assert fraud.WORDS["card_customer_id_distinct_1d"] == "accounts on the card within a day"


@dataclass(frozen=True)
class Suspicious:
    """Says that orders are as likely fraud as their `units` in a hundred, because of these."""

    inputs: tuple[str, ...] = ("units",)

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.select(probability=pl.col("units") / 100)

    def contributions(self, rows: pl.DataFrame, top: int, *, raising: bool) -> pl.DataFrame:
        return pl.DataFrame(
            [{"row": n, "rank": 1, "input": "units", "value": str(value), "contribution": 1.0} for n, value in enumerate(rows["units"])],
            schema=CONTRIBUTIONS,
        )


@dataclass(frozen=True)
class Champion:
    model: Suspicious = field(default_factory=Suspicious)
    described: dict[str, str] = field(default_factory=fraud.fraud.examples.described)


def test_an_order_is_reviewed_where_that_costs_less_than_to_miss_it():
    columns = fraud.scored_orders.scored_columns
    rows = [
        {"invoice": str(n), "paid_at": PAID, "amount": amount, "units": units}
        for n, (amount, units) in enumerate([(400.0, 1), (400.0, 3), (10.0, 3)])
    ]
    frame = pl.LazyFrame([dict.fromkeys(columns) | row for row in rows], schema=columns)
    found = fraud.scored_orders(champion=Champion(), features=frame).collect()
    assert found["decision"].to_list() == ["accept", "review", "accept"], "a review costs 8 pounds"
    assert found["reasons"].to_list() == [None, "Units: 3", None]
    assert set(found.columns) <= set(schema_of(OrderScore))
    assert fraud.scored_orders(champion=Champion(), features=frame.limit(0)).collect().is_empty()
