"""Scores of numbers and bands against their definition."""

import numpy as np
import polars as pl
import pytest

from lakehouse_assets.platform.modelling.metrics import Coverage, Pinball, Wape

ROWS = pl.DataFrame(
    {
        "actual": [10.0, 0.0, -5.0, 5.0],
        "p90": [8.0, 1.0, -5.0, 10.0],
        "p5": [9.0, 0.0, -9.0, 6.0],
        "p95": [10.0, 1.0, -6.0, 9.0],
    }
)


def test_wape_is_pooled_over_rows():
    assert Wape("p90").score(ROWS) == pytest.approx(8 / 20)
    assert [Wape("p90").score(ROWS[rows]) for rows in ([0, 1], [2, 3])] == pytest.approx([0.3, 0.5])


def test_coverage_counts_the_edges_of_the_band():
    assert [Coverage("p5", "p95").score(ROWS[rows]) for rows in ([0, 1], [2, 3])] == [1.0, 0.0]


def test_pinball_loss_is_least_for_the_true_quantile():
    outcomes = np.random.default_rng(1).normal(size=20_000)
    rows = pl.DataFrame({"actual": outcomes})
    losses = {level: Pinball((0.9,)).score(rows.with_columns(p90=pl.lit(np.quantile(outcomes, level)))) for level in (0.5, 0.8, 0.9, 0.97)}
    assert min(losses, key=losses.get) == 0.9
    assert Pinball((0.9,)).score(ROWS) == pytest.approx((0.9 * 2 + 0.1 * 1 + 0 + 0.1 * 5) / 4)
