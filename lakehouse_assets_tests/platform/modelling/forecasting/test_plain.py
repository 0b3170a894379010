"""What a forecast is held against, by its definition: the same weekday of the last weeks before the origin."""

from datetime import timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.modelling.forecasting.inputs import NAIVE, forecast_rows, window_average
from lakehouse_assets.platform.modelling.forecasting.known_days import at_each_origin
from lakehouse_assets.platform.modelling.forecasting.statistics import daily_features
from lakehouse_assets_tests.platform.modelling.forecasting.shop import FIRST, LEVELS, SERIES, sales

DAYS = 120
FEATURES = daily_features(sales(DAYS), SERIES).collect()
ROWS = forecast_rows(at_each_origin(FEATURES, SERIES), SERIES).collect()
VALUES = {(group, day): value for group, day, value in FEATURES.select("product_group", "day", "net").iter_rows()}


def same_weekdays(group, day, origin, weeks):
    """The values of the last weeks up to the origin on the weekday of a day, newest first, as far as the series reaches back."""
    days = [origin - timedelta(days=back) for back in range(7 * weeks) if (origin - timedelta(days=back)).weekday() == day.weekday()]
    return [VALUES[group, day] for day in days if (group, day) in VALUES]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted({*ROWS["origin"]})), st.sampled_from(sorted(LEVELS)))
def test_plain_forecasts_are_means_of_the_same_weekdays_before_the_origin(origin, group):
    rows = ROWS.filter(pl.col("origin") == origin, pl.col("product_group") == group)
    assert rows.height == SERIES.horizon
    for name, weeks in ((NAIVE, 1), (window_average(4), 4), (window_average(8), 8)):
        for day, value in rows.select("day", name).iter_rows():
            same = same_weekdays(group, day, origin, weeks)
            assert abs(value - sum(same) / max(len(same), 1)) < 1e-6


def test_the_naive_forecast_repeats_the_last_week():
    origin = FIRST + timedelta(days=100)
    rows = ROWS.filter(pl.col("origin") == origin, pl.col("product_group") == "large").sort("horizon")
    last_week = [VALUES["large", origin - timedelta(days=back)] for back in reversed(range(7))]
    assert rows[NAIVE].to_list() == last_week * 4
