"""A made-up shop for the tests of the forecast: closed on Saturdays and bank holidays, with a week, a season and groups of all sizes."""

from collections.abc import Mapping
from datetime import date, timedelta

import numpy as np
import polars as pl

from lakehouse_assets.platform.modelling.calendar import public_holidays
from lakehouse_assets.platform.modelling.forecasting.series import Series

FIRST = date(2010, 1, 4)
SERIES = Series("day", "net", ("product_group",), count="orders", calendar="GB-ENG")
LEVELS = {"large": 5000.0, "middle": 800.0, "small": 60.0}


def sales(days: int, seed: int = 1, levels: Mapping[str, float] = LEVELS) -> pl.LazyFrame:
    """Rows as the gold table has them: only days and groups with a sale."""
    rng = np.random.default_rng(seed)
    bank_holidays = set(public_holidays("GB", "ENG"))
    rows: list[tuple[date, str, str, float, int]] = []
    for day in (FIRST + timedelta(days=number) for number in range(days)):
        if day.weekday() == 5 or day in bank_holidays:
            continue
        season = 1 + 0.3 * np.sin(2 * np.pi * day.timetuple().tm_yday / 365)
        week = 0.6 if day.weekday() == 6 else 1.0
        for group, level in levels.items():
            orders = int(rng.poisson(min(level / 30, 40)))
            if orders:
                rows.append((day, group, "base", level * week * season * orders / min(level / 30, 40) * rng.gamma(8, 1 / 8), orders))
    return pl.LazyFrame(
        rows,
        schema={"day": pl.Date, "product_group": pl.String, "component": pl.String, "net": pl.Float64, "orders": pl.Int64},
        orient="row",
    )
