"""The shop's days one after the other: lines and payments of each open day, numbered, in the order of the till, with some dirt.

A day depends on the shop and its date alone, however many days come before it. What the lines look like as text
belongs in `invoices`.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby

import numpy as np

from lakehouse_assets.simulator.catalogue import Catalogue, assortment, quarter_of
from lakehouse_assets.simulator.charges import alone, on_bills
from lakehouse_assets.simulator.customers import Customers
from lakehouse_assets.simulator.demand import FIRST_DAY, GROUPS, is_open
from lakehouse_assets.simulator.episodes import Episodes
from lakehouse_assets.simulator.fraud import Chargebacks, Judged, chargebacks, judge
from lakehouse_assets.simulator.lines import BAD, Lines, kind
from lakehouse_assets.simulator.orders import HUGE, LONGEST_LAG, RESALE_GROUPS, cancellations, sell
from lakehouse_assets.simulator.payments import NO_PAYMENTS, Payments, bill, pay
from lakehouse_assets.simulator.stock import corrections
from lakehouse_assets.simulator.streams import stream

INVOICES_A_DAY = 100_000
"""Running numbers reserved for each day: an invoice number is the number of the day and a running number."""

SECOND_DESCRIPTION = 0.2
"""Share of the lines that use a product's second description (which most products do not have)."""
REPEATED = 0.0148
"""Share of the sold lines with customer that stand twice on their invoice."""
FREE = 0.0001
"""Share of the sold lines with customer that are given away."""
UNREADABLE = 0.001
"""Share of the sold lines that break: a text for a number, a date that does not exist."""


@dataclass(frozen=True)
class Shop:
    """All that a day depends on besides its date."""

    seed: int
    orders_per_day: float
    """Mean number of orders on an open day."""
    catalogue: Catalogue
    customers: Customers
    fraud_changes: date | None = None
    """From this day on other orders are fraud; None: they stay the same. Orders and payments do not depend on it."""


@dataclass(frozen=True)
class Day:
    """What happened on an open day."""

    date: date
    lines: Lines
    """All lines, invoice by invoice in the order of the time of day."""
    payments: Payments
    """The payment of each order, in the order of their invoices."""
    judged: Judged
    """For each payment what is true of it."""
    chargebacks: Chargebacks
    """All that ever come of these payments."""


def open_days(shop: Shop, first: date, days: int) -> Iterator[Day]:
    """Trade day by day.

    Args:
        shop: The shop, with the customers of all these days and of the `LONGEST_LAG` before them.
        first: The first day.
        days: Number of days from there, open or not.

    Yields:
        Each open day.
    """
    seed, customers = shop.seed, shop.customers
    products = len(shop.catalogue.code)
    is_resale = np.isin(shop.catalogue.group, [place for place, group in enumerate(GROUPS) if group.name in RESALE_GROUPS])
    episodes = Episodes(seed, shop.orders_per_day, customers)
    before = NO_PAYMENTS
    due: defaultdict[int, list[Lines]] = defaultdict(list)
    # The days before the first are traded too: for what is cancelled of them later, and the payments of the last one.
    traded = [day for day in (first + timedelta(days=n) for n in range(-LONGEST_LAG, days)) if is_open(day)]
    for quarter, days_of_quarter in groupby(traded, quarter_of):
        on_sale = assortment(shop.catalogue, quarter)
        for day in days_of_quarter:
            in_episodes = episodes.on(day)
            sold = sell(seed, day, shop.orders_per_day, customers, on_sale, in_episodes=in_episodes)
            for cancelled in cancellations(seed, day, sold):
                due[cancelled["day"][0]].append(cancelled)
            cancelled_today = due.pop(day.toordinal(), [])
            payments = pay(seed, day, sold, in_episodes, customers)
            if day >= first:
                others = [make(seed, day, sold, products) for make in (on_bills, alone, corrections)]
                lines = _soil(seed, day, _number(day, np.concatenate([sold, *cancelled_today, *others]), payments), products)
                bill(payments, lines, is_resale)
                judged = judge(seed, day, before, payments, shop.fraud_changes)
                yield Day(day, lines, payments, judged, chargebacks(seed, day, payments, judged.is_fraud))
            before = payments


def _number(day: date, lines: Lines, payments: Payments) -> Lines:
    """Orders invoices and payments by time and gives them their final numbers."""
    invoices, first, invoice = np.unique(lines["invoice"], return_index=True, return_inverse=True)
    running = np.empty(len(invoices), dtype=np.int64)
    running[np.lexsort((invoices, lines["minute"][first]))] = np.arange(1, len(invoices) + 1)
    running += (day - FIRST_DAY).days * INVOICES_A_DAY
    payments["invoice"] = running[np.searchsorted(invoices, payments["invoice"])]
    payments.sort(order="invoice")
    lines["invoice"] = running[invoice]
    ordered: Lines = lines[np.argsort(lines["invoice"], kind="stable")]
    return ordered


def _soil(seed: int, day: date, lines: Lines, products: int) -> Lines:
    """Adds what goes wrong with single lines, repetitions among it."""
    rng = stream(seed, "dirt", day.toordinal())
    is_product = lines["text"] == lines["item"]
    lines["text"] += np.where(is_product & (rng.random(len(lines)) < SECOND_DESCRIPTION), products, 0)
    sale = (lines["kind"] == kind("sale")) & (lines["quantity"] < HUGE)  # a huge order and its cancellation stay equal
    with_customer = sale & (lines["customer"] > 0)
    broken = sale & (rng.random(len(lines)) < UNREADABLE)
    lines["bad"] = np.where(broken, rng.integers(1, len(BAD), len(lines)), 0)
    free = with_customer & (rng.random(len(lines)) < FREE)
    lines["kind"][free] = kind("free")
    lines["price"][free] = 0
    repeated = with_customer & ~broken & (rng.random(len(lines)) < REPEATED)
    times = 1 + repeated
    soiled: Lines = np.repeat(lines, times)
    soiled["copy"] = np.arange(len(soiled)) > np.repeat(np.cumsum(times) - times, times)
    return soiled
