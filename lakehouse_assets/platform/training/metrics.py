"""How good a forecast is: expressions for `select` and `group_by(...).agg(...)`, and how sure a difference between two forecasts is.

Group by whatever a score is wanted for: origin, horizon, product group. What score is good enough is for a gate to decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl


def wape(actual: str, forecast: str) -> pl.Expr:
    """Weighted absolute percentage error: the sum of absolute errors over the sum of absolute outcomes (0.1 is 10 %)."""
    return ((pl.col(actual) - pl.col(forecast)).abs().sum() / pl.col(actual).abs().sum()).alias(forecast)


def pinball(actual: str, forecast: str, quantile: float) -> pl.Expr:
    """Mean pinball loss of a forecast quantile, in the unit of the outcome; least for the true quantile."""
    error = pl.col(actual) - pl.col(forecast)
    return pl.max_horizontal(quantile * error, (quantile - 1) * error).mean().alias(forecast)


def coverage(actual: str, lower: str, upper: str) -> pl.Expr:
    """Share of outcomes in the band, its edges included."""
    return pl.col(actual).is_between(lower, upper).mean().alias("coverage")


@dataclass(frozen=True)
class Difference:
    """By how much the WAPE of one forecast is below that of another (positive: better), with the bounds of its 90 % interval."""

    estimate: float
    low: float
    high: float


def wape_gain(
    rows: pl.DataFrame, actual: str, forecast: str, other: str, *, blocks: Sequence[str], samples: int = 2000, seed: int = 0
) -> Difference:
    """The gain in WAPE of `forecast` over `other` on the same rows, with the uncertainty that comes from which rows these are.

    A paired bootstrap of blocks: errors of one day or one origin go together, so rows are drawn by whole blocks.

    Args:
        rows: Outcomes and both forecasts.
        actual: Column of the outcome.
        forecast: Column of the forecast that should be better.
        other: Column of the forecast it is held against.
        blocks: Columns whose values together name a block, such as origin and week.
        samples: Bootstrap samples.
        seed: Of the drawing.

    Raises:
        ValueError: There are fewer than two blocks.
    """
    total = pl.col(actual).abs().sum()
    sums = (
        rows.group_by(blocks)
        .agg(*((pl.col(actual) - pl.col(name)).abs().sum().alias(f"error_{name}") for name in (forecast, other)), total.alias("total"))
        .sort(blocks)
    )
    if sums.height < 2:
        raise ValueError(f"{sums.height} block by {', '.join(blocks)}: the uncertainty of a difference needs two at least")
    gains = (sums[f"error_{other}"] - sums[f"error_{forecast}"]).to_numpy()
    totals = sums["total"].to_numpy()
    draws = np.random.default_rng(seed).multinomial(sums.height, np.full(sums.height, 1 / sums.height), size=samples)
    drawn = (draws @ gains) / (draws @ totals)
    low, high = np.quantile(drawn, [0.05, 0.95])
    return Difference(float(gains.sum() / totals.sum()), float(low), float(high))
