"""Learners and their predictors: every kind of column, hard rows, equal bytes, and what was stored comes back as it was.

The suite tries a sample; `python -m benchmarks.sweeps` tries everything.
"""

import json
import math
import os
import subprocess
import sys
import zipfile
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.compute.travel import packed, unpacked
from lakehouse_assets.platform.declarations.learning import NotEnoughData, TrainingRows
from lakehouse_assets.platform.modelling.costs import Costs
from lakehouse_assets.platform.modelling.learners.baselines import ClassPrior, InputColumn, Mean, Median
from lakehouse_assets.platform.modelling.learners.boosting import GradientBoosting
from lakehouse_assets.platform.modelling.learners.estimators import Sklearn, SklearnPredictor
from lakehouse_assets.platform.modelling.learners.linear import Linear
from lakehouse_assets.platform.modelling.learners.rule import BestRule
from lakehouse_assets.platform.modelling.learners.segments import PerSegment
from lakehouse_assets.platform.modelling.metrics import Coverage, LogLoss, Pinball
from lakehouse_assets.platform.modelling.predictors import load_predictor, save_predictor
from lakehouse_assets_tests import sweeps

INPUTS = ("amount", "count", "country", "level", "new", "day", "at", "took", "hour", "price", "empty", "nothing")
TREES = {"n_estimators": 5, "max_depth": 4}
NUMBER = {
    "boosting": GradientBoosting(rounds=30),
    "boosting with bands": GradientBoosting(calibrated=True, rounds=30),
    "mean of amounts": GradientBoosting("mean", rounds=30),
    "quantiles": GradientBoosting("quantiles", calibrated=True, rounds=30),
    "linear": Linear(),
    "mean": Mean(),
    "median": Median(),
    "column": InputColumn("amount"),
    "rule": BestRule("regression"),
    "trees": Sklearn(ExtraTreesRegressor(**TREES)),
    "segments": PerSegment(GradientBoosting(rounds=5), by=("country",), least=50),
}
BINARY = {
    "boosting": GradientBoosting("binary", rounds=30),
    "calibrated": GradientBoosting("binary", calibrated=True, costs=Costs(missed="count", false_alarm=4.0), rounds=30),
    "linear": Linear("binary"),
    "prior": ClassPrior(),
    "rule": BestRule(),
    "trees": Sklearn(ExtraTreesClassifier(**TREES), "binary"),
    "segments": PerSegment(Linear("binary"), by=("country", "level"), least=50),
}
CLASSES = {
    "boosting": GradientBoosting("multiclass", rounds=20),
    "calibrated": GradientBoosting("multiclass", calibrated=True, rounds=20),
    "linear": Linear("multiclass"),
    "prior": ClassPrior("multiclass"),
    "rule": BestRule("multiclass"),
    "vectors": Sklearn(make_pipeline(StandardScaler(), SVC(probability=False)), "regression"),
    "trees": Sklearn(ExtraTreesClassifier(**TREES), "multiclass"),
    "segments": PerSegment(GradientBoosting("multiclass", rounds=5), by=("country",), least=50),
}
del CLASSES["vectors"]
ALL = [
    *((f"number {name}", learner, "y") for name, learner in NUMBER.items()),
    *((f"binary {name}", learner, "fraud") for name, learner in BINARY.items()),
    *((f"classes {name}", learner, "grade") for name, learner in CLASSES.items()),
]
each = pytest.mark.parametrize(("learner", "target"), [case[1:] for case in ALL], ids=[case[0] for case in ALL])


def sample(rows=300, seed=1):
    """Rows with inputs of every type, some of them missing, and a target of every kind."""
    rng = np.random.default_rng(seed)
    amount = rng.gamma(2, 100, rows)
    country = rng.choice(["GB", "FR", "DE", "ES"], rows, p=[0.5, 0.3, 0.15, 0.05])
    signal = amount / 200 + (country == "FR") - 1.5
    days = rng.integers(0, 400, rows)
    frame = pl.DataFrame(
        {
            "id": range(rows),
            "made": [datetime(2011, 1, 1, tzinfo=UTC) + timedelta(hours=number) for number in range(rows)],
            "amount": amount,
            "count": rng.integers(0, 9, rows),
            "country": country,
            "level": pl.Series(rng.choice(["low", "high"], rows), dtype=pl.Enum(["low", "high"])),
            "new": rng.integers(0, 2, rows).astype(bool),
            "day": [date(2011, 1, 1) + timedelta(days=int(day)) for day in days],
            "at": [datetime(2011, 1, 1, tzinfo=UTC) + timedelta(minutes=int(day)) for day in days],
            "took": [timedelta(seconds=int(day)) for day in days],
            "hour": [time(int(day) % 24) for day in days],
            "price": [Decimal(int(day)) / 100 for day in days],
            "empty": pl.Series([None] * rows, dtype=pl.Float64),
            "nothing": pl.Series([None] * rows, dtype=pl.Null),
            "y": 10 + 5 * signal + rng.normal(size=rows),
            "fraud": rng.uniform(size=rows) < 1 / (1 + np.exp(-signal)),
        }
    ).with_columns(
        pl.when(pl.col("id") % 11 > 0).then(pl.col("amount", "country", "day", "new", "level", "price")),
        grade=pl.when(pl.col("y") > 12).then(pl.lit("good")).when(pl.col("y") > 8).then(pl.lit("fair")).otherwise(pl.lit("bad")),
    )
    return frame.with_columns(pl.col("y").abs())


def training(rows, target, inputs=INPUTS):
    return TrainingRows(rows.lazy(), ("id",), "made", target, inputs)


def fit(learner, rows, target, inputs=INPUTS, seed=1):
    return learner.fit(training(rows, target, inputs), seed=seed, compute=Local())


def saved(predictor, folder):
    save_predictor(predictor, folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@each
def test_what_was_stored_comes_back_as_it_was_in_equal_bytes(learner, target, tmp_path):
    rows = sample()
    predictor = fit(learner, rows, target)
    bytes_before = saved(predictor, tmp_path / "a")
    assert saved(fit(learner, rows.sample(fraction=1, shuffle=True, seed=5), target), tmp_path / "again") == bytes_before
    loaded = load_predictor(tmp_path / "a")
    new = sample(60, seed=2).with_columns(country=pl.lit("XX"))
    new = pl.concat([new, sample(60, seed=3)])
    assert loaded.predict(new.select(reversed(loaded.inputs))).equals(predictor.predict(new))
    assert saved(loaded, tmp_path / "b") == bytes_before
    assert loaded.inputs == predictor.inputs
    assert loaded.settings() == predictor.settings()
    elsewhere = unpacked(packed(predictor, "a predictor"), "a predictor")
    assert saved(elsewhere, tmp_path / "c") == bytes_before
    assert repr(unpacked(packed(learner, "a learner"), "a learner")) == repr(learner)


@each
def test_predictions_are_numbers_for_every_row_whatever_it_lacks(learner, target):
    predictor = fit(learner, sample(), target)
    lacking = sample(40, seed=2).with_columns(
        pl.lit(None, dtype=dtype).alias(name) for name, dtype in sample(1).select(INPUTS).schema.items()
    )
    new = pl.concat([sample(40, seed=2), lacking])
    predicted = predictor.predict(new)
    assert predicted.height == 80
    values = predicted.to_numpy()
    assert np.isfinite(values).all()
    one_by_one = pl.concat(predictor.predict(new[[number]]) for number in (0, 7, 70))
    assert np.allclose(one_by_one.to_numpy(), values[[0, 7, 70]], rtol=1e-12, atol=0)
    if target != "y":
        assert ((values >= 0) & (values <= 1)).all()
    if target == "grade":
        assert predicted.columns == ["probability_bad", "probability_fair", "probability_good"]
        assert np.allclose(values.sum(axis=1), 1)
    assert predictor.predict(new.clear()).schema == predicted.schema
    assert predictor.predict(new.clear()).is_empty()
    importance = predictor.importance()
    if importance is not None:
        assert importance["importance"].sum() == pytest.approx(1)
        assert set(importance["input"]) <= set(INPUTS)


@each
def test_without_a_known_target_it_says_so(learner, target):
    rows = sample(50)
    for none in (rows.clear(), rows.with_columns(pl.lit(None, dtype=rows.schema[target]).alias(target))):
        with pytest.raises(NotEnoughData, match=target):
            fit(learner, none, target)


@pytest.mark.parametrize(
    ("learner", "target"), [case[1:] for case in ALL if case[2] != "y"], ids=[case[0] for case in ALL if case[2] != "y"]
)
def test_a_single_class_is_not_enough(learner, target):
    rows = sample(80)
    with pytest.raises(NotEnoughData, match="all 80 rows"):
        fit(learner, rows.with_columns(pl.lit(rows[0, target]).alias(target)), target)


@each
@pytest.mark.parametrize("rows", [2, 5, 23])
def test_few_rows_and_columns_without_information_give_an_answer(learner, target, rows):
    few = sample(400)
    if target != "y":
        few = pl.concat([part.head(max(rows // few[target].n_unique(), 1)) for part in few.partition_by(target, maintain_order=True)])
    few = few.head(max(rows, few[target].n_unique()) if target != "y" else rows)
    predicted = fit(learner, few, target).predict(few)
    assert np.isfinite(predicted.to_numpy()).all()
    if "amount" not in repr(learner) and not isinstance(learner, PerSegment):
        constant = few.with_columns(pl.lit(1).alias("count"))
        assert np.isfinite(fit(learner, constant, target, ("count", "empty", "nothing")).predict(constant).to_numpy()).all()


@pytest.mark.parametrize("learner", NUMBER.values(), ids=NUMBER)
def test_a_constant_target_is_predicted_as_it_is(learner):
    rows = sample().with_columns(y=pl.lit(7.5))
    if isinstance(learner, InputColumn):
        return
    predicted = fit(learner, rows, "y").predict(rows).to_numpy()
    assert np.allclose(predicted, 7.5, atol=1e-6)


@pytest.mark.parametrize("values", [[0, 1], [False, True], ["fine", "fraud"], [0.0, 1.0]], ids=str)
def test_two_values_may_be_of_any_type(values):
    rows = sample()
    rows = rows.with_columns(fraud=pl.when("fraud").then(pl.lit(values[1])).otherwise(pl.lit(values[0])))
    positive = "fraud" if isinstance(values[0], str) else None
    expected = fit(GradientBoosting("binary", rounds=10), sample(), "fraud").predict(sample())
    for learner in (GradientBoosting("binary", rounds=10, positive=positive), Linear("binary", positive), BestRule("binary", positive)):
        predicted = fit(learner, rows, "fraud").predict(rows)
        assert predicted.columns == ["probability"]
        assert predicted.filter(sample()["fraud"])["probability"].mean() > predicted.filter(~sample()["fraud"])["probability"].mean()
    assert fit(GradientBoosting("binary", rounds=10, positive=positive), rows, "fraud").predict(rows).equals(expected)


def test_what_does_not_fit_is_refused_by_name():
    rows = sample().with_columns(odd=pl.lit([1.0]), word=pl.lit("x"))
    with pytest.raises(TypeError, match="'odd'"):
        fit(Mean() if False else GradientBoosting(rounds=3), rows, "y", ("odd",))
    with pytest.raises(ValueError, match="positive="):
        fit(GradientBoosting("binary"), rows.filter(pl.col("grade") != "fair"), "grade")
    with pytest.raises(ValueError, match="multiclass"):
        fit(GradientBoosting("binary"), rows, "grade")
    with pytest.raises(ValueError, match="'grade'"):
        fit(GradientBoosting(), rows, "grade")
    predictor = fit(Linear(), rows, "y", ("amount", "country"))
    with pytest.raises(ValueError, match="country"):
        predictor.predict(rows.drop("country"))
    with pytest.raises(TypeError, match="'amount'"):
        predictor.predict(rows.with_columns(amount=pl.lit("x")))


def test_a_category_is_learnt_and_a_new_one_is_as_good_as_a_rare_one():
    rows = sample(400).with_columns(y=pl.col("country").replace_strict({"FR": 10.0, "GB": 0.0}, default=5.0))
    for learner in (GradientBoosting(), Linear(strength=0.01)):
        predicted = fit(learner, rows, "y", ("country",)).predict(pl.DataFrame({"country": ["FR", "GB", "new", None]}))["prediction"]
        assert predicted[0] == pytest.approx(10, abs=0.3)
        assert predicted[1] == pytest.approx(0, abs=0.3)


def test_a_weight_counts():
    rows = sample().with_columns(
        weight=pl.when(pl.col("id") < 150).then(1.0).otherwise(0.0), y=pl.when(pl.col("id") < 150).then(1.0).otherwise(9.0)
    )
    for learner in (Mean(), Median(), Linear(), GradientBoosting(), Sklearn(ExtraTreesRegressor(**TREES)), BestRule("regression")):
        assert fit(learner, rows, "y").predict(rows)["prediction"].to_numpy() == pytest.approx(np.ones(300), abs=1e-6), learner


def test_quantiles_hold_their_share_and_never_cross():
    rows, unseen = sample(3000), sample(3000, seed=9)
    for learner in (GradientBoosting("quantiles", calibrated=True), GradientBoosting(calibrated=True)):
        predicted = fit(learner, rows, "y").predict(unseen)
        assert predicted.columns == ["p10", "p50", "p90", "mean"]
        assert (np.diff(predicted.select("p10", "p50", "p90").to_numpy()) >= 0).all()
        assert Coverage().score(predicted.with_columns(actual=unseen["y"])) == pytest.approx(0.8, abs=0.04)
        assert Pinball().score(predicted.with_columns(actual=unseen["y"])) < 2


def test_calibration_makes_probabilities_honest_and_costs_choose_the_threshold():
    rows, unseen = sample(3000), sample(3000, seed=9)
    rough = GradientBoosting("binary", learning_rate=0.5, num_leaves=63, min_data_in_leaf=1, lambda_l2=0.0, rounds=100, early_stopping=None)
    losses = [
        LogLoss().score(fit(learner, rows, "fraud").predict(unseen).with_columns(actual=unseen["fraud"]))
        for learner in (rough, GradientBoosting(**{**rough.__dict__, "calibrated": True}))
    ]
    assert losses[1] < losses[0] * 0.7
    thresholds = [
        fit(GradientBoosting("binary", costs=Costs(missed, 1.0)), rows, "fraud").settings()["threshold"] for missed in (0.2, 1.0, 20.0)
    ]
    assert thresholds == sorted(thresholds, reverse=True)
    assert thresholds[0] > 0.6
    assert thresholds[2] < 0.2


def test_contributions_add_up_to_the_prediction_and_name_the_reasons():
    rows = sample(500)
    for learner, target in ((GradientBoosting(rounds=20), "y"), (GradientBoosting("multiclass", rounds=20), "grade")):
        predictor = fit(learner, rows, target)
        reasons = predictor.contributions(rows.head(30), top=2)
        assert reasons.columns == ["row", "rank", "input", "value", "contribution"]
        assert reasons.height == 60
        assert reasons.filter(rank=1)["input"].value_counts(sort=True)[0, "input"] == "amount"
    predictor = fit(GradientBoosting(rounds=20), rows, "y")
    every = predictor.contributions(rows, top=len(INPUTS)).group_by("row", maintain_order=True).agg(pl.col("contribution").sum())
    offset = predictor.predict(rows)["prediction"] - every["contribution"]
    assert offset.to_numpy() == pytest.approx(np.full(500, offset[0]))
    assert predictor.contributions(rows.clear()).is_empty()


def test_the_best_rule_is_found_and_said():
    rows = sample(500).with_columns(fraud=pl.col("amount").fill_null(0) > 500)
    assert str(fit(BestRule(), rows, "fraud")) == "amount > 500"
    rows = rows.with_columns(fraud=pl.col("country").eq_missing("FR"))
    assert str(fit(BestRule(), rows, "fraud")) == "country is 'FR'"
    rows = rows.with_columns(fraud=pl.col("price").is_null() & (pl.col("id") < 450))
    predictor = fit(BestRule(), rows, "fraud", ("count", "price"))
    assert predictor.settings() == {"rule": "price is missing"}
    rows = rows.with_columns(fraud=pl.col("country").is_null())
    assert str(fit(BestRule(), rows, "fraud", ("country",))) == "country is missing"
    assert str(fit(BestRule("regression"), rows.with_columns(y=pl.lit(1.0)), "y")) == "always the same"


def test_a_segment_has_its_own_predictor_if_it_is_large_enough():
    rows = sample(600).with_columns(y=pl.when(pl.col("country") == "GB").then(pl.col("count")).otherwise(-pl.col("count")).cast(pl.Float64))
    predictor = fit(PerSegment(Linear(), by=("country",), least=100), rows, "y", ("country", "count"))
    assert [json.loads(segment)["0"] for segment in predictor.segments] == ["FR", "GB"]
    predicted = predictor.predict(pl.DataFrame({"count": [8, 8, 8, 8], "country": ["FR", "GB", "new", None]}))["prediction"]
    assert predicted[0] == pytest.approx(-8, abs=0.5)
    assert predicted[1] == pytest.approx(8, abs=0.5)
    whole = fit(Linear(), rows, "y", ("country", "count"))
    assert predicted[2] == whole.predict(pl.DataFrame({"count": [8], "country": ["new"]}))[0, "prediction"]
    with pytest.raises(ValueError, match="told apart by inputs"):
        fit(PerSegment(Linear(), by=("grade",)), rows, "y", ("country", "count"))


def test_a_stored_estimator_of_types_that_are_not_trusted_is_not_loaded(tmp_path):
    rows = sample(100)
    odd = Sklearn(make_pipeline(FunctionTransformer(os.path.basename, validate=False), ExtraTreesRegressor(**TREES)))
    with pytest.raises((TypeError, ValueError)):
        save_predictor(
            SklearnPredictor(
                fit(Sklearn(ExtraTreesRegressor(**TREES)), rows, "y").encoding, fit(Mean(), rows, "y").target, (), odd.estimator
            ),
            tmp_path / "no",
        )
    save_predictor(fit(Sklearn(ExtraTreesRegressor(**TREES)), rows, "y"), tmp_path / "model")
    file = tmp_path / "model" / "estimator.skops"
    with zipfile.ZipFile(file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(contents["schema.json"])
    schema["__class__"], schema["__module__"] = "Popen", "subprocess"
    contents["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    with pytest.raises(TypeError, match="Popen"):
        load_predictor(tmp_path / "model")


THREADS = """
import sys
from pathlib import Path
from lakehouse_assets_tests.platform.modelling.test_learners import ALL, GradientBoosting, fit, sample
from lakehouse_assets.platform.modelling.predictors import save_predictor
from lakehouse_assets.platform.modelling.splits import GroupSplit, StratifiedSplit
rows = sample(300)
large = fit(GradientBoosting(rounds=4, parameters={"bagging_freq": 1, "bagging_fraction": 0.7}), sample(20_000), "y")
save_predictor(large, Path(sys.argv[1]) / "large")
for number, (name, learner, target) in enumerate(ALL):
    save_predictor(fit(learner, rows, target), Path(sys.argv[1]) / str(number))
known = rows.select("id", "made", "grade")
parts = [fold.test for split in (GroupSplit("id"), StratifiedSplit("grade")) for fold in split.folds(known, at="made")]
(Path(sys.argv[1]) / "folds").write_text(str([rows.filter(part)["id"].to_list() for part in parts]))
"""


def test_models_and_folds_are_the_same_bytes_on_any_number_of_threads(tmp_path):
    found = []
    for threads in sweeps.of(("1", "8"), ("1", "2", "8")):
        folder = tmp_path / threads
        folder.mkdir()
        limits = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        subprocess.run([sys.executable, "-c", THREADS, str(folder)], env={**os.environ, **limits}, check=True)
        found.append({str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()})
    assert len(found[0]) > len(ALL)
    for other in found[1:]:
        assert [name for name in found[0] if other.get(name) != found[0][name]] == []


def test_numbers_that_are_not_finite_are_missing():
    rows = sample()
    odd = rows.with_columns(amount=pl.when(pl.col("amount").is_not_null()).then("amount").otherwise(math.inf))
    assert fit(GradientBoosting(rounds=5), odd, "y").predict(odd).equals(fit(GradientBoosting(rounds=5), rows, "y").predict(rows))


@pytest.mark.parametrize(
    ("target", "kind"), [("y", "number"), ("count", "number"), ("fraud", "binary"), ("grade", "classes"), ("level", "classes")]
)
def test_a_rule_that_is_not_told_the_task_takes_it_from_the_target(target, kind):
    inputs = tuple(name for name in INPUTS if name != target)
    rule = fit(BestRule(None), sample(), target, inputs)
    assert rule.target.kind == kind
