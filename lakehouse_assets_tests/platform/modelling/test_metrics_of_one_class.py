"""Outcomes of one class alone score no classifier: one that never saw the other class would be perfect."""

import math

import polars as pl
import pytest

from lakehouse_assets.platform.modelling.metrics import (
    Accuracy,
    Auc,
    AveragePrecision,
    Brier,
    CalibrationError,
    Cost,
    LogLoss,
    MacroF1,
)

METRICS = [Accuracy(), Auc(), AveragePrecision(), Brier(), CalibrationError(), Cost(), LogLoss(), MacroF1()]
each = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


@each
@pytest.mark.parametrize("outcome", [True, False])
def test_rows_of_one_class_have_no_score(metric, outcome):
    rows = pl.DataFrame({"actual": [outcome] * 4, "probability": [0.1, 0.2, 0.3, 0.4]})
    assert math.isnan(metric.score(rows))
    unknown = pl.DataFrame({"actual": [None], "probability": [0.5]}, schema_overrides={"actual": pl.Boolean})
    assert math.isnan(metric.score(pl.concat([rows, unknown])))
    other = pl.DataFrame({"actual": [not outcome], "probability": [0.5]})
    assert math.isfinite(metric.score(pl.concat([rows, other])))


@each
def test_a_row_of_the_other_class_that_does_not_count_does_not_help(metric):
    rows = pl.DataFrame({"actual": [True, True, False], "probability": [0.5, 0.6, 0.1], "weight": [1.0, 1.0, 0.0]})
    assert math.isnan(metric.score(rows))


@pytest.mark.parametrize("metric", [metric for metric in METRICS if not isinstance(metric, Cost)], ids=lambda metric: metric.name)
def test_of_several_classes_two_have_to_come(metric):
    shares = {"probability_a": [0.5] * 3, "probability_b": [0.3] * 3, "probability_c": [0.2] * 3}
    assert math.isnan(metric.score(pl.DataFrame({"actual": ["b"] * 3, **shares})))
    assert math.isfinite(metric.score(pl.DataFrame({"actual": ["b", "b", "a"], **shares})))
