"""How good a forecast is: expressions for `select` and `group_by(...).agg(...)`.

Group by whatever a score is wanted for: origin, horizon, product group. What score is good enough is for a gate to decide.
"""

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
