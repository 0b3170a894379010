"""When the shop is open, its product groups, and how much of each group is wanted on a day.

That is trend, year and week seasons, and slow changes of mood. Who buys and what exactly belongs elsewhere.
"""

import math
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lakehouse_assets.simulator.streams import stream

FIRST_DAY = date(2000, 1, 1)
LAST_DAY = date(2049, 12, 31)
"""The shop's life. Trends swing instead of growing for ever, so that any part of it is a plausible shop."""

_SATURDAY = 5
_CLOSED_FROM, _CLOSED_UNTIL = (12, 24), (1, 3)  # month and day
_SHOP_WEEK = (1.02, 1.06, 1.04, 1.21, 0.93, 0.0, 0.74)  # Monday … Sunday; closed on Saturdays
_MOOD_DAYS = 21
_MOOD_SPREAD = 0.08
_TREND_SPREAD = 0.22


@dataclass(frozen=True)
class Group:
    """A product group: its share of the lines in a year, and its seasons."""

    name: str
    share: float
    off_season: float
    """Demand far from every peak; peaks are heights above it."""
    peaks: tuple[tuple[int, float, float], ...]
    """Day of the year, width in days (one deviation), height."""
    week: tuple[float, float, float, float, float, float, float]
    """Factors Monday … Sunday on top of the shop's own week."""


_EVEN = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
_WEEKEND = (0.9, 0.9, 0.9, 0.95, 1.15, 1.0, 1.6)
_EARLY = (1.3, 1.15, 1.0, 0.85, 0.8, 1.0, 0.9)
_LATE = (0.8, 0.85, 0.95, 1.15, 1.4, 1.0, 0.9)

GROUPS = (
    Group("kitchen", 0.14, 0.9, ((312, 38, 0.7),), _EVEN),
    Group("tableware", 0.11, 0.8, ((135, 40, 0.3), (315, 35, 0.7)), _LATE),
    Group("home decor", 0.15, 0.9, ((75, 30, 0.2), (305, 45, 0.6)), _WEEKEND),
    Group("lighting", 0.09, 0.6, ((308, 42, 1.6),), _EVEN),
    Group("christmas", 0.06, 0.08, ((310, 30, 4.5),), _EARLY),
    Group("garden", 0.09, 0.35, ((128, 42, 1.9),), _WEEKEND),
    Group("bags", 0.10, 0.8, ((170, 45, 0.5), (318, 30, 0.4)), _EVEN),
    Group("stationery", 0.07, 0.7, ((20, 15, 0.5), (237, 25, 1.0)), _EARLY),
    Group("toys", 0.07, 0.65, ((90, 25, 0.2), (312, 36, 1.6)), _WEEKEND),
    Group("jewellery", 0.04, 0.7, ((36, 14, 0.9), (325, 24, 1.1)), _LATE),
    Group("party", 0.05, 0.7, ((172, 40, 0.8), (288, 14, 0.8)), _LATE),
    Group("gift wrap", 0.03, 0.5, ((38, 12, 0.5), (318, 28, 2.2)), _EARLY),
)


def is_open(day: date) -> bool:
    """Whether the shop trades on a day: not on Saturdays, and not from 24 December to 3 January."""
    closed_for_christmas = (day.month, day.day) >= _CLOSED_FROM or (day.month, day.day) <= _CLOSED_UNTIL
    return day.weekday() != _SATURDAY and not closed_for_christmas


def next_open(day: date) -> date:
    """The day itself if the shop is open, else the next open one; at most twelve days later."""
    while not is_open(day):
        day += timedelta(days=1)
    return day


def wanted(seed: int, day: date) -> NDArray[np.float64]:
    """How much of each group is wanted on an open day.

    Args:
        seed: The shop's seed.
        day: An open day.

    Returns:
        Twelve numbers in the order of `GROUPS`. Their sum is 1 on the average open day.
    """
    return _seasons(day) / _average_level() * _trend(seed, day) * _mood(seed, day)


def _seasons(day: date) -> NDArray[np.float64]:
    weekday = day.weekday()
    return np.array([group.share * _year_season(group, day) * group.week[weekday] * _SHOP_WEEK[weekday] for group in GROUPS])


def _year_season(group: Group, day: date) -> float:
    of_year = day.timetuple().tm_yday
    level = group.off_season
    for peak, width, height in group.peaks:
        away = abs(of_year - peak)
        level += height * math.exp(-0.5 * (min(away, 365 - away) / width) ** 2)
    return level


@lru_cache
def _average_level() -> float:
    """The mean sum of the seasons over the open days of four years (a leap year among them)."""
    days = (date(2021, 1, 1) + timedelta(days=n) for n in range(1461))
    return float(np.mean([_seasons(day).sum() for day in days if is_open(day)]))


@lru_cache
def _trend_waves(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = stream(seed, "trend")
    return rng.uniform(7.0, 12.0, len(GROUPS)), rng.uniform(0.0, 2.0 * math.pi, len(GROUPS))


def _trend(seed: int, day: date) -> NDArray[np.float64]:
    """Waves of seven to twelve years: over two or three years, growth or decline."""
    years, phase = _trend_waves(seed)
    age = (day - FIRST_DAY).days / 365.25
    factor: NDArray[np.float64] = np.exp(_TREND_SPREAD * np.sin(2.0 * math.pi * age / years + phase))
    return factor


def _mood(seed: int, day: date) -> NDArray[np.float64]:
    """Noise that lasts for weeks: straight lines between random knots, one series a group."""
    knot, passed = divmod(day.toordinal(), _MOOD_DAYS)
    before, after = (stream(seed, "mood", k).normal(0.0, _MOOD_SPREAD, len(GROUPS)) for k in (knot, knot + 1))
    share = passed / _MOOD_DAYS
    factor: NDArray[np.float64] = np.exp((1.0 - share) * before + share * after)
    return factor
