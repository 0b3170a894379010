"""Drift metrics are scipy's on the raw rows: exactly where cells have one value, else within what lies in a cell."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from lakehouse_assets.platform.monitoring.drift.drift_metrics import BASELINE, CONSECUTIVE, DRIFT_SCHEMA, drift
from lakehouse_assets.platform.monitoring.profiling.cells import Numbers
from lakehouse_assets.platform.monitoring.profiling.groups import Groups
from lakehouse_assets.platform.monitoring.profiling.profile import TABLE, profile
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

START = datetime(2026, 1, 5, tzinfo=UTC)
FEW = st.lists(st.integers(-5, 5), min_size=2, max_size=80)
TEXTS = st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=80)


def compared(base: pl.DataFrame, new: pl.DataFrame, column: str = "x", **how: bool) -> dict:
    known = profile(base.lazy())
    found = drift(profile(new.lazy(), None, known.cells), known, **how)
    return found.row(by_predicate=pl.col("column_name") == column, named=True)


@settings(max_examples=60, deadline=None)
@given(FEW, FEW)
def test_numbers_with_few_values_are_compared_as_scipy_does(base, new):
    row = compared(pl.DataFrame({"x": base}), pl.DataFrame({"x": new}), p_values=True)
    assert row["ks_test"]["statistic"] == pytest.approx(stats.ks_2samp(base, new, method="asymp").statistic, abs=1e-12)
    # A value that the baseline lacks lies anywhere between its neighbours.
    unknown = sum(value not in base for value in new)
    resolution = unknown / len(new) * (max(*base, *new) - min(*base, *new))
    assert row["wasserstein_distance"] == pytest.approx(stats.wasserstein_distance(base, new), abs=resolution + 1e-9)
    assert row["avg_delta"] == pytest.approx(np.mean(new) - np.mean(base), abs=1e-9)
    assert row["count_delta"] == len(new) - len(base)


def test_the_average_of_the_other_side_is_told_beside_a_far_larger_one():
    row = compared(pl.DataFrame({"x": [499.0, 501.0] * 30}), pl.DataFrame({"x": [1e30] * 60}))
    assert row["avg_cmp"] == 500
    assert 1e30 - row["avg_delta"] != 500, "their difference does not tell it"


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS)
def test_texts_are_compared_as_scipy_does(base, new):
    row = compared(pl.DataFrame({"x": base}), pl.DataFrame({"x": new}), p_values=True)
    unseen = [value for value in new if value not in base]
    # Values that the baseline does not have may share a cell.
    cells = profile(pl.LazyFrame({"x": base})).cells["x"]
    counts = np.array([np.bincount(cells.codes(pl.Series(side)), minlength=cells.size) for side in (base, new)])
    assert sorted(counts[0][counts[0] > 0]) == sorted(base.count(value) for value in set(base))
    counts = counts[:, counts.any(axis=0)]
    p, q = counts / counts.sum(axis=1, keepdims=True)
    assert row["js_distance"] == pytest.approx(jensenshannon(p, q), abs=1e-7)
    assert row["tv_distance"] == pytest.approx(np.abs(p - q).sum() / 2, abs=1e-12)
    assert row["l_infinity_distance"] == pytest.approx(np.abs(p - q).max(), abs=1e-12)
    if counts.shape[1] > 1:
        expected = stats.chi2_contingency(counts, correction=False)
        assert row["chi_squared_test"]["statistic"] == pytest.approx(expected.statistic, abs=1e-9)
        assert row["chi_squared_test"]["pvalue"] == pytest.approx(expected.pvalue, abs=1e-9)
    assert {item["item"]: item["count"] for item in row["unseen_items"]} == {value: unseen.count(value) for value in unseen}
    assert row["percent_unseen"] == pytest.approx(100 * len(unseen) / len(new))


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5, 3.0])
@pytest.mark.parametrize("shape", ["normal", "lognormal", "zeros", "integers"])
def test_many_numbers_are_compared_as_scipy_does_within_a_cell(shape, shift):
    random = np.random.default_rng(7)

    def draw(rows: int, by: float) -> np.ndarray:
        match shape:
            case "normal":
                return random.normal(by, size=rows)
            case "lognormal":
                return random.lognormal(by, size=rows)
            case "zeros":
                return np.where(random.random(rows) < 0.5 - by / 10, 0.0, random.exponential(size=rows))
            case _:
                return random.poisson(1_000 + 30 * by, rows)

    base, new = draw(20_000, 0), draw(5_000, shift)
    row = compared(pl.DataFrame({"x": base}), pl.DataFrame({"x": new}), p_values=True)
    cells = profile(pl.LazyFrame({"x": base})).cells["x"]
    assert isinstance(cells, Numbers)
    shares = [np.bincount(cells.codes(pl.Series(side)), minlength=cells.size) / len(side) for side in (base, new)]
    lower, upper = (np.clip(bound, min(base.min(), new.min()), max(base.max(), new.max())) for bound in cells.bounds)
    expected = stats.ks_2samp(base, new, method="asymp")
    inside = np.where(lower < upper, np.minimum(*shares), 0).max()
    assert expected.statistic - inside - 1e-12 <= row["ks_test"]["statistic"] <= expected.statistic + 1e-12
    if row["ks_test"]["statistic"] == expected.statistic:
        assert row["ks_test"]["pvalue"] == pytest.approx(expected.pvalue, abs=0.02)
    resolution = ((upper - lower) * np.maximum(*shares)).sum()
    assert row["wasserstein_distance"] == pytest.approx(stats.wasserstein_distance(base, new), abs=resolution)


def test_p_values_are_those_of_scipy_and_only_on_demand():
    random = np.random.default_rng(8)
    base, new = random.poisson(5, 3_000), random.poisson(5, 2_000)
    rows = pl.DataFrame({"x": base}), pl.DataFrame({"x": new})
    expected = stats.ks_2samp(base, new, method="asymp")
    assert compared(*rows, p_values=True)["ks_test"]["pvalue"] == pytest.approx(expected.pvalue, abs=0.02)
    assert compared(*rows)["ks_test"]["pvalue"] is None


def test_the_stability_index_is_over_tenths_of_the_baseline():
    random = np.random.default_rng(9)
    base, new = random.normal(size=50_000), random.normal(0.5, size=50_000)
    edges = np.quantile(base, np.linspace(0, 1, 11)[1:-1])
    p, q = (np.bincount(np.searchsorted(edges, side), minlength=10) / len(side) for side in (base, new))
    expected = ((q - p) * np.log(q / p)).sum()
    found = compared(pl.DataFrame({"x": base}), pl.DataFrame({"x": new}))["population_stability_index"]
    assert found == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("values", [np.arange(50) % 7, np.linspace(0, 1, 5_000), ["a", "b", "b"], [True, False, True]])
def test_what_is_compared_with_itself_has_no_distance(values):
    rows = pl.DataFrame({"x": values})
    row = compared(rows, rows)
    for name in ("wasserstein_distance", "population_stability_index", "js_distance", "tv_distance", "l_infinity_distance", "avg_delta"):
        assert row[name] in {None, 0.0}, name
    assert not row["drifted"]


VALUES = st.lists(st.integers(0, 100_000).map(lambda number: number / 1_000), min_size=5, max_size=60)
"""Far enough apart that a factor makes no two of them equal."""


@settings(max_examples=30, deadline=None)
@given(VALUES, VALUES, st.floats(0.5, 20))
def test_a_larger_unit_changes_the_distance_by_as_much_and_no_share(base, new, factor):
    def row(by: float) -> dict:
        return compared(pl.DataFrame({"x": np.array(base) * by}), pl.DataFrame({"x": np.array(new) * by}))

    plain, scaled = row(1), row(factor)
    assert scaled["ks_test"]["statistic"] == pytest.approx(plain["ks_test"]["statistic"], abs=1e-9)
    assert scaled["wasserstein_distance"] == pytest.approx(plain["wasserstein_distance"] * factor, rel=0.02, abs=1e-6)


@pytest.mark.parametrize(
    "new",
    [
        pl.DataFrame({"x": []}, schema={"x": pl.Float64}),
        pl.DataFrame({"x": [None, None]}, schema={"x": pl.Float64}),
        pl.DataFrame({"x": [float("nan")] * 3}),
        pl.DataFrame({"x": [float("inf"), float("-inf"), 1.0]}),
    ],
    ids=["empty", "null", "nan", "infinite"],
)
@pytest.mark.parametrize("turned", [False, True])
def test_windows_with_hardly_a_value_are_compared(new, turned):
    base = pl.DataFrame({"x": [1.0, 2.0, 3.0]})
    row = compared(*((new, base) if turned else (base, new)))
    json_like = [row[name] for name in ("wasserstein_distance", "population_stability_index")]
    assert all(value is None or np.isfinite(value) for value in json_like)


def test_changes_of_the_schema_are_drift():
    base = pl.DataFrame({"kept": [1], "gone": ["a"], "wider": [1]}, schema={"kept": pl.Int64, "gone": pl.String, "wider": pl.Int32})
    new = pl.DataFrame({"kept": [1], "came": [1.5], "wider": ["1"]})
    known = profile(base.lazy())
    found = drift(profile(new.lazy(), None, known.cells), known)
    changes = {row["column_name"]: row["schema_change"] for row in found.to_dicts() if row["drifted"]}
    assert changes == {TABLE: None, "gone": "missing", "came": "added", "wider": "Int32 became String"}
    table = found.row(by_predicate=pl.col("column_name") == TABLE, named=True)
    assert table["non_null_columns_delta"] == {"added": 1, "missing": 1}


def days(counts: dict[int, int]) -> pl.DataFrame:
    """So many rows on each day."""
    at = [START + timedelta(days=day, minutes=minute) for day, rows in counts.items() for minute in range(rows)]
    return pl.DataFrame({"at": at, "x": range(len(at)), "kind": ["a", "b"] * (len(at) // 2) + ["a"] * (len(at) % 2)})


def test_a_window_is_compared_with_the_last_one_that_has_rows():
    found = drift(profile(days({0: 10, 1: 20, 3: 5, 4: 6}).lazy(), Groups("at", "1d")))
    tables = found.filter(pl.col("column_name") == TABLE)
    assert set(found["drift_type"]) == {CONSECUTIVE}
    pairs = tables.select("window_start", "window_cmp_start", "window_cmp_end", "count_delta").rows()
    assert pairs == [
        (START + timedelta(days=day), START + timedelta(days=before), START + timedelta(days=before + 1), by)
        for day, before, by in ((1, 0, 10), (3, 1, -15), (4, 3, 1))
    ]


def test_slices_are_compared_with_the_same_slice_of_the_baseline():
    rows = days({0: 40})
    base = profile(rows.lazy(), Groups("at", None, ("kind",)), blocks=True)
    found = drift(profile(rows.filter(pl.col("kind") == "a").lazy(), Groups("at", "1d", ("kind",)), base.cells), base)
    assert set(found["drift_type"]) == {BASELINE}
    assert found["drifted"].to_list() == [None] * found.height
    tables = found.filter(pl.col("column_name") == TABLE).select("slice_value", "count_delta").rows()
    assert tables == [(None, -20), ("a", 0)]


def test_drift_is_written_to_a_delta_table_as_it_is(tmp_path):
    base = profile(days({0: 40}).lazy(), Groups("at", None, ("kind",)), blocks=True)
    found = drift(profile(days({0: 40, 1: 30}).lazy(), Groups("at", "1d", ("kind",)), base.cells), base, p_values=True)
    table = Lakehouse(str(tmp_path)).table("platform.monitoring.drift")
    table.create(DRIFT_SCHEMA)
    table.append(found)
    assert table.scan().collect().equals(found)
