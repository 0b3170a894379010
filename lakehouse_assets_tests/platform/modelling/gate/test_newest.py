"""The newest rows: what is computed from frames, and what the limits make of it."""

import math
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from lakehouse_assets.platform.declarations.gates import NewestLimits
from lakehouse_assets.platform.modelling.gate.newest import NewestWindow, Shift, band_ratio, newest_window, profile, sums_ratio

DAYS = 300
LIMITS = NewestLimits()


def examples(factor=1.0, days=20, time=lambda day: date(2025, 1, 1) + timedelta(days=day)) -> pl.DataFrame:
    """One row a day: sales, and their level over the last week; the newest days are multiplied."""
    random = np.random.default_rng(0)
    sales = random.lognormal(5, 0.3, size=DAYS)
    sales[DAYS - days :] *= factor
    level = np.convolve(sales, np.ones(7) / 7)[:DAYS]
    return pl.DataFrame(
        {
            "day": [time(day) for day in range(DAYS)],
            "sales": sales,
            "level": level,
            "weekday": np.arange(DAYS) % 7,
            "open": np.arange(DAYS) % 7 > 0,
            "shop": ["a"] * DAYS,
        }
    )


def predictions(level, width=0.5) -> pl.DataFrame:
    values = level * np.linspace(0.9, 1.1, 10)
    return pl.DataFrame({"p10": values * (1 - width), "p50": values, "p90": values * (1 + width), "mean": values * 1.1})


def window(rows, challenger, **more) -> NewestWindow:
    return newest_window(
        rows, at="day", known_at="day", target="sales", inputs=["level", "weekday", "open", "shop"], challenger=challenger, **more
    )


def failed(found: NewestWindow) -> list[str]:
    return [guard.name for guard in found.guards(LIMITS) if not guard.passed]


def test_sound_newest_rows_pass_every_guard():
    found = window(
        examples(),
        predictions(150),
        held_out=predictions(140),
        champion=predictions(160),
        loss=0.3,
        usual_losses=[0.2, 0.3, 0.9],
        baseline_losses=[0.5, 0.4],
        champion_loss=0.31,
    )
    guards = found.guards(LIMITS)
    assert [guard.name for guard in guards] == [
        "newest loss over usual loss",
        "newest loss over best baseline's",
        "newest loss over champion's",
        "newest targets, mean",
        "newest predictions, mean",
        "newest sum over champion's",
        "newest sum over sum without the newest rows",
        "band over band without the newest rows",
        "share of inputs out of range",
    ]
    assert failed(found) == []
    assert guards[0].value == pytest.approx(1.0)
    assert guards[1].value == pytest.approx(0.75)


@pytest.mark.parametrize("factor", [10.0, 0.0, -1.0])
def test_newest_targets_that_are_wrong_are_noticed_whatever_the_losses_say(factor):
    found = window(examples(factor), predictions(150))
    assert "newest targets, mean" in failed(found)
    assert found.inputs.keys() == {"level", "weekday", "open"}
    assert found.inputs["level"].outside(LIMITS.history)
    assert not found.inputs["weekday"].outside(LIMITS.history)


def test_what_the_training_data_do_not_allow_is_noticed():
    assert failed(window(examples(), predictions(1500))) == ["newest predictions, mean"]


def test_models_that_disagree_about_the_same_rows_are_noticed():
    found = window(examples(), predictions(150), held_out=predictions(90), champion=predictions(60))
    assert failed(found) == [
        "newest sum over champion's",
        "newest sum over sum without the newest rows",
        "band over band without the newest rows",
    ]
    wide = window(examples(), predictions(150, width=0.9), held_out=predictions(150))
    assert failed(wide) == ["band over band without the newest rows"]


def test_an_input_that_is_suddenly_missing_is_out_of_range():
    rows = examples().with_columns(level=pl.when(pl.int_range(pl.len()) < DAYS - 20).then("level"))
    found = window(rows, predictions(150))
    assert found.inputs["level"].outside(LIMITS.history)
    assert "share of inputs out of range" in failed(found)
    [guard] = [guard for guard in found.guards(LIMITS) if guard.name == "share of inputs out of range"]
    assert str(guard) == "share of inputs out of range is 0.3333, and has to be at most 0.3: unlike all that came before: level."
    gone = profile(examples().with_columns(level=pl.when(pl.int_range(pl.len()) < DAYS - 28).then("level")), "day", ["level"])["level"]
    assert math.isnan(gone.value)
    assert gone.outside(LIMITS.history)


def test_windows_are_counted_back_from_the_newest_row_for_dates_and_times():
    dates = profile(examples(), "day", ["sales"], 28)
    times = profile(examples(time=lambda day: datetime(2025, 1, 1, 12, tzinfo=UTC) + timedelta(days=day)), "day", ["sales"], 28)
    assert dates == times
    assert dates["sales"].value == pytest.approx(examples()["sales"][-28:].mean())
    assert profile(examples()[-28:], "day", ["sales"], 28) == {}, "one window has nothing to be compared with"


def test_the_order_of_rows_does_not_matter():
    rows = examples()
    assert profile(rows.sample(fraction=1.0, shuffle=True, seed=1), "day", ["sales", "level"]) == profile(rows, "day", ["sales", "level"])


def test_targets_that_are_no_numbers_are_not_profiled():
    found = newest_window(
        examples(),
        at="day",
        known_at="day",
        target="shop",
        inputs=["level"],
        challenger=pl.DataFrame({"probability_a": [0.5, 0.5], "probability_b": [0.5, 0.5]}),
        champion=pl.DataFrame({"probability_a": [0.9, 0.9], "probability_b": [0.1, 0.1]}),
    )
    assert found.target is None
    assert found.sums_to_champion == pytest.approx(5.0), "of several classes the one that moved most"


def test_sums_and_bands():
    assert sums_ratio(pl.DataFrame({"mean": [1.0, 2.0]}), pl.DataFrame({"mean": [2.0, 4.0]})) == 0.5
    assert sums_ratio(pl.DataFrame({"probability": [0.0]}), pl.DataFrame({"probability": [0.0]})) == 1.0
    assert sums_ratio(pl.DataFrame({"prediction": [1.0]}), pl.DataFrame({"prediction": [0.0]})) == math.inf
    assert sums_ratio(pl.DataFrame({"prediction": [1.0]}), pl.DataFrame({"probability": [1.0]})) is None
    assert band_ratio(pl.DataFrame({"prediction": [1.0]}), pl.DataFrame({"prediction": [1.0]})) is None
    one = pl.DataFrame({"p5": [0.0], "p50": [1.0], "p97.5": [4.0]})
    assert band_ratio(one, one.with_columns(pl.all() * 2)) == 0.5


def test_a_range_below_zero_is_widened_away_from_it():
    assert Shift(0, -10, -4).limits(0.5) == (-15, -2)
    assert Shift(0, -10, 4).limits(0.5) == (-15, 6)
