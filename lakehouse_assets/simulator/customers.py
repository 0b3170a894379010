"""The shop's customers, and the change events that the customer system sends about them, late or twice at times.

Customers come in cohorts, one a year, each made from the seed and the year alone. What they buy belongs elsewhere.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lakehouse_assets.simulator.demand import FIRST_DAY
from lakehouse_assets.simulator.streams import stream
from lakehouse_assets.simulator.words import SYLLABLES

COUNTRIES = {
    "United Kingdom": 0.912, "Germany": 0.018, "France": 0.016, "EIRE": 0.012, "Spain": 0.007, "Belgium": 0.005,
    "Netherlands": 0.005, "Switzerland": 0.004, "Portugal": 0.004, "Australia": 0.003, "Sweden": 0.003,
    "Italy": 0.003, "Channel Islands": 0.002, "Norway": 0.002, "Finland": 0.002, "Unspecified": 0.002,
}  # fmt: skip
"""Every country and its share of the customers; the shop's own comes first."""
SEGMENTS = {"gift shop": 0.45, "online seller": 0.2, "department store": 0.1, "event agency": 0.1, "private": 0.15}

LATE = 0.04
"""Share of the change events that arrive late, and so after newer ones."""
TWICE = 0.015
"""Share of the change events that arrive once more, later."""

_JOIN_A_YEAR = 40
"""New customers in a year for each order a day."""
_LONGEST_YEARS = 4
_YEARS_BACK = 2 * _LONGEST_YEARS + 1
_MEAN_STAY = 580.0  # days
_CHANGES = (0.35, 0.15)  # share of customers whose data change once, and of those, once more
_MOVES_MAIL = 0.5  # share of first changes that are a new e-mail address; the others are a new segment
_ASK_FOR_DELETION = 0.08  # of those who leave
_FIRST_NUMBER = 12_346
_MEAN_DELAY = 1.5  # days, of what is late
_EVENTS_A_DAY = 10_000
"""Sequence numbers reserved for each day: more than a day has events."""
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()
_GIVEN = [f"{a}{b}".capitalize() for a in SYLLABLES for b in SYLLABLES]
_FAMILY = [f"{a}{b}{c}".capitalize() for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES]
_MAIL_HOSTS = ["@example.org", "@example.com", "@example.net"]


@dataclass(frozen=True)
class Customers:
    """Everybody who can order, change or be heard of in a span of days, as columns of equal length."""

    number: NDArray[np.int64]
    country: NDArray[np.int64]
    """Index into `COUNTRIES`."""
    joined: NDArray[np.int64]
    """Ordinal of the first day."""
    left: NDArray[np.int64]
    """Ordinal of the first day after the last."""
    keenness: NDArray[np.float64]
    """How often they order, relative to others."""
    arrivals: pl.DataFrame
    """Change events in the order of their arrival: the columns of the feed, and `arrived` (milliseconds since 1970)."""


def build(seed: int, orders_per_day: float, first: date, last: date) -> Customers:
    """Make up the customers who matter between two days.

    Args:
        seed: The shop's seed.
        orders_per_day: The size of the shop: the number of customers is in proportion.
        first: The first day.
        last: The last day.
    """
    a_year = max(20, round(_JOIN_A_YEAR * orders_per_day))
    # Nobody stays longer than _LONGEST_YEARS. With cohorts from twice as far back, all events of the days on which
    # those who are still here did something are known: their sequence numbers come out the same for every span.
    years = range(first.year - _YEARS_BACK, last.year + 1)
    people, events = (pl.concat(frames) for frames in zip(*(_cohort(seed, y, a_year) for y in years), strict=True))
    return Customers(
        number=people["customer"].to_numpy(),
        country=people["country"].to_numpy(),
        joined=people["joined"].to_numpy(),
        left=people["left"].to_numpy(),
        keenness=people["keenness"].to_numpy(),
        arrivals=_arrivals(events),
    )


def events_between(customers: Customers, first: date, last: date) -> pl.DataFrame:
    """The change events that arrive between two days, both included, in the order and the columns of the feed."""
    start, end = ((day.toordinal() - _EPOCH) * _DAY_MS for day in (first, last))
    return customers.arrivals.filter(pl.col("arrived").is_between(start, end + _DAY_MS - 1)).drop("arrived")


def state_before(customers: Customers, day: date) -> pl.DataFrame:
    """What the events before a day left behind: the newest one of everybody who is not deleted and still matters.

    Those who left more than 90 days ago do not: no cancellation and no late event is about them any more.
    """
    start = (day.toordinal() - _EPOCH) * _DAY_MS
    matter = customers.number[customers.left > day.toordinal() - 90].tolist()
    newest = customers.arrivals.filter(pl.col("arrived") < start).sort("sequence").unique("customer", keep="last")
    return newest.filter(pl.col("op") == "upsert", pl.col("customer").is_in(matter)).sort("sequence").drop("arrived")


def _cohort(seed: int, year: int, size: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Those who join in a year, and all events of their stay."""
    rng = stream(seed, "customers", year)
    joined = date(year, 1, 1).toordinal() + np.sort(rng.integers(0, 365, size))
    stay = np.clip(rng.exponential(_MEAN_STAY, size).astype(np.int64), 30, _LONGEST_YEARS * 365)
    people = pl.DataFrame(
        {
            "customer": _FIRST_NUMBER + (year - FIRST_DAY.year + _YEARS_BACK) * size + np.arange(size),
            "country": rng.choice(len(COUNTRIES), size, p=_shares(COUNTRIES)),
            "segment": rng.choice(len(SEGMENTS), size, p=_shares(SEGMENTS)),
            "given": rng.integers(0, len(_GIVEN), size),
            "family": rng.integers(0, len(_FAMILY), size),
            "joined": joined,
            "left": joined + stay,
            "keenness": np.exp(rng.normal(0.0, 1.0, size)),
            "changes": (rng.random((size, 1)) < np.cumprod(_CHANGES)).sum(axis=1),
            "first_change": joined + 1 + (rng.random(size) * (stay // 2 - 1)).astype(np.int64),
            "second_change": joined + stay // 2 + (rng.random(size) * (stay // 2)).astype(np.int64),
            "moves_mail": rng.random(size) < _MOVES_MAIL,
            "asks_for_deletion": rng.random(size) < _ASK_FOR_DELETION,
        }
    ).with_columns(mail=pl.lit(0), op=pl.lit("upsert"))
    new_mail = pl.col("mail") + 1
    new_segment = (pl.col("segment") + 1) % len(SEGMENTS)
    once = people.filter(pl.col("changes") >= 1).with_columns(
        day="first_change",
        mail=pl.when("moves_mail").then(new_mail).otherwise("mail"),
        segment=pl.when("moves_mail").then("segment").otherwise(new_segment),
    )
    twice = once.filter(pl.col("changes") > 1).with_columns(day="second_change", mail=new_mail, segment=new_segment)
    deleted = people.filter("asks_for_deletion").with_columns(day="left", op=pl.lit("delete"))
    events = pl.concat([people.with_columns(day="joined"), once, twice, deleted], how="diagonal")
    return people, _timed(events.select("customer", "op", "country", "segment", "given", "family", "mail", "day"), rng)


def _timed(events: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Adds when each event happened, arrived, and arrived once more (milliseconds since 1970, or null)."""
    count = events.height
    of_day = rng.integers(7 * _HOUR_MS, 20 * _HOUR_MS, count)
    changed_at = (events["day"].to_numpy() - _EPOCH) * _DAY_MS + of_day
    delays = rng.exponential(_MEAN_DELAY * _DAY_MS, (2, count)).astype(np.int64)
    arrived = changed_at + np.where(rng.random(count) < LATE, delays[0], 0)
    again = pl.Series(np.where(rng.random(count) < TWICE, arrived + delays[1], -1))
    return events.with_columns(changed_at=pl.Series(changed_at), arrived=pl.Series(arrived), again=pl.when(again >= 0).then(again))


def _arrivals(events: pl.DataFrame) -> pl.DataFrame:
    """The events as the feed tells them, in the order in which they arrive, copies included."""
    kept = pl.col("op") == "upsert"  # a deletion says nothing more of the person
    given = pl.lit(pl.Series(_GIVEN)).gather("given")
    family = pl.lit(pl.Series(_FAMILY)).gather("family")
    mail = pl.lit(pl.Series(_MAIL_HOSTS)).gather("mail")
    address = pl.concat_str(given.str.to_lowercase(), pl.lit("."), family.str.to_lowercase(), "customer", mail)
    told = events.sort("changed_at", "customer").select(
        "op",
        sequence=(pl.col("day") - _EPOCH) * _EVENTS_A_DAY + pl.int_range(1, pl.len() + 1).over("day"),
        customer="customer",
        name=pl.when(kept).then(pl.concat_str(given, family, separator=" ")),
        email=pl.when(kept).then(address),
        country=pl.when(kept).then(pl.lit(pl.Series(list(COUNTRIES))).gather("country")),
        segment=pl.when(kept).then(pl.lit(pl.Series(list(SEGMENTS))).gather("segment")),
        changed_at=pl.from_epoch("changed_at", "ms").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"),
        arrived="arrived",
        again="again",
    )
    copies = told.filter(pl.col("again").is_not_null()).with_columns(arrived="again")
    return pl.concat([told, copies]).drop("again").sort("arrived", "sequence", maintain_order=True)


def _shares(table: dict[str, float]) -> NDArray[np.float64]:
    weights = np.array(list(table.values()))
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares
