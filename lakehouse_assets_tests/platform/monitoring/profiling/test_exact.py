"""Statistics against exact ones by Polars where they were hard to keep: far from the baseline, over many batches, at the ends of floats."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lakehouse_assets.platform.monitoring.drift.drift_metrics import drift
from lakehouse_assets.platform.monitoring.profiling import counting
from lakehouse_assets.platform.monitoring.profiling.groups import Groups
from lakehouse_assets.platform.monitoring.profiling.profile import Profile, profile
from lakehouse_assets.platform.monitoring.profiling.statistics import LEVELS

RANDOM = np.random.default_rng(1)
NORMAL, SKEWED = RANDOM.normal(size=8_000), RANDOM.lognormal(3, 1, 8_000)


def about(found: Profile, column: str = "x") -> dict:
    return found.frame.row(by_predicate=pl.col("column_name") == column, named=True)


FAR = {
    "shifted": (NORMAL, NORMAL[::2] + 100),
    "shifted_down": (NORMAL, NORMAL[::2] - 1e4),
    "times_100": (SKEWED, SKEWED[::2] * 100),
    "negated": (SKEWED, -SKEWED[::2]),
    "hundredth": (SKEWED, SKEWED[::2] / 100),
    "one_outlier": (NORMAL, np.append(NORMAL[::2] + 5, 1e6)),
    "baseline_outlier": (np.append(NORMAL, 1e9), NORMAL[::2] + 50),
    "few_values": (RANDOM.integers(0, 9, 4_000), RANDOM.integers(100, 200, 2_000)),
    "constant": (np.zeros(500), NORMAL),
    "empty": (np.empty(0), SKEWED),
    "moments": (1.7e9 + np.arange(4_000), 1.7e9 + 4_000 + np.arange(2_000)),
}


@pytest.mark.parametrize("name", FAR)
def test_quantiles_and_distances_are_right_far_from_the_baseline(name):
    base, new = (np.asarray(side, dtype=float) for side in FAR[name])
    known = profile(pl.LazyFrame({"x": pl.Series(base, dtype=pl.Float64)}))
    found = profile(pl.LazyFrame({"x": new}), None, known.cells)
    row, exact = about(found), np.quantile(new, LEVELS, method="inverted_cdf")
    low, high = known.columns["x"].tails.low, known.columns["x"].tails.high
    allowed = 0.01 * np.maximum(np.maximum(exact - high, low - exact), 0) + 1e-9
    # Inside of the baseline a quantile is right within the cell that it lies in.
    inside = (exact > low) & (exact <= high)
    ranks = np.searchsorted(np.sort(new), row["quantiles"], side="right") / len(new)
    assert (np.abs(np.array(row["quantiles"]) - exact) <= allowed)[~inside].all()
    if name != "constant":
        assert np.abs(ranks - LEVELS)[inside].max(initial=0) <= 0.05
    if len(base):
        area = drift(found, known).filter(column_name="x")["wasserstein_distance"].item()
        assert area == pytest.approx(stats.wasserstein_distance(base, new), rel=0.02)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=60),
    st.sampled_from([0.0, 1e9, -1e12]),
    st.sampled_from([3, 7, 1_000]),
    st.integers(1, 3),
)
def test_moments_are_those_of_polars_over_batches_and_groups(numbers, offset, batch, groups):
    rows = pl.DataFrame({"x": np.array(numbers) + offset, "k": np.arange(len(numbers)) % groups})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "BATCH", batch)
        found = profile(rows.lazy(), Groups(slices=("k",)), profile(pl.LazyFrame({"x": [0.0, 1.0]})).cells).frame
    for value in [None, *range(min(groups, len(numbers)))]:
        row = found.filter(pl.col("column_name") == "x", pl.col("slice_value").eq_missing(None if value is None else str(value))).row(
            0, named=True
        )
        part = rows if value is None else rows.filter(k=value)
        assert row["avg"] == pytest.approx(part["x"].mean(), rel=1e-12, abs=1e-9)
        if part.height > 1:
            assert row["stddev"] == pytest.approx(part["x"].std(), rel=1e-6, abs=abs(offset) * 1e-14 + 1e-9)
        assert (row["min"], row["max"]) == (part["x"].min(), part["x"].max())


@pytest.mark.parametrize(
    ("values", "distinct"),
    [
        (pl.Series([2**62, 2**62 + 1, 2**62 + 2] * 5), 3),
        (pl.Series([2**53 - 1, 2**53 - 2, -(2**53) + 1]), 3),
        (pl.Series([2**64 - 1, 2**64 - 2, 1], dtype=pl.UInt64), 3),
        (pl.Series([10**18, 10**18 + 1]).cast(pl.Datetime("ns")), 2),
        (pl.Series([0.1 + 0.2, 0.3]), 2),
        (pl.Series([0.1, 0.2], dtype=pl.Float32), 2),
    ],
    ids=str,
)
def test_values_that_a_float_would_make_equal_are_told_apart(values, distinct):
    row = about(profile(pl.LazyFrame({"x": values})))
    assert row["distinct_count"] == distinct
    texts = [item["item"] for item in row["frequent_items"]]
    assert len(set(texts)) == len(texts)
    if values.dtype.is_integer():
        assert set(map(int, texts)) <= set(values.to_list())
    assert row["items_complete"] is (len(texts) == distinct)


@pytest.mark.parametrize("values", [[1.7e308] * 3 + [-1.7e308], [1e200, -1e200, 3e200], [5e-324, 1e-320]])
def test_numbers_at_the_ends_of_floats_have_a_mean(values):
    row = about(profile(pl.LazyFrame({"x": values})))
    assert row["avg"] == pytest.approx(
        float(sum(int(value) for value in values) / len(values)) if max(values) > 1 else 0, rel=1e-12, abs=1e-300
    )
    assert row["stddev"] is None or np.isfinite(row["stddev"])
    assert (row["min"], row["max"], row["median"] in values) == (min(values), max(values), True)


@pytest.mark.parametrize("value", [0.1, 1 / 3, -1e7 / 3, 1e300, 5e-324, 0.0])
@pytest.mark.parametrize("windows", [1, 3])
def test_numbers_that_are_all_the_same_have_that_mean_and_no_spread(monkeypatch, value, windows):
    monkeypatch.setattr(counting, "BATCH", 1_000)
    at = pl.Series([datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=row % windows) for row in range(7_001)])
    found = profile(pl.DataFrame({"at": at, "x": [value] * 7_001}).lazy(), Groups("at", "1d")).frame.filter(column_name="x")
    assert found.select("avg", "stddev", "median").unique().rows() == [(value, 0.0, value)]
    assert found.height == windows


def test_infinite_values_are_counted_and_are_in_no_other_statistic():
    values = np.where(np.arange(5_000) % 2, np.inf, NORMAL[:5_000])
    row, finite = about(profile(pl.LazyFrame({"x": values}))), NORMAL[:5_000:2]
    assert row["num_infinite"] == 2_500
    assert row["median"] == pytest.approx(np.median(finite), abs=0.02)
    assert (row["min"], row["max"]) == (finite.min(), finite.max())
    assert row["stddev"] == pytest.approx(finite.std(ddof=1))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3_000), st.integers(0, 3_000), st.booleans())
def test_unseen_texts_are_counted_exactly_however_many_there_are(new, old, rare):
    base = ["a", "b"] * 2_000 + ([f"rare{number}" for number in range(400)] if rare else [])
    known = profile(pl.LazyFrame({"x": base}))
    texts = ["a"] * 100 + [f"n{number}" for number in range(new)] + [base[number % len(base)] for number in range(old)]
    row = drift(profile(pl.LazyFrame({"x": texts}), None, known.cells), known).filter(column_name="x").row(0, named=True)
    assert row["percent_unseen"] == pytest.approx(100 * new / len(texts))
    assert all(item["item"].startswith("n") for item in row["unseen_items"])


@pytest.mark.parametrize(
    "name", [":table", "__window", "window", "slice0", "block", "group", "v0", "v1_mean", "__row", "count", "window_start"]
)
def test_a_column_may_have_any_name(name):
    rows = pl.DataFrame({"at": pl.datetime_range(pl.datetime(2026, 1, 1), pl.datetime(2026, 1, 9), "1h", eager=True), "k": "a", name: 7})
    known = profile(rows.lazy(), Groups("at", None, ("k",)), blocks=True, every="1d")
    found = profile(rows.lazy(), Groups("at", "1d", ("k",)), known.cells)
    mine = found.frame.filter(pl.col("column_name") == name, pl.col("data_type").is_not_null(), pl.col("slice_key").is_null())
    assert mine["count"].sum() == rows.height
    assert set(drift(found, known)["column_name"]) == {":table", "at", "k", name}


def test_what_is_kept_of_many_windows_is_bounded():
    """However many values there are: a profile of few rows in many windows has few items a row."""
    rows = pl.DataFrame({"at": pl.datetime_range(pl.datetime(2026, 1, 1), pl.datetime(2026, 3, 1), "1m", eager=True)})
    rows = rows.with_columns(x=pl.int_range(pl.len()) * 7_919 % 200, k=(pl.int_range(pl.len()) * 7_919 % 200).cast(pl.String))
    frame = profile(rows.lazy(), Groups("at", "1h")).frame
    assert frame["frequent_items"].list.len().max() <= 100_000 // frame["window_start"].n_unique()


def test_rows_are_read_once_where_the_cells_are_known():
    reads = []
    rows = pl.DataFrame({"at": pl.datetime_range(pl.datetime(2026, 1, 1), pl.datetime(2026, 1, 9), "1h", eager=True), "k": "a"})
    seen = rows.lazy().with_columns(pl.col("k").map_batches(lambda values: reads.append(len(values)) or values, return_dtype=pl.String))
    known = profile(rows.lazy()).cells
    profile(seen, Groups("at", "1d", ("k",)), known)
    assert sum(reads) == rows.height


@pytest.mark.parametrize("batch", [700, 200_000])
@pytest.mark.parametrize("values", [5, 300, 600])
def test_texts_over_batches_and_groups_are_those_of_polars(values, batch):
    random = np.random.default_rng(values)
    numbers = random.integers(0, values, 30_000)
    texts = [None if row % 11 == 0 else f"{'é' * (number % 5)}{number}" for row, number in enumerate(numbers)]
    rows = pl.DataFrame({"x": texts, "k": random.integers(0, 3, 30_000)})
    base = rows.head(2_000).filter(pl.col("x") != "é1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "BATCH", batch)
        known = profile(base.lazy(), Groups(slices=("k",)))
        found = profile(rows.lazy(), Groups(slices=("k",)), known.cells)
    seen = base["x"].drop_nulls().unique()
    drifted = drift(found, known)
    for value in [None, "0", "1", "2"]:
        of = pl.col("column_name") == "x", pl.col("slice_value").eq_missing(value)
        row, change = (frame.filter(*of).row(0, named=True) for frame in (found.frame, drifted))
        part = (rows if value is None else rows.filter(k=int(value)))["x"].drop_nulls()
        lengths = part.str.len_chars()
        assert (row["min_length"], row["max_length"]) == (lengths.min(), lengths.max())
        assert row["avg_length"] == pytest.approx(lengths.mean(), rel=1e-12)
        assert row["distinct_count"] == pytest.approx(part.n_unique(), rel=0 if row["items_complete"] else 0.05)
        assert change["percent_unseen"] == pytest.approx(100 * (~part.is_in(seen.implode())).mean())
        counts = dict(part.value_counts().iter_rows())
        assert all(item["count"] == counts[item["item"]] for item in row["frequent_items"])


def test_a_boolean_that_the_baseline_has_not_is_unseen():
    known = profile(pl.LazyFrame({"x": [False] * 100}))
    found = profile(pl.LazyFrame({"x": [False] * 30 + [True] * 60 + [None] * 10}), None, known.cells)
    row, change = about(found), drift(found, known).filter(column_name="x").row(0, named=True)
    assert row["frequent_items"] == [{"item": "true", "count": 60}, {"item": "false", "count": 30}]
    assert (row["distinct_count"], row["min_length"], row["max_length"]) == (2, 4, 5)
    assert change["percent_unseen"] == pytest.approx(100 * 60 / 90)
    assert change["unseen_items"] == [{"item": "true", "count": 60}]
