"""Public holidays of a country as expressions. The dates are those of the library `holidays`, moved and proclaimed days included.

What else a shop may close for, and whether it closes on such days, is for the product to know.
"""

from datetime import date
from functools import cache
from typing import Final

import polars as pl

FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 2100


@cache
def public_holidays(country: str, subdivision: str | None = None) -> pl.Series:
    """The public holidays of a country in the years `FIRST_YEAR` to `LAST_YEAR`, as far as the library has rules for them.

    Args:
        country: ISO 3166-1 code, such as "GB".
        subdivision: Part of the country as the library names it, such as "ENG"; None: what holds in the whole country.

    Returns:
        Dates in order, each once. Days in lieu are among them, and so are the days that they stand for.

    Raises:
        ValueError: The library does not know the country or the subdivision.
    """
    import holidays

    try:
        days = holidays.country_holidays(country, subdiv=subdivision, years=range(FIRST_YEAR, LAST_YEAR + 1))
    except NotImplementedError as error:
        raise ValueError(
            f"no calendar of country {country!r}, subdivision {subdivision!r}: {error}. "
            "`holidays.list_supported_countries()` lists the codes of countries with their subdivisions"
        ) from error
    return pl.Series("holiday", sorted(days), dtype=pl.Date)


def is_holiday(day: pl.Expr, country: str, subdivision: str | None = None) -> pl.Expr:
    """Whether a date is a public holiday.

    Args:
        day: Dates between `FIRST_YEAR` and `LAST_YEAR`; null stays null, and any other date is no holiday.
        country: See `public_holidays`.
        subdivision: See `public_holidays`.

    Raises:
        ValueError: See `public_holidays`.
    """
    days: list[date] = public_holidays(country, subdivision).to_list()
    return day.is_in(days)
