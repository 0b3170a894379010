"""Pictures of a test and of a fitted model: a PNG for whatever was predicted, also where there is hardly anything to draw."""

import math
from typing import ClassVar

import polars as pl
import pytest

from lakehouse_assets.platform.declarations.learning import Predictor
from lakehouse_assets.platform.modelling import evaluation_plots as plots
from lakehouse_assets.platform.modelling.evaluation import Evaluation
from lakehouse_assets.platform.modelling.metrics import MeanAbsoluteError

PNG = b"\x89PNG\r\n\x1a\n"


class Score(MeanAbsoluteError):
    """Of whatever stands in the first column of a prediction."""

    def score(self, rows):
        return rows["actual"].cast(pl.Float64).mean() if rows.height else math.nan


class NoScore(Score):
    """No rows allow one."""

    def score(self, rows):
        return math.nan


def evaluation(height: int, constant: bool = False, folds: int = 2, **columns) -> Evaluation:
    numbers = range(height)
    values = {name: [value(0 if constant else number) for number in numbers] for name, value in columns.items()}
    frame = pl.DataFrame({"fold": [str(number % folds) for number in numbers], **values})
    return Evaluation(pl.concat([frame.select(pl.lit(name).alias("candidate"), pl.all()) for name in ("model", "naive")]))


NUMBER = {"actual": float, "prediction": lambda number: number + 1.0}
QUANTILES = {"actual": float, "p10": lambda n: n - 1.0, "p50": float, "p90": lambda n: n + 1.5, "mean": lambda n: n + 0.2}
BINARY = {"actual": lambda number: number % 2 == 0, "probability": lambda number: number % 10 / 10}
CLASSES = {"actual": lambda number: "ab"[number % 2], "probability_a": lambda number: 0.3, "probability_b": lambda number: 0.7}


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("height", [1, 2, 30])
@pytest.mark.parametrize(
    ("columns", "names"),
    [
        (NUMBER, {"folds", "residuals"}),
        (QUANTILES, {"folds", "residuals", "coverage"}),
        (BINARY, {"folds", "calibration"}),
        (CLASSES, {"folds"}),
    ],
)
def test_every_kind_of_prediction_is_drawn(columns, names, height, constant):
    metric = NoScore() if columns is CLASSES else Score()
    found = plots.of_evaluation(evaluation(height, constant, **columns), metric, "model")
    assert set(found) == names
    assert all(picture.startswith(PNG) for picture in found.values())


@pytest.mark.parametrize("columns", [NUMBER, QUANTILES, BINARY])
def test_outcomes_that_are_not_there_are_no_error(columns):
    tested = evaluation(4, **columns)
    tested = Evaluation(tested.rows.with_columns(pl.lit(None, tested.rows.schema["actual"]).alias("actual")))
    assert all(picture.startswith(PNG) for picture in plots.of_evaluation(tested, NoScore(), "model").values())


def test_many_folds_and_many_rows_are_drawn():
    found = plots.of_evaluation(evaluation(9_000, folds=26, **NUMBER), Score(), "model")
    assert all(picture.startswith(PNG) for picture in found.values())


class Fitted(Predictor):
    """A model with what it is given to show."""

    word: ClassVar[str] = "test_fitted"

    def __init__(self, importance=None, curve=None):
        self._shown = importance, curve

    inputs = ()

    def predict(self, rows):
        raise NotImplementedError

    def save(self, folder):
        raise NotImplementedError

    @classmethod
    def load(cls, folder):
        raise NotImplementedError

    def importance(self):
        return self._shown[0]

    def learning_curve(self):
        return self._shown[1]


def importance(count: int) -> pl.DataFrame:
    return pl.DataFrame({"input": [f"input_{number}" for number in range(count)], "importance": [1 / max(count, 1)] * count})


@pytest.mark.parametrize(
    ("shown", "curve", "names"),
    [
        (None, None, set()),
        (importance(0), pl.DataFrame({"round": [], "train": []}), set()),
        (importance(1), pl.DataFrame({"round": [0], "train": [0.5]}), {"importance", "learning_curve"}),
        (importance(50), pl.DataFrame({"round": [1, 2], "train": [0.5, 0.4], "held out": [0.6, None]}), {"importance", "learning_curve"}),
        (pl.DataFrame({"input": ["$a_b^{"], "importance": [0.0]}), None, {"importance"}),
    ],
)
def test_a_fitted_model_is_drawn_as_far_as_it_tells(shown, curve, names):
    found = plots.of_predictor(Fitted(shown, curve))
    assert set(found) == names
    assert all(picture.startswith(PNG) for picture in found.values())


@pytest.mark.parametrize("value", [0.0, 110.0, -3.0])
def test_a_constant_that_is_predicted_as_it_is_has_a_plot_without_a_warning(value):
    rows = evaluation(20, actual=lambda _: value, prediction=lambda _: value)
    assert plots.of_evaluation(rows, Score(), "model")["residuals"].startswith(PNG)
