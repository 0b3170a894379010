"""Bands of quantiles: in order, honest on rows that were not seen, wide where little is known, and the same when read back."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.modelling.forecasting.bands import Bands, fit_bands, level_with_few, season_doubt, weighted_quantile
from lakehouse_assets.platform.modelling.quantile import quantile_name

QUANTILES, HORIZON = (0.1, 0.5, 0.9), 28


def forecasts(rows, seed, spread=1.0):
    """Quantiles around 1 that are meant for errors of this spread times 1, by days ahead, and outcomes with errors that grow with them."""
    rng = np.random.default_rng(seed)
    horizon = rng.integers(1, HORIZON + 1, rows).astype(float)
    values = np.tile([1 - 0.1282, 1.0, 1 + 0.1282], (rows, 1))
    outcome = 1 + spread * 0.1 * (0.5 + horizon / HORIZON) * rng.normal(size=rows)
    return {"values": values, "outcome": outcome, "horizon": horizon}


def fitted(given_forecasts, half_weeks=1e6, doubt=0.0, quantiles=QUANTILES):
    age = np.zeros(len(given_forecasts["outcome"]))
    return fit_bands(quantiles, **given_forecasts, age=age, horizons=HORIZON, half_weeks=half_weeks, doubt=doubt)


def share_inside(bands, unseen, part=slice(None)):
    found = bands.apply(unseen["values"], unseen["horizon"], np.ones(len(unseen["outcome"])))
    inside = (found[:, 0] <= unseen["outcome"]) & (unseen["outcome"] <= found[:, -1])
    return inside[part].mean()


@pytest.mark.parametrize("spread", [0.4, 1.0, 2.5])
def test_a_band_holds_its_share_of_unseen_outcomes_near_and_far_ahead(spread):
    bands, unseen = fitted(forecasts(8000, 1, spread)), forecasts(8000, 2, spread)
    for low in (1, 8, 15, 22):
        part = (unseen["horizon"] >= low) & (unseen["horizon"] < low + 7)
        assert share_inside(bands, unseen, part) == pytest.approx(0.8, abs=0.04)


def test_the_sides_are_calibrated_apart_and_the_median_stays():
    skewed = forecasts(8000, 3)
    skewed["outcome"] = np.where(skewed["outcome"] > 1, 1 + 3 * (skewed["outcome"] - 1), skewed["outcome"])
    found = fitted(skewed).apply(skewed["values"], skewed["horizon"], np.ones(8000))
    assert (found[:, 1] == skewed["values"][:, 1]).all()
    assert np.mean(skewed["outcome"] < found[:, 0]) == pytest.approx(0.1, abs=0.02)
    assert np.mean(skewed["outcome"] > found[:, 2]) == pytest.approx(0.1, abs=0.02)


def test_the_fewer_days_are_known_the_wider_a_band_is_and_without_any_it_is_widest():
    sample = forecasts(4000, 4)
    widths = [fitted(sample, half_weeks).stretch[0][2] for half_weeks in (1e6, 40, 5)]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]
    nothing = {"values": np.empty((0, 3)), "outcome": np.empty(0), "horizon": np.empty(0)}
    assert fitted(nothing).stretch == ((2.0, 1.0, 2.0),) * 4


def test_newer_errors_weigh_more():
    assert weighted_quantile(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0]), 0.5) == 2.0
    assert weighted_quantile(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.1, 1.0]), 0.5) == 3.0
    assert level_with_few(0.9, 1e9) == pytest.approx(0.9)
    assert level_with_few(0.9, 0) == level_with_few(0.9, 1) == 0.995


def test_a_season_that_was_seen_for_a_short_time_widens_the_band_where_it_moves_the_forecast():
    assert season_doubt(0) > season_doubt(100) > season_doubt(365) == season_doubt(1000) == 0
    bands = Bands(QUANTILES, ((1.0, 1.0, 1.0),) * 4, HORIZON, season_doubt(0))
    values, horizon = np.tile([0.8, 1.0, 1.2], (3, 1)), np.ones(3)
    plain, risen, fallen = bands.apply(values, horizon, np.array([1.0, 2.0, 0.5]))
    assert plain.tolist() == [0.8, 1.0, 1.2]
    for moved in (risen, fallen):
        assert moved[0] < 0.8
        assert moved[1] == 1.0
        assert moved[2] > 1.2


finite = st.floats(-1e6, 1e6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(finite, min_size=5, max_size=5).map(sorted), min_size=1, max_size=8),
    st.lists(st.tuples(*[st.floats(0, 4)] * 5), min_size=4, max_size=4),
    st.floats(0, 0.3),
    st.integers(1, 40),
    st.floats(1 / 3, 3),
)
def test_quantiles_never_cross_whatever_was_calibrated(values, stretch, doubt, ahead, season):
    bands = Bands((0.05, 0.1, 0.5, 0.9, 0.95), tuple(stretch), HORIZON, doubt)
    found = bands.apply(np.array(values), np.full(len(values), float(ahead)), np.full(len(values), season))
    assert (np.diff(found, axis=1) >= 0).all()


def test_bands_come_back_from_json_as_they_were():
    bands = fitted(forecasts(500, 5), half_weeks=30, doubt=0.123456789)
    assert Bands.from_json(json.loads(json.dumps(bands.to_json()))) == bands


@pytest.mark.parametrize(("quantile", "name"), [(0.1, "p10"), (0.5, "p50"), (0.05, "p5"), (0.975, "p97.5"), (0.07, "p7"), (0.29, "p29")])
def test_a_quantile_is_called_by_its_percents(quantile, name):
    assert quantile_name(quantile) == name
