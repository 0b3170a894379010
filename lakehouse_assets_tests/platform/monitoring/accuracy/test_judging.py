"""How often a monitor of accuracy alarms though all is well, and how surely it does when something broke."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from lakehouse_assets.platform.modelling.metrics import (
    Accuracy,
    Auc,
    AveragePrecision,
    Bias,
    Brier,
    CalibrationError,
    Coverage,
    LogLoss,
    MacroF1,
    Wape,
)
from lakehouse_assets.platform.monitoring.accuracy import judging, scoring
from lakehouse_assets.platform.monitoring.accuracy.judging import against_baseline, against_evaluation, against_floor, reference_losses
from lakehouse_assets.platform.monitoring.accuracy.windows import part_of
from lakehouse_assets.platform.storage.types import TIMESTAMP

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RATE = 0.01
PART = part_of(START, START + 7 * DAY, 7)


def classified(days: int, each: int, chance: np.random.Generator, *, broken: bool = False) -> pl.DataFrame:
    """Rows of a calibrated classifier; broken: the rarer outcome has nothing to do with the probability any more."""
    count = days * each
    p = chance.beta(0.5, 3.0, count)
    came = chance.random(count) < (p if not broken else chance.permutation(p))
    return pl.DataFrame({"__about": _times(days, each), "probability": p, "actual": came}, schema_overrides={"__about": TIMESTAMP})


def forecast(days: int, each: int, chance: np.random.Generator, *, error: float = 0.2) -> pl.DataFrame:
    """Rows of a forecast whose errors of one day have a part in common, as those of series of one shop have."""
    level = chance.lognormal(3, 0.7, each)
    noise = chance.normal(0, error, (days, each)) * 0.8 + chance.normal(0, error, (days, 1)) * 0.6
    actual = (level * np.exp(noise)).ravel()
    return pl.DataFrame(
        {"__about": _times(days, each), "p50": np.tile(level, days), "actual": actual}, schema_overrides={"__about": TIMESTAMP}
    )


def _times(days: int, each: int) -> list[datetime]:
    return [START + DAY * day + DAY * number / each for day in range(days) for number in range(each)]


MADE = {Auc(): classified, AveragePrecision(): classified, LogLoss(): classified, Wape(): forecast}


@pytest.mark.parametrize("metric", MADE, ids=lambda metric: metric.name)
def test_windows_like_those_of_the_evaluation_seldom_alarm(metric):
    alarms = count = 0
    for seed in range(10):
        chance = np.random.default_rng(seed)
        # Of half a year, as an evaluation has; a window may have less rows than one of it.
        losses = reference_losses(MADE[metric](182, 20, chance), pl.col("__about"), metric, 7, 100)
        assert len(losses) == 26
        for _ in range(40):
            value = scoring.score(metric, MADE[metric](7, 100 // 7, chance))
            if value is not None:
                count += 1
                alarms += against_evaluation(metric, value, losses, RATE).passed is False
    assert count >= 390
    assert alarms <= count * RATE * 3, "a binomial with 1 % has less with a chance of 99.9 %"


def test_a_model_that_broke_is_found():
    chance, found = np.random.default_rng(1), 0
    losses = reference_losses(classified(182, 60, chance), pl.col("__about"), Auc(), 7, 420)
    for _ in range(40):
        value = scoring.score(Auc(), classified(7, 60, chance, broken=True))
        found += not against_evaluation(Auc(), value, losses, RATE).passed
    assert found >= 38
    weeks = reference_losses(forecast(182, 10, chance), pl.col("__about"), Wape(), 7, 70)
    worse = [scoring.score(Wape(), forecast(7, 10, chance, error=0.5)) for _ in range(40)]
    assert sum(not against_evaluation(Wape(), value, weeks, RATE).passed for value in worse) >= 38


def test_a_baseline_that_is_as_good_and_a_floor_that_is_met_seldom_alarm():
    alarms = {"baseline": 0, "floor": 0}
    count, chance = 300, np.random.default_rng(2)
    true = Wape().score(forecast(3_000, 10, chance))
    for _ in range(count):
        rows = forecast(7, 10, chance)
        again = rows.with_columns(p50=pl.col("p50") * np.exp(chance.normal(0, 0.02, rows.height)))
        alarms["baseline"] += not against_baseline(Wape(), rows, again, PART, RATE).passed
        alarms["floor"] += not against_floor(Wape(), rows, true, PART, RATE).passed
    assert alarms["floor"] <= count * 0.03
    assert alarms["baseline"] <= count * 0.03


def test_a_model_that_is_worse_than_its_baseline_or_its_floor_is_found():
    chance, found = np.random.default_rng(3), 0
    for _ in range(20):
        rows = forecast(7, 10, chance)
        better = rows.with_columns(p50=pl.col("actual") * 0.9 + pl.col("p50") * 0.1)
        judged = against_baseline(Wape(), rows, better, PART, RATE)
        found += not judged.passed
        assert judged.usual == pytest.approx(Wape().score(better))
        assert judged.usual < judged.threshold
        assert not against_floor(Wape(), rows, 0.01, PART, RATE).passed
    assert found >= 19


def test_intervals_cover_the_true_score():
    chance, covered = np.random.default_rng(4), 0
    true = Auc().score(classified(2_000, 60, chance))
    for _ in range(100):
        found = scoring.measure(Auc(), classified(7, 60, chance), PART)
        covered += found.low <= true <= found.high
    assert covered >= 88


def test_thresholds_are_scores():
    losses = [0.1, 0.12, 0.11, 0.09, 0.1, 0.13, 0.1]
    for metric, value, side in ((Wape(), 0.3, 1), (Auc(), 0.5, -1), (Coverage("p10", "p90"), 0.4, -1), (Bias(), -0.4, -1)):
        judged = against_evaluation(metric, value, losses, RATE)
        assert judged.passed is False
        assert (judged.threshold - value) * side < 0, "the value lies beyond it"
        assert (judged.threshold - judged.usual) * side > 0, "and the usual one before it"
        assert metric.loss(judged.threshold) > metric.loss(judged.usual)


def test_what_cannot_be_told_is_not_judged():
    chance = np.random.default_rng(5)
    rows = classified(7, 10, chance)
    assert "windows of this length" in against_evaluation(Auc(), 0.7, [0.2] * 3, RATE).why
    nobody = rows.with_columns(actual=pl.lit(value=False))
    assert against_floor(Auc(), nobody, 0.8, PART, RATE).passed is None
    assert against_baseline(Auc(), nobody, nobody, PART, RATE).passed is None
    assert reference_losses(nobody, pl.col("__about"), Auc(), 7, 10) == []
    assert judging.LEAST_WINDOWS == 6


@pytest.mark.parametrize("metric", [Auc(), AveragePrecision(), Accuracy(), MacroF1(), Brier(), CalibrationError(), Coverage()])
def test_where_chance_explains_the_worst_score_nothing_is_said(metric):
    """A window that is too small to be judged has not passed, and no threshold is a score that nothing can have."""
    worst = max(0.0, 1.0, key=metric.loss)
    assert metric.worst_loss == metric.loss(worst)
    losses = [metric.worst_loss * share for share in (0.0, 0.9, 0.1, 0.8, 0.2, 0.6)]
    judged = against_evaluation(metric, worst, losses, RATE)
    assert (judged.passed, judged.threshold) == (None, None)
    assert "too few outcomes to tell" in judged.why
    narrow = [metric.worst_loss * (0.3 + step / 100) for step in range(8)]
    assert against_evaluation(metric, worst, narrow, RATE).passed is False


def test_a_window_of_few_outcomes_below_a_floor_is_not_judged_and_one_above_it_passes():
    chance = np.random.default_rng(7)
    rows = classified(7, 3, chance)
    score = Auc().score(rows)
    for floor, passed in ((score + 1e-6, None), (score - 1e-6, True)):
        judged = against_floor(Auc(), rows, floor, PART, 1e-9)
        assert (judged.passed, judged.threshold) == (passed, None)
    assert against_floor(LogLoss(), classified(7, 3, chance), 0.5, PART, RATE).passed is not None, "its losses have no end"


def test_an_estimate_of_calibration_knows_chance():
    chance = np.random.default_rng(6)
    rows = classified(7, 60, chance)
    expected, came = scoring.estimate(CalibrationError(), rows, 1), CalibrationError().score(rows)
    assert expected.value > 0.01, "small bins are off by chance, also where probabilities are right"
    assert expected.low <= came <= expected.high
