import math

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.registry.gate import CHAMPION_MARGIN, decide

ORIGINS = 6
ROWS = 20


def errors(seed: int = 0, *, origins: int = ORIGINS, **levels: float) -> pl.DataFrame:
    """Absolute errors of models with the given WAPE; what is hard for one is hard for all."""
    random = np.random.default_rng(seed)
    hard = np.repeat(random.lognormal(sigma=0.2, size=origins), ROWS) * random.lognormal(sigma=0.5, size=origins * ROWS)
    own = {name: 100 * level * hard * random.lognormal(sigma=0.1, size=hard.size) for name, level in levels.items()}
    return pl.DataFrame({"origin": np.repeat(np.arange(origins), ROWS), "actual": np.full(hard.size, 100.0), **own})


def gate(frame, champion=None, baselines=("naive",)):
    return decide(frame, origin="origin", scale="actual", challenger="challenger", baselines=baselines, champion=champion)


def test_a_clearly_better_model_becomes_champion_and_the_reasons_have_the_numbers():
    frame = pl.DataFrame(
        {"origin": [1, 2, 3], "actual": [100.0, 100.0, 200.0], "challenger": [30.0, 31.0, 60.0], "naive": [40.0, 42.0, 80.0]}
    )
    decision = gate(frame)
    assert decision.promote
    assert decision.reasons == (
        (
            "WAPE 0.302 against 0.405 for naive: better by 0.103, better from 3 of 3 origins "
            "(by chance 12% of the time; 90% interval 0.094 to 0.111)."
        ),
        "It becomes champion: there is none so far.",
    )


def test_the_best_baseline_counts():
    frame = errors(challenger=0.30, naive=0.50, window=0.25)
    decision = gate(frame, baselines=["naive", "window"])
    assert not decision.promote
    assert [comparison.opponent for comparison in decision.comparisons] == ["window"]
    assert "for window: worse by" in decision.reasons[0]
    assert decision.reasons[-1].startswith("It stays challenger")


def test_better_than_the_baseline_by_chance_is_not_enough():
    frame = pl.DataFrame({"origin": [1, 2, 3], "actual": [100.0] * 3, "challenger": [10.0, 45.0, 42.0], "naive": [40.0, 40.0, 40.0]})
    decision = gate(frame)
    assert decision.comparisons[0].improvement > 0
    assert not decision.promote


def test_one_origin_with_a_very_large_gain_does_not_count_against_a_model_that_is_better_everywhere():
    frame = pl.DataFrame(
        {
            "origin": range(5),
            "actual": [100.0] * 5,
            "challenger": [49.0, 36.0, 38.0, 40.0, 49.0],
            "naive": [53.0, 42.0, 39.0, 72.0, 50.0],
        }
    )
    decision = gate(frame)
    assert decision.comparisons[0].low < 0, "by Student's t the spread of the gains would hide them"
    assert decision.comparisons[0].chance == 1 / 32
    assert decision.promote


def test_one_origin_proves_nothing():
    decision = gate(errors(origins=1, challenger=0.1, naive=0.9))
    assert not decision.promote
    assert "one origin" in decision.reasons[0]


def test_a_champion_is_replaced_by_a_model_that_is_a_little_better():
    frame = errors(challenger=0.30, naive=0.50, champion=0.31)
    assert gate(frame, champion="champion").promote
    assert gate(frame, champion="champion").reasons[-1] == "It becomes champion."


def test_a_champion_is_not_replaced_by_a_worse_model():
    frame = errors(challenger=0.31, naive=0.50, champion=0.30)
    assert not gate(frame, champion="champion").promote


def test_a_champion_is_replaced_by_the_same_method_on_newer_data():
    frame = errors(challenger=0.31, naive=0.50, champion=0.30).with_columns(champion=pl.col("challenger"))
    decision = gate(frame, champion="champion")
    assert decision.promote
    assert "newer data" in decision.reasons[-1]
    worse_than_naive = frame.with_columns(naive=pl.col("challenger"))
    assert not gate(worse_than_naive, champion="champion").promote


def test_a_champion_is_not_replaced_when_much_worse_is_possible():
    """Better on average thanks to one origin: the next origin may well be worse."""
    frame = pl.DataFrame(
        {
            "origin": [1, 2, 3, 4],
            "actual": [100.0] * 4,
            "naive": [90.0] * 4,
            "champion": [30.0] * 4,
            "challenger": [15.0, 32.0, 35.0, 36.0],
        }
    )
    decision = gate(frame, champion="champion")
    against_champion = decision.comparisons[1]
    assert against_champion.improvement > 0 > against_champion.low + CHAMPION_MARGIN * against_champion.opponent_score
    assert not decision.promote


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 0.9), st.floats(0.05, 0.9), st.integers(2, 8), st.booleans())
def test_a_model_that_is_not_better_on_average_never_becomes_champion(seed, level, other, origins, against_champion):
    frame = errors(seed, origins=origins, challenger=level, rival=other, weak=10.0)
    assume(frame["challenger"].sum() >= frame["rival"].sum())
    if against_champion:
        assert not gate(frame, champion="rival", baselines=["weak"]).promote
    else:
        assert not gate(frame, baselines=["weak", "rival"]).promote


@given(st.integers(0, 10_000), st.permutations(range(ORIGINS * ROWS)))
@settings(max_examples=30, deadline=None)
def test_the_order_of_rows_does_not_matter(seed, order):
    frame = errors(seed, challenger=0.3, naive=0.33, champion=0.31)
    once, again = gate(frame, champion="champion"), gate(frame[list(order)], champion="champion")
    assert once.promote == again.promote
    for one, other in zip(once.comparisons, again.comparisons, strict=True):
        assert math.isclose(one.low, other.low, abs_tol=1e-9)


@given(st.integers(0, 10_000), st.floats(0.01, 1e6))
@settings(max_examples=30, deadline=None)
def test_the_unit_of_measurement_does_not_matter(seed, unit):
    frame = errors(seed, challenger=0.3, naive=0.33, champion=0.31)
    scaled = frame.with_columns(pl.exclude("origin") * unit)
    for one, other in zip(gate(frame, "champion").comparisons, gate(scaled, "champion").comparisons, strict=True):
        assert math.isclose(one.low, other.low, abs_tol=1e-9)


def test_models_that_are_no_better_pass_about_as_rarely_as_the_interval_says():
    """Equal on average over all possible origins, so one side of the 90 % interval lets 5 % through; here 400 tries."""
    random = np.random.default_rng(1)
    passed = 0
    for _ in range(400):
        shift = np.repeat(random.normal(scale=10.0, size=5), ROWS)
        frame = pl.DataFrame(
            {
                "origin": np.repeat(np.arange(5), ROWS),
                "actual": np.full(5 * ROWS, 100.0),
                "challenger": 50 + shift + random.normal(size=5 * ROWS),
                "naive": np.full(5 * ROWS, 50.0),
            }
        )
        passed += gate(frame).promote
    assert 8 <= passed <= 36


@pytest.mark.parametrize("hole", [None, math.nan, math.inf])
def test_rows_that_one_model_did_not_score_are_refused(hole):
    frame = errors(challenger=0.3, naive=0.5)
    frame = frame.with_columns(challenger=pl.when(pl.int_range(pl.len()) < 3).then(pl.lit(hole, pl.Float64)).otherwise("challenger"))
    with pytest.raises(ValueError, match="'challenger' has no number in 3 of 120 rows"):
        gate(frame)


def test_without_baselines_or_without_anything_to_measure_against_there_is_no_decision():
    frame = errors(challenger=0.3, naive=0.5)
    with pytest.raises(ValueError, match="at least one naive baseline"):
        gate(frame, baselines=[])
    with pytest.raises(ValueError, match="'actual' adds up to nothing over 120 rows"):
        gate(frame.with_columns(actual=0.0))
    with pytest.raises(ValueError, match="over 0 rows"):
        gate(frame.clear())
