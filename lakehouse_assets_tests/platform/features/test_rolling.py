"""Rolling statistics: right, and equal to the bit wherever a series begins."""

import statistics

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.features.rolling import rolling_std, rolling_sum

VALUES = pl.Series("value", np.random.default_rng(1).normal(0, 1e6, 400).round(4)).scatter([7, 8, 9, 50], None)
# In the middle the squares of a window do not fit into 64 bits.
LARGE = VALUES * pl.Series([1.0] * 100 + [1e6] * 100 + [1.0] * 200)
STATISTICS = {"sum": rolling_sum(pl.col("value"), 28), "std": rolling_std(pl.col("value"), 28, min_samples=5)}


def test_they_are_what_their_names_say():
    found = pl.DataFrame(VALUES).select(**STATISTICS)
    expected = pl.DataFrame(VALUES).select(
        sum=pl.col("value").fill_null(0).rolling_sum(28, min_samples=1), std=pl.col("value").rolling_std(28, min_samples=5)
    )
    assert found["sum"].to_list() == pytest.approx(expected["sum"].to_list(), abs=1e-3)
    assert found["std"][:4].null_count() == 4
    assert found["std"][4:].to_list() == pytest.approx(expected["std"][4:].to_list(), rel=1e-6)


@pytest.mark.parametrize("amount", [6e3, 6e7, 6e11, 6e15])
def test_large_amounts_are_right(amount):
    rows = pl.DataFrame({"value": [amount, amount * 2 / 3] * 30})
    window = [amount, amount * 2 / 3] * 14
    found = rows.select(total=rolling_sum(pl.col("value") / 100, 366), spread=rolling_std(pl.col("value"), 28, min_samples=5))
    assert found["total"][-1] == pytest.approx(sum(rows["value"]) / 100, rel=1e-12)
    assert found["spread"][-1] == pytest.approx(statistics.stdev(window), rel=1e-6)


def test_amounts_that_are_too_large_are_never_a_wrong_number():
    rows = pl.DataFrame({"value": [9e16, 1.0] * 20 + [1.0, 2.0] * 20})
    spread = rows.select(rolling_std(pl.col("value"), 28, min_samples=5)).to_series()
    assert spread[:66].null_count() == 66, "as long as one of them is in the window"
    assert spread[-1] == pytest.approx(0.509, abs=1e-3)
    for statistic in (rolling_sum(pl.col("value"), 2), rolling_std(pl.col("value"), 2, min_samples=2)):
        with pytest.raises(pl.exceptions.InvalidOperationError, match="conversion from `f64` to `i64` failed"):
            pl.DataFrame({"value": [1e18]}).select(statistic)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 370))
def test_a_row_is_the_same_wherever_the_series_begins(first):
    """Law 4: what a float sum carries from before its window would make an incremental run differ from a full refresh."""
    whole = pl.DataFrame(LARGE).select(**STATISTICS)
    later = pl.DataFrame(LARGE[first:]).select(**STATISTICS)
    assert later[27:].equals(whole[first + 27 :])


def test_a_window_without_values_is_null_and_booleans_are_counted():
    rows = pl.DataFrame({"value": [None, None, 1.5], "flag": [True, False, True]})
    found = rows.select(rolling_sum(pl.col("value"), 2), rolling_sum(pl.col("flag"), 2))
    assert found["value"].to_list() == [None, None, 1.5]
    assert found["flag"].to_list() == [1.0, 1.0, 1.0]
