"""Which daily series is forecast, how far and by which calendar: what statistics, inputs and training have to know of it.

Inside this folder a series has the columns `day`, `value` and those of `by`; tables have the names that their author gave. Numbers that
hold for every series are here too.
"""

import math
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from lakehouse_assets.platform.modelling.calendar import is_holiday

DAY, VALUE = "day", "value"
REFERENCE, LEVEL, SEASON, NAIVE = "reference", "level", "reference_season", "seasonal_naive"
"""Inputs that fitted forecasts read by name. How they are made is in `inputs`, which a stored model does without."""
YEAR = 364  # days: the same weekday a year ago
FEATURE_LOOKBACK = timedelta(days=366)  # features of a day are made of no older values: every holiday has been seen once
LEVEL_DAYS = (7, 14, 28, 56, 91, 182)
WEEKDAY_WEEKS = (4, 8)
EARLIER_WEEKS = (2, 3, 4)  # the same weekday so many weeks ago, each by itself
CAPPED_WEEKDAY_WEEKS = (2, 4, 8, 13)
TOTAL_CAPPED_WEEKDAY_WEEKS = (4, 8, 13)
MEDIAN_DAYS = (14, 28, 56, 91)
COUNT_DAYS = (7, 28, 91)
ACTIVE_DAYS = (28, 91)
WINDOW_WEEKS = (4, 8)
MOST_HORIZON = 182
# A level over 28 days has to be full before an origin can teach, and as many days again have to follow.
WARM_UP_DAYS = 28


def window_average(weeks: int) -> str:
    """The input with the mean of the same weekday in the last weeks, in the unit of the value."""
    return f"window_average_{weeks}"


@dataclass(frozen=True)
class Series:
    """A daily series, or several that are told apart by columns.

    Attributes:
        time: Column with the date of a row.
        value: Column with the number that is added up by day and forecast.
        by: Columns that tell the series apart; none: there is one series.
        count: Column with how much happened: a day on which it adds up to nothing is closed. None: a day with a row is open.
        horizon: Days that are forecast.
        quantiles: Ascending, symmetric around 0.5.
        calendar: Country whose public holidays count, with a part of it if need be, as "GB" or "GB-ENG". None: no day is a holiday.
    """

    time: str
    value: str
    by: tuple[str, ...] = ()
    count: str | None = None
    horizon: int = 28
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    calendar: str | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that tell the rows of a series apart."""
        return (*self.by, DAY)

    @property
    def stored_key(self) -> tuple[str, ...]:
        """The same in a table."""
        return (*self.by, self.time)

    @property
    def lookback(self) -> timedelta:
        """The inputs of an origin are made of no older rows."""
        return timedelta(days=YEAR + self.horizon)

    @property
    def least_days(self) -> int:
        """Days without which nothing can be learnt."""
        return WARM_UP_DAYS + max(WARM_UP_DAYS, self.horizon)

    @property
    def step(self) -> int:
        """Days between the origins of a test: whole weeks, no day forecast twice."""
        return 7 * math.ceil(self.horizon / 7)

    def opened(self, table: pl.LazyFrame) -> pl.LazyFrame:
        """Rows of a table with the names that are used here."""
        return table.rename({self.time: DAY, self.value: VALUE})

    def stored(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Rows with the names of the table."""
        return rows.rename({DAY: self.time, VALUE: self.value})

    def each(self, value: pl.Expr) -> pl.Expr:
        """An expression over the rows of each series alone."""
        return value.over(self.by) if self.by else value

    def crossed(self, rows: pl.LazyFrame, others: pl.LazyFrame) -> pl.LazyFrame:
        """Each series that rows have with each of the other rows."""
        return rows.select(self.by).unique().join(others, how="cross") if self.by else others

    def is_holiday(self, day: pl.Expr) -> pl.Expr:
        """Whether a date is a public holiday by the calendar."""
        if self.calendar is None:
            return day.is_null()  # never: a day is there
        country, _, part = self.calendar.partition("-")
        return is_holiday(day, country, part or None)

    def is_year_end(self, day: pl.Expr) -> pl.Expr:
        """Whether a date lies between 24 December and 3 January, when many are closed whatever the calendar says; without one, never."""
        if self.calendar is None:
            return day.is_null()
        month, number = day.dt.month(), day.dt.day()
        return ((month == 12) & (number >= 24)) | ((month == 1) & (number <= 3))
