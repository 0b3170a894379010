"""The search: finds what helps, the same with the same seed, goes on where it was interrupted, and keeps its budget."""

import os
import subprocess
import sys
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lakehouse_assets.platform.compute import progress
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.learning import NotEnoughData, TrainingRows
from lakehouse_assets.platform.modelling.automatic import default_search
from lakehouse_assets.platform.modelling.learners.baselines import Mean
from lakehouse_assets.platform.modelling.learners.boosting import GradientBoosting
from lakehouse_assets.platform.modelling.learners.linear import Linear
from lakehouse_assets.platform.modelling.learners.rule import BestRule
from lakehouse_assets.platform.modelling.metrics import LogLoss, RootMeanSquaredError
from lakehouse_assets.platform.modelling.predictors import load_predictor, save_predictor
from lakehouse_assets.platform.modelling.search import Search
from lakehouse_assets.platform.modelling.splits import GroupSplit
from lakehouse_assets.platform.modelling.trials import Candidate

SPACE = {"strength": (0.001, 1e6, "log")}


def sample(rows=200, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3))
    y = 3 * x[:, 0] + rng.normal(size=rows)
    return pl.DataFrame({"id": range(rows), "a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": y, "yes": y > 1})


def training(rows, target="y"):
    return TrainingRows(rows.lazy(), ("id",), "id", target, ("a", "b", "c"))


def fit(search, rows=None, target="y", seed=1):
    return search.fit(training(sample() if rows is None else rows, target), seed=seed, compute=Local())


BAD_FIRST = Search(
    Linear(strength=1e6), SPACE, RootMeanSquaredError(), trials=12, baselines={"mean": Mean(), "rule": BestRule("regression")}
)


def saved(predictor, folder):
    save_predictor(predictor, folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_it_finds_what_helps_and_shows_all_that_was_tried(tmp_path):
    found = fit(BAD_FIRST)
    board = found.trials()
    assert board.columns == ["rank", "trial", "candidate", "state", "loss", "parameters", "weight"]
    assert board.filter(pl.col("state") != "baseline").height == 12
    assert set(board.filter(state="baseline")["candidate"]) == {"mean", "rule"}
    first, best = board.filter(trial=0)["loss"][0], board.filter(rank=1)
    assert best["loss"][0] < first / 2
    assert best["weight"][0] == 1
    assert found.settings()["trials"] == 12
    assert found.settings()["strength"] < 1e5
    again = fit(BAD_FIRST)
    assert saved(again, tmp_path / "again") == saved(found, tmp_path / "found")
    assert again.trials().equals(board)
    loaded = load_predictor(tmp_path / "found")
    assert loaded.predict(sample(seed=2)).equals(found.predict(sample(seed=2)))
    assert loaded.settings() == found.settings()


def test_hopeless_trials_are_given_up_early():
    space = {"strength": [0.1, 0.2, 0.5, 1.0, 1e6, 2e6, 3e6]}
    board = fit(replace(BAD_FIRST, learner=Linear(), space=space, trials=25)).trials()
    pruned = board.filter(state="pruned")
    assert pruned.height
    assert pruned["loss"].min() > board.filter(rank=1)["loss"][0]


def test_several_learners_compete_and_a_blend_is_no_worse_than_its_best_member(tmp_path):
    search = replace(
        BAD_FIRST, learner=Linear(), others=(Candidate("boosting", GradientBoosting(rounds=60), {"num_leaves": (2, 15)}),), blend=True
    )
    step = pl.col("y") + 4 * (pl.col("b") > 0)
    rows = sample().with_columns(y=step)
    found = fit(search, rows)
    board = found.trials()
    assert set(board.filter(pl.col("trial").is_not_null())["candidate"]) == {"Linear", "boosting"}
    assert board["weight"].sum() == pytest.approx(1)
    blend = board.filter(state="blend").row(0, named=True)
    assert blend["loss"] < board.filter(rank=1)["loss"][0]
    again = search.learner_of(board).fit(training(rows), seed=1, compute=Local())
    assert_frame_equal(again.predict(sample(seed=2)), found.predict(sample(seed=2)), rel_tol=1e-9)
    assert search.leaderboard(training(rows), seed=1, compute=Local()).equals(board)
    saved(found, tmp_path / "blend")
    assert load_predictor(tmp_path / "blend").predict(sample(seed=2)).equals(found.predict(sample(seed=2)))

    def loss(predictor):
        unseen = sample(2000, seed=3).with_columns(y=step)
        return RootMeanSquaredError().score(predictor.predict(unseen).with_columns(actual=unseen["y"]))

    assert loss(found) < 1.1 * loss(fit(Linear(), rows))


def test_a_search_that_was_killed_goes_on_and_finds_the_same(tmp_path):
    whole = fit(BAD_FIRST)
    child = (
        "import os, sys\n"
        "from dataclasses import replace\n"
        "from pathlib import Path\n"
        "import lakehouse_assets_tests.platform.modelling.test_search as tests\n"
        "tests.fit(tests.killed_at(replace(tests.BAD_FIRST, folder=Path(sys.argv[1]))))\n"
    )
    ended = subprocess.run([sys.executable, "-c", child, str(tmp_path / "trials")], env=os.environ, check=False)
    assert ended.returncode == 9
    resumed = fit(replace(BAD_FIRST, folder=tmp_path / "trials"))
    assert resumed.trials().equals(whole.trials())
    assert saved(resumed, tmp_path / "a") == saved(whole, tmp_path / "b")
    other_rows = fit(replace(BAD_FIRST, folder=tmp_path / "trials", trials=2), sample(seed=7))
    assert not other_rows.trials().filter(pl.col("trial") < 2).equals(whole.trials().filter(pl.col("trial") < 2))


def killed_at(search):
    """The search, whose process ends in the middle of its eighth trial, in a way that no code can catch."""
    count = 0
    fit_once = Linear.fit

    def ending(self, *args, **kwargs):
        nonlocal count
        count += 1
        if count == 7 * 3 + 2:
            os._exit(9)
        return fit_once(self, *args, **kwargs)

    Linear.fit = ending
    return search


def test_what_a_budget_of_time_found_is_found_again_by_its_number_of_trials(tmp_path):
    in_time = fit(replace(BAD_FIRST, trials=10_000, seconds=0.3))
    trials = in_time.settings()["trials"]
    assert 1 <= trials < 10_000
    again = fit(replace(BAD_FIRST, trials=trials, seconds=None))
    assert saved(again, tmp_path / "again") == saved(in_time, tmp_path / "in time")


@dataclass(frozen=True)
class Telling:
    """A learner that notes what is said of the progress while it works."""

    strength: float = 1.0
    said: list = field(default_factory=list, repr=False)

    def fit(self, training, *, seed, compute):
        self.said.append(progress.now())
        return Linear(strength=self.strength).fit(training, seed=seed, compute=compute)


def test_the_progress_says_the_trial_and_the_best_so_far():
    learner = Telling()
    fit(Search(learner, SPACE, RootMeanSquaredError(), trials=3))
    assert learner.said[0] == "trial 1 of at most 3"
    assert any(text.startswith("trial 3 of at most 3, best 1.") for text in learner.said)
    assert progress.now() == ""


def test_too_few_rows_or_one_class_are_named():
    for rows, target in ((sample(0), "y"), (sample(1), "y"), (sample().filter("yes"), "yes")):
        learner = Linear() if target == "y" else Linear("binary")
        metric = RootMeanSquaredError() if target == "y" else LogLoss()
        with pytest.raises(NotEnoughData, match=r"too few|rows of each part"):
            fit(Search(learner, SPACE, metric, trials=3), rows, target)


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_the_default_search_makes_a_model_of_any_kind_of_target(task, tmp_path):
    target = "y" if task == "regression" else "yes"
    rows = sample(120)
    found = fit(default_search(task, rows=120, trials=4, folds=GroupSplit("id", 3)), rows.with_columns(label_known_at="id"), target)
    assert np.isfinite(found.predict(sample(5)).to_numpy()).all()
    saved(found, tmp_path / "model")
    assert load_predictor(tmp_path / "model").predict(rows).equals(found.predict(rows))
    worst = found.trials().filter(state="baseline")["loss"].max()
    assert found.trials()["loss"][0] < worst


def test_candidates_need_names_of_their_own():
    with pytest.raises(ValueError, match="names of their own"):
        replace(BAD_FIRST, others=(Candidate("Linear", Linear()),))
