"""The words of a gate are checked when they are written."""

from datetime import timedelta

import pytest

from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.gates import Gate, NewestLimits


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"mode": "dry"}, "Gate: mode='dry' is unknown: write one of 'off', 'dry run', 'on'"),
        ({"error_rate": 5}, "Gate: error_rate=5 is not above 0 and up to 0.2: write a share, as in 0.05 for 5 %"),
        ({"folds": 4}, "Gate: folds=4 are too few to tell anything from chance at error_rate=0.05: write at least folds=5"),
        ({"margin": -0.1}, "Gate: margin=-0.1 is no share of a loss: write a number from 0 on, as in 0.05 for 5 %"),
        ({"slices": {"country": float("nan")}}, "Gate: country=nan is no share of a loss"),
        ({"guards": {"coverage": 0.8}}, "Gate: guard 'coverage': 0.8 is no pair of limits: write (low, high), with None for no limit"),
        ({"guards": {"coverage": (0.9, 0.8)}}, "Gate: guard 'coverage': nothing lies in (0.9, 0.8), or everything"),
        ({"guards": {"coverage": (None, None)}}, "Gate: guard 'coverage': nothing lies in (None, None), or everything"),
        ({"shadow": timedelta(days=-1)}, "is negative: write timedelta(0) for none"),
    ],
)
def test_a_gate_that_cannot_be_meant_is_refused(words, message):
    with pytest.raises(DeclarationError) as refused:
        Gate(**words)
    assert message in str(refused.value)


def test_limits_of_the_newest_rows_are_checked_too():
    with pytest.raises(DeclarationError, match="NewestLimits: days=0 is no window"):
        NewestLimits(days=0)
    with pytest.raises(DeclarationError, match="NewestLimits: sums: nothing lies in"):
        NewestLimits(sums=(2.0, 1.0))
    with pytest.raises(DeclarationError, match="NewestLimits: inputs=-1 is below 0"):
        NewestLimits(inputs=-1)


def test_the_fewest_folds_follow_from_the_error_rate():
    assert [Gate(error_rate=rate, folds=20).fewest_folds for rate in (0.2, 0.125, 0.05, 0.01)] == [3, 3, 5, 7]


def test_equal_rules_have_equal_words_so_that_a_recipe_can_name_them():
    assert repr(Gate(slices={"country": 0.1})) == repr(Gate(slices={"country": 0.1}))
    assert Gate() == Gate()
