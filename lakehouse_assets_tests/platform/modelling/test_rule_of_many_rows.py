"""The best rule of one column where there are too many rows to try every condition on all of them."""

import numpy as np
import polars as pl
import pytest

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.learning import TrainingRows
from lakehouse_assets.platform.modelling.learners.rule import BestRule

ROWS = 250_000


def fit(learner, rows, target, inputs):
    training = TrainingRows(rows.lazy(), ("id",), "at", target, inputs)
    return learner.fit(training, seed=1, compute=Local())


@pytest.fixture(scope="module")
def rows():
    amount = np.random.default_rng(3).permutation(ROWS)
    noise = np.random.default_rng(4).random(ROWS)
    return pl.DataFrame({"id": np.arange(ROWS), "at": np.arange(ROWS), "noise": noise, "amount": amount}).with_columns(
        rare=pl.col("amount") >= ROWS - 60, y=pl.when(pl.col("amount") < 100_000).then(2.0).otherwise(5.0)
    )


def test_a_rare_class_is_never_missed_by_the_sample(rows):
    rule = fit(BestRule(), rows, "rare", ("noise", "amount"))
    told = rule.predict(rows)["probability"]
    assert int((told > 0.5).sum()) < 90, str(rule)
    assert told.filter(rows["rare"]).min() > 0.5


def test_predictions_are_made_of_all_rows(rows):
    rule = fit(BestRule("regression"), rows, "y", ("noise", "amount"))
    above = rows["amount"].to_numpy() > float(str(rule).removeprefix("amount > "))
    told = rule.predict(rows)["prediction"].to_numpy()
    assert told[above] == pytest.approx(rows["y"].to_numpy()[above].mean())
    assert abs(float(str(rule).removeprefix("amount > ")) - 100_000) < 50
    assert str(fit(BestRule("regression"), rows, "y", ("noise", "amount"))) == str(rule)
