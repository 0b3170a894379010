"""Freshness and volume: what is noticed, and above all what is not."""

import random
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from lakehouse_assets.platform.quality.contract import Contract, FreshBy, Timestamp, column, freshness_of
from lakehouse_assets.platform.quality.monitors import FALSE_ALARM_RATE, WEEKS, Arrival, freshness, newest_value, volume
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday
START = NOW - timedelta(days=100)


def days(rows, *, at: int = 6) -> list[Arrival]:
    """One arrival a day at an hour, for the days before today; `rows` by how many days ago."""
    first = NOW.replace(hour=at)
    return [Arrival(first - timedelta(days=ago), rows(ago)) for ago in range(1, 71)]


def today(rows: int, *, at: int = 6) -> Arrival:
    return Arrival(NOW.replace(hour=at), rows)


def steady(ago: int) -> int:
    return 1000 + random.Random(ago).randint(-50, 50)


def judged(arrivals, since=START, now=NOW):
    return volume(arrivals, since, now)


def test_as_much_as_usual_is_as_it_should_be():
    found = judged([*days(steady), today(1040)])
    assert found.passed
    assert found.numbers["rows_today"] == 1040
    assert found.numbers["usual"] == pytest.approx(1000, abs=50)


def test_a_feed_that_stays_away_is_noticed():
    found = judged(days(steady))
    assert not found.passed
    assert "has a feed stayed away" in found.text


def test_a_double_load_is_noticed():
    found = judged([*days(steady), today(1000), today(1000, at=8)])
    assert not found.passed
    assert "loaded twice" in found.text


def test_what_is_still_to_come_today_is_not_missed():
    assert judged(days(steady, at=18)).passed


def test_a_feed_that_comes_in_pieces_is_judged_by_the_time_of_the_day():
    pieces = [piece for hour in (2, 8, 14, 20) for piece in days(lambda _: 250, at=hour)]
    assert judged([*pieces, today(250, at=2), today(250, at=8)]).passed
    assert not judged([*pieces, today(150, at=2)]).passed


def test_a_quiet_weekend_is_as_usual():
    sunday = NOW - timedelta(days=1)
    closed = [Arrival(a.at, 0 if a.at.weekday() == 6 else a.rows) for a in days(steady)]
    assert judged(closed, now=sunday).passed
    assert not judged([*closed, Arrival(sunday, 1000)], now=sunday).passed


def test_steady_growth_is_not_remarkable():
    assert judged([*days(lambda ago: round(1000 * 1.05 ** (-ago / 7))), today(1000)]).passed


def test_one_strange_week_does_not_spoil_the_measure():
    strange = days(lambda ago: 50_000 if ago == 14 else steady(ago))
    assert judged([*strange, today(1000)]).passed
    assert not judged(strange).passed


def test_a_few_rows_more_or_less_of_a_small_table_are_not_remarkable():
    assert judged([*days(lambda _: 5), today(12)]).passed
    assert judged(days(lambda _: 5)).passed


def test_the_loss_of_a_small_feed_is_noticed():
    assert not judged(days(lambda _: 8)).passed
    assert judged([*days(lambda _: 8), today(4)]).passed


def test_an_outage_stays_bad_for_as_long_as_it_lasts_and_nothing_is_learnt_from_it():
    came = days(lambda _: 8)
    newest = max(arrival.at for arrival in came).date()
    for weeks in range(8):
        now = NOW + timedelta(weeks=weeks)
        found = volume(came, START, now, until=newest)
        assert found.passed is False, weeks
        assert found.numbers["usual"] == 8


def test_a_feed_of_few_rows_that_stays_away_for_days_is_noticed():
    came = days(lambda _: 3)
    newest = max(arrival.at for arrival in came).date()
    assert volume(came, START, NOW, until=newest).passed, "one day without rows is as usual"
    later = volume(came, START, NOW + timedelta(days=5), until=newest)
    assert later.passed is False
    assert "15 are usual on the 5 days before without any" in later.text


@pytest.mark.parametrize("variance", [1.0, 2.0])
@pytest.mark.parametrize("mean", [2, 8, 20, 100, 1000])
def test_false_alarms_are_as_rare_as_stated_and_losses_are_found(mean, variance):
    draws = np.random.default_rng(1)
    size = (2_000, WEEKS + 1)
    counts = draws.poisson(mean, size) if variance == 1 else draws.negative_binomial(mean / (variance - 1), 1 / variance, size)
    weekdays = [NOW - timedelta(weeks=week) for week in range(1, WEEKS + 1)]
    false, found = 0, 0
    for row in counts.tolist():
        before = [Arrival(at, rows) for at, rows in zip(weekdays, row[1:], strict=True)]
        false += not volume([*before, Arrival(NOW, row[0])], START, NOW).passed
        found += not volume(before, START, NOW).passed
    assert false / len(counts) <= FALSE_ALARM_RATE + 0.003, "with what 2,000 days vary by"
    assert found / len(counts) >= {2: 0, 8: 0.2, 20: 0.8}.get(mean, 0.99)


def test_with_too_little_history_nothing_is_said():
    found = judged(days(steady), since=NOW - timedelta(weeks=4))
    assert found.passed is None
    assert found.text == "Not evaluated: 3 earlier Mondays are known, 4 are needed."
    assert not judged(days(steady), since=NOW - timedelta(weeks=4, days=1)).passed


# --- freshness

TWO_DAYS = FreshBy("day", timedelta(days=2))


def with_days(folder, *values):
    """A table whose column `day` has these values."""
    kind = pl.Datetime("us", "UTC") if isinstance(next(iter(values), None), datetime) else pl.Date()
    found = Lakehouse(str(folder)).table("shop.silver.days")
    found.create({"day": kind})
    if values:
        found.append(pl.DataFrame({"day": [*values]}, schema={"day": kind}))
    return found


@pytest.mark.parametrize(
    ("newest", "passed"),
    [
        (None, None),
        (date(2026, 3, 2), True),
        (date(2026, 2, 28), True),
        (date(2026, 2, 27), False),
        (NOW - timedelta(days=2), True),
        (NOW - timedelta(days=2, seconds=1), False),
        (NOW + timedelta(days=1), None),
    ],
)
def test_the_newest_value_is_fresh_or_not(newest, passed, tmp_path):
    assert freshness(TWO_DAYS, with_days(tmp_path, *([] if newest is None else [newest])), NOW).passed is passed


@pytest.mark.parametrize(("old", "far"), [(date(2026, 2, 1), date(2062, 3, 1)), (NOW - timedelta(days=30), NOW + timedelta(days=9_999))])
def test_a_value_in_the_future_does_not_make_a_stale_table_fresh(old, far, tmp_path):
    found = freshness(TWO_DAYS, with_days(tmp_path, old, far), NOW)
    assert found.passed is False
    assert found.numbers["newest"] == str(old)
    assert f"Values in the future, as {far}, do not count." in found.text


def test_a_stale_table_says_how_old_it_is(tmp_path):
    found = freshness(TWO_DAYS, with_days(tmp_path, datetime(2026, 2, 20, 12, tzinfo=UTC)), NOW)
    assert found.text == "The newest day is 2026-02-20 12:00:00+00:00, 10.0 days ago; it may be 2.0 days old."
    assert found.numbers["age_hours"] == 240


SCHEMA = pl.Schema({"month": pl.Date(), "at": pl.Datetime("us", "UTC"), "day": pl.Date()})
ROWS = [
    (date(2026, 1, 1), datetime(2026, 1, 5, 3, 4, 5, 678901, tzinfo=UTC), date(2026, 1, 5)),
    (date(2026, 2, 1), datetime(2026, 2, 6, tzinfo=UTC), None),
]


@pytest.fixture
def table(tmp_path):
    found = Lakehouse(str(tmp_path)).table("shop.silver.lines")
    found.create(SCHEMA, ("month",))
    return found


def test_the_newest_value_comes_from_the_log_alone(table):
    for row in ROWS:
        table.append(pl.DataFrame([row], schema=SCHEMA, orient="row"))
    for path in table.delta().file_uris():
        pl.DataFrame({"x": [1]}).write_parquet(path)  # no row can be read any more
    assert newest_value(table, "at") == ROWS[1][1]
    assert newest_value(table, "day") == ROWS[0][2]
    assert newest_value(table, "month") == ROWS[1][0]


def test_a_table_without_rows_has_no_newest_value(table, tmp_path):
    assert newest_value(table, "at") is None
    assert newest_value(Lakehouse(str(tmp_path)).table("shop.silver.nowhere"), "at") is None


def test_a_column_without_statistics_is_read(tmp_path):
    wide = pl.Schema({f"c{number}": pl.Int64() for number in range(40)} | {"at": pl.Datetime("us", "UTC")})
    table = Lakehouse(str(tmp_path)).table("shop.silver.wide")
    table.create(wide)
    table.append(pl.DataFrame({name: [1] for name in wide if name != "at"} | {"at": [NOW]}, schema=wide))
    assert newest_value(table, "at") == NOW


def test_a_contract_says_how_fresh_its_table_is():
    class Fresh(Contract, fresh_by="at", fresh_within=timedelta(hours=6)):
        at: Timestamp

    assert freshness_of(Fresh) == FreshBy("at", timedelta(hours=6))


@pytest.mark.parametrize("wrong", [{"fresh_by": "x"}, {"fresh_within": timedelta(1)}, {"fresh_by": "x", "fresh_within": timedelta(0)}])
def test_half_a_freshness_is_refused(wrong):
    with pytest.raises(TypeError, match="fresh_"):

        class Sample(Contract, **wrong):
            x: date


def test_freshness_by_something_that_is_no_time_is_refused():
    class Sample(Contract, fresh_by="x", fresh_within=timedelta(1)):
        x: int = column()

    with pytest.raises(TypeError, match="no column of dates or timestamps"):
        freshness_of(Sample)
