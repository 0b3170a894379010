"""The calendar that is known in advance, against published dates."""

from datetime import date

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.modelling.holidays import bank_holidays_of_england, easter, is_bank_holiday, is_christmas_break

PUBLISHED = {
    # Christmas Day on a Saturday, a Sunday, a Friday, and in the middle of a week.
    2010: ["01-01", "04-02", "04-05", "05-03", "05-31", "08-30", "12-27", "12-28"],
    2016: ["01-01", "03-25", "03-28", "05-02", "05-30", "08-29", "12-26", "12-27"],
    2015: ["01-01", "04-03", "04-06", "05-04", "05-25", "08-31", "12-25", "12-28"],
    2024: ["01-01", "03-29", "04-01", "05-06", "05-27", "08-26", "12-25", "12-26"],
}


@pytest.mark.parametrize("year", PUBLISHED)
def test_bank_holidays_are_those_published(year):
    assert [f"{day:%m-%d}" for day in bank_holidays_of_england(year)] == PUBLISHED[year]


@pytest.mark.parametrize("day", [date(1961, 4, 2), date(2000, 4, 23), date(2008, 3, 23), date(2011, 4, 24), date(2038, 4, 25)])
def test_easter_is_that_published(day):
    assert easter(day.year) == day


@given(st.integers(1990, 2100))
def test_eight_weekdays_in_order_each_year(year):
    holidays = bank_holidays_of_england(year)
    assert len(set(holidays)) == 8
    assert holidays == sorted(holidays)
    assert all(day.weekday() < 5 for day in holidays)


def test_expressions_mark_the_days():
    days = pl.DataFrame({"day": [date(2010, 12, 23), date(2010, 12, 24), date(2011, 1, 3), date(2011, 1, 4), date(2011, 4, 22)]})
    marked = days.select(bank=is_bank_holiday(pl.col("day")), christmas=is_christmas_break(pl.col("day")))
    assert marked["bank"].to_list() == [False, False, True, False, True]
    assert marked["christmas"].to_list() == [False, True, True, False, False]
