"""Monitors of a table: whether its newest row is fresh, and whether as much came as usual.

Both are pure functions of what the caller read and of the moment to judge at; one that cannot judge says why. What is watched, when, and
where verdicts are kept is in `platform/monitoring`.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl

from lakehouse_assets.platform.quality.contract import FreshBy
from lakehouse_assets.platform.storage.table import Table

WEEKS = 8
"""So many earlier same weekdays count."""
LEAST_WEEKS = 4
"""With fewer earlier same weekdays the volume is not evaluated."""
_DEVIATIONS = 4.0
# What a standard deviation is for normally distributed values, in median absolute deviations.
_MAD_TO_DEVIATION = 1.4826
# However regular the weeks before were, so much more or less is not remarkable.
_LEAST_SHARE = 0.5
_LEAST_ROWS = 20


@dataclass(frozen=True)
class Verdict:
    """What a monitor says of a table, or of one window, slice or column of it.

    Attributes:
        passed: Whether all is as it should be; None: not evaluated, and the text says why.
        text: A sentence for people.
        numbers: Other numbers behind it, by name.
        metric: What was measured, as age_hours or population_stability_index; empty if it is no number.
        value: What it was.
        threshold: Where the metric begins to be bad.
        false_alarm_rate: How often the threshold is passed though nothing has changed, as a share of the windows.
        rows: Rows that were judged.
        window_start: Begin of what was judged (UTC); None: the whole table.
        window_end: Its end, exclusive (UTC).
        granularity: Length of the window, as `1 day`; empty if there is none.
        slice_key: Column by whose values rows were judged apart; empty: all rows.
        slice_value: The value of that column; None: rows that have none.
        column_name: The column that was judged; empty: the rows.
        model_version: The version of the model whose predictions were judged.
        error: Type of the error that the evaluation ended with; empty if it came to its end.
        why: Where a failure most likely comes from; empty if that was not found.
    """

    passed: bool | None
    text: str
    numbers: Mapping[str, float | str] = field(default_factory=dict)
    _: KW_ONLY
    metric: str = ""
    value: float | None = None
    threshold: float | None = None
    false_alarm_rate: float | None = None
    rows: int | None = None
    window_start: datetime | None = None
    window_end: datetime | None = None
    granularity: str = ""
    slice_key: str = ""
    slice_value: str | None = None
    column_name: str = ""
    model_version: int | None = None
    error: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        # NumPy's truth values are neither True nor False to Python's `is`.
        object.__setattr__(self, "passed", None if self.passed is None else bool(self.passed))


@dataclass(frozen=True)
class Arrival:
    """So many rows came in at this moment (UTC)."""

    at: datetime
    rows: int


# --- freshness


def freshness(fresh: FreshBy, newest: date | datetime | None, now: datetime) -> Verdict:
    """Whether the newest value is young enough.

    Args:
        fresh: How old it may be.
        newest: The newest value of the column; None if the table has no rows. A date lasts until its end.
        now: The moment to judge at (UTC).
    """
    if newest is None:
        return Verdict(None, "Not evaluated: the table has no rows yet.", metric="age_hours", column_name=fresh.column)
    age = max(now - _end(newest), timedelta(0))
    passed = age <= fresh.within
    text = f"The newest {fresh.column} is {newest}, {in_words(age)} ago; it may be {in_words(fresh.within)} old."
    hours = round(age.total_seconds() / 3600, 2)
    return Verdict(
        passed,
        text,
        {"newest": str(newest), "age_hours": hours},
        metric="age_hours",
        value=hours,
        threshold=fresh.within.total_seconds() / 3600,
        column_name=fresh.column,
    )


def newest_value(table: Table, column: str) -> date | datetime | None:
    """The largest value of a column, from the statistics of the files in the log; files that have none are read."""
    if not table.exists():
        return None
    files = pl.DataFrame(table.delta().get_add_actions(flatten=True))
    known = next((name for name in (f"partition.{column}", f"max.{column}") if name in files.columns), None)
    nulls = f"null_count.{column}"
    if known is not None:
        # A file whose rows all lack the value has no largest one either.
        all_null = pl.col("num_records") == pl.col(nulls) if nulls in files.columns else pl.lit(value=True)
        if files.select((pl.col(known).is_not_null() | all_null).fill_null(value=False).all()).item():
            return files[known].max()  # type: ignore[return-value]
    found: date | datetime | None = table.scan().select(pl.col(column).max()).collect(engine="streaming").item()
    return found


def _end(moment: date | datetime) -> datetime:
    if isinstance(moment, datetime):
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return datetime.combine(moment + timedelta(days=1), time(), UTC)


def in_words(span: timedelta) -> str:
    """A span of time in hours or days."""
    hours = span.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"


# --- volume


def volume(
    arrivals: Sequence[Arrival], since: datetime, now: datetime, why_since: str = "", what: str = "came today", *, until: date | None = None
) -> Verdict:
    """Whether as many rows came today as on the same weekdays before.

    The rows of today are compared with those of up to 8 earlier same weekdays. The band is their median plus and minus four robust standard
    deviations (1.4826 times the median absolute deviation, Hampel 1974), and at least half of the median and 20 rows to either side. Today
    may not be over: what is too little is judged by what had come on those days by this time of the day, what is too much by what came on
    the whole of them. A day without an arrival counts as 0 rows, so a quiet weekend is as usual, and a feed that stays away is not.

    Args:
        arrivals: What came, in any order.
        since: From when on the arrivals are complete; earlier days do not count, nor does the day that this moment lies in.
        now: The moment to judge at (UTC).
        why_since: Why nothing is known of the time before, if there was one.
        what: What the rows of the day did, for the text.
        until: Days after this one say nothing, as nothing came any more; None: all do.
    """
    today = now.date()
    days = [today - timedelta(weeks=week) for week in range(1, WEEKS + 1)]
    days = [day for day in days if day > since.date() and (until is None or day <= until)]
    came = sum(arrival.rows for arrival in arrivals if arrival.at.date() == today and arrival.at <= now)
    if len(days) < LEAST_WEEKS:
        return Verdict(
            passed=None,
            text=f"Not evaluated: {len(days)} earlier {today:%A}s are known, {LEAST_WEEKS} are needed{why_since and f': {why_since}'}.",
            numbers={"rows_today": came},
            metric="rows_today",
            value=came,
            rows=came,
            **_day(today),
        )
    on = {day: [arrival for arrival in arrivals if arrival.at.date() == day] for day in days}
    least, _ = _band([sum(a.rows for a in on[day] if a.at.time() <= now.time()) for day in days])
    usual, most = statistics.median(whole := [sum(a.rows for a in on[day]) for day in days]), _band(whole)[1]
    low, high = came < least, came > most
    remark = "fewer than usual: has a feed stayed away" if low else "more than usual: was something loaded twice"
    text = f"{came:,} rows {what}; on {len(days)} earlier {today:%A}s it was {usual:,.0f}"
    text += f". That is {remark}?" if low or high else "."
    return Verdict(
        not low and not high,
        text,
        {"rows_today": came, "usual": usual, "least": max(round(least), 0), "most": round(most)},
        metric="rows_today",
        value=came,
        threshold=most if high else max(least, 0),
        rows=came,
        **_day(today),
    )


def _day(day: date) -> dict[str, Any]:
    """The window that is a day."""
    begin = datetime.combine(day, time(), UTC)
    return {"window_start": begin, "window_end": begin + timedelta(days=1), "granularity": "1 day"}


def _band(rows: Sequence[int]) -> tuple[float, float]:
    middle = statistics.median(rows)
    spread = _MAD_TO_DEVIATION * statistics.median(abs(value - middle) for value in rows)
    width = max(_DEVIATIONS * spread, _LEAST_SHARE * middle, _LEAST_ROWS)
    return middle - width, middle + width
