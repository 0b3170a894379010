"""Candidates on the same unseen rows: what each predicts, and the scores by fold and slice that follow from it."""

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import ClassVar

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.compute.progress import now
from lakehouse_assets.platform.declarations.learning import Fold, NotEnoughData, Predictor
from lakehouse_assets.platform.modelling.evaluation import Candidates, Evaluation
from lakehouse_assets.platform.modelling.metrics import MeanAbsoluteError
from lakehouse_assets.platform.modelling.splits import RollingTime

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = pl.DataFrame(
    {
        "id": list(range(40)),
        "at": [START + timedelta(days=number) for number in range(40)],
        "x": [float(number % 5) for number in range(40)],
        "country": [None if number % 10 == 9 else "GB" if number % 2 else "FR" for number in range(40)],
        "y": [float(number % 5 + number % 3) for number in range(40)],
        "label_known_at": [START + timedelta(days=number, hours=1) for number in range(40)],
    },
    schema_overrides={"at": pl.Datetime("us", "UTC"), "label_known_at": pl.Datetime("us", "UTC")},
)


@dataclass(frozen=True)
class Orders:
    """Rows as they are given."""

    frame: pl.DataFrame = field(default_factory=lambda: ROWS, repr=False)
    key: tuple[str, ...] = ("id",)
    at: str = "at"
    target: str = "y"
    inputs: tuple[str, ...] = ("x",)
    slices: tuple[str, ...] = ("country",)

    def sources(self):
        return ()

    def identity(self):
        return "orders"

    def rows(self, read, known_until=None):
        rows = self.frame.lazy()
        return rows if known_until is None else rows.filter(pl.col("label_known_at") <= known_until)


@dataclass(frozen=True)
class Shift(Predictor):
    """Predicts x plus something, and remembers the rows that it learnt from."""

    word: ClassVar[str] = "test_shift"
    by: float
    learnt: tuple[int, ...] = ()

    @property
    def inputs(self):
        return ("x",)

    def predict(self, rows):
        assert rows.columns == ["x"], "a predictor is given its inputs alone"
        return rows.select(prediction=pl.col("x") + self.by)

    def save(self, folder):
        raise NotImplementedError

    @classmethod
    def load(cls, folder):
        raise NotImplementedError


@dataclass(frozen=True)
class Learner:
    """Learns the mean of y - x; needs so many rows."""

    needs: int = 1
    off: float = 0.0

    def fit(self, training, *, seed, compute):
        rows = training.collect()
        if rows.height < self.needs:
            raise NotEnoughData(f"{self.needs} rows are needed, and there are {rows.height}.")
        return Shift((rows["y"] - rows["x"]).mean() + self.off, tuple(rows["id"]))


def candidates(frame=ROWS, **learners):
    learners = learners or {"model": Learner(), "off": Learner(off=3.0)}
    return Candidates(learners, Orders(frame), lambda name: pl.LazyFrame(), 7, Local())


WEEKS = RollingTime(every=timedelta(days=7), count=3)


def test_every_candidate_predicts_the_same_rows_and_has_seen_none_of_them():
    found = candidates().evaluate(WEEKS)
    assert found.candidates == ("model", "off")
    assert len(found.folds) == 3
    about = ["fold", "id", "at", "country", "actual"]
    assert_frame_equal(found.of("model").select(about), found.of("off").select(about))
    assert found.of("model")["id"].to_list() == list(range(19, 40))
    difference = found.of("off")["prediction"] - found.of("model")["prediction"]
    assert difference.round(9).unique().to_list() == [3.0]
    for fold in WEEKS.folds(candidates().index, at="at"):
        learnt = set(Learner().fit(candidates().training_rows(fold), seed=7, compute=Local()).learnt)
        tested = found.rows.filter(pl.col("fold") == fold.name)["id"]
        assert 0 < len(learnt) <= tested.min()
        assert max(learnt) < tested.min()


def test_all_rows_are_learnt_from_in_the_end():
    assert candidates().fit("model").learnt == tuple(range(40))


def test_a_fold_for_which_one_candidate_has_not_enough_data_is_left_out_for_all():
    found = candidates(model=Learner(), careful=Learner(needs=22)).evaluate(WEEKS)
    assert len(found.folds) == 2
    assert found.of("model")["fold"].unique().sort().to_list() == found.of("careful")["fold"].unique().sort().to_list()


def test_without_any_fold_the_reason_of_the_newest_is_said():
    with pytest.raises(NotEnoughData, match="1000 rows are needed, and there are 32"):
        candidates(model=Learner(), careful=Learner(needs=1000)).evaluate(WEEKS)


def test_scores_are_those_of_the_metric_by_fold_and_slice():
    found, metric = candidates().evaluate(WEEKS), MeanAbsoluteError()
    losses = found.losses(metric)
    assert losses.columns == ["fold", "slice", "value", "candidate", "score", "loss", "rows"]
    assert losses.filter(pl.col("slice").is_null()).height == 6
    assert set(losses.filter(pl.col("slice") == "country")["value"]) == {"GB", "FR", None}
    for fold, slice_, value, candidate, score, _, rows in losses.iter_rows():
        part = found.of(candidate).filter(pl.col("fold") == fold)
        if slice_ is not None:
            part = part.filter(pl.col(slice_).eq_missing(value))
        assert (score, rows) == (pytest.approx((part["actual"] - part["prediction"]).abs().mean()), part.height)
    overall = losses.filter(pl.col("slice").is_null(), pl.col("candidate") == "off")["score"].mean()
    scores = found.scores([metric]).rows_by_key("candidate", named=True, unique=True)
    assert scores["off"]["MeanAbsoluteError"] == pytest.approx(overall)


def test_what_a_metric_gives_no_score_for_is_left_out():
    class Nowhere(MeanAbsoluteError):
        def score(self, rows):
            return float("nan") if rows["fold"][0] == rows["fold"].max() and rows.height < 4 else super().score(rows)

    losses = candidates().evaluate(WEEKS).losses(Nowhere())
    assert losses["score"].is_finite().all()
    assert losses.height < candidates().evaluate(WEEKS).losses(MeanAbsoluteError()).height


def test_a_weight_goes_along():
    assert "weight" not in candidates().evaluate(WEEKS).rows.columns
    weighted = candidates(ROWS.with_columns(weight=pl.lit(2.0))).evaluate(WEEKS).rows
    assert weighted["weight"].unique().to_list() == [2.0]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda rows: rows.select(prediction="x").head(3), "bad predicts 3 rows of 7: a predictor gives one row for each"),
        (lambda rows: rows.select(prediction=pl.lit(None, pl.Float64).repeat_by(1).explode()), "bad predicts 1 rows of 7"),
        (lambda rows: rows.select(prediction=pl.when(pl.col("x") > 0).then("x")), "bad gives no finite prediction for 2 of 7 rows of fold"),
        (lambda rows: rows.select(prediction=pl.col("x") / 0), "bad gives no finite prediction for 7 of 7"),
        (lambda rows: rows.select(country="x"), "bad predicts a column 'country', which examples have already"),
        (lambda rows: rows.select(p10="x", p50=pl.col("x") * float("nan")), "bad gives no finite p50 for 7 of 7"),
    ],
)
def test_predictions_that_are_none_are_refused(answer, said):
    class Bad(Shift):
        def predict(self, rows):
            return answer(rows)

    class Fits(Learner):
        def fit(self, training, *, seed, compute):
            return Bad(0.0)

    with pytest.raises(ValueError, match=said):
        candidates(model=Learner(), bad=Fits()).evaluate(WEEKS)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(40)))
def test_the_order_of_the_examples_changes_nothing(order):
    straight, shuffled = candidates().evaluate(WEEKS), candidates(ROWS[order]).evaluate(WEEKS)
    assert_frame_equal(straight.rows, shuffled.rows, check_exact=True)
    assert_frame_equal(straight.losses(MeanAbsoluteError()), shuffled.losses(MeanAbsoluteError()), check_exact=True)
    assert candidates().fit("model") == candidates(ROWS[order]).fit("model")


def test_folds_and_examples_by_days_name_folds_by_them():
    @dataclass(frozen=True)
    class One:
        def folds(self, examples, *, at, also=()):
            return [Fold("2024-02-01", pl.col(at) < date(2024, 2, 1), pl.col(at) >= date(2024, 2, 1))]

    days = replace(Orders(), frame=ROWS.with_columns(pl.col("at").dt.date()))
    found = replace(candidates(), examples=days).evaluate(One())
    assert (found.folds, found.rows["at"].dtype) == (("2024-02-01",), pl.Date)


def test_an_empty_evaluation_of_a_candidate_that_was_not_tested():
    assert Evaluation(candidates().evaluate(WEEKS).rows).of("nobody").is_empty()


def test_the_folds_of_a_champion_are_tested_and_do_not_count_as_the_splits_own():
    older = WEEKS.folds(candidates(ROWS.head(37)).index, at="at")
    found = candidates().evaluate(WEEKS, [fold.name for fold in older])
    assert len(found.folds) == 6
    assert_frame_equal(found.own.rows, candidates().evaluate(WEEKS).rows)
    assert found.own.own is found.own
    assert found.own.losses(MeanAbsoluteError()).equals(candidates().evaluate(WEEKS).losses(MeanAbsoluteError()))


def test_candidates_may_predict_different_columns():
    class Bands(Shift):
        def predict(self, rows):
            return rows.select(p10=pl.col("x") - 1, p50=pl.col("x"), p90=pl.col("x") + 1)

    class Fits(Learner):
        def fit(self, training, *, seed, compute):
            return Bands(0.0)

    alone, mixed = candidates(model=Fits()).evaluate(WEEKS), candidates(off=Learner(), model=Fits()).evaluate(WEEKS)
    assert {"prediction", "p50"} <= set(mixed.rows.columns)
    assert not {"p10", "p50", "p90"} & set(mixed.of("off").columns)
    assert "prediction" not in mixed.of("model").columns
    metric = MeanAbsoluteError()
    losses = mixed.losses(metric)
    assert_frame_equal(losses.filter(pl.col("candidate") == "model"), alone.losses(metric))
    assert losses.filter(pl.col("candidate") == "off").height == alone.losses(metric).height
    assert mixed.scores([metric])["MeanAbsoluteError"].is_finite().all()


def test_how_far_it_is_can_be_asked_while_the_folds_are_tested():
    said = []

    class Asks(Learner):
        def fit(self, training, *, seed, compute):
            said.append(now())
            return super().fit(training, seed=seed, compute=compute)

    candidates(model=Asks()).evaluate(WEEKS)
    assert said == [f"3 folds, 1 candidates, part {part} of 3" for part in (1, 2, 3)]
