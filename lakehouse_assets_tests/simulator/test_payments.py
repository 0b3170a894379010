"""The payments and chargebacks of a simulated shop against its invoices, an independent count, and each other."""

from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.simulator.customers import COUNTRIES
from lakehouse_assets.simulator.fraud import PATTERNS, REASONS
from lakehouse_assets.simulator.payments import METHODS
from lakehouse_assets.simulator.trading import Day, open_days
from lakehouse_assets_tests.simulator.conftest import PAYMENTS, Simulated
from lakehouse_assets_tests.simulator.test_trading import shop as shop_of

MOMENT = "%Y-%m-%dT%H:%M:%SZ"


def timed(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    return frame.with_columns(pl.col(name).str.to_datetime(MOMENT, time_zone="UTC", time_unit="us"))


def test_every_order_has_one_payment_of_the_sum_of_its_lines(shop: Simulated) -> None:
    rows = shop.invoices().filter(pl.col("file") == pl.col("file").min().over("Invoice"))
    amount = pl.col("Quantity").cast(pl.Int64, strict=False) * pl.col("Price").cast(pl.Float64, strict=False)
    is_product = pl.col("StockCode").str.contains(r"^\d{5}[A-Z]?$")
    bills = (
        rows.filter(~pl.col("Invoice").str.contains("^[AC]"))
        .group_by("Invoice")
        .agg(
            amount=amount.sum(),
            readable=amount.is_not_null().all(),
            is_order=(is_product & (pl.col("Customer ID").is_not_null() | (pl.col("Price") != "0.0"))).any(),
            customer=pl.col("Customer ID").first().str.strip_suffix(".0"),
            at=pl.col("InvoiceDate").max(),
        )
    )
    payments = timed(shop.payments(), "paid_at")
    assert payments["invoice"].n_unique() == payments.height == shop.truth.payments.rows
    assert sorted(payments["invoice"]) == sorted(bills.filter("is_order")["Invoice"])
    both = payments.join(bills, left_on="invoice", right_on="Invoice")
    assert both.filter("readable").select((pl.col("amount") - pl.col("amount_right")).abs().max()).item() < 0.001
    assert both["customer"].equals(both["customer_right"])
    wait = both["paid_at"].dt.replace_time_zone(None) - both["at"].str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False)
    assert timedelta(0) < wait.drop_nulls().min() <= wait.drop_nulls().max() < timedelta(minutes=5)  # type: ignore[operator]


def test_rows_are_of_the_feed(shop: Simulated) -> None:
    payments = shop.payments()
    assert {tuple(line) for path in shop.files("payments") for line in [pl.read_ndjson(path).columns]} == {tuple(PAYMENTS)}
    assert set(payments["method"]) == set(METHODS)
    assert {*payments["ip_country"], *payments["billing_country"]} <= set(COUNTRIES)
    assert payments.select((pl.col("card").is_null() == (pl.col("method") == "transfer")).all()).item()
    assert payments["device"].null_count() == 0
    for path in shop.files("payments"):
        first, last = (date.fromisoformat(text) for text in path.stem.split("_")[1:])
        frame = timed(pl.read_ndjson(path, schema=PAYMENTS), "paid_at")
        assert frame["paid_at"].is_sorted()
        assert frame["paid_at"].dt.date().is_between(first, last).all()


def test_people_keep_their_cards_and_devices(shop: Simulated) -> None:
    by_customer = shop.payments().filter(pl.col("customer").is_not_null()).group_by("customer")
    counted = by_customer.agg(orders=pl.len(), cards=pl.col("card").drop_nulls().n_unique(), devices=pl.col("device").n_unique())
    often = counted.filter(pl.col("orders") >= 5)
    assert often.height > 20
    assert often["cards"].median() <= 2  # type: ignore[operator]
    assert often["devices"].median() <= 3  # type: ignore[operator]


def test_truth_of_payments(shop: Simulated) -> None:
    payments, truth = shop.payments(), shop.truth.payments
    assert truth.files == len(shop.files("payments"))
    assert truth.amount == round(payments["amount"].sum() * 100)
    assert truth.by_method == dict(payments.group_by("method").len().iter_rows())


def test_truth_of_orders(shop: Simulated) -> None:
    orders, truth = shop.orders(), shop.truth.fraud
    payments = timed(shop.payments(), "paid_at").sort("invoice")
    assert orders.sort("invoice").select("invoice", "paid_at", "amount").equals(payments.select("invoice", "paid_at", "amount"))
    assert (truth.orders, truth.frauds) == (orders.height, orders["is_fraud"].sum())
    assert truth.amount == round(orders.filter("is_fraud")["amount"].sum() * 100)
    assert abs(truth.expected - orders["probability"].sum()) < 0.001
    counted = {
        name: (count, frauds) for name, count, frauds in orders.group_by("pattern").agg(pl.len(), pl.col("is_fraud").sum()).iter_rows()
    }
    assert {name: (found.orders, found.frauds) for name, found in truth.by_pattern.items()} == {n: counted.get(n, (0, 0)) for n in PATTERNS}


def test_the_situation_of_an_order_can_be_seen_in_the_feeds_up_to_its_payment(shop: Simulated) -> None:
    payments = timed(shop.payments(), "paid_at").with_row_index().sort("paid_at")

    def window(entity: str, period: str, of: pl.Expr) -> pl.DataFrame:
        frame = payments.filter(pl.col(entity).is_not_null())
        return frame.rolling("paid_at", group_by=entity, period=period).agg(pl.col("index").last(), value=of).select("index", "value")

    expected = {
        "accounts_on_card": window("card", "1d", pl.col("customer").drop_nulls().n_unique().clip(1)),
        "cards_on_device": window("device", "1d", pl.col("card").drop_nulls().n_unique().clip(1)),
        "orders_in_hour": window("device", "1h", pl.len()),
    }
    # The first day's windows reach back to days that are not in these files.
    orders = shop.orders().filter(pl.col("paid_at") >= pl.col("paid_at").min() + timedelta(days=1))
    for name, values in expected.items():
        seen = payments.join(values.unique("index"), on="index", how="left").select("invoice", pl.col("value").fill_null(1))
        both = orders.join(seen, on="invoice")
        assert both.height == orders.height
        assert (both[name] == both["value"]).all(), name
        assert both[name].max() > 2  # type: ignore[operator]
    foreign = orders.join(payments, on="invoice").select(pl.col("foreign") == (pl.col("ip_country") != pl.col("billing_country")))
    assert foreign.to_series().all()
    joined = shop.customers().sort("sequence").group_by("customer").agg(pl.col("changed_at").first().str.slice(0, 10).str.to_date())
    young = orders.join(payments.select("invoice", "customer"), on="invoice").filter(
        pl.col("age") < 30, pl.col("age") < pl.col("paid_at").dt.date().sub(date(2024, 12, 10)).dt.total_days()
    )
    both = young.join(joined.with_columns(pl.col("customer").cast(pl.String)), on="customer")
    assert both.height > 20
    assert (both["age"] == (both["paid_at"].dt.date() - both["changed_at"]).dt.total_days()).all()


def test_chargebacks_come_weeks_later_for_every_fraud_and_some_other_orders(shop: Simulated) -> None:
    chargebacks = timed(shop.chargebacks(), "reported_at")
    truth = shop.truth.chargebacks
    assert chargebacks["invoice"].is_unique().all()
    assert (truth.files, truth.rows) == (len(shop.files("chargebacks")), chargebacks.height)
    assert truth.by_reason == {reason: chargebacks.filter(pl.col("reason") == reason).height for reason in REASONS}
    both = shop.orders().join(chargebacks, on="invoice", how="left")
    assert truth.rows - truth.of_earlier_days == both["reported_at"].drop_nulls().len() > 0
    assert truth.of_earlier_days > 0
    assert (both.filter(pl.col("reason") == "fraud")["is_fraud"]).all()
    assert not both.filter(pl.col("reason") != "fraud")["is_fraud"].any()
    assert not both.filter(~pl.col("by_card"))["reason"].is_not_null().any()
    over = both.filter(pl.col("paid_at") < pl.col("paid_at").max() - timedelta(days=71))
    assert over.filter("is_fraud")["reported_at"].null_count() == 0
    for path in shop.files("chargebacks"):
        first, last = (date.fromisoformat(text) for text in path.stem.split("_")[1:])
        assert timed(pl.read_csv(path, infer_schema=False), "reported_at")["reported_at"].dt.date().is_between(first, last).all()


WINTER = date(2023, 12, 1)


@lru_cache
def winter() -> dict[date, Day]:
    return traded(WINTER, 60)


def traded(first: date, days: int) -> dict[date, Day]:
    return {day.date: day for day in open_days(shop_of(12, first, days), first, days)}


@settings(max_examples=8, deadline=None)
@given(after=st.integers(0, 59), days=st.integers(1, 5))
def test_a_day_has_the_same_payments_and_frauds_alone_as_within_months(after: int, days: int) -> None:
    for day, alone in traded(WINTER + timedelta(days=after), days).items():
        if day in winter():
            within = winter()[day]
            assert np.array_equal(alone.payments, within.payments)
            assert np.array_equal(alone.judged.probability, within.judged.probability)
            assert np.array_equal(alone.judged.is_fraud, within.judged.is_fraud)
            assert np.array_equal(alone.chargebacks, within.chargebacks)
