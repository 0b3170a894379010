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


@pytest.mark.parametrize("amount", [1e15, 1e18, 1e25, 1e30, -1e30])
def test_sums_of_amounts_beyond_64_bits_are_right_and_leave_nothing_behind(amount):
    rows = pl.DataFrame({"value": [amount] * 10 + [0.25] * 10})
    total = rows.select(rolling_sum(pl.col("value"), 5)).to_series()
    assert total[9] == pytest.approx(5 * amount)
    assert total[-1] == 1.25
    assert rows.select(rolling_std(pl.col("value"), 5, min_samples=2)).to_series()[-1] == 0


@pytest.mark.parametrize("amount", [1e34, 1e40, -1e300, float("inf"), float("nan")])
def test_amounts_beyond_128_bits_leave_their_windows_without_a_number(amount):
    rows = pl.DataFrame({"value": [1.0] * 5 + [amount] * 3 + [0.25] * 10})
    found = rows.select(total=rolling_sum(pl.col("value"), 5), spread=rolling_std(pl.col("value"), 5, min_samples=2))
    assert found["total"].to_list() == [1, 2, 3, 4, 5, *[None] * 7, *[1.25] * 6]
    assert found["spread"][5:12].null_count() == 7
    assert found["spread"][-1] == 0


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
