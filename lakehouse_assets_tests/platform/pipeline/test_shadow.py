"""After the gate promoted a change, the old champion predicts too for a while, and its live losses call it back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse_assets.platform.declarations.gates import Gate
from lakehouse_assets.platform.pipeline import model_step
from lakehouse_assets.platform.registry import decisions as decisions_room
from lakehouse_assets_tests.platform.orchestration.level import DAYS_EACH, Demo, Level, level_model
from lakehouse_assets_tests.platform.pipeline.model_histories import decisions

PROMOTED_AT = datetime(2024, 1, 20, 6, tzinfo=UTC)
OLD = [4.0] * 5
# Of about 103: the change takes 2 % off, which is right while the forecast is 4 too high, and wrong once it is exact.
CHANGE = replace(level_model, learner=Level("forecast", 0.98))


class Clock(datetime):
    """A clock that is set."""

    at = PROMOTED_AT

    @classmethod
    def now(cls, tz=None):
        return cls.at.astimezone(tz)


@pytest.fixture
def changed(demo, monkeypatch) -> Demo:
    """Version 1 was champion; version 2, a change, was promoted on 20 January 2024."""
    for room in (model_step, decisions_room):
        monkeypatch.setattr(room, "datetime", Clock)
    monkeypatch.setattr(Clock, "at", PROMOTED_AT)
    demo.land(error=OLD)
    demo.work_out_features()
    assert demo.step().run().champion == 1
    assert demo.step(asset=CHANGE).run(retrain=True).champion == 2
    return demo


def later(demo: Demo, monkeypatch, days: int, error: float, asset=CHANGE, retrain: bool = True):
    """The step so many days after the promotion, when all that came since had one error."""
    origins = (19 + days) // DAYS_EACH
    monkeypatch.setattr(Clock, "at", PROMOTED_AT + timedelta(days=days))
    demo.land(error=[*OLD, *[error] * (origins - len(OLD))])
    demo.work_out_features()
    return demo.step(asset=asset).run(retrain=retrain)


def called_back(demo: Demo) -> bool:
    return any(decision == "called back" for _, decision, _ in decisions(demo))


def test_a_change_that_loses_on_what_came_since_is_called_back(changed, monkeypatch):
    later(changed, monkeypatch, 28, error=0.01, asset=level_model)
    entry = next(entry for entry in changed.decisions() if entry["decision"] == "called back")
    assert (entry["version"], entry["champion_before"], entry["champion"], entry["previous"]) == (1, 2, 1, 2)
    assert "MeanAbsoluteError" in entry["reasons"]
    assert "is called back: the new one is worse, with evidence of" in entry["reasons"]


def test_the_default_shadow_is_long_enough_for_a_call_back_at_the_default_error_rate(changed, monkeypatch):
    later(changed, monkeypatch, Gate().shadow.days + 2, error=0.01, asset=replace(level_model, gate=Gate()))
    assert called_back(changed)


def test_what_was_called_back_does_not_return_by_the_same_backtests(changed, monkeypatch):
    result = later(changed, monkeypatch, 28, error=0.01)
    assert called_back(changed)
    assert (result.promoted, result.champion) == (False, 1)
    assert "was called back" in result.reasons[-1]


@pytest.mark.parametrize(
    ("days", "error", "gate"),
    [
        (28, 4.0, level_model.gate),  # it goes on winning
        (8, 0.01, level_model.gate),  # too little has come yet
        (61, 0.01, level_model.gate),  # the shadow is over, with the last period that began in it
        (28, 0.01, replace(level_model.gate, shadow=timedelta(0))),
        (28, 0.01, replace(level_model.gate, mode="dry run")),
    ],
)
def test_nothing_is_called_back_otherwise(changed, monkeypatch, days, error, gate):
    later(changed, monkeypatch, days, error, asset=replace(CHANGE, gate=gate))
    assert not called_back(changed)


def test_a_champion_that_a_person_chose_is_not_called_back(changed, monkeypatch):
    changed.step(asset=CHANGE).rollback()
    changed.step(asset=CHANGE).promote(2, "I want it.")
    later(changed, monkeypatch, 28, error=0.01, asset=level_model)
    assert not called_back(changed)


def test_a_refresh_is_not_in_doubt(demo, monkeypatch):
    for room in (model_step, decisions_room):
        monkeypatch.setattr(room, "datetime", Clock)
    demo.land(error=OLD)
    demo.run()
    demo.land(error=3.0)
    assert demo.run().champion == 2
    later(demo, monkeypatch, 28, error=0.01, asset=level_model)
    assert not called_back(demo)
