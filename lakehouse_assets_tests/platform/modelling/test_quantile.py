"""Quantile models: in order, honest, and the same bytes from the same rows."""

import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.modelling.quantile import calibrate, fit_quantiles, load_quantile_model

FEATURES = ["x", "z"]


def sample(rows, seed, spread=1.0):
    """An outcome whose spread grows with `x`."""
    rng = np.random.default_rng(seed)
    x, z = rng.uniform(0, 1, rows), rng.normal(size=rows)
    return pl.DataFrame({"x": x, "z": z, "y": 2 * x + spread * (0.2 + x) * rng.normal(size=rows), "w": rng.uniform(0.5, 1.5, rows)})


def fit(rows, seed=1, threads=1, quantiles=(0.1, 0.5, 0.9), rounds=40):
    parameters = {"num_leaves": 7, "feature_fraction": 0.5, "bagging_fraction": 0.7, "bagging_freq": 1, "num_threads": threads}
    return fit_quantiles(
        rows, FEATURES, "y", weight="w", quantiles=quantiles, parameters=parameters, rounds=rounds, seed=seed, compute=Local()
    )


MODEL = fit(sample(2000, 1))


def saved(model, folder):
    model.save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=20))
def test_quantiles_never_cross(points):
    forecast = MODEL.predict(pl.DataFrame(points, schema={"x": pl.Float64, "z": pl.Float64}, orient="row"))
    assert forecast.columns == ["p10", "p50", "p90"]
    assert forecast.select((pl.col("p10") <= pl.col("p50")).all() & (pl.col("p50") <= pl.col("p90")).all()).item()


def test_several_bands_never_cross_after_calibration():
    model = calibrate(fit(sample(300, 2), quantiles=(0.05, 0.1, 0.5, 0.9, 0.95), rounds=80), sample(300, 3, spread=3.0), "y")
    forecast = model.predict(sample(2000, 4)).to_numpy()
    assert (np.diff(forecast, axis=1) >= 0).all()


@pytest.mark.parametrize("spread", [0.4, 3.0])
def test_calibration_makes_the_band_hold_its_share(spread):
    unseen = sample(4000, 6, spread)

    def share(model):
        forecast = model.predict(unseen)
        return unseen["y"].is_between(forecast["p10"], forecast["p90"]).mean()

    assert abs(share(MODEL) - 0.8) > 0.1
    calibrated = calibrate(MODEL, sample(4000, 5, spread), "y")
    assert share(calibrated) == pytest.approx(0.8, abs=0.03)
    assert calibrated.predict(unseen)["p50"].equals(MODEL.predict(unseen)["p50"])


def test_calibrating_again_does_not_add_up():
    rows = sample(500, 5, 3.0)
    once = calibrate(MODEL, rows, "y")
    assert calibrate(once, rows, "y").stretch == once.stretch


def test_calibration_without_rows_changes_nothing():
    assert calibrate(MODEL, sample(0, 1), "y").stretch == (1.0, 1.0, 1.0)


def test_same_rows_and_seed_make_the_same_bytes_on_any_number_of_threads(tmp_path):
    rows = sample(2000, 1)
    one, two = saved(fit(rows, threads=1), tmp_path / "one"), saved(fit(rows, threads=2), tmp_path / "two")
    assert one == two
    assert set(one) == {"model.json", "p10.txt", "p50.txt", "p90.txt"}
    assert saved(fit(rows, seed=2), tmp_path / "other") != one


def test_a_saved_model_comes_back_as_it_was(tmp_path):
    model = calibrate(MODEL, sample(500, 5), "y")
    bytes_before = saved(model, tmp_path / "a")
    loaded = load_quantile_model(tmp_path / "a")
    assert loaded.predict(sample(50, 7)).equals(model.predict(sample(50, 7)))
    assert saved(loaded, tmp_path / "b") == bytes_before
    assert loaded.features == tuple(FEATURES)


ODD_NAMES = ["net revenue", "price[£]", "a:b", 'q"x', "größe", "x,y", "{}", "a\\b", "名", "", "f1", "f0"]


def test_a_column_may_have_any_name(tmp_path):
    rows = sample(300, 3).with_columns(pl.col("x").pow(power + 1).alias(name) for power, name in enumerate(ODD_NAMES))
    model = fit_quantiles(
        rows, ODD_NAMES, "y", weight="w", quantiles=(0.5,), parameters={"num_leaves": 3}, rounds=3, seed=1, compute=Local(), categorical=[]
    )
    model.save(tmp_path)
    loaded = load_quantile_model(tmp_path)
    assert loaded.features == tuple(ODD_NAMES)
    assert loaded.predict(rows.select(reversed(ODD_NAMES))).equals(model.predict(rows))
    assert loaded.predict(rows)["p50"].n_unique() > 1
    with pytest.raises(ValueError, match=re.escape("price[£]")):
        loaded.predict(rows.drop("price[£]"))


@pytest.mark.parametrize("quantiles", [(0.1, 0.9), (0.9, 0.5, 0.1), (0.1, 0.5, 0.8), (0.5, 0.5)])
def test_quantiles_that_make_no_bands_are_refused(quantiles):
    with pytest.raises(ValueError, match="around the median"):
        fit(sample(100, 1), quantiles=quantiles)
