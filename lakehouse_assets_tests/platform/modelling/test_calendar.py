"""The holidays of countries, against dates that were published."""

from datetime import date, timedelta

import holidays
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.modelling.calendar import FIRST_YEAR, LAST_YEAR, is_holiday, public_holidays

# The bank holidays of England as gov.uk published them. The library also marks the days for which there was a substitute.
ENGLAND = {
    2010: ["01-01", "04-02", "04-05", "05-03", "05-31", "08-30", "12-27", "12-28"],
    2011: ["01-03", "04-22", "04-25", "04-29", "05-02", "05-30", "08-29", "12-26", "12-27"],  # a royal wedding
    2012: ["01-02", "04-06", "04-09", "05-07", "06-04", "06-05", "08-27", "12-25", "12-26"],  # a jubilee, and a day moved for it
    2020: ["01-01", "04-10", "04-13", "05-08", "05-25", "08-31", "12-25", "12-28"],  # early May moved to VE day
    2022: ["01-03", "04-15", "04-18", "05-02", "06-02", "06-03", "08-29", "09-19", "12-26", "12-27"],  # a jubilee and a funeral
    2023: ["01-02", "04-07", "04-10", "05-01", "05-08", "05-29", "08-28", "12-25", "12-26"],  # a coronation
    2024: ["01-01", "03-29", "04-01", "05-06", "05-27", "08-26", "12-25", "12-26"],
}


def marked(days: list[date], country: str, subdivision: str | None = None) -> list[bool]:
    return pl.DataFrame({"day": days}, schema={"day": pl.Date}).select(is_holiday(pl.col("day"), country, subdivision))["day"].to_list()


@pytest.mark.parametrize("year", ENGLAND)
def test_bank_holidays_of_england_are_those_published_moved_and_proclaimed_ones_too(year):
    weekdays = [
        day for day in (date(year, 1, 1) + timedelta(days=number) for number in range(366)) if day.year == year and day.weekday() < 5
    ]
    found = [f"{day:%m-%d}" for day, holiday in zip(weekdays, marked(weekdays, "GB", "ENG"), strict=True) if holiday]
    assert found == ENGLAND[year]


def test_country_and_subdivision_count():
    day = [date(2024, 10, 3), date(2024, 5, 30), date(2024, 8, 26)]
    assert marked(day, "DE") == [True, False, False]
    assert marked(day, "DE", "BY") == [True, True, False]
    assert marked(day, "GB", "ENG") == [False, False, True]


@settings(deadline=None)
@given(st.lists(st.dates(date(FIRST_YEAR, 1, 1), date(LAST_YEAR, 12, 31))), st.sampled_from([("GB", "ENG"), ("FR", None), ("US", "CA")]))
def test_the_expression_says_what_the_library_says(days, place):
    country, subdivision = place
    known = holidays.country_holidays(country, subdiv=subdivision)
    assert marked(days, country, subdivision) == [day in known for day in days]


def test_null_stays_null_and_lazy_frames_work():
    frame = pl.LazyFrame({"day": [None, date(2024, 12, 25)]}, schema={"day": pl.Date})
    assert frame.select(is_holiday(pl.col("day"), "GB", "ENG")).collect()["day"].to_list() == [None, True]


def test_the_dates_are_in_order_and_worked_out_once():
    days = public_holidays("GB", "ENG")
    assert days.is_sorted()
    assert days.is_unique().all()
    assert public_holidays("GB", "ENG") is days


@pytest.mark.parametrize(("country", "subdivision"), [("XX", None), ("GB", "YORKSHIRE")])
def test_an_unknown_place_is_refused_by_name(country, subdivision):
    with pytest.raises(ValueError, match=f"no calendar of country '{country}', subdivision {subdivision!r}"):
        is_holiday(pl.col("day"), country, subdivision)
