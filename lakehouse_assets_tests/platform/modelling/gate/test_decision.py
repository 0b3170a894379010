"""The rules of the gate, and what it says."""

import json
import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.declarations.gates import Gate
from lakehouse_assets.platform.modelling.gate.decision import decide
from lakehouse_assets.platform.modelling.gate.guards import Guard
from lakehouse_assets.platform.modelling.gate.newest import NewestWindow
from lakehouse_assets.platform.modelling.gate.verdict import Decision
from lakehouse_assets_tests.platform.modelling.gate.folds import frame, noisy

RULE = Gate()
SOUND = NewestWindow(loss=0.3, usual_loss=0.3)


def first(losses, rule=RULE, **more):
    return decide(losses, rule, challenger="challenger", baselines=("naive",), metric="WAPE", **more)


def change(losses, rule=RULE, **more):
    return first(losses, rule, champion="champion", **more)


def refresh(losses, rule=RULE, newest=SOUND, **more):
    return change(losses, rule, same_recipe=True, newest=newest, **more)


# --- the first model


def test_the_first_model_has_to_beat_the_baseline_and_the_reasons_have_the_numbers():
    decision = first(frame(challenger=[0.30, 0.31, 0.60, 0.28, 0.33], naive=[0.40, 0.42, 0.80, 0.36, 0.42]))
    assert decision.promote
    assert (decision.question, decision.verdict) == ("first", "promoted")
    assert decision.reasons == (
        (
            "WAPE 0.364 against 0.48 for the baseline naive: by fold a loss 24.0% lower (geometric mean), better in 5 of 5 folds "
            "(90% interval of the gain 22.0% to 25.9%; an equally good model looks as good in 3.1% of cases, and up to 5% is allowed)."
        ),
        "Passed as the first model: better than every baseline and one-line rule at an error rate of 5%.",
    )


def test_every_baseline_has_to_be_beaten_not_only_the_best_one_on_average():
    losses = frame(
        challenger=[0.3] * 8,
        naive=[0.5] * 8,
        # Better than the challenger in seven of eight folds, and on average worse.
        window=[0.29] * 7 + [0.9],
    )
    decision = decide(losses, RULE, challenger="challenger", baselines=("naive", "window"), metric="WAPE")
    assert [one.passed for one in decision.comparisons] == [True, False]
    assert not decision.promote
    assert "Refused: it is not better than the baseline window beyond chance." in decision.reasons


def test_in_short_the_comparison_is_said_that_decided():
    """Not the first one: a version that beats one baseline, and is refused because of another, would read as refused for nothing."""
    losses = frame(challenger=noisy(0.35, seed=1), weak=noisy(0.44, seed=2), near=noisy(0.36, seed=3), strong=noisy(0.33, seed=4))

    def short(*baselines: str, **more: Any) -> str:
        return decide(losses, RULE, challenger="challenger", baselines=baselines, metric="WAPE", **more).in_short

    assert short("weak", "near", "strong").endswith(" for the baseline strong")
    assert short("weak", "strong", champion="near", same_recipe=True, newest=SOUND).endswith(" for the baseline strong")
    # All are beaten: the one that came nearest. And what refuses it besides losses.
    beaten = frame(challenger=noisy(0.2, seed=1), weak=noisy(0.44, seed=2), near=noisy(0.4, seed=3))
    passed = partial(decide, beaten, RULE, challenger="challenger", baselines=("weak", "near"), metric="WAPE")
    assert passed().in_short.endswith(" for the baseline near")
    assert Decision.from_json(passed().to_json()).in_short == passed().in_short
    assert passed(guards=[Guard(name="size", value=9.0, high=1.0)]).in_short == "Refused: size is 9, and has to be at most 1"
    assert "nothing to compare it with" in short()


def test_a_registered_baseline_that_is_champion_makes_it_the_first_question():
    decision = first(frame(challenger=noisy(0.3, seed=1), naive=noisy(0.4, seed=2)), champion="naive")
    assert (decision.question, decision.promote) == ("first", True)
    assert [one.kind for one in decision.comparisons] == ["baseline"]


def test_a_model_that_only_equals_the_one_line_rule_is_refused_with_that_reason():
    rule = noisy(0.3, seed=1)
    for challenger, reason in (
        (rule, "it has the same losses as the one-line rule amount > 500, so it adds nothing to it."),
        (
            noisy(0.3, seed=3),
            "it is no better than the one-line rule amount > 500 beyond chance: the rule does as well and needs no model.",
        ),
    ):
        losses = frame(challenger=challenger, naive=noisy(0.5, seed=2), **{"amount > 500": rule})
        decision = first(losses, one_line_rules=("amount > 500",))
        assert decision.verdict == "refused"
        assert f"Refused: {reason}" in decision.reasons


def test_a_model_that_only_knows_a_leak_is_refused_with_that_reason():
    leak = Guard(name="leakage", value=0.999, high=0.95, meaning="refunded_at alone nearly determines the target")
    decision = first(frame(challenger=[0.0] * 13, naive=noisy(0.4, seed=2)), guards=[leak])
    assert decision.comparisons[0].passed
    assert decision.verdict == "refused"
    assert decision.reasons[-1] == (
        "Refused: leakage is 0.999, and has to be at most 0.95: refunded_at alone nearly determines the target."
    )
    assert first(frame(challenger=noisy(0.3, seed=1), naive=noisy(0.4, seed=2)), guards=[replace(leak, value=0.4)]).promote


def test_with_too_few_folds_a_person_decides():
    decision = first(frame(challenger=[0.1] * 4, naive=[0.9] * 4))
    assert (decision.promote, decision.verdict) == (False, "not enough history")
    assert decision.reasons[-2:] == (
        "Not enough history to replace the baseline naive: 4 shared folds, and 5 are needed.",
        "A person can decide instead: `lakehouse models promote MODEL VERSION --reason TEXT`.",
    )


def test_without_anything_to_beat_a_person_decides():
    decision = decide(frame(challenger=[0.1] * 9), RULE, challenger="challenger")
    assert decision.verdict == "refused"
    assert "nothing to compare it with" in decision.reasons[0]


# --- a change


def test_a_change_has_to_be_better_than_the_champion_beyond_chance():
    naive = noisy(0.6, seed=9)
    better = change(frame(challenger=noisy(0.27, seed=1), champion=noisy(0.30, seed=2), naive=naive))
    twin = change(frame(challenger=noisy(0.30, seed=1), champion=noisy(0.30, seed=2), naive=naive))
    assert (better.question, better.promote) == ("change", True)
    assert better.reasons[-1] == "Passed as a change: better than champion, baselines and one-line rules at an error rate of 5%."
    assert twin.verdict == "refused"
    assert [one.kind for one in better.comparisons] == ["champion", "baseline"]


def test_a_change_that_beats_the_champion_and_not_the_baseline_is_refused():
    decision = change(frame(challenger=noisy(0.5, seed=1), champion=noisy(0.6, seed=2), naive=noisy(0.4, seed=3)))
    assert [one.passed for one in decision.comparisons] == [True, False]
    assert decision.verdict == "refused"


def test_a_change_that_is_better_by_next_to_nothing_is_not_worth_another_model():
    champion = noisy(0.3, seed=1)
    decision = change(frame(challenger=[0.996 * loss for loss in champion], champion=champion, naive=noisy(0.6, seed=2)))
    assert decision.reasons[-1] == "Refused: it is better than the champion by 0.4%, and less than 1% is not worth another model."
    assert change(frame(challenger=[0.98 * loss for loss in champion], champion=champion, naive=noisy(0.6, seed=2))).promote


def test_a_change_with_the_champions_own_losses_adds_nothing():
    losses = noisy(0.3, seed=1)
    decision = change(frame(challenger=losses, champion=losses, naive=noisy(0.6, seed=2)))
    assert decision.comparisons[0].equal
    assert "the same losses in 13 folds, to the last digit." in decision.reasons[0]
    assert "Refused: it has the same losses as the champion, so it adds nothing to it." in decision.reasons


def test_folds_that_the_champion_was_never_tested_on_are_left_out_and_one_shared_fold_is_no_verdict():
    losses = frame(challenger=[0.03] * 13, naive=[0.5] * 13).vstack(frame(champion=[0.3]))
    decision = change(losses)
    assert decision.verdict == "not enough history"
    assert decision.comparisons[0].missing == tuple(f"{fold:02}" for fold in range(1, 13))
    assert "Not enough history to replace the champion: 1 shared fold, and 5 are needed." in decision.reasons


def test_a_challenger_without_a_loss_where_others_have_one_is_refused():
    losses = frame(challenger=[0.2] * 12 + [math.nan], champion=[0.3] * 13, naive=[0.5] * 13)
    decision = change(losses)
    assert decision.comparisons[0].passed
    assert decision.reasons[-1] == "Refused: it has no loss in 1 fold where others have one: 12."
    nobody = losses.with_columns(loss=pl.when(pl.col("fold") == "12").then(None).otherwise("loss"))
    assert change(nobody).promote, "the fold allows no loss"


# --- a refresh


def test_a_refresh_has_to_be_no_worse_than_the_margin():
    champion, naive = noisy(0.30, seed=2, spread=0.02), noisy(0.6, seed=9)
    equally_good = refresh(frame(challenger=noisy(0.30, seed=1, spread=0.02), champion=champion, naive=naive))
    worse = refresh(frame(challenger=noisy(0.33, seed=1, spread=0.02), champion=champion, naive=naive))
    assert (equally_good.question, equally_good.promote) == ("refresh", True)
    assert worse.verdict == "refused"
    assert worse.reasons[-1] == (
        "Refused: it may be worse than the champion by more than 5%: the same recipe on newer data has to be no worse than that."
    )


def test_a_refresh_with_the_champions_own_losses_passes_and_says_so():
    losses = noisy(0.3, seed=1)
    decision = refresh(frame(challenger=losses, champion=losses, naive=noisy(0.6, seed=2)))
    assert decision.promote
    assert decision.reasons[-1] == "Passed as a refresh (the same recipe, newer data): the same losses, and sound on the newest rows."


def test_a_refresh_is_tried_on_the_newest_rows_or_refused():
    losses = noisy(0.3, seed=1)
    table = frame(challenger=losses, champion=losses, naive=noisy(0.6, seed=2))
    assert not refresh(table, newest=None).promote
    unguarded = refresh(table, Gate(newest=None), newest=None)
    assert unguarded.promote
    assert unguarded.reasons[-1] == "Passed as a refresh (the same recipe, newer data): the same losses."
    failed = refresh(table, newest=NewestWindow(loss=0.9, usual_loss=0.3))
    assert failed.reasons[-1] == (
        "Refused: newest loss over usual loss is 3, and has to be at most 2: it fails on the newest rows, or they are wrong."
    )


def test_a_refresh_of_a_recipe_that_a_baseline_has_overtaken_is_refused():
    losses = noisy(0.5, seed=1)
    decision = refresh(frame(challenger=losses, champion=losses, naive=noisy(0.4, seed=2)))
    assert "Refused: its recipe is no better than the baseline naive any more." in decision.reasons


# --- slices and guards

BETTER = {"challenger": noisy(0.27, seed=1), "champion": noisy(0.30, seed=2), "naive": noisy(0.6, seed=9)}


def test_a_named_slice_that_is_worse_beyond_doubt_stops_a_better_model():
    slices = {
        ("country", "GB"): {"challenger": noisy(0.2, seed=3), "champion": noisy(0.3, seed=4)},
        ("country", "FR"): {"challenger": noisy(0.4, seed=5), "champion": noisy(0.3, seed=6)},
    }
    decision = change(frame(slices, **BETTER), Gate(slices={"country": 0.1}))
    assert decision.verdict == "refused"
    assert (decision.worst_slice.value, decision.worst_slice.too_bad) == ("FR", True)
    assert decision.reasons[-1].startswith("Refused: where country is FR, the loss by fold is 3")
    assert "higher than that of the champion" in decision.reasons[-1]
    assert "worse than the 10% that the rule allows, and that is no chance" in decision.reasons[-1]
    assert change(frame(slices, **BETTER), Gate()).promote, "the column is not named, and the worst slice is no 50 % worse"


def test_the_worst_slice_found_has_a_floor_though_nobody_named_it():
    slices = {("method", "card"): {"challenger": noisy(0.6, seed=5), "champion": noisy(0.3, seed=6)}}
    decision = change(frame(slices, **BETTER))
    assert decision.verdict == "refused"
    assert "the rule allows 50% on average in the worst slice" in decision.reasons[-1]
    assert change(frame(slices, **BETTER), Gate(worst_slice=None)).promote


def test_the_first_model_is_held_against_the_best_baseline_in_each_slice():
    slices = {("country", "FR"): {"challenger": noisy(0.9, seed=5), "naive": noisy(0.3, seed=6)}}
    decision = first(frame(slices, challenger=noisy(0.3, seed=1), naive=noisy(0.5, seed=2)))
    assert decision.worst_slice.opponent == "the baseline naive"
    assert not decision.promote


def test_guards_of_the_rule_hold_whatever_the_losses_say():
    rule = Gate(guards={"coverage": (0.72, 0.88), "calibration_error": (None, 0.02)})
    assert change(frame(**BETTER), rule, measured={"coverage": 0.8, "calibration_error": 0.01}).promote
    decision = change(frame(**BETTER), rule, measured={"coverage": 0.65})
    assert decision.reasons[-2:] == (
        "Refused: coverage is 0.65, and has to be 0.72 to 0.88.",
        "Refused: calibration_error was not measured, and has to be at most 0.02: what was measured is coverage.",
    )
    assert str(Guard(name="coverage", value=0.8, low=0.72)) == "coverage is 0.8, within its limits (at least 0.72)."
    assert not Guard(name="bias", value=math.nan, low=-1, high=1).passed


@pytest.mark.parametrize("name", ["calibration error", "calibration_error", "CalibrationError", "Calibration Error"])
def test_a_guard_is_found_however_its_name_is_written(name):
    rule = Gate(guards={name: (None, 0.02)})
    assert change(frame(**BETTER), rule, measured={"calibration error": 0.01}).promote
    assert change(frame(**BETTER), rule, measured={"calibration error": 0.03}).reasons[-1] == (
        f"Refused: {name} is 0.03, and has to be at most 0.02."
    )


# --- modes


def test_the_modes_and_an_approval():
    passes, fails = frame(**BETTER), frame(**{**BETTER, "challenger": noisy(0.4, seed=1)})
    assert change(fails, Gate(mode="off")).reasons == ("The gate is off: it becomes champion without a test.",)
    dry = change(passes, Gate(mode="dry run"))
    assert (dry.promote, dry.verdict) == (False, "would be promoted")
    assert dry.reasons[-1] == "A dry run: it would become champion; nothing is changed."
    assert change(fails, Gate(mode="dry run")).verdict == "refused"
    assert change(frame(), Gate(mode="off")).promote, "no loss is looked at"
    waiting = change(passes, Gate(approval=True))
    assert (waiting.promote, waiting.verdict) == (False, "awaits approval")
    assert change(fails, Gate(approval=True)).verdict == "refused"


# --- what is kept


def test_a_decision_survives_json_and_its_digest_tells_others_apart():
    slices = {("country", "a|b"): {"challenger": [0.2] * 13, "champion": [0.3] * 13}}
    one = change(frame(slices, **BETTER), Gate(guards={"coverage": (0.7, None)}), measured={"coverage": 0.8})
    again = Decision.from_json(one.to_json())
    assert again == one
    assert again.digest == one.digest
    assert change(frame(**BETTER)).digest != one.digest
    lone = change(
        frame(challenger=[0.2], champion=[0.3], naive=[0.4]), measured={"x": math.inf}, guards=[Guard(name="x", value=math.nan, low=0)]
    )
    assert json.loads(lone.to_json())["comparisons"][0]["low"] is None, "an interval without an end is not JSON"
    assert Decision.from_json(lone.to_json()).verdict == lone.verdict


def test_the_table_of_a_model_card():
    slices = {("country", "a|b"): {"challenger": [0.2] * 5, "champion": [0.25] * 5}}
    losses = frame(slices, challenger=[0.3] * 5, champion=[0.4] * 5, naive=[0.6] * 5)
    decision = change(losses, Gate(guards={"coverage": (0.7, None)}), measured={"coverage": 0.8})
    assert decision.table() == "\n".join(
        [
            "**Promoted** (change)",
            "",
            "| against | WAPE | theirs | lower loss | interval | chance | folds | |",
            "| --- | --: | --: | --: | --: | --: | --: | --- |",
            "| the champion | 0.3 | 0.4 | +25.0% | +25.0% to +25.0% | 3.1% | 5 of 5 | passed |",
            "| the baseline naive | 0.3 | 0.6 | +50.0% | +50.0% to +50.0% | 3.1% | 5 of 5 | passed |",
            "",
            "| worst slices | loss | theirs | lower loss | chance | folds | |",
            "| --- | --: | --: | --: | --: | --: | --- |",
            "| country: a\\|b | 0.2 | 0.25 | +20.0% | 100.0% | 5 | passed |",
            "",
            "| guard | value | limits | |",
            "| --- | --: | --- | --- |",
            "| coverage | 0.8 | at least 0.7 | passed |",
        ]
    )


# --- candidates without losses


@pytest.mark.parametrize("same_recipe", [False, True])
def test_a_champion_without_losses_is_not_replaced_by_the_gate(same_recipe):
    decision = change(frame(challenger=[0.1] * 13, naive=[0.5] * 13), same_recipe=same_recipe, newest=SOUND)
    assert (decision.question, decision.verdict, decision.promote) == (
        "refresh" if same_recipe else "change",
        "not enough history",
        False,
    )
    assert "Not enough history to replace the champion: 0 shared folds, and 5 are needed." in decision.reasons


@pytest.mark.parametrize("nowhere", [{}, {"naive": [math.nan] * 13}])
def test_a_baseline_that_has_no_loss_anywhere_is_a_comparison_without_a_fold(nowhere):
    decision = first(frame(challenger=[0.1] * 13, **nowhere))
    assert decision.verdict == "not enough history"
    assert decision.reasons[0] == "WAPE: no fold has scores of both the challenger and the baseline naive."


def test_the_champion_is_compared_with_the_challenger_on_the_champions_rows():
    losses = frame(challenger=[0.1] * 13, champion=[0.3] * 13, naive=[0.5] * 13, beside=[0.4] * 13)
    decision = change(losses, beside_champion="beside")
    assert [(one.opponent, one.loss, one.passed) for one in decision.comparisons] == [
        ("champion", pytest.approx(0.4), False),
        ("naive", pytest.approx(0.1), True),
    ]


def test_where_the_mean_loss_decides_the_refusal_says_so():
    many, other = [0.2] * 12 + [8.0], [0.3] * 12 + [4.0]
    told = "the mean loss decides, 0.8 against 0.5846"
    losses = frame(challenger=many, champion=other, naive=[20.0] * 13)
    assert f"Refused: by fold it is better than the champion, but {told}." in change(losses).reasons
    worse = refresh(losses).reasons
    assert f"Refused: by fold it is no worse than the champion, but {told}, and 5% more is allowed." in worse
    overtaken = refresh(frame(challenger=many, champion=many, naive=other))
    assert f"Refused: its recipe is no better than the baseline naive any more: by fold it is, but {told}." in overtaken.reasons


def test_slices_beyond_the_first_three_are_counted():
    for count, said in ((4, "and 1 more slice is worse than allowed."), (5, "and 2 more slices are worse than allowed.")):
        slices = {("c", str(number)): {"challenger": [0.9] * 13, "champion": [0.3] * 13} for number in range(count)}
        assert change(frame(slices, **BETTER)).reasons[-1] == f"Refused: {said}"


# --- frames that are wrong


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (
            frame(challenger=[0.1, -0.1], champion=[0.1] * 2, naive=[0.1] * 2),
            "'challenger' has a loss of -0.1 in fold 01: losses are numbers from 0",
        ),
        (frame(challenger=[0.1, math.inf], champion=[0.1] * 2, naive=[0.1] * 2), "has a loss of inf in fold 01"),
        (frame(challenger=[0.1]).drop("rows"), "the losses lack the columns rows"),
        (frame(challenger=[0.1]).vstack(frame(challenger=[0.1])), "two rows for {'fold': '00'"),
    ],
)
def test_frames_that_are_no_losses_are_refused(losses, message):
    with pytest.raises(ValueError) as refused:
        change(losses)
    assert message in str(refused.value)


# --- properties

LOSSES = st.lists(st.floats(0.01, 10), min_size=6, max_size=6)
SLICED = Gate(slices={"country": 0.1})


def decided(challenger, other, question, scale=1.0, order=None):
    scaled = {"challenger": [scale * loss for loss in challenger], "champion": [scale * loss for loss in other]}
    table = frame({("country", "FR"): scaled}, **scaled, naive=[scale * 20.0] * len(other))
    if order is not None:
        table = table[list(order)]
    return {"change": change, "refresh": refresh}[question](table, SLICED)


@given(LOSSES, LOSSES, st.lists(st.floats(0.0, 1.0), min_size=6, max_size=6), st.sampled_from(["change", "refresh"]))
@settings(max_examples=60, deadline=None)
def test_lower_losses_never_turn_a_promotion_into_a_refusal(challenger, other, factors, question):
    lower = [loss * factor for loss, factor in zip(challenger, factors, strict=True)]
    assert decided(lower, other, question).promote >= decided(challenger, other, question).promote


@given(LOSSES, st.sampled_from(["change", "refresh"]))
@settings(max_examples=40, deadline=None)
def test_lower_losses_than_those_of_a_promoted_model_are_promoted(other, question):
    for gain in (0.5, 0.1, 0.0):
        assert decided([loss * gain for loss in other], other, question).promote


@given(LOSSES, LOSSES, st.sampled_from([1e-6, 1024.0, 1e9]), st.sampled_from(["change", "refresh"]))
@settings(max_examples=40, deadline=None)
def test_the_unit_of_a_loss_does_not_matter(challenger, other, scale, question):
    assert decided(challenger, other, question, scale).promote == decided(challenger, other, question).promote


@given(LOSSES, LOSSES, st.permutations(range(30)), st.sampled_from(["change", "refresh"]))
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_does_not_matter(challenger, other, order, question):
    assert decided(challenger, other, question, order=order) == decided(challenger, other, question)


@given(LOSSES, LOSSES)
@settings(max_examples=40, deadline=None)
def test_a_change_that_is_not_better_on_average_is_never_promoted(challenger, other):
    assert not (decided(challenger, other, "change").promote and sum(challenger) >= sum(other))


def test_equally_good_changes_are_promoted_as_rarely_as_the_error_rate_says():
    """400 draws with heavy tails and 5 to 12 folds: 5 % are 20, and the limit is three standard deviations above it."""
    random = np.random.default_rng(1)
    promoted = 0
    for _ in range(400):
        folds = int(random.integers(5, 13))
        champion = random.lognormal(sigma=0.3, size=folds)
        challenger = champion * np.exp(0.08 * random.standard_t(3, size=folds))
        promoted += change(frame(challenger=challenger, champion=champion, naive=[100.0] * folds)).promote
    assert promoted <= 33
