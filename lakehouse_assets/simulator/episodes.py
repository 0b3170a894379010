"""Orders that belong together: rings of fraud over some days, and honest people who look like them.

Each episode belongs to the day on which it starts and is made from the seed and that day alone, so a day has the same
episodes however far back a simulation begins. Here it is decided who orders when, how much, from where and with which
card and device. Whether an order is fraud depends on what can be seen of it, and is decided in `fraud`; what is bought
belongs in `orders`.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lakehouse_assets.simulator.customers import COUNTRIES, Customers
from lakehouse_assets.simulator.demand import is_open, wanted
from lakehouse_assets.simulator.streams import stream

LONGEST = 3
"""Open days on which an episode can have orders, the first one among them."""
YOUNG = 14
"""Days for which an account is chosen as a young one."""
NOBODY = -1
"""The customer of an order without account."""

ORDER = np.dtype(
    [
        ("minute", np.int16),  # of the day
        ("customer", np.int64),  # index into the customers, or NOBODY
        ("card", np.uint64),  # 0: the customer's own
        ("device", np.uint64),  # 0: the customer's own
        ("abroad", np.int8),  # index into COUNTRIES of the address on the network, or -1: where the customer is
        ("large", np.float64),  # factor of the number of lines
        ("resale", np.bool_),  # mostly goods that are easily sold on
    ]
)

Orders: TypeAlias = NDArray[Any]
"""A one-dimensional array of `ORDER`."""

Whose: TypeAlias = Literal["own", "one", "each"]


@dataclass(frozen=True)
class Episode:
    """A kind of episode. `one`: the same for all its orders; `each`: another one for every order; `own`: the customer's."""

    name: str
    per_order: float
    """Episodes that start on a day, for each order of an average day."""
    orders: tuple[int, int]
    """Fewest and most orders."""
    days: int = 1
    """Open days over which they are spread."""
    minutes: int = 0
    """If not 0, all orders come within so many minutes."""
    account: Literal["one", "each"] = "one"
    card: Whose = "own"
    device: Whose = "own"
    guest: float = 0.0
    """Share of orders without account; of accounts, if there is one for all."""
    young: float = 0.0
    """Share of the accounts that are only some days old."""
    abroad: float = 0.0
    """Share of the episodes whose address on the network is in another country."""
    large: float = 0.0
    """Share of orders that are large."""
    resale: float = 0.0
    """Share of orders that are goods to be sold on."""


EPISODES = (
    Episode("stolen card", 0.00100, (4, 8), 2, account="each", card="one", device="each", young=0.6, abroad=0.3, large=0.3, resale=0.2),
    Episode("family card", 0.00300, (2, 4), 2, account="each", card="one", young=0.03, abroad=0.03, large=0.2),
    Episode("card testing", 0.00080, (5, 9), account="each", card="each", device="one", guest=0.6, young=0.3, abroad=0.3, large=0.2),
    Episode("office computer", 0.00150, (3, 6), 2, account="each", device="one", young=0.03, abroad=0.02),
    Episode("burst", 0.00090, (4, 8), minutes=45, card="one", device="one", guest=0.5, young=0.4, abroad=0.25, large=0.3, resale=0.3),
    Episode("afterthoughts", 0.00500, (2, 4), minutes=55, young=0.03, abroad=0.02, large=0.3),
    Episode("foreign address", 0.00460, (1, 2), 2, card="one", device="one", guest=0.4, young=0.3, abroad=1.0, large=0.7, resale=0.2),
    Episode("new account", 0.00420, (1, 1), card="one", device="one", young=1.0, abroad=0.05, large=0.9, resale=0.2),
    Episode("sold on", 0.00440, (1, 2), 2, card="one", device="one", guest=0.6, young=0.3, abroad=0.05, large=0.8, resale=1.0),
    Episode("large order", 0.00800, (1, 3), young=0.02, abroad=0.02, large=1.0),
    Episode("reseller", 0.00600, (1, 2), 3, large=0.4, resale=1.0),
)
"""Rings and, between them, honest orders that look alike. None of these names is in what the shop can see."""

SHARE = sum(episode.per_order * sum(episode.orders) / 2 for episode in EPISODES)
"""Share of all orders that belong to an episode."""

_LARGE = (3.0, 0.4)  # factor of the lines of a large order: median and spread
_FIRST_MINUTE, _LAST_MINUTE = 480, 1_190


class Episodes:
    """The episodes of a shop, day by day; holds those of the last days."""

    def __init__(self, seed: int, orders_per_day: float, customers: Customers) -> None:
        self._seed = seed
        self._orders_per_day = orders_per_day
        self._customers = customers
        self._started: dict[date, list[Orders]] = {}

    def on(self, day: date) -> Orders:
        """The orders of an open day that belong to an episode, whenever it started."""
        starts = [day]
        while len(starts) < LONGEST:
            starts.append(_open_before(starts[-1]))
        self._started = {start: self._started[start] for start in starts if start in self._started}
        for start in starts:
            if start not in self._started:
                self._started[start] = self._start(start)
        return np.concatenate([self._started[start][after] for after, start in enumerate(starts)])

    def _start(self, day: date) -> list[Orders]:
        """Orders of the episodes that start on a day: those of the same day, of the next open one, and so on."""
        rng = stream(self._seed, "episodes", day.toordinal())
        level = self._orders_per_day * wanted(self._seed, day).sum()
        today = day.toordinal()
        here = np.flatnonzero((self._customers.joined <= today) & (today < self._customers.left))
        young = here[self._customers.joined[here] > today - YOUNG]
        orders, after = zip(*(self._make(kind, level, here, young, rng) for kind in EPISODES), strict=True)
        every, days = np.concatenate(orders), np.concatenate(after)
        return [every[days == n] for n in range(LONGEST)]

    def _make(
        self, kind: Episode, level: float, here: NDArray[np.int64], young: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[Orders, NDArray[np.int64]]:
        """All orders of the episodes of a kind that start on a day, and how many open days later each of them comes."""
        episodes = rng.poisson(kind.per_order * level)
        size = rng.integers(kind.orders[0], kind.orders[1] + 1, episodes)
        episode = np.repeat(np.arange(episodes), size)
        count = len(episode)
        one = np.repeat(np.cumsum(size) - size, size)  # the place of each episode's first order
        account = np.arange(count) if kind.account == "each" else one
        orders = np.zeros(count, dtype=ORDER)

        newcomers = young if len(young) else here
        who = np.where(
            rng.random(count) < kind.young,
            newcomers[rng.integers(0, len(newcomers), count)],
            here[rng.integers(0, len(here), count)],
        )
        who = np.where(rng.random(count) < kind.guest, NOBODY, who)
        orders["customer"] = who[account]
        fresh = rng.integers(1, 2**63, (2, count), dtype=np.uint64)
        for name, whose, numbers in (("card", kind.card, fresh[0]), ("device", kind.device, fresh[1])):
            orders[name] = {"own": np.zeros(count, dtype=np.uint64), "one": numbers[one], "each": numbers}[whose]
        elsewhere = rng.integers(0, len(COUNTRIES) - 1, count)  # the last one is no country
        orders["abroad"] = np.where((rng.random(count) < kind.abroad)[one], elsewhere[one], -1)
        orders["large"] = np.where(rng.random(count) < kind.large, rng.lognormal(np.log(_LARGE[0]), _LARGE[1], count), 1.0)
        orders["resale"] = rng.random(count) < kind.resale
        after = rng.integers(0, kind.days, count)
        anywhen = rng.integers(_FIRST_MINUTE, _LAST_MINUTE, count)
        begin = rng.integers(_FIRST_MINUTE, _LAST_MINUTE - kind.minutes, count)[one]
        orders["minute"] = begin + rng.integers(0, kind.minutes, count) if kind.minutes else anywhen
        return orders, after


def _open_before(day: date) -> date:
    day -= timedelta(days=1)
    while not is_open(day):
        day -= timedelta(days=1)
    return day
