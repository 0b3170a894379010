"""Features look back only; what is joined to them to forecast is from before the origin, or from the calendar."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.modelling.forecasting import inputs, statistics
from lakehouse_assets.platform.modelling.forecasting.inputs import MODEL_INPUTS
from lakehouse_assets.platform.modelling.forecasting.series import FEATURE_LOOKBACK
from lakehouse_assets_tests.platform.modelling.forecasting.shop import FIRST, LEVELS, SERIES, sales


def daily_features(rows):
    return statistics.daily_features(rows, SERIES)


def forecast_rows(features):
    return inputs.forecast_rows(features, SERIES)


def training_rows(features, cutoff, horizon=SERIES.horizon, *, outcomes_known_at):
    return inputs.training_rows(features, replace(SERIES, horizon=horizon), cutoff, outcomes_known_at=outcomes_known_at)


DAYS = 420
SALES = sales(DAYS).collect()
FEATURES = daily_features(SALES.lazy()).collect()
NOW = datetime(2012, 1, 1, tzinfo=UTC)  # after all of it


def day(number):
    return FIRST + timedelta(days=number)


def test_one_row_a_group_and_day_without_gaps():
    assert FEATURES.height == len(LEVELS) * DAYS
    assert FEATURES.select(pl.struct("product_group", "day").is_unique().all()).item()
    saturday = FEATURES.filter(pl.col("day") == day(5))
    assert saturday["net"].to_list() == [0.0] * len(LEVELS)
    assert not saturday["is_open"].any()


def test_known_at_is_the_end_of_the_day():
    assert FEATURES.filter(pl.col("day") == FIRST)["known_at"].unique().to_list() == [datetime(2010, 1, 5, tzinfo=UTC)]


def test_a_level_is_revenue_per_open_day():
    row = FEATURES.filter(pl.col("product_group") == "large", pl.col("day") == day(200)).row(0, named=True)
    sold = SALES.filter(pl.col("product_group") == "large", pl.col("day").is_between(day(173), day(200)))
    assert row["level_28"] == pytest.approx(sold["net"].sum() / row["open_days_28"])
    assert row["open_days_28"] == SALES.filter(pl.col("day").is_between(day(173), day(200)))["day"].n_unique()


def test_components_of_a_group_are_added():
    halves = SALES.with_columns(net=pl.col("net") / 2, orders=pl.col("orders"))
    both = daily_features(pl.concat([halves, halves.with_columns(component=pl.lit("add-on"))]).lazy()).collect()
    assert both["net"].to_list() == pytest.approx(FEATURES["net"].to_list(), abs=1e-3)


@settings(max_examples=10, deadline=None)
@given(st.integers(40, DAYS - 1), st.integers(0, 1000), st.floats(-1e5, 1e5))
def test_what_happens_after_a_day_does_not_change_it(last, seed, shock):
    """Law 5: the rows up to a day are the same to the bit, whatever is sold, returned, left out or new after it."""
    after = SALES.filter(pl.col("day") > day(last)).sample(fraction=0.7, seed=seed).with_columns(net=pl.col("net") * 3 + shock)
    added = after.head(1).with_columns(product_group=pl.lit("not known before"))
    changed = daily_features(pl.concat([SALES.filter(pl.col("day") <= day(last)), after, added]).lazy())
    upto = pl.col("day") <= day(last)
    assert changed.filter(upto).collect().equals(FEATURES.filter(upto))

    origins = pl.col("origin").is_between(day(last - 10), day(last))
    before, now = (forecast_rows(frame.lazy()).filter(origins) for frame in (FEATURES, changed.collect()))
    keys = ["product_group", "origin", "horizon"]
    # Targets after the last remaining day are still forecast: rows depend on the origin alone.
    assert now.sort(keys).collect().equals(before.sort(keys).collect())


@pytest.mark.parametrize("first", [367, 390, DAYS - 1])
def test_features_are_made_of_no_revenue_older_than_their_lookback(first):
    """Law 4: what an incremental run computes from a tail of the revenue is what a full refresh computes, to the bit."""
    tail = daily_features(SALES.lazy().filter(pl.col("day") >= day(first) - FEATURE_LOOKBACK)).collect()
    new = pl.col("day") >= day(first)
    assert tail.filter(new).equals(FEATURES.filter(new))


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_the_order_of_the_rows_does_not_matter(seed):
    shuffled = SALES.sample(fraction=1, shuffle=True, seed=seed)
    assert daily_features(shuffled.lazy()).collect().equals(FEATURES)


def test_inputs_are_made_of_no_rows_older_than_the_lookback():
    last = day(DAYS - 1)
    recent = FEATURES.lazy().filter(pl.col("day") > last - SERIES.lookback)
    of_last = pl.col("origin") == last
    keys = ["product_group", "horizon"]
    found, expected = (forecast_rows(frame).filter(of_last).sort(keys).collect() for frame in (recent, FEATURES.lazy()))
    assert expected["week_season"].null_count() == 0
    assert found.equals(expected)


@settings(max_examples=5, deadline=None)
@given(st.integers(60, DAYS - 1), st.integers(1, 28))
def test_no_label_is_from_after_the_cutoff(last, horizons):
    rows = training_rows(FEATURES.lazy(), day(last), horizons, outcomes_known_at=NOW).collect()
    assert rows.height > 0
    assert rows["day"].max() <= day(last)
    assert rows.select(pl.col("horizon").is_between(1, horizons).all() & (pl.col("origin") < pl.col("day")).all()).item()
    cut = training_rows(FEATURES.lazy().filter(pl.col("day") <= day(last)), day(last), horizons, outcomes_known_at=NOW).collect()
    keys = ["product_group", "origin", "horizon"]
    assert rows.sort(keys).equals(cut.sort(keys))


def test_what_came_late_is_learnt_as_an_outcome_and_is_no_input():
    late = FEATURES.with_columns(pl.col("net", "weekday_4") + 1, pl.col("known_at") + timedelta(days=30))
    revised = pl.concat([FEATURES, late]).lazy()
    keys = ["product_group", "origin", "horizon"]
    plain, now = (training_rows(frame, day(200), outcomes_known_at=NOW).sort(keys).collect() for frame in (FEATURES.lazy(), revised))
    assert plain.drop("value", "ratio").equals(now.drop("value", "ratio"))
    assert (now["value"] - plain["value"] - 1).abs().max() < 1e-6

    midnight = datetime(2010, 7, 24, tzinfo=UTC)  # the end of day 200
    then = training_rows(revised, day(200), outcomes_known_at=midnight).sort(keys).collect()
    revised_by_then = pl.col("day") <= day(170)
    assert then.filter(revised_by_then).equals(now.filter(revised_by_then))
    assert then.filter(~revised_by_then).equals(plain.filter(~revised_by_then))


def test_the_same_weekday_before_the_origin_is_the_one_that_is_read():
    level = FEATURES.filter(pl.col("product_group") == "large", pl.col("day") == day(300))["level_28"].item()
    rows = forecast_rows(FEATURES.lazy()).filter(pl.col("product_group") == "large", pl.col("origin") == day(300)).collect()
    for target, horizon, ratio in rows.select("day", "horizon", "same_weekday_ratio").iter_rows():
        then = target - timedelta(days=-(-horizon // 7) * 7)
        assert then.weekday() == target.weekday()
        assert day(300) - timedelta(days=7) < then <= day(300)
        net = FEATURES.filter(pl.col("product_group") == "large", pl.col("day") == then)["net"].item()
        assert ratio == pytest.approx(net / level)


def test_closed_days_are_learnt_from_the_history_and_the_calendar():
    rows = forecast_rows(FEATURES.lazy()).filter(pl.col("product_group") == "large", pl.col("origin") == date(2010, 8, 20)).collect()
    openness = dict(rows.select("day", "expected_open").iter_rows())
    assert openness[date(2010, 8, 27)] == 1
    assert openness[date(2010, 8, 28)] == 0  # a Saturday
    assert openness[date(2010, 8, 30)] < 0.3  # a bank holiday
    references = dict(rows.select("day", "reference").iter_rows())
    assert references[date(2010, 8, 30)] < 0.3 * references[date(2010, 8, 27)]


def test_the_calendar_is_that_of_england_with_days_that_were_proclaimed_and_a_break_around_christmas():
    days = [date(2010, 12, 23), date(2010, 12, 24), date(2011, 1, 3), date(2011, 1, 4), date(2011, 4, 22), date(2011, 4, 29)]
    marked = pl.DataFrame({"day": days}).select(bank=SERIES.is_holiday(pl.col("day")), christmas=SERIES.is_year_end(pl.col("day")))
    assert marked["bank"].to_list() == [False, False, True, False, True, True]
    assert marked["christmas"].to_list() == [False, True, True, False, False, False]


def test_a_day_of_one_year_ago_is_read_once_a_year_has_passed():
    rows = forecast_rows(FEATURES.lazy()).filter(pl.col("product_group") == "large", pl.col("horizon") == 1)
    known = rows.select("origin", "week_season").collect().sort("origin")
    assert known.filter(pl.col("origin") < day(364))["week_season"].null_count() == 364
    assert known.filter(pl.col("origin") > day(380))["week_season"].null_count() == 0


def test_inputs_are_numbers_and_never_infinite():
    rows = forecast_rows(FEATURES.lazy()).select(MODEL_INPUTS).collect()
    assert all(dtype.is_numeric() or dtype == pl.Boolean for dtype in rows.schema.values())
    assert not rows.select(pl.any_horizontal(pl.col(pl.Float64).is_infinite() | pl.col(pl.Float64).is_nan()).any()).item()


def test_references_are_never_negative():
    returned = SALES.with_columns(net=pl.when(pl.col("product_group") == "small").then(-pl.col("net")).otherwise(pl.col("net")))
    rows = forecast_rows(daily_features(returned.lazy())).collect()
    assert rows["reference"].min() >= 0
    assert rows["reference"].null_count() == 0


def test_no_sales_make_no_features():
    assert daily_features(SALES.clear().lazy()).collect().is_empty()
