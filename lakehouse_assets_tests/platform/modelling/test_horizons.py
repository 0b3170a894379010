"""Rows of a direct forecast look back to the days that they say."""

from datetime import date, timedelta

import polars as pl

from lakehouse_assets.platform.modelling.horizons import join_day, same_weekday, with_horizons

FIRST = date(2024, 1, 1)
SERIES = pl.LazyFrame({"day": [FIRST + timedelta(days=number) for number in range(60)], "net": range(60)}).with_columns(group=pl.lit("a"))
ORIGIN = FIRST + timedelta(days=40)
ROWS = with_horizons(pl.LazyFrame({"group": ["a", "b"], "origin": [ORIGIN, ORIGIN]}), 28)


def test_every_origin_has_each_day_ahead_of_it_once():
    rows = ROWS.sort("group", "horizon").collect()
    assert rows["horizon"].to_list() == [*range(1, 29)] * 2
    assert rows["day"].to_list() == [ORIGIN + timedelta(days=ahead) for ahead in range(1, 29)] * 2


def test_the_same_weekday_is_in_the_week_that_ends_with_the_origin_or_in_one_before_it():
    rows = ROWS.select("day", last=same_weekday(), before=same_weekday(2)).collect()
    assert rows["last"].dt.weekday().equals(rows["day"].dt.weekday().alias("last"))
    assert rows["last"].is_between(ORIGIN - timedelta(days=6), ORIGIN).all()
    assert (rows["last"] - rows["before"]).unique().to_list() == [timedelta(days=14)]


def test_another_day_of_the_same_series_is_joined_and_missing_days_are_null():
    joined = join_day(ROWS, SERIES, pl.col("origin") - pl.duration(days=1), ["net"], by=["group"], prefix="then_")
    assert joined.collect_schema().names() == [*ROWS.collect_schema().names(), "then_net"]
    assert joined.filter(pl.col("group") == "a").collect()["then_net"].unique().to_list() == [39]
    assert joined.filter(pl.col("group") == "b").collect()["then_net"].null_count() == 28
    too_early = join_day(ROWS, SERIES, pl.col("origin") - pl.duration(days=41), ["net"], by=["group"], prefix="then_")
    assert too_early.collect()["then_net"].null_count() == 56
