"""A day's sales: who orders how many lines, of which products, how much at what price; and what is cancelled later.

What else stands on invoices belongs in `charges` and `stock`.
"""

from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from lakehouse_assets.simulator.catalogue import Assortment
from lakehouse_assets.simulator.customers import Customers
from lakehouse_assets.simulator.demand import GROUPS, next_open, wanted
from lakehouse_assets.simulator.episodes import NOBODY, SHARE, Orders
from lakehouse_assets.simulator.lines import PREFIXES, Lines, empty, kind
from lakehouse_assets.simulator.streams import stream

LONGEST_LAG = 28 + 12
"""Days from a sale to its cancellation at most: four weeks, and the longest time that the shop is closed."""
HUGE = 8_000
"""The quantity from which an order is an outlier: a mistake that is cancelled within minutes."""

RESALE_GROUPS = ("bags", "jewellery")
"""Groups whose goods are easily sold on."""
_RESALE_PLACES = [place for place, group in enumerate(GROUPS) if group.name in RESALE_GROUPS]
_RESALE = 0.9  # share of lines with them on an order that is made for it

_WITHOUT_ACCOUNT = 0.15  # share of orders; they are longer, and so a fifth of the lines has no customer
_BASKET, _BASKET_WITHOUT_ACCOUNT = (14.5, 0.6), (24.0, 0.6)  # lines: median and spread
_LONGEST_BASKET = 400
_DAY_SPREAD, _GROUP_SPREAD = 0.08, 0.1  # random deviation of a day's orders, and of the shares of the groups
_RETAIL = 1.95  # price without account, relative to the list
_BULK, _BULK_PRICE = 48, 0.9
_OUTLIER = 0.0006  # orders of one line with a huge quantity, for each other order
_OUTLIER_QUANTITIES = (HUGE, 40_000)
_CANCELLED = 0.195  # share of orders with account of which something is cancelled
_MORE_CANCELLED = 1.3  # lines on such a cancellation after the first one, on average
_WHOLE_LINE = 0.4  # share of cancelled lines that are cancelled in full

# How many are ordered, for list prices up to 1, 2.50 and 6 pounds, above, and without account: as many hundredths each.
_QUANTITY_CLASSES = (101, 251, 601)
_QUANTITIES = (
    {1: 11, 2: 8, 3: 4, 4: 4, 5: 2, 6: 5, 8: 2, 10: 5, 12: 23, 16: 2, 20: 2, 24: 16, 25: 5, 36: 3, 48: 5, 72: 1, 96: 1, 144: 1},
    {1: 17, 2: 12, 3: 6, 4: 5, 5: 3, 6: 9, 8: 4, 10: 9, 12: 22, 16: 1, 20: 2, 24: 5, 36: 1, 48: 2, 72: 1, 100: 1},
    {1: 23, 2: 15, 3: 11, 4: 14, 5: 2, 6: 19, 8: 3, 10: 1, 12: 6, 18: 1, 24: 3, 32: 1, 48: 1},
    {1: 33, 2: 39, 3: 5, 4: 10, 5: 1, 6: 4, 8: 2, 10: 2, 12: 2, 16: 1, 24: 1},
    {1: 60, 2: 18, 3: 7, 4: 4, 5: 3, 6: 2, 7: 1, 8: 1, 10: 1, 12: 1, 16: 1, 24: 1},
)
_QUANTITY_TABLE = np.array([[q for q, hundredths in table.items() for _ in range(hundredths)] for table in _QUANTITIES])


def sell(seed: int, day: date, orders_per_day: float, customers: Customers, on_sale: Assortment, *, in_episodes: Orders) -> Lines:
    """The sold lines of an open day, invoice by invoice; no product stands twice on an invoice.

    Args:
        seed: The shop's seed.
        day: An open day.
        orders_per_day: Mean number of orders on an open day.
        customers: Customers of a span with this day in it.
        on_sale: The assortment of the day's quarter.
        in_episodes: Orders that belong to episodes; they get the last numbers, in this order.
    """
    rng = stream(seed, "sales", day.toordinal())
    level = wanted(seed, day) * _around_one(rng, _GROUP_SPREAD, len(GROUPS))
    ordinary = rng.poisson((1.0 - SHARE) * orders_per_day * level.sum() * _around_one(rng, _DAY_SPREAD))
    count = ordinary + len(in_episodes)
    customer = np.concatenate([_who(customers, day, ordinary, rng), in_episodes["customer"]])
    larger, resale = np.ones(count), np.zeros(count, dtype=bool)
    larger[ordinary:], resale[ordinary:] = in_episodes["large"], in_episodes["resale"]
    has_account = customer != NOBODY
    median, spread = np.where(has_account[:, None], _BASKET, _BASKET_WITHOUT_ACCOUNT).T
    size = np.clip(larger * rng.lognormal(np.log(median), spread), 1, _LONGEST_BASKET).astype(np.int64)
    order = np.repeat(np.arange(count), size)
    place = _which(on_sale, level, resale[order], rng)
    distinct = np.sort(np.unique(order * len(on_sale.products) + place, return_index=True)[1])
    order, place = order[distinct], place[distinct]

    lines = empty(len(order))
    lines["day"] = day.toordinal()
    minute = np.clip(rng.normal(12.8, 2.2, count) * 60, 420, 1_199).astype(np.int64)
    minute[ordinary:] = in_episodes["minute"]
    lines["minute"] = minute[order]
    lines["invoice"] = order
    lines["item"] = lines["text"] = on_sale.products[place]
    price_class = np.where(has_account[order], np.digitize(on_sale.price[place], _QUANTITY_CLASSES), -1)
    quantity = _QUANTITY_TABLE[price_class, rng.integers(0, _QUANTITY_TABLE.shape[1], len(order))]
    factor = np.where(has_account[order], np.where(quantity >= _BULK, _BULK_PRICE, 1.0), _RETAIL)
    lines["quantity"] = quantity
    lines["price"] = np.maximum(np.rint(on_sale.price[place] * factor), 1)
    lines["customer"] = np.where(has_account, customers.number[customer], 0)[order]
    lines["country"] = np.where(has_account, customers.country[customer], 0)[order]
    lines["kind"] = kind("sale")
    return np.concatenate([lines, _outliers(lines, rng.binomial(count, _OUTLIER), rng)])


def cancellations(seed: int, day: date, sold: Lines) -> list[Lines]:
    """What will be cancelled of a day's sales: one array for each later day (or the same) on which that happens.

    Args:
        seed: The shop's seed.
        day: The day of the sales.
        sold: What `sell` gave for it.
    """
    rng = stream(seed, "cancellations", day.toordinal())
    orders, first, order, size = np.unique(sold["invoice"], return_index=True, return_inverse=True, return_counts=True)
    outlier = sold["quantity"][first] >= HUGE
    regretted = outlier | ((rng.random(len(orders)) < _CANCELLED) & (sold["customer"][first] > 0))
    lag = np.where(outlier, 0, np.clip(rng.lognormal(np.log(7.0), 1.3, len(orders)), 0, 28)).astype(np.int64)
    wait = np.where(outlier, 12, rng.integers(5, 90, len(orders)))
    minute = np.where(lag == 0, np.minimum(sold["minute"][first] + wait, 1_259), rng.integers(540, 1_080, len(orders)))

    is_first = np.zeros(len(sold), dtype=bool)
    is_first[first] = True
    chosen = regretted[order] & (is_first | (rng.random(len(sold)) < (_MORE_CANCELLED / size)[order]))
    whole = outlier[order] | (rng.random(len(sold)) < _WHOLE_LINE)
    part = np.maximum((rng.random(len(sold)) * sold["quantity"]).astype(np.int64), 1)
    cancelled = sold.copy()
    cancelled["quantity"] = -np.where(whole, sold["quantity"], part)
    cancelled["minute"] = minute[order]
    cancelled["invoice"] += day.toordinal() * 1_000_000  # apart from the cancellations of other days' sales
    cancelled["prefix"] = PREFIXES.index("C")
    cancelled["kind"] = kind("cancellation")
    later = []
    for days in np.unique(lag[order[chosen]]).tolist():
        due = cancelled[chosen & (lag[order] == days)]
        due["day"] = next_open(day + timedelta(days=days)).toordinal()
        later.append(due)
    return later


def _who(customers: Customers, day: date, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The customer of each order, as an index, or `NOBODY` for an order without account."""
    today = day.toordinal()
    here = np.flatnonzero((customers.joined <= today) & (today < customers.left))
    upto = np.cumsum(customers.keenness[here])
    customer = here[np.searchsorted(upto, rng.random(count) * upto[-1], side="right")]
    return np.where(rng.random(count) < _WITHOUT_ACCOUNT, NOBODY, customer)


def _which(on_sale: Assortment, level: NDArray[np.float64], resale: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """A product for each line, as a position in the assortment: the group as wanted, within it by popularity.

    Lines of orders that are made to be sold on (`resale`) are mostly of groups for it.
    """
    count = len(resale)
    upto = np.cumsum(level)
    group = np.minimum(np.searchsorted(upto, rng.random(count) * upto[-1], side="right"), len(level) - 1)
    sold_on = rng.choice(_RESALE_PLACES, count)
    group = np.where(resale & (rng.random(count) < _RESALE), sold_on, group)
    low, high = (on_sale.popularity_upto[on_sale.group_start[group + n]] for n in (0, 1))
    place = np.searchsorted(on_sale.popularity_upto, low + rng.random(count) * (high - low), side="right") - 1
    at_most: NDArray[np.int64] = np.minimum(place, len(on_sale.products) - 1)
    return at_most


def _outliers(lines: Lines, count: int, rng: np.random.Generator) -> Lines:
    """Orders of one line with a huge quantity, each modelled on a random line of the day that has a customer."""
    models = np.flatnonzero(lines["customer"] > 0)
    huge = lines[rng.choice(models, count)] if len(models) else empty()
    huge["invoice"] = -1 - np.arange(len(huge))
    huge["quantity"] = rng.integers(*_OUTLIER_QUANTITIES, len(huge))
    return huge


def _around_one(rng: np.random.Generator, spread: float, size: int | None = None) -> NDArray[np.float64]:
    """Positive random factors with mean 1."""
    shape = 1.0 / spread**2
    factors: NDArray[np.float64] = np.asarray(rng.gamma(shape, spread**2, size))
    return factors
