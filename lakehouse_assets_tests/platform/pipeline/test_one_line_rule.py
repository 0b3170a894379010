"""The rule of one line next to a model is of the model's own task, wherever in its parts the learner says it."""

from dataclasses import dataclass
from typing import Any

import pytest

from lakehouse_assets.platform.modelling.learners.baselines import Mean
from lakehouse_assets.platform.modelling.learners.blend import Blend
from lakehouse_assets.platform.modelling.learners.boosting import GradientBoosting
from lakehouse_assets.platform.modelling.learners.linear import Linear
from lakehouse_assets.platform.modelling.learners.rule import BestRule
from lakehouse_assets.platform.modelling.learners.segments import PerSegment
from lakehouse_assets.platform.pipeline.model_training import _rule


@dataclass(frozen=True)
class ByName:
    """A learner with learners by name."""

    parts: dict[str, Any]

    def fit(self, training, *, seed, compute):
        """Never called."""


@pytest.mark.parametrize(
    ("learner", "rule"),
    [
        (Linear("multiclass"), BestRule("multiclass")),
        (GradientBoosting("quantiles"), BestRule("regression")),
        (PerSegment(Linear("regression"), by=("shop",)), BestRule("regression")),
        (Blend((Linear("multiclass"), GradientBoosting("multiclass")), (0.5, 0.5)), BestRule("multiclass")),
        (Blend((Mean(), GradientBoosting("regression")), (0.5, 0.5)), BestRule("regression")),
        (ByName({"one": Linear("binary", "yes")}), BestRule("binary", "yes")),
        (PerSegment(Blend((Linear("regression"),), (1.0,)), by=("shop",)), BestRule("regression")),
        (Mean(), BestRule(None)),
        (object(), BestRule(None)),
    ],
)
def test_the_rule_is_of_the_task_of_the_learner(learner, rule):
    assert _rule(learner) == rule
