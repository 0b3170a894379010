"""Rolling origins, and naive forecasts against their definition."""

from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.modelling.baselines import seasonal_naive, seasonal_window_average
from lakehouse_assets.platform.modelling.splits import anchored_origins

FIRST = date(2011, 1, 1)


def series(days, groups=2):
    values = np.random.default_rng(days).integers(0, 1000, (groups, days))
    return pl.LazyFrame(
        [(f"g{group}", FIRST + timedelta(days=day), float(values[group, day])) for group in range(groups) for day in range(days)],
        schema={"group": pl.String, "day": pl.Date, "net": pl.Float64},
        orient="row",
    )


@settings(deadline=None)
@given(st.dates(date(2001, 1, 1), date(2040, 1, 1)), st.integers(1, 40), st.integers(1, 28))
def test_origins_leave_room_for_their_outcomes_and_are_the_same_tomorrow(last, step, horizons):
    origins = anchored_origins(last, count=3, step=step, horizons=horizons)
    assert last - timedelta(days=horizons + step) < origins[-1] <= last - timedelta(days=horizons)
    assert [later - earlier for earlier, later in pairwise(origins)] == [timedelta(days=step)] * 2
    tomorrow = anchored_origins(last + timedelta(days=1), count=3, step=step, horizons=horizons)
    assert len(set(origins) & set(tomorrow)) >= 2


@settings(deadline=None)
@given(st.integers(28, 60), st.integers(1, 28), st.integers(1, 4))
def test_a_window_average_is_the_mean_of_the_same_weekdays_before_the_origin(days, horizons, weeks):
    history = series(days)
    origin = FIRST + timedelta(days=days - 1)
    found = seasonal_window_average(history, "net", [origin], by=["group"], horizons=horizons, weeks=weeks).collect()
    assert found.height == 2 * horizons
    known = history.collect()
    for group, _, horizon, day, value in found.iter_rows():
        assert day == origin + timedelta(days=horizon)
        same = known.filter(pl.col("group") == group, pl.col("day").dt.weekday() == day.isoweekday()).sort("day")["net"].tail(weeks)
        assert abs(value - same.mean()) < 1e-9


def test_the_naive_forecast_repeats_the_last_week():
    origin = FIRST + timedelta(days=34)
    found = seasonal_naive(series(35, groups=1), "net", [origin], by=["group"], horizons=14).sort("day").collect()
    last_week = series(35, groups=1).collect()["net"].tail(7).to_list()
    assert found["net"].to_list() == last_week * 2


def test_several_origins_each_see_their_own_past_only():
    history, origins = series(60), [FIRST + timedelta(days=day) for day in (30, 44)]
    together = seasonal_window_average(history, "net", origins, by=["group"], horizons=28)
    for origin in origins:
        alone = seasonal_window_average(history.filter(pl.col("day") <= origin), "net", [origin], by=["group"], horizons=28)
        both = [frame.collect().sort("group", "day") for frame in (together.filter(pl.col("origin") == origin), alone)]
        assert both[0].equals(both[1])


def test_a_history_that_is_too_short_forecasts_nothing():
    origin = FIRST + timedelta(days=19)
    assert seasonal_window_average(series(20), "net", [origin], by=["group"], horizons=7).collect()["net"].null_count() == 14


def test_a_mean_over_weeks_is_the_same_to_the_bit_in_whatever_order_the_series_stands():
    history = series(60).with_columns(pl.col("net") / 3).collect()
    origins = [FIRST + timedelta(days=day) for day in (30, 44)]
    found = [
        seasonal_window_average(rows.lazy(), "net", origins, by=["group"], horizons=28).sort("group", "origin", "day").collect()
        for rows in (history, history.sample(fraction=1, shuffle=True, seed=2))
    ]
    assert found[0].equals(found[1])
