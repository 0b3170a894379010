"""A product for tests of what happens to a model over time: visits to a park, what is known of each guest, whether a guest comes again.

The visits and the outcomes are put into their tables by the test, the rest is computed and trained in this process.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse_assets import (
    ClassPrior,
    Contract,
    Gate,
    GradientBoosting,
    Labels,
    LogLoss,
    RollingTime,
    Timestamp,
    Trailing,
    column,
    feature_set,
    model,
    predictions,
    table,
)
from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.models import ModelDeclaration, Predictions
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.model_step import ModelStep, ModelStepResult
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.originals import Originals

VISITS, DAILY, HABITS, RETURNS = "park.bronze.visits", "park.gold.daily", "park.features.habits", "park.silver.returns"
MODEL, CHANCES = "park.models.returns", "park.predictions.returns"
FIRST = date(2024, 1, 1)
DAYS = 40
GUESTS = tuple("abcdefgh")
KEY = ("guest", "day")


class Daily(Contract):
    """How many rides a guest took on a day."""

    guest: str = column(key=True)
    day: date = column(key=True)
    rides: int


class Habits(Contract):
    """What is known of a guest at the end of a day."""

    guest: str = column(key=True)
    day: date = column(key=True)
    rides: float
    known_at: Timestamp


class Chance(Contract):
    """How likely a guest comes again."""

    guest: str = column(key=True)
    day: date = column(key=True)
    model_name: str
    model_version: int = column(key=True)
    rides: float
    probability: float
    feature_version: int
    scored_at: Timestamp


@table(DAILY, contract=Daily, kind=Trailing("day", timedelta(0)), inputs={"visits": VISITS})
def daily(visits: pl.LazyFrame) -> pl.LazyFrame:
    """Rides by guest and day."""
    return visits.group_by(KEY).agg(pl.col("rides").sum())


def _known(days: pl.LazyFrame, rides: pl.Expr) -> pl.LazyFrame:
    ended = pl.col("day").cast(pl.Datetime("us", "UTC")) + pl.duration(days=1)
    return days.select(*KEY, rides.cast(pl.Float64).alias("rides"), known_at=ended)


def rides(days: pl.LazyFrame) -> pl.LazyFrame:
    """What a guest rode."""
    return _known(days, pl.col("rides"))


def halves(days: pl.LazyFrame) -> pl.LazyFrame:
    """The same in another unit."""
    return _known(days, pl.col("rides") / 2)


def rewritten(days: pl.LazyFrame) -> pl.LazyFrame:
    """Other code, equal values."""
    return _known(days, pl.col("rides") + 0)


def habits(function: Callable[..., pl.LazyFrame] = rides) -> FeatureSet:
    """The feature set by one of the functions."""
    kind = Trailing("day", timedelta(0))
    return feature_set(HABITS, contract=Habits, entity=("guest",), event_time="day", kind=kind, inputs={"days": DAILY})(function)


def returns(features: FeatureSet, **changes: Any) -> ModelDeclaration:
    """A model that learns from it; the gate lets every version through unless a test says otherwise."""
    declared: dict[str, Any] = {
        "labels": Labels(RETURNS, ("guest",), at="at", target="returned", settled=timedelta(days=1)),
        "features": (features,),
        "learner": GradientBoosting(objective="binary", rounds=5, early_stopping=None, min_data_in_leaf=5),
        "split": RollingTime(every=timedelta(days=10), count=3),
        "metric": LogLoss(),
        "baselines": {"share": ClassPrior("binary")},
        "one_line_rule": False,
        "gate": Gate(mode="off", leakage=None),
    }
    return model(MODEL, description="Whether a guest comes again.", **(declared | changes))


def chances(trained: ModelDeclaration, *, row_for_row: bool = False) -> Predictions:
    """What its champion predicts."""

    def predict(champion: Any, features: pl.LazyFrame) -> pl.LazyFrame:
        rows = features.sort(KEY).collect()
        return rows.select(*KEY, "rides").hstack(champion.model.predict(rows).select("probability")).lazy()

    predict.__doc__ = "How likely a guest comes again."
    declare = predictions(CHANCES, contract=Chance, model=trained, features=HABITS, key=(*KEY, "model_version"), row_for_row=row_for_row)
    return declare(predict)


@dataclass
class Park:
    """The product on a root of its own."""

    settings: Settings
    features: FeatureSet = field(default_factory=habits)
    row_for_row: bool = False
    gate: Gate = Gate(mode="off", leakage=None)

    @cached_property
    def root(self) -> Root:
        """The root, with the tables that the test fills."""
        root = Root(self.settings)
        root.lakehouse.table(VISITS).create(pl.Schema({"guest": pl.String(), "day": pl.Date(), "rides": pl.Int64()}))
        outcomes = pl.Schema({"guest": pl.String(), "at": pl.Datetime("us", "UTC"), "returned": pl.Boolean()})
        root.lakehouse.table(RETURNS).create(outcomes)
        return root

    @property
    def model(self) -> ModelDeclaration:
        """The model of the present feature set."""
        return returns(self.features, gate=self.gate)

    @property
    def declarations(self) -> tuple[Declaration, ...]:
        """Everything, with the present feature set."""
        trained = self.model
        return daily, self.features, trained, chances(trained, row_for_row=self.row_for_row)

    @property
    def step(self) -> ModelStep:
        """Of the model."""
        return ModelStep(self.model, self.root.lakehouse, self.root.registry(), 1, "run")

    def visit(self, days: Iterable[int], seed: int = 1) -> None:
        """One visit and one outcome of each guest on each of these days, in one commit to each table."""
        draw, came, happened = random.Random(seed), [], []
        for number in days:
            day = FIRST + timedelta(days=number)
            at = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
            for guest in GUESTS:
                taken = draw.randrange(24)
                came.append((guest, day, taken))
                happened.append((guest, at, draw.random() < taken / 24))
        for name, rows in ((VISITS, came), (RETURNS, happened)):
            stored = self.root.lakehouse.table(name)
            stored.append(pl.DataFrame(rows, stored.schema(), orient="row"))

    def run(self, *names: str) -> None:
        """Bring tables up to date, all but the model by default."""
        root, catalog = self.root, Catalog(self.declarations, frozenset({VISITS, RETURNS}))
        runner = Runner(catalog, root.lakehouse, root.ingestion, root.registry, 1)
        runner.run(names or (DAILY, HABITS, CHANCES), run_id="run")

    def train(self) -> ModelStepResult:
        """Train and score."""
        result = self.step.run(retrain=True)
        self.run(CHANCES)
        return result

    def predicted(self) -> pl.DataFrame:
        """All predictions."""
        return self.root.lakehouse.table(CHANCES).scan().sort("model_version", *KEY).collect()


def trained(originals: Originals, settings: Settings, *, row_for_row: bool = False) -> Park:
    """After `DAYS` days version 1 is champion, trained on rides, and has predicted."""

    def train(root: Path) -> None:
        park = Park(Settings.load({"LAKEHOUSE_ROOT": str(root)}), row_for_row=row_for_row)
        park.visit(range(DAYS))
        park.run()
        assert park.train().champion == 1

    assert isinstance(settings.root, Path)
    originals.copy(f"park, row for row: {row_for_row}", train, settings.root)
    return Park(settings, row_for_row=row_for_row)
