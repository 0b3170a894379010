"""The budget of time of a search: what it counts, and what is given up when it is over."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import polars as pl
import pytest

from lakehouse_assets.platform.compute import deadline
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.learning import NotEnoughData, TrainingRows
from lakehouse_assets.platform.modelling.learners.baselines import Mean
from lakehouse_assets.platform.modelling.learners.boosting import GradientBoosting
from lakehouse_assets.platform.modelling.learners.linear import Linear
from lakehouse_assets.platform.modelling.metrics import RootMeanSquaredError
from lakehouse_assets.platform.modelling.search import Search
from lakehouse_assets.platform.modelling.trials import Candidate

TESTS = 3


@dataclass(frozen=True)
class Timed:
    """A linear model whose fit takes a second of the clock of the test; `steps` can be stopped between two of them."""

    strength: float = 1.0
    steps: int = 1
    clock: ClassVar[list[float]] = [0.0]

    def fit(self, training, *, seed, compute):
        for _ in range(self.steps):
            deadline.check()
            Timed.clock[0] += 1.0
        return Linear(strength=self.strength).fit(training, seed=seed, compute=compute)


@dataclass(frozen=True)
class Impossible:
    """Never has enough data."""

    def fit(self, training, *, seed, compute):
        raise NotEnoughData("never enough")


SEARCH = Search(Timed(), {"strength": (0.01, 100.0, "log")}, RootMeanSquaredError(), trials=50)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    Timed.clock[0] = 0.0
    monkeypatch.setattr(deadline, "clock", lambda: Timed.clock[0])
    return Timed.clock


@pytest.fixture(scope="module")
def training():
    x = np.random.default_rng(1).normal(size=(200, 2))
    rows = pl.DataFrame({"id": np.arange(200), "at": np.arange(200), "a": x[:, 0], "b": x[:, 1], "y": x[:, 0] + x[:, 1] ** 2})
    return TrainingRows(rows.lazy(), ("id",), "at", "y", ("a", "b"))


def board(search, training):
    return search.leaderboard(training, seed=1, compute=Local())


def tried(found):
    return found.drop_nulls("trial").sort("trial")["trial"].to_list()


def test_a_search_without_time_tries_the_learner_as_it_is_and_nothing_else(training):
    search = replace(SEARCH, seconds=0.0, others=(Candidate("Mean", Mean()),), baselines={"mean of all": Mean()}, blend=True)
    found = board(search, training)
    assert tried(found) == [0]
    assert found.filter(state="baseline").height == 1
    predictor = search.fit(training, seed=1, compute=Local())
    assert predictor.settings()["trials"] == 1
    assert predictor.settings()["best_trial"] == "Timed 0"


def test_if_the_learner_cannot_be_judged_the_next_one_is_tried_as_it_is(training):
    others = (Candidate("Mean", Mean()), Candidate("more", Timed()))
    found = board(replace(SEARCH, learner=Impossible(), space={}, seconds=0.0, others=others), training)
    assert tried(found) == [0, 1]
    assert found.filter(rank=1)["candidate"].item() == "Mean"


def test_trials_end_with_the_time_and_the_one_in_work_is_given_up(training, clock):
    found = board(replace(SEARCH, seconds=7.0), training)  # three tests a trial: two trials, and a third that is cut
    assert tried(found) == [0, 1]
    assert clock[0] == 7.0
    assert board(replace(SEARCH, trials=2), training).equals(found)


def test_a_fit_that_is_cut_leaves_no_trace_and_the_first_one_ends_however_long_it_takes(training, clock):
    slow = replace(SEARCH, learner=Timed(steps=100), seconds=350.0)
    found = board(slow, training)
    assert tried(found) == [0]
    assert clock[0] == 350.0
    assert tried(board(replace(slow, seconds=1.0), training)) == [0]


def test_what_was_cut_is_tried_again_when_the_search_goes_on(training, tmp_path):
    whole = board(replace(SEARCH, trials=4), training)
    kept = replace(SEARCH, folder=tmp_path / "trials")
    assert tried(board(replace(kept, seconds=7.0), training)) == [0, 1]
    assert board(replace(kept, trials=4), training).equals(whole)


def test_baselines_count(training, clock):
    found = board(replace(SEARCH, seconds=7.0, baselines={"timed": Timed(strength=5.0)}), training)
    assert tried(found) == [0]
    assert clock[0] == 7.0


def test_the_final_fit_comes_on_top(training, clock):
    predictor = replace(SEARCH, seconds=7.0).fit(training, seed=1, compute=Local())
    assert predictor.settings()["trials"] == 2
    assert clock[0] == 8.0


def test_boosting_stops_at_once(training, clock):
    with deadline.stopping_at(clock[0]), pytest.raises(deadline.OutOfTime):
        GradientBoosting(rounds=1_000_000, early_stopping=None).fit(training, seed=1, compute=Local())
    with deadline.stopping_at(clock[0]), pytest.raises(deadline.OutOfTime):
        GradientBoosting(rounds=1_000_000, early_stopping=1_000_000).fit(training, seed=1, compute=Local())
    assert GradientBoosting(rounds=3).fit(training, seed=1, compute=Local()).predict(training.collect()).height == 200
