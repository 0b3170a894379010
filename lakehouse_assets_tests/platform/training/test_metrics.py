"""Scores against their definition, and the uncertainty of a difference."""

import numpy as np
import polars as pl
import pytest

from lakehouse_assets.platform.training.metrics import coverage, pinball, wape, wape_gain

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


def errors(blocks, better, seed=1):
    """Two forecasts whose errors go together within a block; the model has a smaller share of what they have in common."""
    rng = np.random.default_rng(seed)
    actual = rng.uniform(50, 150, (blocks, 20))
    shared = rng.normal(0, 20, (blocks, 1))
    return pl.DataFrame(
        {
            "block": np.repeat(np.arange(blocks), 20),
            "y": actual.ravel(),
            "model": (actual + (1 - better) * shared + rng.normal(0, 5, actual.shape)).ravel(),
            "naive": (actual + shared + rng.normal(0, 5, actual.shape)).ravel(),
        }
    )


def test_a_clear_gain_is_sure():
    gain = wape_gain(errors(30, 0.6), "y", "model", "naive", blocks=["block"])
    assert 0 < gain.low < gain.estimate < gain.high


def test_no_gain_is_told_apart_from_none_about_one_time_in_ten():
    gains = [wape_gain(errors(40, 0.0, seed), "y", "model", "naive", blocks=["block"], samples=400) for seed in range(100)]
    assert 2 <= sum(not gain.low < 0 < gain.high for gain in gains) <= 22


def test_the_gain_is_the_difference_of_the_scores_whatever_the_order_of_rows():
    rows = errors(10, 0.3)
    gain = wape_gain(rows, "y", "model", "naive", blocks=["block"])
    scores = rows.select(wape("y", "model"), wape("y", "naive"))
    assert gain.estimate == pytest.approx(scores["naive"].item() - scores["model"].item())
    shuffled = wape_gain(rows.sample(fraction=1, shuffle=True, seed=1), "y", "model", "naive", blocks=["block"])
    assert (shuffled.low, shuffled.high) == pytest.approx((gain.low, gain.high))


def test_fewer_blocks_are_less_sure():
    wide, narrow = (wape_gain(errors(blocks, 0.3), "y", "model", "naive", blocks=["block"]) for blocks in (5, 80))
    assert wide.high - wide.low > narrow.high - narrow.low


def test_one_block_has_no_uncertainty_to_tell():
    with pytest.raises(ValueError, match="two at least"):
        wape_gain(errors(1, 0.3), "y", "model", "naive", blocks=["block"])
