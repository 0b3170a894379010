"""How orders are paid: one payment for each, by which method, with which card, from which device and country.

A person has cards and devices of their own; what is different in an episode is said there. Whether a payment is fraud
belongs in `fraud`.
"""

from datetime import date
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lakehouse_assets.simulator.customers import COUNTRIES, Customers
from lakehouse_assets.simulator.episodes import Orders
from lakehouse_assets.simulator.lines import NO_CUSTOMER, PREFIXES, Lines, kind
from lakehouse_assets.simulator.orders import HUGE
from lakehouse_assets.simulator.streams import stream

METHODS = ("card", "wallet", "transfer")
NO_CARD = 0

PAYMENT = np.dtype(
    [
        ("invoice", np.int64),
        ("paid_at", np.int64),  # seconds since 1970
        ("method", np.int8),  # index into METHODS
        ("card", np.uint64),  # NO_CARD for a transfer
        ("device", np.uint64),
        ("ip_country", np.int8),  # index into COUNTRIES
        ("billing_country", np.int8),
        ("amount", np.int64),  # pence
        ("customer", np.int64),  # number, or NO_CUSTOMER
        ("joined", np.int64),  # ordinal of the customer's first day, or 0
        ("resale", np.float64),  # share of the amount of goods that is easily sold on
    ]
)

Payments: TypeAlias = NDArray[Any]
"""A one-dimensional array of `PAYMENT`."""

NO_PAYMENTS: Payments = np.zeros(0, dtype=PAYMENT)

_METHOD_UPTO = (0.72, 0.9, 1.0)
_SECOND_CARD, _SECOND_DEVICE, _STRANGE_DEVICE = 0.08, 0.15, 0.02
_TRAVELLING = 0.03
_SECONDS = (5, 60)
_TRANSFER = METHODS.index("transfer")
_EPOCH = date(1970, 1, 1).toordinal()
_DAY = 86_400


def pay(seed: int, day: date, sold: Lines, in_episodes: Orders, customers: Customers) -> Payments:
    """The payments of a day's orders, in the order of their numbers; amount and share of resale goods are not known yet.

    Args:
        seed: The shop's seed.
        day: The day of the orders.
        sold: What `sell` gave for it.
        in_episodes: The last of these orders: those that belong to episodes.
        customers: Customers of a span with this day in it.
    """
    rng = stream(seed, "payments", day.toordinal())
    invoice, first = np.unique(sold["invoice"], return_index=True)
    orders = sold[first]
    count = len(orders)
    number = orders["customer"].astype(np.int64)
    has_account = number != NO_CUSTOMER
    # The numbers of customers rise, so this is the place of each.
    who = np.minimum(np.searchsorted(customers.number, number), len(customers.number) - 1)
    fresh = rng.integers(1, 2**63, (2, count), dtype=np.uint64)
    payments = np.zeros(count, dtype=PAYMENT)
    payments["invoice"] = invoice
    payments["paid_at"] = (day.toordinal() - _EPOCH) * _DAY + orders["minute"].astype(np.int64) * 60 + rng.integers(*_SECONDS, count)
    payments["method"] = np.searchsorted(_METHOD_UPTO, rng.random(count), side="right")
    payments["customer"] = number
    payments["joined"] = np.where(has_account, customers.joined[who], 0)
    payments["card"] = np.where(has_account, _own(seed, "card", number, rng.random(count) < _SECOND_CARD), fresh[0])
    own_device = _own(seed, "device", number, rng.random(count) < _SECOND_DEVICE)
    payments["device"] = np.where(has_account & (rng.random(count) >= _STRANGE_DEVICE), own_device, fresh[1])
    payments["billing_country"] = orders["country"]
    elsewhere = rng.integers(0, len(COUNTRIES) - 1, count)  # the last one is no country
    payments["ip_country"] = np.where(rng.random(count) < _TRAVELLING, elsewhere, payments["billing_country"])

    special = payments[count - len(in_episodes) :]
    special["method"] = np.where(special["method"] == _TRANSFER, METHODS.index("card"), special["method"])
    for name in ("card", "device"):
        special[name] = np.where(in_episodes[name] != 0, in_episodes[name], special[name])
    special["ip_country"] = np.where(in_episodes["abroad"] >= 0, in_episodes["abroad"], special["ip_country"])
    payments["method"][orders["quantity"] >= HUGE] = _TRANSFER
    payments["card"][payments["method"] == _TRANSFER] = NO_CARD
    return payments


def bill(payments: Payments, lines: Lines, is_resale: NDArray[np.bool_]) -> None:
    """Set the amount of each payment to the sum of its invoice's lines, carriage and discounts among them.

    A line that stands twice is paid twice; a line that is unreadable in the feed is paid as it was meant.

    Args:
        payments: The payments of a day, with the final numbers of their invoices in rising order.
        lines: All lines of the day.
        is_resale: For each product of the catalogue, whether it is easily sold on.
    """
    billed = lines[(lines["prefix"] == PREFIXES.index("")) & np.isin(lines["invoice"], payments["invoice"])]
    place = np.searchsorted(payments["invoice"], billed["invoice"])
    amount = billed["quantity"].astype(np.float64) * billed["price"]
    goods = np.isin(billed["kind"], (kind("sale"), kind("free")))
    resale = np.zeros(len(billed), dtype=bool)
    resale[goods] = is_resale[billed["item"][goods]]
    payments["amount"] = np.bincount(place, amount, len(payments))
    of_goods, of_resale = (np.bincount(place, amount * which, len(payments)) for which in (goods, resale))
    payments["resale"] = of_resale / np.maximum(of_goods, 1.0)


def rows(payments: Payments) -> pl.DataFrame:
    """Payments as rows of the payments feed, in the order of their time."""
    ordered = payments[np.lexsort((payments["invoice"], payments["paid_at"]))]
    countries = pl.lit(pl.Series(list(COUNTRIES)))
    columns = pl.DataFrame({name: ordered[name] for name in ordered.dtype.names or ()}).with_columns(amount=ordered["amount"] / 100)
    return columns.select(
        invoice=pl.col("invoice").cast(pl.String),
        paid_at=moment(pl.col("paid_at")),
        method=pl.lit(pl.Series(METHODS)).gather("method"),
        card=pl.when(pl.col("card") != NO_CARD).then(_fingerprint("c", "card")),
        device=_fingerprint("d", "device"),
        ip_country=countries.gather("ip_country"),
        billing_country=countries.gather("billing_country"),
        amount="amount",
        customer=pl.when(pl.col("customer") != NO_CUSTOMER).then(pl.col("customer").cast(pl.String)),
    )


def moment(seconds: pl.Expr) -> pl.Expr:
    """Seconds since 1970 as the text of a moment in UTC."""
    return pl.from_epoch(seconds, "s").dt.strftime("%Y-%m-%dT%H:%M:%SZ")


def _own(seed: int, what: str, customer: NDArray[np.int64], second: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """The number of a customer's own card or device: a hash, and so the same in every span of days."""
    key = stream(seed, what).integers(1, 2**63, dtype=np.uint64)
    mixed = key + (customer.astype(np.uint64) * np.uint64(2) + second.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    own: NDArray[np.uint64] = (mixed ^ (mixed >> np.uint64(31))) >> np.uint64(1) | np.uint64(1)
    return own


def _fingerprint(letter: str, name: str) -> pl.Expr:
    return pl.concat_str(pl.lit(letter), pl.col(name).cast(pl.String).str.zfill(20).str.slice(1))
