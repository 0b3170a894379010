"""What thresholds promise: quiet windows alarm as seldom as is said, also where rows are alike; changes are found."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from lakehouse_assets.platform.monitoring.drift.calibration import MOVES
from lakehouse_assets.platform.monitoring.drift.drift_metrics import BASELINE, OF_TIME, drift
from lakehouse_assets.platform.monitoring.drift.thresholds import COLUMN_RATE, TABLE_RATE, false_alarm_rate, resampled
from lakehouse_assets.platform.monitoring.profiling.groups import Groups
from lakehouse_assets.platform.monitoring.profiling.profile import TABLE, profile

START = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 40_000


def spread(values: pl.DataFrame, rows: int, every: int = 2) -> pl.DataFrame:
    """The same with a time: so many rows a day, on each second day, so that no window is next to another."""
    number = pl.int_range(values.height, eager=True)
    hours = number % rows * 24 * 3_600_000_000 // rows
    return values.with_columns(at=pl.lit(START) + pl.duration(days=number // rows * every, microseconds=hours))


def independent(rows: int, random: np.random.Generator) -> pl.DataFrame:
    """Twenty columns of all kinds."""
    columns: dict[str, object] = {f"normal_{number}": random.normal(size=rows) for number in range(5)}
    columns |= {f"kind_{number}": pl.Series(random.integers(0, 2 + 6 * number, rows)).cast(pl.String) for number in range(5)}
    columns |= {f"count_{number}": random.poisson(0.2 + number, rows) for number in range(4)}
    columns["skewed"] = random.lognormal(size=rows)
    columns["zeros"] = np.where(random.random(rows) < 0.6, 0, random.exponential(size=rows))
    columns["rare"] = random.random(rows) < 0.01
    columns["many"] = pl.Series(random.zipf(1.5, rows).clip(max=10_000)).cast(pl.String)
    columns["sparse"] = pl.Series(np.where(random.random(rows) < 0.02, np.nan, random.normal(size=rows))).fill_nan(None)
    columns["nan"] = np.where(random.random(rows) < 0.03, np.nan, random.normal(size=rows))
    return pl.DataFrame(columns)


def dependent(rows: int, random: np.random.Generator) -> pl.DataFrame:
    """Columns whose rows are alike: in orders of five rows, from row to row, on a day, and in bursts."""
    orders = random.normal(size=rows // 5 + 1)[np.arange(rows) // 5]
    kinds = pl.Series(random.integers(0, 8, rows // 5 + 1)).cast(pl.String).gather(np.arange(rows) // 5)
    noise, walk = random.normal(size=rows), np.empty(rows)
    walk[0] = noise[0]
    for row in range(1, rows):
        walk[row] = 0.9 * walk[row - 1] + np.sqrt(1 - 0.81) * noise[row]
    of_day = 0.2 * random.normal(size=rows // 400 + 1)[np.arange(rows) // 400] + random.normal(size=rows)
    burst = (random.random(rows // 50 + 1) < 0.05)[np.arange(rows) // 50] & (random.random(rows) < 0.5)
    bursts = pl.Series(np.where(burst, np.nan, 1.0)).fill_nan(None)
    return pl.DataFrame({"orders": orders, "kinds": kinds, "walk": walk, "of_day": of_day, "bursts": bursts})


def alarms(found: pl.DataFrame) -> dict[str, float]:
    """Of each column that was tested the share of windows in which it drifted."""
    return dict(found.drop_nulls("drifted").group_by("column_name").agg(pl.col("drifted").mean()).iter_rows())


def test_a_thousand_windows_resampled_from_a_baseline_keep_the_promised_rates():
    random = np.random.default_rng(1)
    rows = independent(ROWS, random)
    rows = rows.select(rows.columns[::2])
    base = profile(rows.lazy())
    windows = spread(rows[random.integers(0, ROWS, 1_000 * 150)], 150)
    found = drift(profile(windows.lazy(), Groups("at", "1d"), base.cells), base)
    rates = alarms(found.filter(pl.col("column_name") != "at", pl.col("column_name") != TABLE))
    assert len(rates) == 10
    assert max(rates.values()) <= COLUMN_RATE
    whole = found.filter(pl.col("column_name") != "at", pl.col("column_name") != TABLE)
    by_window = whole.group_by("window_start").agg(pl.col("drifted").any())["drifted"]
    assert len(by_window) == 1_000
    assert by_window.mean() <= TABLE_RATE
    stated = {test["false_alarm_rate"] for tests in whole["thresholds"].to_list() for test in tests}
    assert max(stated) <= COLUMN_RATE / 2
    assert all(test["threshold"] is not None for tests in whole["thresholds"].to_list() for test in tests)


@pytest.mark.parametrize("rows", [300, 900])
@pytest.mark.parametrize("table", [independent, dependent])
def test_new_windows_of_a_quiet_stream_keep_the_promised_rates_too(table, rows):
    """They are not in the baseline, rows of a window may be alike, and there may be more of them than there were."""
    random = np.random.default_rng(2)
    base = profile(spread(table(ROWS, random), 300).lazy(), Groups("at"), blocks=True, every="1d")
    found = drift(profile(spread(table(200 * rows, random), rows).lazy(), Groups("at", "1d"), base.cells), base)
    rates = alarms(found)
    # Of 200 windows two may alarm in the mean; five are more than chance allows in a few columns.
    assert max(rate for name, rate in rates.items() if name != TABLE) < 5 / 200
    assert rates[TABLE] <= TABLE_RATE


@pytest.mark.parametrize("table", [independent, dependent])
def test_windows_of_a_quiet_stream_differ_from_the_one_before_as_seldom(table):
    rows = spread(table(200 * 300, np.random.default_rng(3)), 300, every=1)
    rates = alarms(drift(profile(rows.lazy(), Groups("at", "1d"))))
    assert max(rate for name, rate in rates.items() if name != TABLE) < 5 / 200
    assert rates[TABLE] <= TABLE_RATE


def test_changes_are_found_in_one_column_of_twenty():
    random = np.random.default_rng(4)
    base = profile(independent(ROWS, random).lazy())
    rows, windows = 5_000, 100
    changed = independent(rows * windows, random).with_columns(
        pl.col("normal_0") + 0.5,
        pl.col("skewed") * np.exp(0.5),
        kind_3=pl.when(pl.Series(random.random(rows * windows) < 0.1 * 20 / 19)).then(pl.lit("7")).otherwise("kind_3"),
        rare=pl.col("rare") | pl.Series(random.random(rows * windows) < 0.1),
        sparse=pl.when(pl.Series(random.random(rows * windows) < 0.05 / 0.98)).then(None).otherwise("sparse"),
        normal_1=pl.when(pl.Series(random.random(rows * windows) >= 0.05)).then("normal_1"),
        nan=pl.when(pl.Series(random.random(rows * windows) < 0.05)).then(float("nan")).otherwise("nan"),
    )
    rates = alarms(drift(profile(spread(changed, rows).lazy(), Groups("at", "1d"), base.cells), base).filter(drift_type=BASELINE))
    assert {name: rate for name, rate in rates.items() if rate >= 0.95}.keys() - {"at"} == {
        TABLE, "normal_0", "normal_1", "skewed", "kind_3", "rare", "sparse", "nan",
    }  # fmt: skip


def test_a_wrong_unit_is_found_in_the_first_window_and_once():
    rows = spread(independent(100 * 400, np.random.default_rng(5)), 400, every=1)
    broken = rows.with_columns(skewed=pl.when(pl.int_range(pl.len()) >= 60 * 400).then(pl.col("skewed") * 100).otherwise("skewed"))
    found = drift(profile(broken.lazy(), Groups("at", "1d"))).filter("drifted", pl.col("column_name") == "skewed")
    assert [start.toordinal() - START.toordinal() for start in found["window_start"]] == [60]


def test_what_moves_with_time_is_not_tested():
    random = np.random.default_rng(6)
    rows = spread(independent(ROWS, random).select("normal_0"), 400, every=1).with_columns(
        number=pl.int_range(pl.len()) + 0.5, sent=pl.col("at").dt.offset_by("3h"), file=pl.col("at").dt.date().cast(pl.String)
    )
    base = profile(rows.head(ROWS // 2).lazy(), Groups("at"), blocks=True, every="1d")
    found = drift(profile(rows.tail(ROWS // 2).lazy(), Groups("at", "1d"), base.cells), base)
    own = drift(profile(rows.lazy(), Groups("at", "1d")))
    for one in (found, own):  # as a baseline tells, and as its own windows do
        moving = one.filter(pl.col("column_name").is_in(["number", "sent", "file"]))
        assert alarms(moving) == dict.fromkeys(("number", "sent", "file"), 0)
        assert set(moving["not_tested"]) == {MOVES}
        assert set(one.filter(column_name="at")["not_tested"]) == {OF_TIME}


def test_keys_and_named_columns_are_not_tested():
    rows = pl.DataFrame({"id": range(5_000), "_file": ["a"] * 5_000, "x": np.random.default_rng(7).normal(size=5_000)})
    base = profile(rows.lazy())
    new = rows.with_columns(pl.col("id") + 5_000, _file=pl.lit("b"), x=pl.col("x") + 1)
    found = drift(profile(new.lazy(), None, base.cells), base, untested=["_file"])
    assert set(found.filter("drifted")["column_name"]) == {TABLE, "x"}


def test_a_column_of_many_texts_is_quiet_in_tables_as_large_as_the_baseline():
    """The most frequent of many texts are so by chance: in another table they are not."""
    random = np.random.default_rng(10)

    def draw() -> pl.DataFrame:
        columns = {f"of_{values}": pl.Series(random.integers(0, values, 10_000)).cast(pl.String) for values in (150, 210, 3_000, 10**8)}
        return pl.DataFrame(columns | {"zipf": pl.Series(random.zipf(1.5, 10_000).clip(max=10_000)).cast(pl.String)})

    base = profile(draw().lazy())
    for _ in range(10):
        assert not drift(profile(draw().lazy(), None, base.cells), base)["drifted"].any()
    # A default in place of many ids is found all the same.
    broken = draw().with_columns(of_100000000=pl.when(pl.int_range(pl.len()) % 10 == 0).then(pl.lit("n/a")).otherwise("of_100000000"))
    found = drift(profile(broken.lazy(), None, base.cells), base).filter("drifted")
    assert set(found["column_name"]) == {TABLE, "of_100000000"}


def test_windows_of_a_few_rows_are_not_tested():
    rows = pl.DataFrame({"x": np.random.default_rng(8).normal(size=1_000)})
    base = profile(rows.lazy())
    found = drift(profile(rows.head(5).select(pl.col("x") + 100).lazy(), None, base.cells), base)
    tests = found["thresholds"].to_list()[1]
    assert {(test["threshold"], test["exceeded"]) for test in tests} == {(None, None)}
    assert found["drifted"].to_list() == [None, None]
    assert found["not_tested"].to_list() == [None, "there are fewer than 20 rows"]


def test_rates_add_up_to_those_of_the_table():
    for columns in (1, 3, 5, 30, 500):
        rate = false_alarm_rate(columns, 3)
        assert rate * 3 <= COLUMN_RATE
        assert rate * 3 * columns <= TABLE_RATE + 1e-12


@pytest.mark.parametrize("size", [50, 500, 50_000])
@pytest.mark.parametrize("rate", [0.05, 0.01, 0.001])
def test_a_threshold_is_passed_as_often_as_it_says(size, rate):
    """Also where it is read off the tail; what is drawn here has another seed."""
    base = np.array([500, 300, 150, 40, 9, 1]) * 100
    threshold = resampled("js_distance", base, size, rate)
    from lakehouse_assets.platform.monitoring.drift.distances import jensen_shannon

    expected = base / base.sum()
    drawn = np.random.default_rng(9).multinomial(size, expected, size=40_000) / size
    assert rate / 8 < (jensen_shannon(expected, drawn) > threshold).mean() < rate * 1.2
