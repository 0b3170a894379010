"""What happens on the shop's days: independence of days, dirt at its rates, cancellations of what was sold."""

from datetime import date, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.simulator import catalogue, customers
from lakehouse_assets.simulator.charges import ALONE
from lakehouse_assets.simulator.demand import is_open
from lakehouse_assets.simulator.lines import KINDS, kind
from lakehouse_assets.simulator.orders import HUGE, LONGEST_LAG
from lakehouse_assets.simulator.stock import CORRECTIONS
from lakehouse_assets.simulator.trading import FREE, REPEATED, UNREADABLE, Shop, open_days

FIRST = date(2024, 3, 1)
DAYS = 60


def shop(orders_per_day: float, first: date, days: int) -> Shop:
    people = customers.build(8, orders_per_day, first - timedelta(days=LONGEST_LAG), first + timedelta(days=days))
    return Shop(8, orders_per_day, catalogue.build(8), people)


def lines_of(its: Shop, first: date, days: int) -> dict[date, Any]:
    return {day.date: day.lines for day in open_days(its, first, days)}


@lru_cache
def spring() -> dict[date, Any]:
    """Two months of a large shop."""
    return lines_of(shop(150, FIRST, DAYS), FIRST, DAYS)


@lru_cache
def lines() -> Any:
    return np.concatenate(list(spring().values()))


def of_kind(name: str) -> Any:
    return lines()[lines()["kind"] == kind(name)]


def orders() -> int:
    return len(np.unique(of_kind("sale")["invoice"]))


@lru_cache
def winter() -> dict[date, Any]:
    first = date(2023, 12, 1)
    return lines_of(shop(4, first, 60), first, 60)


@settings(max_examples=10, deadline=None)
@given(day=st.integers(0, 59), days=st.integers(1, 5))
def test_a_day_has_the_same_lines_alone_as_within_months(day: int, days: int) -> None:
    first = date(2023, 12, 1) + timedelta(days=day)
    alone = lines_of(shop(4, first, days), first, days)
    assert alone.keys() == {d for d in (first + timedelta(days=n) for n in range(days)) if is_open(d)}
    for traded, its_lines in alone.items():
        if traded in winter():
            assert np.array_equal(its_lines, winter()[traded])


def test_the_shop_trades_on_open_days_only_and_each_line_is_of_its_day() -> None:
    assert list(spring()) == [day for day in (FIRST + timedelta(days=n) for n in range(DAYS)) if is_open(day)]
    assert all(set(its_lines["day"]) == {day.toordinal()} for day, its_lines in spring().items())


def test_invoices_are_numbered_in_the_order_of_time() -> None:
    for its_lines in spring().values():
        assert (np.diff(its_lines["invoice"]) >= 0).all()
        assert (np.diff(its_lines["minute"]) >= 0).all()
        first = np.unique(its_lines["invoice"], return_index=True)[1]
        for name in ("minute", "prefix", "customer", "country"):
            assert np.array_equal(its_lines[name], np.repeat(its_lines[name][first], np.diff([*first, len(its_lines)])))
    assert len(np.unique(lines()["invoice"])) == sum(len(np.unique(day["invoice"])) for day in spring().values())


def near(found: int, expected: float) -> bool:
    """Within five deviations of a Poisson count."""
    return abs(found - expected) < 5 * np.sqrt(expected)


def test_the_number_of_orders_is_as_asked() -> None:
    # Spring is below the year's average by its season.
    assert 0.7 * 150 < orders() / len(spring()) < 1.1 * 150


def test_dirt_has_its_rates() -> None:
    sold = np.concatenate([of_kind("sale"), of_kind("free")])
    once = sold[~sold["copy"]]
    account = int((once["customer"] > 0).sum())
    assert near(int((lines()["bad"] > 0).sum()), UNREADABLE * len(once))
    assert near(int(of_kind("sale")["copy"].sum()), REPEATED * account)
    assert near(len(of_kind("free")), FREE * account)
    for correction in CORRECTIONS:
        assert near(len(of_kind(correction.kind)), correction.per_order * orders())
    for name in ("manual", "fee", "sample", "gift voucher", "test"):
        assert near(len(of_kind(name)), sum(charge.per_order for charge in ALONE if charge.kind == name) * orders())


@pytest.mark.parametrize(
    ("share", "low", "high"),
    [  # of a real shop's lines: 20.5 to 24.9 % without customer, 1.9 % cancelled, 1.1 % repeated, 0.4 % without text, 0.4 % carriage
        (lambda: lines()["customer"] == 0, 0.19, 0.26),
        (lambda: lines()["kind"] == kind("cancellation"), 0.015, 0.023),
        (lambda: lines()["copy"], 0.009, 0.014),
        (lambda: lines()["text"] == -1, 0.003, 0.007),
        (lambda: lines()["kind"] == kind("carriage"), 0.002, 0.008),
        (lambda: lines()["bad"] > 0, 0.0008, 0.0012),
    ],
)
def test_shares_are_those_of_a_real_shop(share: Any, low: float, high: float) -> None:
    assert low < share().mean() < high


def test_signs_and_prices_fit_the_kinds() -> None:
    assert (of_kind("sale")["quantity"] > 0).all()
    assert (of_kind("sale")["price"] > 0).all()
    assert (of_kind("cancellation")["quantity"] < 0).all()
    assert (of_kind("discount")["quantity"] == -1).all()
    for name in ("write-off", "found", "free"):
        assert (of_kind(name)["price"] == 0).all()
    assert (of_kind("write-off")["quantity"] < 0).all()
    assert (of_kind("write-off")["customer"] == 0).all()
    assert set(np.unique(lines()["kind"])) == set(range(len(KINDS)))


def test_a_discount_takes_a_part_of_the_bill_it_stands_on() -> None:
    on_bill = of_kind("discount")[of_kind("discount")["prefix"] == 0]
    sold = of_kind("sale")[~of_kind("sale")["copy"]]
    amount = sold["quantity"].astype(np.int64) * sold["price"]
    assert len(on_bill) > 50
    for discount in on_bill:
        bill = amount[sold["invoice"] == discount["invoice"]].sum()
        assert 0.04 < discount["price"] / bill < 0.16


def test_what_is_cancelled_was_sold_before_to_the_same_customer_at_the_same_price() -> None:
    sales: dict[tuple[int, ...], list[tuple[int, int, int]]] = {}
    for item, customer, price, day, minute, quantity in of_kind("sale")[
        ["item", "customer", "price", "day", "minute", "quantity"]
    ].tolist():
        sales.setdefault((item, customer, price), []).append((day, minute, quantity))
    late_enough = of_kind("cancellation")[of_kind("cancellation")["day"] > FIRST.toordinal() + LONGEST_LAG]
    assert len(late_enough) > 300
    found = [
        any(
            (day, minute) < (c["day"], c["minute"]) and quantity >= -c["quantity"]
            for day, minute, quantity in sales.get((c["item"], c["customer"], c["price"]), [])
        )
        for c in late_enough
    ]
    # A few sales were given away or broken on their way to the file.
    assert np.mean(found) > 0.99


def test_huge_orders_are_cancelled_in_full_minutes_later() -> None:
    huge = of_kind("sale")[of_kind("sale")["quantity"] >= HUGE]
    taken_back = of_kind("cancellation")[of_kind("cancellation")["quantity"] <= -HUGE]
    assert len(huge) > 0
    assert np.array_equal(huge["quantity"], -taken_back["quantity"])
    assert np.array_equal(huge["day"], taken_back["day"])
    assert (taken_back["minute"] - huge["minute"] == 12).all()


def test_only_products_of_the_quarter_are_sold() -> None:
    products = catalogue.build(8)
    for day, its_lines in spring().items():
        quarter = catalogue.quarter_of(day)
        item = its_lines["item"][its_lines["kind"] == kind("sale")]
        assert ((products.first[item] <= quarter) & (quarter < products.end[item])).all()
