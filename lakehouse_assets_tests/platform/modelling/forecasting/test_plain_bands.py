"""Bands of plain forecasts: as wide as the noise from the first weeks on, and never below nothing where nothing ever was."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.modelling.forecasting.examples import SeriesExamples
from lakehouse_assets.platform.modelling.forecasting.plain import PlainModel, plain_forecasts
from lakehouse_assets.platform.modelling.forecasting.series import Series
from lakehouse_assets.platform.modelling.forecasting.statistics import daily_features
from lakehouse_assets.platform.storage.known_at import IS_RETRACTED

SERIES = Series("date", "amount")
NOISE = 110 + np.random.default_rng(1).normal(0, 10, 120)


def forecasts(values):
    """What each plain forecast says of the days after some days with these values, by name."""
    days = [date(2025, 1, 1) + timedelta(days=number) for number in range(len(values))]
    rows = pl.LazyFrame({"date": days, "amount": np.asarray(values, dtype=float)})
    features = daily_features(rows, SERIES).with_columns(pl.lit(value=False).alias(IS_RETRACTED)).collect().lazy()
    examples = SeriesExamples(SERIES, "")
    training, newest = examples.training(examples.rows(lambda _: features)), examples.newest(features).collect()
    learners = plain_forecasts(SERIES)
    return {name: learner.fit(training, seed=0, compute=Local()).predict(newest) for name, learner in learners.items()}


@pytest.mark.parametrize("days", [7, 8, 10, 14, 20, 28, 40, 60, 120])
def test_the_band_of_a_steady_series_is_narrow_from_its_first_weeks_on(days):
    for name, rows in forecasts(NOISE[:days]).items():
        assert rows.filter(pl.col("p90") > 3 * pl.col("p50")).is_empty(), name
        assert rows["p10"].min() >= 0, name
        assert days < 14 or rows.filter(pl.col("p90") < 1.02 * pl.col("p50")).is_empty(), name


@pytest.mark.parametrize("days", [20, 60, 120])
def test_the_band_of_a_line_is_narrow(days):
    for name, rows in forecasts(100 + np.arange(days)).items():
        assert rows.filter(pl.col("p90") > 1.5 * pl.col("p50")).is_empty(), name


@pytest.mark.parametrize("days", [10, 30, 60, 120])
def test_a_series_that_began_late_has_a_band_of_the_size_that_it_has_now(days):
    for name, rows in forecasts([0] * 120 + [120] * days).items():
        assert rows["p90"].max() < 3 * 120, name


def test_the_band_of_a_series_that_was_negative_may_be_below_nothing(tmp_path):
    values = np.where(np.random.default_rng(2).random(90) < 0.4, -60.0, 100.0)
    assert any(rows["p10"].min() < 0 for rows in forecasts(values).values())
    for negative in (True, False):
        model = PlainModel("reference", (0.1, 0.5, 0.9), (-2.0, 0.0, 2.0), negative)
        model.save(tmp_path)
        assert PlainModel.load(tmp_path) == model
        assert (model.predict(pl.DataFrame({"reference": [1.0]}))["p10"].item() < 0) is negative


@pytest.mark.parametrize("unit", [1e15, 1e20, 1e28])
def test_values_of_any_size_are_forecast(unit):
    for name, rows in forecasts(NOISE[:60] * unit).items():
        assert rows["p50"].min() > 80 * unit, name
        assert rows["p90"].max() < 200 * unit, name


def test_a_series_that_ended_does_not_widen_the_bands_of_one_that_goes_on():
    series = Series("date", "amount", ("shop",))
    days = [date(2025, 1, 1) + timedelta(days=number) for number in range(120)]
    rows = pl.DataFrame({"date": days * 2, "shop": ["a"] * 120 + ["b"] * 120, "amount": [*NOISE, *NOISE[:60], *[0.0] * 60]})
    features = daily_features(rows.lazy(), series).with_columns(pl.lit(value=False).alias(IS_RETRACTED)).collect().lazy()
    examples = SeriesExamples(series, "")
    training, newest = examples.training(examples.rows(lambda _: features)), examples.newest(features).collect()
    for name, learner in plain_forecasts(series).items():
        found = newest.select("shop").hstack(learner.fit(training, seed=0, compute=Local()).predict(newest))
        assert found.filter(pl.col("shop") == "a")["p10"].min() > 60, name
