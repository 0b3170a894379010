"""Rolling statistics: right, and equal to the bit wherever a series begins."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.features.rolling import rolling_std, rolling_sum

VALUES = pl.Series("value", np.random.default_rng(1).normal(0, 1e6, 400).round(4)).scatter([7, 8, 9, 50], None)
STATISTICS = {"sum": rolling_sum(pl.col("value"), 28), "std": rolling_std(pl.col("value"), 28, min_samples=5)}


def test_they_are_what_their_names_say():
    found = pl.DataFrame(VALUES).select(**STATISTICS)
    expected = pl.DataFrame(VALUES).select(
        sum=pl.col("value").fill_null(0).rolling_sum(28, min_samples=1), std=pl.col("value").rolling_std(28, min_samples=5)
    )
    assert found["sum"].to_list() == pytest.approx(expected["sum"].to_list(), abs=1e-3)
    assert found["std"][:4].null_count() == 4
    assert found["std"][4:].to_list() == pytest.approx(expected["std"][4:].to_list(), rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 370))
def test_a_row_is_the_same_wherever_the_series_begins(first):
    """Law 4: what a float sum carries from before its window would make an incremental run differ from a full refresh."""
    whole = pl.DataFrame(VALUES).select(**STATISTICS)
    later = pl.DataFrame(VALUES[first:]).select(**STATISTICS)
    assert later[27:].equals(whole[first + 27 :])


def test_a_window_without_values_is_null_and_booleans_are_counted():
    rows = pl.DataFrame({"value": [None, None, 1.5], "flag": [True, False, True]})
    found = rows.select(rolling_sum(pl.col("value"), 2), rolling_sum(pl.col("flag"), 2))
    assert found["value"].to_list() == [None, None, 1.5]
    assert found["flag"].to_list() == [1.0, 1.0, 1.0]
