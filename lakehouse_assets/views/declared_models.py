"""The declared forecasts and classifiers of a lakehouse, by which pages show them, whatever product they are of."""

from dataclasses import dataclass
from typing import Final

import polars as pl

from lakehouse_assets.client import Client
from lakehouse_assets.platform.declarations.models import MODEL_VERSION, Predictions
from lakehouse_assets.platform.features.labels import Labels
from lakehouse_assets.platform.features.training_set import LabelledExamples
from lakehouse_assets.platform.modelling.forecasting.examples import SeriesExamples
from lakehouse_assets.platform.modelling.forecasting.series import Series
from lakehouse_assets.platform.modelling.targets import PROBABILITY
from lakehouse_assets.platform.quality.contract import columns_of

DECISION, REASONS = "decision", "reasons"
"""Columns of a prediction table that pages know besides the probability, where it has them."""
_PLATFORM: Final = frozenset({"model_name", MODEL_VERSION, "feature_version", "scored_at"})


@dataclass(frozen=True)
class Forecasts:
    """A declared forecast.

    Attributes:
        predictions: Its table.
        series: What is forecast.
    """

    predictions: Predictions
    series: Series

    @property
    def name(self) -> str:
        """Of its prediction table."""
        return self.predictions.name


@dataclass(frozen=True)
class Scores:
    """A declared classifier of two classes: its prediction table has a probability."""

    predictions: Predictions

    @property
    def name(self) -> str:
        """Of its prediction table."""
        return self.predictions.name

    @property
    def columns(self) -> list[str]:
        """The columns that say something of a row: not how it was scored."""
        return [name for name in self.predictions.schema if name not in _PLATFORM]

    @property
    def decision(self) -> str | None:
        """The column with what is to be done, if it has one."""
        return DECISION if DECISION in self.predictions.schema else None

    @property
    def labels(self) -> Labels | None:
        """Where its outcomes become known, if a table of labels tells them."""
        examples = self.predictions.model.examples
        return examples.labels if isinstance(examples, LabelledExamples) else None

    @property
    def target(self) -> str:
        """What is predicted, in words."""
        return "yes" if self.labels is None else self.labels.target.replace("_", " ").removeprefix("is ")

    @property
    def decided(self) -> pl.Expr:
        """The decision as people say it: a yes or no in words of the target, as `leak` and `no leak`."""
        column = pl.col(DECISION)
        if self.predictions.schema[DECISION] != pl.Boolean:
            return column.cast(pl.String)
        no = "no" if self.labels is None else f"no {self.target}"
        return pl.when(column).then(pl.lit(self.target)).when(~column).then(pl.lit(no)).alias(DECISION)

    @property
    def time(self) -> str:
        """The column that says which rows are the newest: the first of dates or moments, else when they were scored."""
        schema = self.predictions.schema
        return next((name for name in self.columns if schema[name].is_temporal()), "scored_at")

    @property
    def weights(self) -> list[str]:
        """The columns of numbers by which a probability can be weighed: what a row is worth."""
        schema = self.predictions.schema
        return [name for name in self.columns if name != PROBABILITY and schema[name].is_numeric()]


def predictions_of(lake: Client) -> list[Predictions]:
    """All declared prediction tables."""
    return [table for table in lake.context.tables if isinstance(table, Predictions)]


def forecasts(lake: Client) -> list[Forecasts]:
    """The declared forecasts."""
    tables = predictions_of(lake)
    return [Forecasts(one, one.model.examples.series) for one in tables if isinstance(one.model.examples, SeriesExamples)]


def classifiers(lake: Client) -> list[Scores]:
    """The declared classifiers of two classes."""
    return [Scores(one) for one in predictions_of(lake) if one.schema.get(PROBABILITY) == pl.Float64]


def has_rows(lake: Client, name: str) -> bool:
    """Whether a table exists and has rows."""
    table = lake.table(name)
    return table.exists() and table.count() > 0


def rule_texts(lake: Client, table: str) -> dict[str, str]:
    """By name what the rules of a table demand, in words."""
    declared = next((one for one in lake.context.tables if one.name == table), None)
    return {} if declared is None else {rule.name: rule.text for rule in declared.rules}


def described(lake: Client, table: str, column: str) -> str:
    """What the contract of a table says of a column; empty where none does."""
    declared = next((one for one in lake.context.tables if one.name == table), None)
    return "" if declared is None else next((one.description for one in columns_of(declared.contract) if one.name == column), "")
