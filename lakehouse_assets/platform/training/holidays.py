"""Days known in advance on which a shop may leave its weekly rhythm: the bank holidays of England and the break around Christmas.

Only what follows from the rule of the calendar belongs here. Holidays proclaimed for one year (a coronation) do not: no rule
knows them. Whether a shop closes on such a day is for the caller to learn from its history.
"""

from datetime import date, timedelta

import polars as pl

MONDAY, FRIDAY, SATURDAY, SUNDAY = 0, 4, 5, 6


def easter(year: int) -> date:
    """Easter Sunday of a year of the Gregorian calendar (Meeus/Jones/Butcher)."""
    cycle = year % 19
    century, rest = divmod(year, 100)
    epact = (19 * cycle + century - century // 4 - (century - (century + 8) // 25 + 1) // 3 + 15) % 30
    to_sunday = (32 + 2 * (century % 4) + 2 * (rest // 4) - epact - rest % 4) % 7
    late = (cycle + 11 * epact + 22 * to_sunday) // 451
    month, day = divmod(epact + to_sunday - 7 * late + 114, 31)
    return date(year, month, day + 1)


def bank_holidays_of_england(year: int) -> list[date]:
    """The eight bank holidays of England in a year, in order; one that falls on a weekend is taken on the next free weekday."""

    def monday_from(first: date) -> date:
        return first + timedelta(days=-first.weekday() % 7)

    new_year = date(year, 1, 1)
    if new_year.weekday() >= SATURDAY:
        new_year = monday_from(new_year)
    christmas, boxing = date(year, 12, 25), date(year, 12, 26)
    if christmas.weekday() >= SATURDAY:
        christmas = date(year, 12, 27)
        if boxing.weekday() == SUNDAY:
            boxing = date(year, 12, 28)
    elif boxing.weekday() == SATURDAY:
        boxing = date(year, 12, 28)
    sunday = easter(year)
    return sorted(
        [
            new_year,
            sunday - timedelta(days=2),
            sunday + timedelta(days=1),
            monday_from(date(year, 5, 1)),
            monday_from(date(year, 5, 25)),
            monday_from(date(year, 8, 25)),
            christmas,
            boxing,
        ]
    )


def is_bank_holiday(day: pl.Expr, first_year: int, last_year: int) -> pl.Expr:
    """Whether a date is a bank holiday of England; dates outside the years count as none."""
    holidays = [holiday for year in range(first_year, last_year + 1) for holiday in bank_holidays_of_england(year)]
    return day.is_in(holidays)


def is_christmas_break(day: pl.Expr) -> pl.Expr:
    """Whether a date lies between 24 December and 3 January."""
    month, number = day.dt.month(), day.dt.day()
    return ((month == 12) & (number >= 24)) | ((month == 1) & (number <= 3))
