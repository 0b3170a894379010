"""Features look back only; what is joined to them to forecast is from before the origin, or from the calendar.

The suite tries a sample; `python -m benchmarks.sweeps` tries everything.
"""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import product

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.modelling.forecasting import inputs, statistics
from lakehouse_assets.platform.modelling.forecasting.examples import SeriesExamples
from lakehouse_assets.platform.modelling.forecasting.inputs import INPUTS, MODEL_INPUTS
from lakehouse_assets.platform.modelling.forecasting.known_days import as_known_now, at_each_origin
from lakehouse_assets.platform.modelling.forecasting.series import FEATURE_LOOKBACK, Series
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.modelling.forecasting.shop import FIRST, LEVELS, SERIES, sales


def daily_features(rows):
    return statistics.daily_features(rows, SERIES)


def forecast_rows(features):
    return inputs.forecast_rows(at_each_origin(features.collect(), SERIES), SERIES)


def examples(features, horizon=SERIES.horizon, known_until=None):
    """The examples with the day that each is about, in order."""
    found = SeriesExamples(replace(SERIES, horizon=horizon), "features")
    ahead = pl.col("origin") + pl.duration(days=pl.col("horizon"))
    return found.rows({"features": features}.get, known_until).with_columns(day=ahead).sort(KEY).collect()


def end_of(last):
    """The midnight (UTC) that ends a day."""
    return datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)


DAYS = 420
KEY = ["product_group", "origin", "horizon"]
SALES = sales(DAYS).collect()
FEATURES = daily_features(SALES.lazy()).collect()


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


@sweeps.examples(4, 60)
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


@sweeps.examples(3, 30)
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


@sweeps.examples(3, 30)
@given(st.integers(60, DAYS - 1), st.integers(1, 28))
def test_no_outcome_is_from_after_the_time_until_which_they_are_known(last, horizons):
    rows = examples(FEATURES.lazy(), horizons, end_of(day(last)))
    assert rows["day"].max() == day(last)
    assert rows.select((pl.col("label_known_at") <= end_of(day(last))).all()).item()
    assert rows.select(pl.col("horizon").is_between(1, horizons).all() & (pl.col("origin") < pl.col("day")).all()).item()
    assert rows.equals(examples(FEATURES.lazy().filter(pl.col("day") <= day(last)), horizons))


def test_an_example_has_its_key_its_inputs_its_outcome_and_when_that_was_known():
    found = SeriesExamples(SERIES, "features")
    rows = found.rows({"features": FEATURES.lazy()}.get)
    names = [*found.key, *found.inputs, *found.slices, found.at, found.target, "label_known_at"]
    assert set(rows.collect_schema().names()) == set(names)
    assert found.sources() == ("features",)


REVISED_IN = (200, 215)
MANY = pl.col("net", "^(total_)?(capped_)?level_.*$", "^(total_)?(capped_)?weekday_[0-9]+$", "^median_.*$", "^window_.*$")


def revised(delay):
    """The features, and of some days other values that became known so long after their first ones."""
    of_these = FEATURES.filter(pl.col("day").is_between(*map(day, REVISED_IN)))
    return pl.concat([FEATURES, of_these.with_columns(MANY * 3 + 10, pl.col("known_at") + delay)])


DELAYS, ORIGINS = (timedelta(microseconds=1), timedelta(days=3), timedelta(days=30)), (199, 203, 215, 218, 240)


@pytest.mark.parametrize(
    ("delay", "origin"),
    sweeps.of([(DELAYS[place % 3], origin) for place, origin in enumerate(ORIGINS)], [*product(DELAYS, ORIGINS)]),
)
def test_an_origin_sees_each_day_as_it_was_known_at_its_own_end(delay, origin):
    """Law 5, against what would have been computed at that time from what the table had then."""
    known = revised(delay)
    then = known.lazy().filter(pl.col("known_at") <= end_of(day(origin)))
    expected = inputs.forecast_rows(as_known_now(then, SERIES), SERIES).filter(pl.col("origin") == day(origin)).sort(KEY).collect()
    assert expected.height == len(LEVELS) * SERIES.horizon
    found = forecast_rows(known.lazy()).filter(pl.col("origin") == day(origin)).sort(KEY).collect()
    assert found.equals(expected)


@pytest.mark.parametrize(
    ("origin", "comes_back"), sweeps.of([(203, False), (215, True), (218, False), (240, True)], [*product(ORIGINS, (False, True))])
)
def test_an_origin_before_a_retraction_sees_what_was_retracted_later_and_one_after_it_does_not(origin, comes_back):
    """Law 5: what was taken back at day 216 was known until then."""
    of_these = FEATURES.filter(pl.col("day").is_between(*map(day, REVISED_IN)), pl.col("product_group") == "small")
    gone = of_these.with_columns(known_at=pl.lit(end_of(day(216))), is_retracted=pl.lit(value=True))
    again = of_these.with_columns(MANY * 3 + 10, known_at=pl.lit(end_of(day(230))), is_retracted=pl.lit(value=False))
    known = pl.concat([FEATURES.with_columns(is_retracted=pl.lit(value=False)), gone, *([again] if comes_back else [])])
    then = known.lazy().filter(pl.col("known_at") <= end_of(day(origin)))
    expected = inputs.forecast_rows(as_known_now(then, SERIES), SERIES).filter(pl.col("origin") == day(origin)).sort(KEY).collect()
    assert expected.height == len(LEVELS) * SERIES.horizon
    found = forecast_rows(known.lazy()).filter(pl.col("origin") == day(origin)).sort(KEY).collect()
    assert found.equals(expected)


def test_an_outcome_is_learnt_as_it_was_known_until_then_with_the_time_of_its_revision():
    plain, known = examples(FEATURES.lazy()), revised(timedelta(days=30)).lazy()
    of_these = pl.col("day").is_between(*map(day, REVISED_IN))
    now, careful = examples(known), examples(known, known_until=end_of(day(229)))
    assert (now.filter(of_these)["value"] - plain.filter(of_these)["value"] * 3 - 10).abs().max() < 1e-6
    assert now.filter(of_these).select((pl.col("label_known_at").dt.date() == pl.col("day") + timedelta(days=31)).all()).item()
    assert now.filter(~of_these)["value"].equals(plain.filter(~of_these)["value"])
    assert careful["value"].equals(plain.filter(pl.col("day") <= day(229))["value"])
    # What is known until then is no question of the inputs.
    assert careful.select(INPUTS).equals(now.filter(pl.col("day") <= day(229)).select(INPUTS))


def test_a_series_that_its_source_took_back_is_no_example_and_is_not_forecast():
    gone = pl.col("product_group") == "small"
    took_back = FEATURES.filter(gone).with_columns(known_at=pl.lit(end_of(day(DAYS))), is_retracted=pl.lit(value=True))
    known = pl.concat([FEATURES.with_columns(is_retracted=pl.lit(value=False)), took_back]).lazy()
    others = {"large", "middle"}
    assert set(examples(known)["product_group"]) == others
    assert set(SeriesExamples(SERIES, "features").newest(known).collect()["product_group"]) == others


def test_what_is_forecast_now_has_the_inputs_of_the_newest_day_as_all_is_known_now():
    known = revised(timedelta(days=400)).lazy().filter(pl.col("day") <= day(215))
    found = SeriesExamples(SERIES, "features").newest(known).sort(KEY).collect()
    assert found["origin"].unique().to_list() == [day(215)]
    assert found.height == len(LEVELS) * SERIES.horizon
    newest = inputs.forecast_rows(as_known_now(known, SERIES), SERIES).filter(pl.col("origin") == day(215)).sort(KEY)
    assert found.equals(newest.select(found.columns).collect())


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


@pytest.mark.parametrize(("last_year", "expected"), [(2.0, 2**0.5), (0.5, 0.5)])
def test_of_a_rise_that_was_seen_once_the_reference_believes_half_and_of_a_fall_all(last_year, expected):
    """By its logarithm."""
    days = range(420)
    sold = [100 * (last_year if 404 - 364 <= number < 440 - 364 else 1.0) for number in days]
    series = Series("day", "sold")
    rows = pl.LazyFrame({"day": [day(number) for number in days], "sold": sold})
    expect = inputs.forecast_rows(at_each_origin(statistics.daily_features(rows, series).collect(), series), series)
    found = expect.filter(pl.col("origin") == day(399), pl.col("horizon") == 20).collect()
    assert found["reference"].item() == pytest.approx(100 * expected, rel=0.01)
    assert found["reference_season"].item() == pytest.approx(expected, rel=0.01)


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
