"""Whether live losses call the old champion back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.declarations.gates import Gate
from lakehouse_assets.platform.modelling.gate.shadow import evidence, recall
from lakehouse_assets_tests.platform.modelling.gate.folds import frame, noisy


def live(new, old, *, over=False, rule=None):
    return recall(frame(v2=new, v1=old), rule or Gate(), champion="v2", previous="v1", metric="WAPE", shadow_over=over)


def test_a_new_champion_that_is_worse_day_after_day_is_called_back():
    said = live([0.4] * 10, [0.3] * 10)
    assert said.verdict == "call back"
    assert said.reasons == (
        "WAPE 0.4 against 0.3 for v1 in 10 periods, better in 0 of them.",
        "The previous champion v1 is called back: the new one is worse, with evidence of 170 (from 20 on it counts).",
    )


def test_a_new_champion_that_is_better_is_confirmed_and_one_that_is_equal_too():
    assert live([0.25] * 10, [0.3] * 10).verdict == "confirm"
    assert live([0.3] * 40, [0.3] * 40).verdict == "confirm"


def test_until_something_is_known_it_goes_on_and_when_the_shadow_is_over_it_is_confirmed():
    new, old = noisy(0.3, folds=4, seed=1), noisy(0.3, folds=4, seed=2)
    assert live(new, old).verdict == "go on"
    over = live(new, old, over=True)
    assert over.verdict == "confirm"
    assert "the shadow of 56 days is over, and there is no proof against it" in over.reasons[1]


def test_it_takes_seven_periods_to_call_a_champion_back_and_the_default_shadow_has_eight_weeks():
    assert [live([0.9] * periods, [0.3] * periods).verdict for periods in (6, 7)] == ["go on", "call back"]
    assert Gate().shadow.days // 7 > 7


def test_one_terrible_period_alone_calls_nobody_back():
    assert live([100.0] + [0.3] * 3, [0.3] * 4).verdict == "go on"


def test_losses_of_zero_and_no_losses_at_all():
    assert live([0.0] * 3, [0.0] * 3).against == 1.0
    assert live([0.1] * 10, [0.0] * 10).verdict == "call back"
    empty = live([float("nan")], [0.3])
    assert (empty.verdict, empty.periods, empty.reasons[0]) == ("go on", 0, "No period has live losses of both yet.")


@given(st.lists(st.floats(-1, 1), max_size=20), st.data())
@settings(max_examples=60, deadline=None)
def test_larger_gains_never_are_less_evidence(gains, data):
    more = data.draw(st.lists(st.floats(0, 1), min_size=len(gains), max_size=len(gains)))
    assert evidence(np.array(gains) + np.array(more)) >= evidence(np.array(gains)) * (1 - 1e-9)


@pytest.mark.parametrize("spread", [0.03, 0.3])
def test_looking_every_day_for_a_year_calls_an_equal_champion_back_at_most_at_the_error_rate(spread):
    """400 years of days: 5 % are 20, and the limit is three standard deviations above it."""
    random = np.random.default_rng(0)
    assert sum(evidence(spread * random.standard_t(4, size=365)) >= 20 for _ in range(400)) <= 33
