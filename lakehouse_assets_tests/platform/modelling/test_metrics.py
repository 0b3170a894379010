"""Scores against their definition, and the uncertainty of a difference."""

import numpy as np
import polars as pl
import pytest

from lakehouse_assets.platform.modelling.metrics import coverage, pinball, wape

ROWS = pl.DataFrame(
    {
        "g": ["a", "a", "b", "b"],
        "y": [10.0, 0.0, -5.0, 5.0],
        "f": [8.0, 1.0, -5.0, 10.0],
        "lo": [9.0, 0.0, -9.0, 6.0],
        "hi": [10.0, 1.0, -6.0, 9.0],
    }
)


def test_wape_is_pooled_over_rows():
    assert ROWS.select(wape("y", "f")).item() == pytest.approx(8 / 20)


def test_scores_group_as_expressions_do():
    by_group = ROWS.group_by("g").agg(wape("y", "f"), coverage("y", "lo", "hi")).sort("g")
    assert by_group["f"].to_list() == pytest.approx([0.3, 0.5])
    assert by_group["coverage"].to_list() == [1.0, 0.0]


def test_pinball_loss_is_least_for_the_true_quantile():
    outcomes = np.random.default_rng(1).normal(size=20_000)
    losses = {
        level: pl.DataFrame({"y": outcomes}).with_columns(q=pl.lit(np.quantile(outcomes, level))).select(pinball("y", "q", 0.9)).item()
        for level in (0.5, 0.8, 0.9, 0.97)
    }
    assert min(losses, key=losses.get) == 0.9
    assert ROWS.select(pinball("y", "f", 0.9)).item() == pytest.approx((0.9 * 2 + 0.1 * 1 + 0 + 0.1 * 5) / 4)
