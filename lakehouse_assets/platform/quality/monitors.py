"""Monitors of a table: whether its newest row is fresh, and whether as much came as usual.

Both are pure functions of what the caller read and of the moment to judge at; one that cannot judge says why. What is watched, when, and
where verdicts are kept is in `platform/monitoring`.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any

import polars as pl

from lakehouse_assets.platform.quality.contract import FreshBy
from lakehouse_assets.platform.storage.table import Table

WEEKS = 8
"""So many earlier same weekdays count."""
LEAST_WEEKS = 4
"""With fewer earlier same weekdays the volume is not evaluated."""
_DEVIATIONS = 3.75
FALSE_ALARM_RATE = 0.004
"""So often at most a day is called bad whose count is as those before, if counts vary as much as twice their mean; a test simulates it."""
# What a standard deviation is for normally distributed values, in median absolute deviations.
_MAD_TO_DEVIATION = 1.4826
# However regular the weeks before were, so much more or less is not remarkable.
_LEAST_SHARE = 0.5
# So few rows more are never remarkable; rows that are missing are, by how sure it is.
_LEAST_MORE = 20


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


def freshness(fresh: FreshBy, table: Table, now: datetime) -> Verdict:
    """Whether the newest value of a table is young enough. A value in the future is a wrong one, and does not count.

    Args:
        fresh: How old it may be.
        table: The table. A date lasts until its end.
        now: The moment to judge at (UTC).
    """
    newest = latest = newest_value(table, fresh.column)
    if latest is not None and _start(latest) > now:
        newest = newest_value(table, fresh.column, now)
    judged = partial(Verdict, metric="age_hours", column_name=fresh.column)
    if latest is None:
        return judged(None, "Not evaluated: the table has no rows yet.")
    ahead = "" if newest == latest else f" Values in the future, as {latest}, do not count."
    if newest is None:
        return judged(None, f"Not evaluated: no row is of a time that has come.{ahead}")
    age = max(now - _end(newest), timedelta(0))
    passed = age <= fresh.within
    text = f"The newest {fresh.column} is {newest}, {in_words(age)} ago; it may be {in_words(fresh.within)} old.{ahead}"
    hours = round(age.total_seconds() / 3600, 2)
    numbers: dict[str, float | str] = {"newest": str(newest), "age_hours": hours}
    return judged(passed, text, numbers, value=hours, threshold=fresh.within.total_seconds() / 3600)


def newest_value(table: Table, column: str, until: datetime | None = None) -> date | datetime | None:
    """The largest value of a column, from the statistics of the files in the log; files that have none are read.

    Args:
        table: The table.
        column: Of dates or timestamps.
        until: Only values that are not after it (UTC), which needs the rows; None: all.
    """
    if not table.exists():
        return None
    if until is None:
        files = pl.DataFrame(table.delta().get_add_actions(flatten=True))
        known = next((name for name in (f"partition.{column}", f"max.{column}") if name in files.columns), None)
        nulls = f"null_count.{column}"
        if known is not None:
            # A file whose rows all lack the value has no largest one either.
            all_null = pl.col("num_records") == pl.col(nulls) if nulls in files.columns else pl.lit(value=True)
            if files.select((pl.col(known).is_not_null() | all_null).fill_null(value=False).all()).item():
                return files[known].max()  # type: ignore[return-value]
    rows = table.scan().select(column)
    if until is not None:
        kind = table.schema()[column]
        latest: Any = until.date() if kind == pl.Date else until if kind.time_zone else until.replace(tzinfo=None)  # type: ignore[attr-defined]
        rows = rows.filter(pl.col(column) <= latest)
    found: date | datetime | None = rows.select(pl.col(column).max()).collect(engine="streaming").item()
    return found


def _start(moment: date | datetime) -> datetime:
    return _end(moment) if isinstance(moment, datetime) else datetime.combine(moment, time(), UTC)


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

    The rows of today are compared with those of up to 8 earlier same weekdays. Counts vary the more the larger they are, so they are
    compared as 2 * sqrt(count + 3/8), which varies by 1 for counts of independent events (Anscombe 1948). The band is the median plus
    and minus 3.75 robust deviations (1.4826 times the median absolute deviation, Hampel 1974, and 1 at least), a little wider as the
    median of few days is not sure; and at least half of the median to either side, and 20 rows upwards. Today may not be over: what is
    too little is judged by what had come on those days by this time of the day, what is too much by what came on the whole of them. A
    day without an arrival counts as 0 rows, so a quiet weekend is as usual, and a feed that stays away is not: all days since rows came
    last are judged together.

    Args:
        arrivals: What came, in any order.
        since: From when on the arrivals are complete; earlier days do not count, nor does the day that this moment lies in.
        now: The moment to judge at (UTC).
        why_since: Why nothing is known of the time before, if there was one.
        what: What the rows of the day did, for the text.
        until: The last day on which something came: the weekdays up to it are compared with; None: the days up to today.
    """
    today = now.date()
    last = today - timedelta(days=1) if until is None else until
    days = _same_weekdays(today, last, since)
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
    on: dict[date, int] = {}
    by_now: dict[date, int] = {}
    for arrival in arrivals:
        day = arrival.at.date()
        on[day] = on.get(day, 0) + arrival.rows
        by_now[day] = by_now.get(day, 0) + (arrival.rows if arrival.at.time() <= now.time() else 0)
    whole, so_far = [on.get(day, 0) for day in days], [by_now.get(day, 0) for day in days]
    least, most, usual = _band(so_far)[0], _band(whole)[1], statistics.median(whole)
    silent = [last + timedelta(days=after) for after in range(1, (today - last).days)]
    missed = sum(statistics.median([on.get(day, 0) for day in _same_weekdays(one, last, since)] or [0]) for one in silent)
    stays_away = came == 0 and bool(silent) and _band(so_far, missed)[0] > 0
    low, high = came < least or stays_away, came > most
    remark = "fewer than usual: has a feed stayed away" if low else "more than usual: was something loaded twice"
    text = f"{came:,} rows {what}; on {len(days)} earlier {today:%A}s it was {usual:,.0f}"
    if silent and missed:
        text += f", and {missed:,.0f} are usual on the {len(silent):,} days before without any"
    text += f". That is {remark}?" if low or high else "."
    return Verdict(
        not low and not high,
        text,
        {"rows_today": came, "usual": usual, "least": max(math.ceil(least), 0), "most": math.floor(most)},
        metric="rows_today",
        value=came,
        threshold=most if high else max(least, 0),
        false_alarm_rate=FALSE_ALARM_RATE,
        rows=came,
        **_day(today),
    )


def _same_weekdays(day: date, last: date, since: datetime) -> list[date]:
    """The weekdays as a day before it that are compared with: the newest 8 up to a last one, and after a moment."""
    weeks = max(1, math.ceil((day - last).days / 7))
    earlier = [day - timedelta(weeks=week) for week in range(weeks, weeks + WEEKS)]
    return [one for one in earlier if one > since.date()]


def _day(day: date) -> dict[str, Any]:
    """The window that is a day."""
    begin = datetime.combine(day, time(), UTC)
    return {"window_start": begin, "window_end": begin + timedelta(days=1), "granularity": "1 day"}


def _band(rows: Sequence[int], more: float = 0) -> tuple[float, float]:
    """The smallest and the largest count that are as usual; with more rows that are usual besides, in the same spread."""
    middle = statistics.median(rows) + more
    stable = [_stable(value) for value in rows]
    spread = max(_MAD_TO_DEVIATION * statistics.median(abs(value - statistics.median(stable)) for value in stable), 1.0)
    # A median of n values varies by pi/2 the variance of their mean.
    width = _DEVIATIONS * spread * math.sqrt(1 + math.pi / (2 * len(rows)))
    least, most = _count(_stable(middle) - width), _count(_stable(middle) + width)
    return min(least, (1 - _LEAST_SHARE) * middle), max(most, (1 + _LEAST_SHARE) * middle, middle + _LEAST_MORE)


def _stable(count: float) -> float:
    return 2 * math.sqrt(count + 0.375)


def _count(stable: float) -> float:
    return (max(stable, 0) / 2) ** 2 - 0.375
