"""Days known in advance on which a shop may leave its weekly rhythm: the bank holidays of England and the break around Christmas.

Only what follows from a rule belongs here; holidays proclaimed or moved for one year (a coronation) do not. Whether a shop closes
on such a day is for the caller to learn from its history.
"""

from datetime import date, timedelta

import polars as pl

FIRST_YEAR, LAST_YEAR = 1990, 2100


def easter(year: int) -> date:
    """Easter Sunday of a year of the Gregorian calendar (Meeus, Jones and Butcher)."""
    cycle = year % 19
    century, rest = divmod(year, 100)
    epact = (19 * cycle + century - century // 4 - (century - (century + 8) // 25 + 1) // 3 + 15) % 30
    to_sunday = (32 + 2 * (century % 4) + 2 * (rest // 4) - epact - rest % 4) % 7
    correction = (cycle + 11 * epact + 22 * to_sunday) // 451
    month, day = divmod(epact + to_sunday - 7 * correction + 114, 31)
    return date(year, month, day + 1)


def bank_holidays_of_england(year: int) -> list[date]:
    """The eight bank holidays of England in a year, in order; those that fall on a weekend are taken on the weekdays that follow."""

    def weekdays(first: date) -> list[date]:
        week = [first + timedelta(days=days) for days in range(7)]
        return [day for day in week if day.isoweekday() <= 5]

    def first_monday(first: date) -> date:
        return first + timedelta(days=-first.weekday() % 7)

    sunday = easter(year)
    return [
        weekdays(date(year, 1, 1))[0],
        sunday - timedelta(days=2),
        sunday + timedelta(days=1),
        first_monday(date(year, 5, 1)),
        first_monday(date(year, 5, 25)),
        first_monday(date(year, 8, 25)),
        *weekdays(date(year, 12, 25))[:2],
    ]


def is_bank_holiday(day: pl.Expr) -> pl.Expr:
    """Whether a date is a bank holiday of England, in the years `FIRST_YEAR` to `LAST_YEAR`."""
    return day.is_in([holiday for year in range(FIRST_YEAR, LAST_YEAR + 1) for holiday in bank_holidays_of_england(year)])


def is_christmas_break(day: pl.Expr) -> pl.Expr:
    """Whether a date lies between 24 December and 3 January."""
    month, number = day.dt.month(), day.dt.day()
    return ((month == 12) & (number >= 24)) | ((month == 1) & (number <= 3))
