"""Splits by time: the origins from which a backtest forecasts.

A split never mixes past and future. Which rows an origin may see is for the product's training set to decide.
"""

from datetime import date, timedelta

# Any fixed day will do; this one is a Monday.
_ANCHOR = date(2000, 1, 3)


def anchored_origins(last_day: date, *, count: int, step: int, horizons: int) -> list[date]:
    """The latest origins whose forecasts can be compared with outcomes in full, in order.

    They lie a multiple of `step` days after a fixed day, so that trainings of different days are tested on the same origins and can be
    compared.

    Args:
        last_day: Last day with an outcome.
        count: Number of origins.
        step: Days between them.
        horizons: Days that are forecast from each.
    """
    latest = last_day - timedelta(days=horizons)
    latest -= timedelta(days=(latest - _ANCHOR).days % step)
    return [latest - timedelta(days=step * back) for back in reversed(range(count))]
