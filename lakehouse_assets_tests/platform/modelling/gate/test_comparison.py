"""The paired test, and what it relies on."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.modelling.gate.comparison import EXACT_FOLDS, FoldScore, compare, log_gains, sign_flip
from lakehouse_assets.platform.modelling.gate.slices import compare_slices, holm


def against(challenger, opponent, test="superiority", needed=5, **more):
    folds = [{f"{number:02}": FoldScore(loss, loss, 10) for number, loss in enumerate(losses)} for losses in (challenger, opponent)]
    return compare(*folds, kind="champion", name="champion", metric="WAPE", test=test, error_rate=0.05, needed=needed, **more)


def by_hand(gains):
    """The share of all assignments of signs whose sum is at least that of the gains."""
    sums = [sum(sign * gain for sign, gain in zip(signs, gains, strict=True)) for signs in itertools.product((1, -1), repeat=len(gains))]
    return sum(value >= sum(gains) for value in sums) / len(sums)


@given(st.lists(st.integers(-8, 8).map(lambda number: number / 4), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_permutation_test_of_scipy_flips_the_signs_of_a_single_sample(gains):
    assert sign_flip(np.array(gains)) == pytest.approx(by_hand(gains))


def test_permutation_test_of_scipy_flips_the_signs_of_many_samples_at_once():
    gains = np.random.default_rng(0).normal(size=(3, 8))
    assert sign_flip(gains).tolist() == [float(sign_flip(row)) for row in gains]


def test_of_many_folds_a_sample_is_taken_that_is_always_the_same():
    gains = np.random.default_rng(0).normal(0.02, 0.1, size=EXACT_FOLDS + 5)
    once = sign_flip(gains)
    assert once == sign_flip(gains.copy())
    exact = np.mean(
        [sum(signs) <= 0 for signs in ([g for g, bit in zip(gains, bits, strict=True) if bit] for bits in _subsets(len(gains)))]
    )
    assert once == pytest.approx(exact, abs=0.02)


def _subsets(count):
    random = np.random.default_rng(1)
    return random.integers(0, 2, size=(20_000, count)).astype(bool)


# Numbers whose sums are exact: beside a large gain one of 1e-282 is none, and makes ties.
def exact(low, high):
    return st.integers(low * 1024, high * 1024).map(lambda number: number / 1024)


@given(st.lists(exact(-1, 1), min_size=2, max_size=16), st.data())
@settings(max_examples=60, deadline=None)
def test_a_larger_gain_never_makes_chance_more_likely(gains, data):
    more = data.draw(st.lists(exact(0, 1), min_size=len(gains), max_size=len(gains)))
    assert sign_flip(np.array(gains) + np.array(more)) <= sign_flip(np.array(gains)) + 1e-12


def test_a_loss_of_zero_is_a_large_gain_and_not_infinitely_much():
    comparison = against([0.0, 0.0, 0.1, 0.1, 0.0], [0.2, 0.0, 0.2, 0.2, 0.2])
    assert all(math.isfinite(value) for value in (comparison.gain, comparison.low, comparison.high))
    assert 0 < comparison.gain < 1
    assert comparison.better == 4
    assert log_gains(np.array([0.0]), np.array([0.2])) == pytest.approx(math.log(1000))
    assert log_gains(np.zeros(2), np.zeros(2)).tolist() == [0.0, 0.0]


def test_a_perfect_opponent_cannot_be_beaten_and_can_be_equalled():
    assert not against([0.1] * 6, [0.0] * 6).passed
    assert not against([0.1] * 6, [0.0] * 6, "non-inferiority", margin=0.05).passed
    assert not against([0.0] * 6, [0.0] * 6).passed
    equal = against([0.0] * 6, [0.0] * 6, "non-inferiority", margin=0.05)
    assert (equal.equal, equal.passed) == (True, True)


def test_many_small_gains_do_not_make_up_for_one_large_loss():
    comparison = against([0.27] * 12 + [3.0], [0.3] * 12 + [0.4])
    assert comparison.better == 12
    assert comparison.score > comparison.opponent_score
    assert not comparison.passed


def test_a_percentage_never_contradicts_the_two_means_before_it():
    assert str(against([0.2] * 12 + [8.0], [0.3] * 12 + [4.0])).startswith(
        "WAPE 0.8 against 0.5846 for the champion: the mean loss is 36.8% higher, but by fold a loss 27.5% lower (geometric mean), "
        "better in 12 of 13 folds"
    )
    assert "but by fold" not in str(against([0.2] * 13, [0.3] * 13))


def test_losses_that_are_nowhere_higher_are_no_worse_however_few_the_folds():
    assert against([0.3, 0.2], [0.3, 0.3], "non-inferiority", margin=0.05).passed
    assert not against([0.3, 0.301], [0.3, 0.3], "non-inferiority", margin=0.05).passed
    assert not against([0.3, 0.2], [0.3, 0.3]).passed


def test_no_shared_fold_and_one_fold_are_said_in_words():
    assert str(against([], [])) == "WAPE: no fold has scores of both the challenger and the champion."
    assert str(against([0.1], [0.2])) == (
        "WAPE 0.1 against 0.2 for the champion: by fold a loss 50.0% lower (geometric mean), better in 1 of 1 fold; "
        "one fold does not say how much of that is chance."
    )


def test_holm_corrects_for_the_number_of_slices():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_slices_are_worst_first_and_those_with_few_folds_are_not_held_against_a_model():
    def folds(losses):
        return {f"{number:02}": FoldScore(loss, loss, 10) for number, loss in enumerate(losses)}

    mine = {("c", "a"): folds([0.9] * 9), ("c", "b"): folds([0.2] * 9), ("c", "few"): folds([0.9] * 3), ("c", "one"): folds([0.9])}
    other = {key: folds([0.3] * 9) for key in mine}
    found = compare_slices(mine, other, name="the champion", margins={"c": 0.1}, worst=0.5, error_rate=0.05, needed=5)
    assert [(one.value, one.passed, one.folds) for one in found] == [("a", False, 9), ("few", True, 3), ("b", True, 9)]
    assert found[0].rows == 90
