"""Opening days, and the seasons in what is wanted."""

from datetime import date, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.simulator.demand import FIRST_DAY, GROUPS, LAST_DAY, is_open, next_open, wanted

days_of_the_shop = st.dates(FIRST_DAY, LAST_DAY)


def level(first: date, last: date, seed: int = 1) -> np.ndarray:
    """The mean wish for each group on the open days of a span."""
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return np.mean([wanted(seed, day) for day in days if is_open(day)], axis=0)


def group(name: str) -> int:
    return [g.name for g in GROUPS].index(name)


@given(days_of_the_shop)
def test_closed_on_saturdays_and_over_christmas(day: date) -> None:
    christmas = date(day.year, 12, 24) <= day or day <= date(day.year, 1, 3)
    assert is_open(day) == (day.isoweekday() != 6 and not christmas)


@given(days_of_the_shop)
def test_next_open_day_is_the_day_itself_or_within_twelve_days(day: date) -> None:
    opened = next_open(day)
    assert is_open(opened)
    assert 0 <= (opened - day).days <= 12
    assert not any(is_open(day + timedelta(days=n)) for n in range((opened - day).days))


@given(days_of_the_shop.filter(is_open), st.integers(0, 2**63))
def test_every_group_is_wanted_on_every_open_day(day: date, seed: int) -> None:
    assert (wanted(seed, day) > 0).all()
    assert 0.1 < wanted(seed, day).sum() < 6


def test_the_average_day_of_many_years_is_the_unit() -> None:
    assert 0.95 < np.mean([level(date(year, 1, 1), date(year, 12, 31)).sum() for year in range(2000, 2050, 3)]) < 1.1


def test_the_shares_of_the_groups_make_a_whole() -> None:
    assert abs(sum(g.share for g in GROUPS) - 1) < 1e-9


def test_year_seasons() -> None:
    spring, autumn = level(date(2024, 4, 15), date(2024, 5, 31)), level(date(2024, 10, 15), date(2024, 11, 30))
    assert autumn.sum() > 1.4 * spring.sum()
    assert autumn[group("christmas")] > 10 * spring[group("christmas")]
    assert spring[group("garden")] > 3 * autumn[group("garden")]


def test_the_week_of_a_group_is_its_own() -> None:
    days = [day for day in (date(2024, 1, 4) + timedelta(days=n) for n in range(354)) if is_open(day)]
    thursday, sunday = (np.mean([wanted(1, d) for d in days if d.isoweekday() == n], axis=0) for n in (4, 7))
    ratio = sunday / thursday
    assert sunday.sum() < 0.8 * thursday.sum()
    assert ratio[group("garden")] > 1.3 * ratio[group("kitchen")]


def test_groups_grow_and_shrink_over_the_years_but_stay_within_bounds() -> None:
    years = np.array([level(date(year, 1, 4), date(year, 12, 23)) for year in range(2000, 2050)])
    change = years / years.mean(axis=0)
    assert (change.max(axis=0) > 1.1).all()
    assert (change.min(axis=0) < 0.9).all()
    assert change.max() < 1.6
