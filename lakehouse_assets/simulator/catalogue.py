"""The shop's products over its whole life: when each is sold, its names, its list price, and what it was renamed to.

The catalogue changes on the first day of a quarter only, when the snapshot of the quarter is taken. How much of a
product is sold belongs elsewhere.
"""

from dataclasses import dataclass
from datetime import date
from itertools import product

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lakehouse_assets.simulator.demand import FIRST_DAY, GROUPS, LAST_DAY
from lakehouse_assets.simulator.streams import stream
from lakehouse_assets.simulator.words import ADD_ONS, COLOURS, PATTERNS, THINGS

COMPONENTS = ("base", "add-on")

_QUARTERS = (LAST_DAY.year - FIRST_DAY.year + 1) * 4
_ON_SALE = 1500
"""Products on sale at a time, about."""
_SHORTEST_LIFE, _MEAN_EXTRA_LIFE = 4, 14  # quarters
_RENAMED_ONCE, _RENAMED_AGAIN = 0.35, 0.25
_MOVES_GROUP = 0.15  # of the renamed products: the shop moves them to another group at the same time
_ADD_ON = 0.15
_SUFFIXED = 0.2
_SECOND_DESCRIPTION = 0.12
_CODES_A_GROUP = 7000
_PRICES = np.array(
    [12, 19, 21, 29, 36, 42, 55, 65, 75, 85, 95, 105, 125, 145, 165, 185, 195, 210, 255, 295, 325, 375, 425, 495, 595,
     675, 795, 850, 995, 1095, 1275, 1495, 1695, 1995, 2495, 2995, 3995, 4995],
)  # fmt: skip


@dataclass(frozen=True)
class Catalogue:
    """Products as columns of equal length. A renamed product is a product of its own that replaces another."""

    code: list[str]
    name: list[str]
    description: list[str]
    """What invoices usually call it: the name, padded at times."""
    second_description: list[str]
    """What invoices call it now and then; for most products no different."""
    group: NDArray[np.int64]
    component: NDArray[np.int64]
    first: NDArray[np.int64]
    """First quarter on sale, counted from the shop's first."""
    end: NDArray[np.int64]
    """First quarter not on sale any more."""
    replaces: NDArray[np.int64]
    """Index of the product that this one replaces, or -1."""
    popularity: NDArray[np.float64]
    launch_price: NDArray[np.float64]
    """Pence, in the quarter `launched`."""
    launched: NDArray[np.int64]
    inflation: NDArray[np.float64]
    """Growth of the price a quarter, before it is rounded to a usual price."""


@dataclass(frozen=True)
class Assortment:
    """What is on sale in one quarter, ordered by group."""

    products: NDArray[np.int64]
    price: NDArray[np.int64]
    """List price of each, in pence."""
    group_start: NDArray[np.int64]
    """Where each group starts, and the length at the end: one more than there are groups."""
    popularity_upto: NDArray[np.float64]
    """Running sum of popularity over all groups, from 0: one more than there are products."""


def quarter_of(day: date) -> int:
    """The number of the quarter that a day is in; the shop's first is 0."""
    return (day.year - FIRST_DAY.year) * 4 + (day.month - 1) // 3


def quarter_start(quarter: int) -> date:
    """The first day of a quarter."""
    return date(FIRST_DAY.year + quarter // 4, quarter % 4 * 3 + 1, 1)


def build(seed: int) -> Catalogue:
    """Make up the whole catalogue of a shop; the same seed gives the same catalogue."""
    rng = stream(seed, "catalogue")
    group, first, end = _lives(rng)
    count = len(group)
    add_on = rng.random(count) < _ADD_ON
    names = _names(group, add_on, rng)
    price = np.exp(rng.normal(np.log(240.0), 0.6, count)) * np.where(add_on, 0.5, 1.0)
    popularity = np.exp(rng.normal(0.0, 1.2, count)) * np.where(add_on, 0.6, 1.0)
    inflation = np.exp(rng.normal(0.007, 0.004, count))

    # A life of a product falls into up to three parts, each under a name and a stock code of its own.
    once, first_cut = _cut(first, end, _RENAMED_ONCE, rng)
    again, second_cut = _cut(first_cut, end[once], _RENAMED_AGAIN, rng)
    life = np.concatenate([np.arange(count), once, once[again]])
    generation = np.repeat([0, 1, 2], [count, len(once), len(again)])
    replaces = np.concatenate([np.full(count, -1), once, count + again])
    starts = np.concatenate([first, first_cut, second_cut])
    ends = end[life]
    ends[replaces[replaces >= 0]] = starts[replaces >= 0]
    groups = group[life]
    moved = count + np.flatnonzero(rng.random(len(once)) < _MOVES_GROUP)
    groups[moved] = rng.integers(0, len(GROUPS), len(moved))
    groups[count + len(once) :] = groups[replaces[count + len(once) :]]

    name = [_renamed(names[i], g) for i, g in zip(life.tolist(), generation.tolist(), strict=True)]
    padding = rng.choice(np.array(["", " ", "  "]), len(name), p=[0.8, 0.17, 0.03]).tolist()
    description = [n.upper() + p for n, p in zip(name, padding, strict=True)]
    second = rng.random(len(name)) < _SECOND_DESCRIPTION
    return Catalogue(
        code=_codes(groups, starts, rng),
        name=name,
        description=description,
        second_description=[f"{n.upper()} ASSTD" if s else d for n, d, s in zip(name, description, second, strict=True)],
        group=groups,
        component=add_on[life].astype(np.int64),
        first=starts,
        end=ends,
        replaces=replaces,
        popularity=popularity[life],
        launch_price=price[life],
        launched=first[life],
        inflation=inflation[life],
    )


def assortment(catalogue: Catalogue, quarter: int) -> Assortment:
    """What is on sale in a quarter, and at what price."""
    on_sale = np.flatnonzero((catalogue.first <= quarter) & (quarter < catalogue.end))
    on_sale = on_sale[np.argsort(catalogue.group[on_sale], kind="stable")]
    grown = catalogue.inflation[on_sale] ** (quarter - catalogue.launched[on_sale])
    above = np.searchsorted(_PRICES, catalogue.launch_price[on_sale] * grown)
    return Assortment(
        products=on_sale,
        price=_PRICES[np.minimum(above, len(_PRICES) - 1)],
        group_start=np.searchsorted(catalogue.group[on_sale], np.arange(len(GROUPS) + 1)),
        popularity_upto=np.concatenate([[0.0], np.cumsum(catalogue.popularity[on_sale])]),
    )


def snapshot(catalogue: Catalogue, quarter: int) -> pl.DataFrame:
    """The products file of a quarter: one row per product on sale, columns and text as the file has them."""
    on_sale = assortment(catalogue, quarter)
    products = on_sale.products.tolist()
    replaced = catalogue.replaces[on_sale.products].tolist()
    return pl.DataFrame(
        {
            "stock_code": [catalogue.code[p] for p in products],
            "name": [catalogue.name[p] for p in products],
            "product_group": [GROUPS[g].name for g in catalogue.group[on_sale.products].tolist()],
            "component": [COMPONENTS[c] for c in catalogue.component[on_sale.products].tolist()],
            "list_price": on_sale.price / 100,
            "replaces": [catalogue.code[r] if r >= 0 else None for r in replaced],
        }
    ).sort("stock_code")


def successors(catalogue: Catalogue, quarter: int) -> NDArray[np.int64]:
    """For each product the index of what it is called in a quarter: itself, unless it was renamed by then."""
    latest = np.arange(len(catalogue.code))
    renamed = np.flatnonzero((catalogue.replaces >= 0) & (catalogue.first <= quarter))
    # A second renaming has a greater index than the first, so going backwards every chain is followed to its end.
    for new in renamed[::-1]:
        latest[catalogue.replaces[new]] = latest[new]
    return latest


def _lives(rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Group, first quarter and end of every product, before renaming: a place in the range is refilled at once."""
    places = np.repeat(np.arange(len(GROUPS)), [round(_ON_SALE * group.share) for group in GROUPS])
    refills = _QUARTERS // _SHORTEST_LIFE
    length = _SHORTEST_LIFE + rng.geometric(1.0 / _MEAN_EXTRA_LIFE, (len(places), refills))
    end = np.cumsum(length, axis=1) - rng.integers(0, _MEAN_EXTRA_LIFE, len(places))[:, None]
    first = end - length
    lived = (first < _QUARTERS) & (end > 0)
    return np.broadcast_to(places[:, None], end.shape)[lived], first[lived], end[lived]


def _cut(
    first: NDArray[np.int64], end: NDArray[np.int64], share: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A share of the spans (as indices) and for each of them a quarter strictly inside it; spans of one quarter stay."""
    inside = end - first - 1
    cut = np.flatnonzero((rng.random(len(first)) < share) & (inside > 0))
    return cut, first[cut] + 1 + (rng.random(len(cut)) * inside[cut]).astype(np.int64)


def _names(group: NDArray[np.int64], add_on: NDArray[np.bool_], rng: np.random.Generator) -> list[tuple[str, str, str, str]]:
    """A colour, a pattern, a thing and the kind of add-on (or nothing), no two alike, for every product."""
    names: list[tuple[str, str, str, str]] = [("", "", "", "")] * len(group)
    for g in range(len(GROUPS)):
        members = np.flatnonzero(group == g).tolist()
        every = list(product(COLOURS, PATTERNS, THINGS[GROUPS[g].name]))
        chosen = rng.permutation(len(every))[: len(members)].tolist()
        extras = rng.choice(np.array(ADD_ONS), len(members)).tolist()
        for member, choice, extra in zip(members, chosen, extras, strict=True):
            names[member] = (*every[choice], extra if add_on[member] else "")
    return names


def _renamed(words: tuple[str, str, str, str], generation: int) -> str:
    """The name of a product after some renamings."""
    colour, pattern, thing, extra = words
    whole = f"{thing} {extra}".strip()
    orders = (f"{colour} {pattern} {whole}", f"{whole} {colour} {pattern}", f"{whole}, {pattern} ({colour})")
    return orders[generation].capitalize()


def _codes(group: NDArray[np.int64], first: NDArray[np.int64], rng: np.random.Generator) -> list[str]:
    """Five digits, rising with time within the group's own range, and at times a letter."""
    digits = np.zeros(len(group), dtype=np.int64)
    for g in range(len(GROUPS)):
        members = np.flatnonzero(group == g)
        members = members[np.argsort(first[members], kind="stable")]
        digits[members] = 10_000 + g * _CODES_A_GROUP + np.arange(len(members)) * _CODES_A_GROUP // len(members)
    letters = np.where(rng.random(len(group)) < _SUFFIXED, rng.choice(np.array(list("ABCDELS")), len(group)), "")
    return [f"{d}{letter}" for d, letter in zip(digits.tolist(), letters.tolist(), strict=True)]
