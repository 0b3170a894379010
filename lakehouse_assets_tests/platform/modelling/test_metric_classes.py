"""Metrics: proper where they say so, equal to the library's, weighted as repeated rows are, NaN where rows allow no score."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as library

from lakehouse_assets.platform.declarations.learning import Metric
from lakehouse_assets.platform.modelling.costs import Costs, cheapest_threshold
from lakehouse_assets.platform.modelling.metrics import (
    Accuracy,
    Auc,
    AveragePrecision,
    Bias,
    Brier,
    CalibrationError,
    Cost,
    Coverage,
    LogLoss,
    MacroF1,
    MeanAbsoluteError,
    Pinball,
    RootMeanSquaredError,
    Wape,
)

NUMBERS: list[Metric] = [Wape(), MeanAbsoluteError(), RootMeanSquaredError(), Bias(), Pinball(), Coverage()]
CLASSES: list[Metric] = [LogLoss(), Brier(), Auc(), AveragePrecision(), Accuracy(), MacroF1(), CalibrationError(), Cost()]


def numbers(rows=200, seed=1):
    rng = np.random.default_rng(seed)
    actual = rng.gamma(2, 50, rows)
    middle = actual * rng.uniform(0.7, 1.4, rows)
    return pl.DataFrame({"actual": actual, "p10": middle * 0.8, "p50": middle, "p90": middle * 1.3, "mean": middle * 1.05})


def binary(rows=500, seed=1, **probabilities):
    rng = np.random.default_rng(seed)
    true = rng.beta(0.5, 6, rows)
    came = rng.uniform(size=rows) < true
    return pl.DataFrame({"actual": came, "true": true})


def named(frame, column):
    return frame.select("actual", probability=column)


def multiclass(rows=300, seed=1):
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet([1, 1, 2], rows)
    came = [("a", "b", "c")[rng.choice(3, p=row)] for row in probability]
    return pl.DataFrame({"actual": came, **{f"probability_{name}": probability[:, number] for number, name in enumerate("abc")}})


@pytest.mark.parametrize("metric", [*NUMBERS, *CLASSES], ids=lambda metric: metric.name)
def test_a_weight_counts_as_so_many_rows(metric):
    rows = numbers(40) if metric in NUMBERS else binary(40).rename({"true": "probability"})
    if isinstance(metric, CalibrationError):
        metric = CalibrationError(bins=1)
    weights = pl.Series("weight", [1 + number % 3 for number in range(40)])
    repeated = rows[[number for number, weight in enumerate(weights) for _ in range(weight)]]
    assert metric.score(rows.with_columns(weights)) == pytest.approx(metric.score(repeated))


@pytest.mark.parametrize("metric", [*NUMBERS, *CLASSES], ids=lambda metric: metric.name)
def test_rows_that_allow_no_score_give_nan_and_a_missing_prediction_does_not_help(metric):
    rows = numbers(30) if metric in NUMBERS else binary(30, seed=3).rename({"true": "probability"})
    assert math.isnan(metric.score(rows.clear()))
    assert math.isnan(metric.score(rows.with_columns(actual=pl.lit(None, dtype=rows.schema["actual"]))))
    lacking = rows.with_columns(pl.all().exclude("actual").replace({rows[0, rows.columns[1]]: None}))
    assert math.isnan(metric.score(lacking.with_columns(pl.when(pl.int_range(pl.len()) > 0).then(pl.all().exclude("actual")))))
    known = metric.score(rows)
    more = pl.concat([rows, rows.with_columns(actual=pl.lit(None, dtype=rows.schema["actual"]))])
    assert metric.score(more) == pytest.approx(known)
    assert metric.loss(known) >= 0


@pytest.mark.parametrize("metric", [*CLASSES[:2], Cost(costs=Costs(missed=20.0, false_alarm=1.0))], ids=lambda metric: metric.name)
def test_the_true_probabilities_beat_never_always_and_overconfidence(metric):
    rows = binary(20_000)
    rows = rows.with_columns(
        never=pl.lit(0.0), rate=pl.lit(rows["actual"].mean()), sure=(pl.col("true") * 3).clip(0, 1), shy=pl.col("true") / 4
    )
    losses = {name: metric.loss(metric.score(named(rows, name))) for name in ("true", "never", "rate", "sure", "shy")}
    assert min(losses, key=lambda name: losses[name]) == "true"


def test_scores_are_those_of_the_library():
    rows = named(binary(), "true")
    actual, probability = rows["actual"].to_numpy(), rows["probability"].to_numpy()
    assert LogLoss().score(rows) == pytest.approx(library.log_loss(actual, probability))
    assert Brier().score(rows) == pytest.approx(library.brier_score_loss(actual, probability))
    assert Auc().score(rows) == pytest.approx(library.roc_auc_score(actual, probability))
    assert AveragePrecision().score(rows) == pytest.approx(library.average_precision_score(actual, probability))
    several = multiclass()
    known, given_ = several["actual"].to_numpy(), several.drop("actual").to_numpy()
    assert LogLoss().score(several) == pytest.approx(library.log_loss(known, given_))
    assert Auc().score(several) == pytest.approx(library.roc_auc_score(known, given_, multi_class="ovr"))
    guessed = np.array(["a", "b", "c"])[given_.argmax(axis=1)]
    assert Accuracy().score(several) == pytest.approx(library.accuracy_score(known, guessed))
    assert MacroF1().score(several) == pytest.approx(library.f1_score(known, guessed, average="macro"))
    frame = numbers()
    assert Pinball((0.1,)).score(frame) == pytest.approx(library.mean_pinball_loss(frame["actual"], frame["p10"], alpha=0.1))
    assert RootMeanSquaredError().score(frame) == pytest.approx(library.root_mean_squared_error(frame["actual"], frame["mean"]))


@pytest.mark.parametrize(
    "outcomes", [[1, 0, 0, 1], [True, False, False, True], [1.0, 0.0, 0.0, 1.0], ["fraud", "fine", "fine", "fraud"]], ids=str
)
def test_outcomes_may_be_booleans_numbers_or_texts(outcomes):
    rows = pl.DataFrame({"actual": outcomes, "probability": [0.9, 0.2, 0.6, 0.4]})
    positive = "fraud" if isinstance(outcomes[0], str) else None
    assert LogLoss(positive).score(rows) == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.4]).mean())
    if positive:
        with pytest.raises(ValueError, match="positive="):
            LogLoss().score(rows)


def test_classes_may_be_numbers_and_one_may_be_new():
    rows = pl.DataFrame({"actual": [1.0, 2.0, 3.0], "probability_1": [0.5, 0.2, 0.5], "probability_2": [0.5, 0.8, 0.5]})
    assert Accuracy().score(rows) == pytest.approx(2 / 3)
    assert LogLoss().score(rows) == pytest.approx(-(math.log(0.5) + math.log(0.8) + math.log(1e-15)) / 3)


def test_costs_may_be_columns():
    rows = pl.DataFrame({"actual": [True, True, False], "probability": [0.1, 0.1, 0.9], "amount": [100.0, 1.0, 5.0]})
    cost = Cost(costs=Costs(missed="amount", false_alarm=4.0))
    assert cost.score(rows) == pytest.approx((0 + 1 + 4) / 3)
    assert Cost(costs=Costs(missed="amount", false_alarm=4.0), threshold=0.95).score(rows) == pytest.approx(101 / 3)
    with pytest.raises(ValueError, match="slices"):
        cost.score(rows.drop("amount"))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.4, 0.5, 0.9, 1.0]), st.booleans(), st.integers(0, 9), st.integers(0, 9)), min_size=1)
)
def test_the_threshold_is_the_cheapest_of_all(rows):
    probability, positive, missed, false_alarm = (np.array(column, dtype=float) for column in zip(*rows, strict=True))

    def cost(threshold):
        held = probability > threshold
        return np.where(positive == 1, np.where(held, 0, missed), np.where(held, false_alarm, 0)).sum()

    threshold = cheapest_threshold(probability, positive, missed, false_alarm)
    assert 0 <= threshold <= 1
    # A probability of 0 is never held, as no threshold is below it.
    assert cost(threshold) == min(cost(other) for other in np.linspace(0, 1, 41))
