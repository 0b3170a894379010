"""Season, weekdays, gaps, changes, small baselines: the quiet stays quiet, a wrong unit is found at once, what tells nothing says so."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from lakehouse_assets.platform.monitoring.drift.drift_metrics import BASELINE, CONSECUTIVE, drift
from lakehouse_assets.platform.monitoring.profiling.groups import Groups
from lakehouse_assets.platform.monitoring.profiling.profile import TABLE, Profile, profile

START = datetime(2026, 1, 1, tzinfo=UTC)
DAILY = Groups("at", "1d")
A_DAY, YEAR = 100, 365


def at(rows: int, a_day: int = A_DAY) -> pl.Series:
    return pl.Series("at", START.timestamp() * 1e6 + np.arange(rows) * (86_400e6 / a_day)).cast(pl.Int64).cast(pl.Datetime("us", "UTC"))


def year(seed: int) -> pl.DataFrame:
    """A year whose columns have a season, weekdays, both, and neither."""
    random, rows = np.random.default_rng(seed), YEAR * A_DAY
    day = np.arange(rows) // A_DAY
    season, weekend = np.sin(day / YEAR * 2 * np.pi), day % 7 >= 5
    noise = random.normal(size=(4, rows))
    return pl.DataFrame(
        {
            "at": at(rows),
            "season": np.exp(noise[0] + 0.5 * season),
            "week": np.exp(noise[1] + 0.7 * weekend),
            "both": np.exp(noise[2] + 0.5 * season + 0.7 * weekend),
            "quiet": np.exp(noise[3]),
            "kind": pl.Series(np.where(random.random(rows) < 0.2 + 0.3 * weekend, "a", "b")),
        }
    )


@pytest.fixture(scope="module")
def base() -> Profile:
    return profile(year(1).lazy(), Groups("at"), blocks=True, every="1d")


def days(found: pl.DataFrame, column: str) -> list[int]:
    """The days on which a column drifted."""
    hit = found.filter("drifted", pl.col("column_name") == column)["window_start"]
    return sorted((start - START).days for start in hit)


def test_season_and_weekdays_of_the_baseline_are_quiet(base):
    found = drift(profile(year(2).lazy(), DAILY, base.cells), base).drop_nulls("drifted")
    rates = dict(found.group_by("column_name").agg(pl.col("drifted").mean()).iter_rows())
    assert set(rates) == {TABLE, "season", "week", "both", "quiet", "kind"}
    assert max(rates.values()) <= 0.01


NUMBERS, FACTORS = ("season", "week", "both", "quiet"), (100, 0.01, -1)


@pytest.mark.parametrize("first", range(3))
def test_a_wrong_unit_is_found_on_every_day_of_the_year(base, first):
    """Of each column by itself, whatever is wrong with the others."""
    units = {name: pl.col(name) * FACTORS[(first + number) % 3] for number, name in enumerate(NUMBERS)}
    found = drift(profile(year(3).with_columns(**units).lazy(), DAILY, base.cells), base)
    for column in NUMBERS:
        assert days(found.filter(drift_type=BASELINE), column) == list(range(YEAR)), column


def test_without_a_baseline_it_is_found_on_the_first_day_and_no_other():
    late = pl.int_range(pl.len()) >= 200 * A_DAY
    broken = {name: pl.when(late).then(pl.col(name) * 100).otherwise(name) for name in NUMBERS}
    found = drift(profile(year(4).with_columns(**broken).lazy(), DAILY))
    assert {column: days(found, column) for column in NUMBERS} == {column: [200] for column in NUMBERS}


def test_a_change_that_stays_is_an_alarm_against_the_window_before_only_once(base):
    random, rows = np.random.default_rng(5), 60 * A_DAY
    gone = pl.Series((np.arange(rows) >= 30 * A_DAY) & (random.random(rows) < 0.3))
    changed = (
        year(5)
        .head(rows)
        .with_columns(
            quiet=pl.when(~gone).then("quiet"),
            kind=pl.when(pl.int_range(pl.len()) >= 30 * A_DAY).then(pl.lit("new")).otherwise("kind"),
            season=pl.col("season") * 100,
        )
    )
    found = drift(profile(changed.lazy(), DAILY, base.cells), base)
    before = found.filter(drift_type=CONSECUTIVE)
    assert days(before, "quiet") == [30]
    assert days(before, "kind") == [30]
    assert days(before, "season") == []
    assert days(found.filter(drift_type=BASELINE), "quiet") == list(range(30, 60))
    news = found.filter(drift_type=BASELINE, column_name="kind").filter(pl.col("percent_unseen") > 0)
    assert {item["item"] for items in news["unseen_items"] for item in items} == {"new"}


def test_a_fault_after_days_without_rows_is_found():
    rows = year(6).filter(pl.col("at").dt.weekday() <= 5)
    monday = datetime(2026, 2, 2, tzinfo=UTC)
    broken = rows.with_columns(quiet=pl.when(pl.col("at") >= monday).then(pl.col("quiet") * 100).otherwise("quiet"))
    assert days(drift(profile(broken.lazy(), DAILY)), "quiet") == [(monday - START).days]


@pytest.mark.parametrize("every", [None, "1d"])
@pytest.mark.parametrize("rows", [30, 150])
def test_a_baseline_that_is_too_small_tests_nothing_and_says_so(rows, every):
    small = year(7).select("at", "quiet", "kind").head(rows)
    known = profile(small.lazy(), Groups("at"), blocks=True, every=every)
    found = drift(profile(small.with_columns(pl.col("quiet") * 100).lazy(), Groups("at", every), known.cells), known)
    assert found["drifted"].to_list() == [None] * found.height
    reasons = found.filter(pl.col("column_name").is_in(["quiet", "kind"]))["not_tested"]
    assert all("8 are needed" in reason or "fewer than 20 rows" in reason for reason in reasons)


def test_rows_without_a_time_are_in_no_block():
    rows = year(8).with_columns(at=pl.when(pl.int_range(pl.len()) % 5 > 0).then("at"))
    for every in (None, "1d"):
        known = profile(rows.lazy(), Groups("at"), blocks=True, every=every)
        assert known.columns["quiet"].blocks.sum() == rows["at"].count()


def test_slices_of_a_window_alarm_together_as_seldom_as_the_table_may():
    random, a_day = np.random.default_rng(9), 12 * 60

    def rows(count: int) -> pl.DataFrame:
        columns = {f"x{number}": random.normal(size=count * a_day) for number in range(3)}
        return pl.DataFrame(
            {"at": at(count * a_day, a_day), "k": pl.Series(random.integers(0, 12, count * a_day)).cast(pl.String), **columns}
        )

    known = profile(rows(60).lazy(), Groups("at", None, ("k",)), blocks=True, every="1d")
    found = drift(profile(rows(100).lazy(), Groups("at", "1d", ("k",)), known.cells), known)
    assert found.filter(pl.col("slice_value").is_not_null()).drop_nulls("drifted").height > 0
    by_window = found.group_by("window_start").agg(pl.col("drifted").any())["drifted"]
    assert by_window.mean() <= 0.05


@pytest.fixture(scope="module")
def invoices(real_invoices) -> pl.DataFrame:
    """The lines of the year from December 2010 on, as they were published."""
    rows = pl.read_parquet(next(file for file in real_invoices if "2010_2011" in file.name))
    return rows.with_columns(at=pl.col("InvoiceDate").str.to_datetime()).drop("InvoiceDate").sort("at")


def test_the_season_of_the_real_invoices_is_quiet_and_a_wrong_unit_in_it_is_found(invoices):
    autumn, winter = datetime(2011, 9, 1), datetime(2011, 12, 1)  # noqa: DTZ001 times of the shop
    known = profile(invoices.filter(pl.col("at") < autumn).lazy(), Groups("at"), blocks=True, every="1d")
    rows = invoices.filter(pl.col("at").is_between(autumn, winter, closed="left"))
    quiet = drift(profile(rows.lazy(), DAILY, known.cells), known)
    assert not quiet["drifted"].any()
    assert set(quiet.filter(column_name="InvoiceNo")["not_tested"]) == {"it moves with time"}
    tested = set(quiet.drop_nulls("drifted").filter(pl.col("not_tested").is_null())["column_name"])
    assert tested == {TABLE, "StockCode", "Description", "Quantity", "UnitPrice", "CustomerID", "Country"}
    pence = pl.col("at").dt.date().is_between(datetime(2011, 9, 15).date(), datetime(2011, 9, 21).date())  # noqa: DTZ001
    broken = rows.with_columns(UnitPrice=pl.when(pence).then(pl.col("UnitPrice") * 100).otherwise("UnitPrice"))
    found = drift(profile(broken.lazy(), DAILY, known.cells), known).filter("drifted", pl.col("column_name") != TABLE)
    assert set(found["column_name"]) == {"UnitPrice"}
    assert sorted(set(found.filter(drift_type=BASELINE)["window_start"].dt.day())) == [15, 16, 18, 19, 20, 21]
