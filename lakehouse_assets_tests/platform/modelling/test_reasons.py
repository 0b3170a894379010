"""Why a prediction is as high as it is: contributions of every kind of predictor, and reasons in words."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pytest

from lakehouse_assets import Blend, reasons
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.learning import CONTRIBUTIONS, TrainingRows
from lakehouse_assets.platform.modelling.learners.baselines import ClassPrior, InputColumn, Mean
from lakehouse_assets.platform.modelling.learners.boosting import GradientBoosting
from lakehouse_assets.platform.modelling.learners.linear import Linear
from lakehouse_assets.platform.modelling.learners.rule import BestRule
from lakehouse_assets.platform.modelling.learners.searched import Searched
from lakehouse_assets.platform.modelling.learners.segments import PerSegment
from lakehouse_assets_tests.platform.modelling.test_learners import BINARY, CLASSES, INPUTS, NUMBER, fit, sample

ROWS = sample(400)


@pytest.mark.parametrize(
    ("learner", "target"),
    [
        pytest.param(learner, target, id=f"{target}, {name}")
        for target, learners in (("y", NUMBER), ("fraud", BINARY), ("grade", CLASSES))
        for name, learner in learners.items()
    ],
)
def test_every_predictor_says_what_it_can(learner, target):
    predictor = fit(learner, ROWS, target)
    few = ROWS.head(20)
    found = predictor.contributions(few, top=2)
    assert found.schema == CONTRIBUTIONS
    assert found.height <= 40
    assert set(found["input"]) <= set(predictor.inputs)
    assert set(found["row"]) <= set(range(20))
    assert found.is_empty() or found.select((pl.col("rank") >= 1).all() & (pl.col("contribution") != 0).all()).item()
    up = predictor.contributions(few, top=2, raising=True)
    assert (up["contribution"] > 0).all()
    assert found.filter(pl.col("contribution") > 0).join(up, on=["row", "input"], how="anti").is_empty()
    assert predictor.contributions(few.clear()).schema == CONTRIBUTIONS


def test_contributions_of_a_linear_model_add_up_to_its_log_odds():
    predictor = fit(Linear("binary"), ROWS, "fraud")
    every = (
        predictor.contributions(ROWS, top=len(INPUTS)).group_by("row", maintain_order=True).agg(pl.col("contribution").sum()).sort("row")
    )
    probability = predictor.predict(ROWS)["probability"].to_numpy()
    assert np.log(probability / (1 - probability)) - predictor.intercepts[0] == pytest.approx(every["contribution"].to_numpy())


def test_the_parts_of_a_predictor_speak_for_it():
    boosted = fit(GradientBoosting(rounds=10), ROWS, "y")
    few = ROWS.head(10)
    assert Searched(boosted, {}).contributions(few).equals(boosted.contributions(few))
    blend = fit(Blend((GradientBoosting(rounds=10), Mean()), (0.5, 0.5)), ROWS, "y")
    half = blend.contributions(few).with_columns(pl.col("contribution") * 2)
    assert half["contribution"].to_numpy() == pytest.approx(boosted.contributions(few)["contribution"].to_numpy())
    segments = fit(PerSegment(GradientBoosting(rounds=5), by=("country",), least=50), ROWS, "y")
    found = segments.contributions(few)
    assert found["row"].is_sorted()
    one = few[3:4]
    assert segments.contributions(one).drop("row").equals(found.filter(row=3).drop("row"))


@dataclass(frozen=True)
class Champion:
    model: Any
    described: dict[str, str] = field(default_factory=dict)


def learnt(learner: Any, rows: pl.DataFrame) -> Any:
    inputs = tuple(name for name in rows.columns if name not in {"id", "bad"})
    return learner.fit(TrainingRows(rows.lazy(), ("id",), "id", "bad", inputs), seed=1, compute=Local())


def orders() -> pl.DataFrame:
    amount = [float(number % 50) + 0.13 for number in range(200)]
    return pl.DataFrame(
        {
            "id": range(200),
            "amount": amount,
            "abroad": [number % 3 == 0 for number in range(200)],
            "card": [None if number % 7 == 0 else "b" for number in range(200)],
            "bad": [value > 25 for value in amount],
        }
    )


def test_reasons_are_the_inputs_that_raised_the_prediction_in_the_words_of_their_contracts():
    rows = orders()
    champion = Champion(learnt(GradientBoosting("binary", rounds=20, min_data_in_leaf=5), rows), {"amount": "Amount in pounds."})
    found = reasons(champion, rows)
    assert found.name == "reasons"
    assert len(found) == 200
    assert found[49].startswith("Amount in pounds: 49.13")
    assert found[0] is None or "Amount" not in found[0], "a small amount does not raise it"
    assert reasons(champion, rows, words={"amount": "Paid"}, most=1)[49] == "Paid: 49.13"
    assert reasons(champion, rows.clear()).is_empty()


def test_a_rule_names_its_column_and_a_constant_has_no_reason():
    rows = orders()
    rule = reasons(Champion(learnt(BestRule(), rows)), rows)
    assert rule[49] == "amount: 49.13"
    assert rule[0] is None
    assert reasons(Champion(learnt(ClassPrior(), rows)), rows).null_count() == 200
    assert reasons(Champion(learnt(InputColumn("amount", default=0.0), rows)), rows)[1] == "amount: 1.13"


def test_values_are_said_as_people_read_them():
    rows = orders().with_columns(bad=pl.col("abroad") & pl.col("card").is_null())
    found = reasons(Champion(learnt(GradientBoosting("binary", rounds=20, min_data_in_leaf=2), rows)), rows, most=2)
    assert set(found[0].split("; ")) == {"abroad: yes", "card: none"}
