"""What stands on a day's invoices besides products: carriage, discounts, fees, vouchers, samples, bad debt and so on.

Rates are those of a real shop's invoices, except that bills are discounted more often. Corrections of the stock belong
in `stock`.
"""

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lakehouse_assets.simulator.customers import COUNTRIES
from lakehouse_assets.simulator.lines import PREFIXES, Lines, empty, kind
from lakehouse_assets.simulator.streams import stream


@dataclass(frozen=True)
class Charge:
    """Something on an invoice that has a stock code but is not a product."""

    code: str
    text: str
    kind: str
    per_order: float = 0.0
    """Invoices with this and nothing else, for each order of the day."""
    prefix: str = ""
    quantity: int = 1
    price: int = 0
    """Median, in pence."""
    spread: float = 0.0
    """Deviation of the logarithm of the price."""
    has_customer: bool = False


POSTAGE = Charge("POST", "POSTAGE", "carriage", price=1_800)
WEB_POSTAGE = Charge("DOT", "DOTCOM POSTAGE", "carriage", price=220)  # for each line of the order
CARRIAGE = Charge("C2", "CARRIAGE", "carriage", price=5_000)
DISCOUNT = Charge("D", "Discount", "discount", quantity=-1)  # the price depends on the bill
ON_BILL = {POSTAGE: 0.55, WEB_POSTAGE: 0.85, CARRIAGE: 0.25, DISCOUNT: 0.02}
"""Charges on an order's own invoice: the share of the orders with it, of those that it can be on."""

ALONE = (
    Charge("D", "Discount", "discount", 0.001, "C", -1, 2_900, 1.0, has_customer=True),
    Charge("M", "Manual", "manual", 0.0216, "", 1, 295, 2.0, has_customer=True),
    Charge("M", "Manual", "manual", 0.0134, "C", -1, 9_000, 1.2, has_customer=True),
    Charge("S", "SAMPLES", "sample", 0.0025, "C", -1, 6_000, 0.9),
    Charge("BANK CHARGES", "Bank Charges", "fee", 0.0016, "C", -1, 4_200, 1.2),
    Charge("BANK CHARGES", " Bank Charges", "fee", 0.0009, "", 1, 1_500, 0.3),
    Charge("AMAZONFEE", "AMAZON FEE", "fee", 0.0009, "C", -1, 594_000, 0.5),
    Charge("CRUK", "CRUK Commission", "fee", 0.0004, "C", -1, 47_000, 0.9),
    Charge("ADJUST", "Adjustment by till", "adjustment", 0.0009, "", 1, 5_000, 1.0, has_customer=True),
    Charge("ADJUST", "Adjustment by till", "adjustment", 0.0008, "C", -1, 5_000, 1.0, has_customer=True),
    Charge("B", "Adjust bad debt", "adjustment", 0.0003, "A", 1, -110_000, 1.0),
    Charge("TEST001", "This is a test product.", "test", 0.0004, "", 5, 450),
    Charge("gift_0001_10", "Gift Voucher £10.00", "gift voucher", 0.0003, "", 1, 869),
    Charge("gift_0001_20", "Gift Voucher £20.00", "gift voucher", 0.0006, "", 1, 1739),
    Charge("gift_0001_30", "Gift Voucher £30.00", "gift voucher", 0.0006, "", 1, 2608),
    Charge("gift_0001_50", "Gift Voucher £50.00", "gift voucher", 0.0002, "", 1, 4348),
    Charge("gift_0001_10", "Gift Voucher Â£10.00", "gift voucher", 0.0003, "", 1, 869),
    Charge("gift_0001_20", "Gift Voucher Â£20.00", "gift voucher", 0.0003, "", 1, 1739),
    Charge("gift_0001_30", "Gift Voucher Â£30.00", "gift voucher", 0.0003, "", 1, 2608),
)
"""Charges on invoices of their own."""

CHARGES = (*ON_BILL, *ALONE)
"""Every charge. Among items it follows the products; among descriptions, both descriptions of every product."""

_LARGE = 20  # lines from which an order without account is sent by post
_EIRE, _ISLANDS = (list(COUNTRIES).index(name) for name in ("EIRE", "Channel Islands"))


def on_bills(seed: int, day: date, sold: Lines, products: int) -> Lines:
    """Carriage and discounts that stand on the invoices of a day's sales.

    Args:
        seed: The shop's seed.
        day: The day of the sales.
        sold: The sold lines.
        products: Number of products in the catalogue.
    """
    rng = stream(seed, "bills", day.toordinal())
    _, first, order, size = np.unique(sold["invoice"], return_index=True, return_inverse=True, return_counts=True)
    bills = sold[first]
    amount = np.bincount(order, sold["quantity"] * sold["price"].astype(np.float64), len(bills))
    has_account = bills["customer"] > 0
    by_carrier = np.isin(bills["country"], (_EIRE, _ISLANDS))
    one = np.ones(len(bills))
    postage = size * rng.lognormal(np.log(WEB_POSTAGE.price), 0.3, len(bills))
    rebate = np.maximum(amount * rng.choice((0.05, 0.1, 0.15), len(bills)), 1.0)
    # Which bills a charge can be on, its quantity and its price there.
    charged = {
        POSTAGE: (has_account & (bills["country"] > 0) & ~by_carrier, rng.integers(1, 5, len(bills)), POSTAGE.price * one),
        WEB_POSTAGE: (~has_account & (size >= _LARGE), one, postage),
        CARRIAGE: (has_account & by_carrier, one, CARRIAGE.price * one),
        DISCOUNT: (has_account & (bills["invoice"] >= 0), -one, rebate),
    }
    parts = []
    for charge, (possible, quantity, price) in charged.items():
        chosen = possible & (rng.random(len(bills)) < ON_BILL[charge])
        lines = bills[chosen]
        _make(lines, charge, products)
        lines["quantity"] = quantity[chosen]
        lines["price"] = np.rint(price[chosen])
        parts.append(lines)
    return np.concatenate(parts)


def alone(seed: int, day: date, sold: Lines, products: int) -> Lines:
    """Charges on invoices of their own.

    Args:
        seed: The shop's seed.
        day: The day.
        sold: The day's sold lines: who can be charged, and how much happens at all.
        products: Number of products in the catalogue.
    """
    rng = stream(seed, "alone", day.toordinal())
    orders = len(np.unique(sold["invoice"]))
    which = np.repeat(np.arange(len(ALONE)), rng.poisson([charge.per_order * orders for charge in ALONE]))
    template, spread, has_customer = _templates(products)
    lines = template[which]
    payer = sold[rng.integers(0, max(len(sold), 1), len(lines))]
    lines["day"] = day.toordinal()
    lines["minute"] = rng.integers(540, 1_080, len(lines))
    lines["invoice"] = 10**12 + np.arange(len(lines))  # apart from every other invoice of the day
    lines["price"] = np.rint(lines["price"] * rng.lognormal(0.0, spread[which]))
    lines["customer"] = np.where(has_customer[which], payer["customer"], 0)
    lines["country"] = np.where(has_customer[which], payer["country"], 0)
    return lines


@lru_cache(maxsize=1)
def _templates(products: int) -> tuple[Lines, NDArray[np.float64], NDArray[np.bool_]]:
    """For each charge of `ALONE` a line, the spread of its price, and whether a customer pays it."""
    lines = empty(len(ALONE))
    for place, charge in enumerate(ALONE):
        _make(lines[place : place + 1], charge, products)
    return lines, np.array([charge.spread for charge in ALONE]), np.array([charge.has_customer for charge in ALONE])


def _make(lines: Lines, charge: Charge, products: int) -> None:
    """Turns lines into a charge, at its median price."""
    lines["item"] = products + CHARGES.index(charge)
    lines["text"] = 2 * products + CHARGES.index(charge)
    lines["kind"] = kind(charge.kind)
    lines["prefix"] = PREFIXES.index(charge.prefix)
    lines["quantity"] = charge.quantity
    lines["price"] = charge.price
