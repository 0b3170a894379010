"""A version as a challenger is compared with it, mostly the champion: what it predicted in its own test, and its predictor."""

import io
import json
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from lakehouse_assets.platform.declarations.learning import CANDIDATE, MODEL, Predictor
from lakehouse_assets.platform.declarations.models import CHAMPION, ModelDeclaration
from lakehouse_assets.platform.modelling.evaluation import Evaluation
from lakehouse_assets.platform.modelling.predictors import load_predictor
from lakehouse_assets.platform.pipeline.model_training import ABOUT, EVALUATION, ModelTraining
from lakehouse_assets.platform.registry import training_run
from lakehouse_assets.platform.registry.model_package import predictor_digest
from lakehouse_assets.platform.registry.registry import ModelVersion, Registry


@dataclass(frozen=True)
class ComparedVersion:
    """A registered version with its test.

    Attributes:
        version: As MLflow has it.
        registry: Where its files are.
    """

    version: ModelVersion
    registry: Registry

    @classmethod
    def of(cls, registry: Registry, asset: ModelDeclaration, number: int | None) -> "ComparedVersion | None":
        """A version of a model, by its number; None if there is none."""
        return None if number is None else cls(registry.version(asset.name, number), registry)

    @property
    def candidate(self) -> str:
        """Which candidate it was in its training."""
        return self.version.tags.get(training_run.CANDIDATE, MODEL)

    @property
    def is_a_baseline(self) -> bool:
        """Whether it is a baseline, which predicts while no model is better."""
        return self.candidate != MODEL

    @property
    def recipe(self) -> str | None:
        """The recipe that made it; None if it was registered by other means."""
        return self.version.tags.get(training_run.RECIPE)

    @property
    def folds(self) -> tuple[str, ...]:
        """The folds of its own split that it was tested on; none if it was not."""
        return () if self.evaluation is None else self.evaluation.own.folds

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """What it predicted in its own test, as the candidate `champion`; None if there was none."""
        try:
            folder = self.registry.run_folder(self.version)
            content, about = (folder / EVALUATION).read_bytes(), json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        rows = pl.read_parquet(io.BytesIO(content)).filter(pl.col(CANDIDATE) == self.candidate)
        return Evaluation(rows.with_columns(pl.lit(CHAMPION).alias(CANDIDATE)), grid=tuple(about["folds"])) if rows.height else None

    @cached_property
    def predictor(self) -> Predictor | None:
        """Its predictor; None if it holds none that is known here."""
        try:
            return load_predictor(self.registry.model_folder(self.version))
        except (OSError, LookupError):
            return None

    def reads(self, training: ModelTraining) -> bool:
        """Whether the inputs of a training mean to it what those that it was trained on did: feature sets may be of other code since."""
        return all(version.means(training.features.get(name)) for name, version in self.version.features.items())

    def is_equal_to(self, predictor: Predictor) -> bool:
        """Whether a predictor is the same as this version's, to the byte."""
        return self.version.tags.get(training_run.DIGEST) == predictor_digest(predictor)
