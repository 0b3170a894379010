"""What made a model besides its data: recipe, code, packages, git revision."""

import platform
import shutil
import subprocess
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import polars as pl
import pytest
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from lakehouse_assets.platform.declarations import closure
from lakehouse_assets.platform.modelling.learners.estimators import Sklearn
from lakehouse_assets.platform.modelling.learners.segments import PerSegment
from lakehouse_assets.platform.pipeline import model_identity
from lakehouse_assets.platform.pipeline.model_identity import code_of, environment_of, git_revision, recipe_of
from lakehouse_assets_tests.platform.orchestration.level import Days, Level, LevelModel


def test_the_recipe_is_examples_learner_and_its_parameters():
    recipe = recipe_of(Days(), Level("forecast"))
    assert recipe == recipe_of(Days(), Level("forecast"))
    others = [
        recipe_of(Days(), Level("naive_forecast")),
        recipe_of(Days(), Level("forecast", 0.9)),
        recipe_of(replace(Days(), inputs=("forecast",)), Level("forecast")),
    ]
    assert len({recipe, *others}) == 4


def test_a_learner_of_the_products_own_counts_with_its_code_and_the_platforms_does_not(monkeypatch):
    """A new release of the platform with the same parameters is the same recipe, and other code."""
    own, platforms = Level("forecast"), _PlatformLearner()
    before = [function(Days(), learner) for function in (recipe_of, code_of) for learner in (own, platforms)]
    monkeypatch.setattr("lakehouse_assets.platform.pipeline.model_identity.text_of_modules", lambda modules: f"changed {sorted(modules)}")
    after = [function(Days(), learner) for function in (recipe_of, code_of) for learner in (own, platforms)]
    assert [one != other for one, other in zip(before, after, strict=True)] == [True, False, True, True]


class Estimator(BaseEstimator):
    """Of a product."""

    def __init__(self, of=None):
        self.of = of

    def fit(self, values, target):
        return self

    def predict(self, values):
        return values


@dataclass(frozen=True)
class _Members:
    """Of the platform, with learners in a mapping and in tuples."""

    members: Any
    rate: float = 0.1


_Members.__module__ = "lakehouse_assets.platform.modelling.splits"
OWN = Level("forecast")


def own_function() -> None:
    """Of a product."""


@pytest.mark.parametrize(
    "learner",
    [
        PerSegment(OWN, ("country",)),
        _Members({"a": OWN}),
        _Members(((1, (OWN,)),)),
        _Members(MappingProxyType({"a": PerSegment(OWN, ("country",))})),
        Sklearn(Estimator()),
        Sklearn(Pipeline([("scale", StandardScaler()), ("own", Estimator())])),
        _Members(own_function),
    ],
)
def test_a_part_of_the_products_own_counts_with_its_code(monkeypatch, learner):
    before = recipe_of(Days(), learner), code_of(Days(), learner)
    real = model_identity.text_of_modules
    seen: list[str] = []
    monkeypatch.setattr(
        model_identity, "text_of_modules", lambda modules: seen.extend(modules) or real(modules) + "changed" * bool(modules)
    )
    after = recipe_of(Days(), learner), code_of(Days(), learner)
    assert [one != other for one, other in zip(before, after, strict=True)] == [True, True]
    assert not any(name.startswith("sklearn") for name in seen)


def test_an_estimator_of_an_installed_package_is_no_code_of_the_products():
    learner = Sklearn(Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]))
    assert model_identity._modules(learner) == [Sklearn.__module__]


@dataclass(frozen=True)
class _PlatformLearner:
    rate: float = 0.1


_PlatformLearner.__module__ = "lakehouse_assets.platform.modelling.splits"


def test_the_code_has_all_modules_of_learner_and_examples():
    module = Level.__module__
    found = closure.closure([module], ["lakehouse_assets", "lakehouse_assets_tests"])
    assert {module, "lakehouse_assets.platform.modelling.splits", "lakehouse_assets.platform.declarations.learning"} <= set(found)


def test_the_environment_names_interpreter_processor_and_the_packages_that_count():
    said = environment_of([LevelModel(1.0, "forecast")])
    assert said == f"Python {platform.python_version()} on {platform.machine()}, polars=={pl.__version__}"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_git_revision_is_that_of_the_folder_and_says_where_files_differ(tmp_path):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    assert git_revision(tmp_path) == "", "no commit yet"
    (tmp_path / "a.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "-qm", "a")
    git_revision.cache_clear()
    head = git("rev-parse", "HEAD")
    assert git_revision(tmp_path) == head
    (tmp_path / "b.py").write_text("b = 1\n")
    git_revision.cache_clear()
    assert git_revision(tmp_path) == head, "a file that git does not know is no change"
    (tmp_path / "a.py").write_text("a = 2\n")
    git_revision.cache_clear()
    assert git_revision(tmp_path) == f"{head}-dirty"


def test_without_a_repository_there_is_no_revision(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_revision(tmp_path) == ""
    monkeypatch.setenv("PATH", "")
    git_revision.cache_clear()
    assert git_revision(tmp_path) == ""
