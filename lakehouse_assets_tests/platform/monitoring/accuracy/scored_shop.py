"""A small shop whose orders are scored and charged back weeks later: the tables are written by hand, nothing is trained."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.computed_kinds import Full
from lakehouse_assets.platform.declarations.endpoints import endpoint
from lakehouse_assets.platform.declarations.models import model, predictions
from lakehouse_assets.platform.declarations.tables import table
from lakehouse_assets.platform.features.labels import Labels
from lakehouse_assets.platform.modelling.learners.baselines import ClassPrior
from lakehouse_assets.platform.modelling.learners.linear import Linear
from lakehouse_assets.platform.modelling.metrics import AveragePrecision, LogLoss
from lakehouse_assets.platform.modelling.splits import RollingTime
from lakehouse_assets.platform.monitoring.accuracy.predicted import PredictedTable
from lakehouse_assets.platform.monitoring.accuracy.step import AccuracyStep
from lakehouse_assets.platform.monitoring.accuracy.table import accuracy_table
from lakehouse_assets.platform.monitoring.accuracy.watched import watched_predictions
from lakehouse_assets.platform.monitoring.kinds.live_accuracy import LiveAccuracy, question_of
from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column
from lakehouse_assets.platform.registry.ledger import LEDGER_SCHEMA, last_decision
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP
from lakehouse_assets_tests.platform.features.shop import orders

START = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
DAY, SETTLED = timedelta(days=1), timedelta(days=70)
LABELS = "fraud.gold.labels"


class Score(Contract):
    """How likely an order is fraud."""

    invoice: int = column(key=True)
    ordered_at: Timestamp
    method: str
    probability: float
    model_name: str
    model_version: int = column(key=True)
    feature_version: int
    scored_at: Timestamp


class Placed(Contract):
    """An order as it is placed."""

    invoice: int = column(key=True)
    ordered_at: Timestamp
    card: str
    amount: float
    country: str
    known_at: Timestamp


fraud = model(
    "fraud.models.fraud",
    description="Whether an order is fraud.",
    labels=Labels(LABELS, entity=("invoice",), at="placed_at", target="is_fraud", known_at="reported_at", settled=SETTLED, otherwise=False),
    features=(orders,),
    learner=Linear(),
    split=RollingTime(every=7 * DAY, gap=SETTLED),
    metric=AveragePrecision(),
    metrics=(LogLoss(),),
    baselines={"share": ClassPrior()},
)


@predictions(
    "fraud.predictions.orders",
    contract=Score,
    model=fraud,
    features=orders.name,
    key=("invoice", "model_version"),
    row_for_row=True,
)
def scored(champion, features: pl.LazyFrame) -> pl.LazyFrame:
    """Scores."""
    return features


@table("fraud.silver.orders", contract=Placed, kind=Full(), inputs={"rows": "fraud.bronze.orders"})
def placed(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Orders as they come."""
    return rows


asked = endpoint("orders", predictions=scored)

CATALOG = Catalog((placed, orders, fraud, scored, asked), frozenset({LABELS, "fraud.bronze.orders"}))
DECLARED = {one.name: one for one in CATALOG.declarations}
LABEL_SCHEMA = {"invoice": pl.Int64(), "placed_at": TIMESTAMP, "country": pl.String(), "is_fraud": pl.Boolean(), "reported_at": TIMESTAMP}


def made(days: int, each: int, seed: int, first: int = 0, *, start: datetime = START, power: float = 1.0) -> pl.DataFrame:
    """Orders with true probabilities of fraud, what came of them, and when the bank said so.

    Args:
        days: How many.
        each: Orders a day.
        seed: Of chance.
        first: The number of the first invoice.
        start: The first day.
        power: What the true probability is of the given one: 1 is calibrated.
    """
    chance, count = np.random.default_rng(seed), days * each
    probability = chance.beta(0.4, 2.5, count)
    is_fraud = chance.random(count) < probability**power
    at = [start + DAY * (number // each) + DAY * (number % each) / each for number in range(count)]
    delay = chance.integers(5, 60, count)
    return pl.DataFrame(
        {
            "invoice": range(first, first + count),
            "at": at,
            "probability": probability,
            "is_fraud": is_fraud,
            "reported_at": [moment + DAY * int(one) for moment, one in zip(at, delay, strict=True)],
            "method": [("card", "wallet")[number % 2] for number in range(count)],
            "country": [("GB", "DE", "FR")[number % 3] for number in range(count)],
        },
        schema_overrides={"at": TIMESTAMP, "reported_at": TIMESTAMP},
    )


@dataclass
class ScoredShop:
    """The tables of a root."""

    root: Path
    lakehouse: Lakehouse = field(init=False)

    def __post_init__(self) -> None:
        self.lakehouse = Lakehouse(str(self.root))

    def score(self, rows: pl.DataFrame, version: int = 1) -> None:
        scores = self.lakehouse.table(scored.name)
        scores.create(scored.schema)
        scores.append(
            rows.select(
                "invoice",
                pl.col("at").alias("ordered_at"),
                "method",
                "probability",
                model_name=pl.lit(fraud.name),
                model_version=pl.lit(version, pl.Int64),
                feature_version=pl.lit(1, pl.Int64),
                scored_at=pl.lit(START, TIMESTAMP),
            )
        )

    def label(self, rows: pl.DataFrame, *, known: bool = True, goes_on: bool = True) -> None:
        """Add labels: of orders, and the frauds among them as they are reported, or without.

        The shop goes on: an order of long after, which no test scores, says that the others are settled by then.
        """
        labels = self.lakehouse.table(LABELS)
        labels.create(LABEL_SCHEMA)
        if goes_on:
            later = rows.head(1).with_columns(invoice=pl.lit(-1, pl.Int64), at=pl.lit(START + 1_000 * DAY, TIMESTAMP), is_fraud=False)
            rows = pl.concat([rows, later])
        said = pl.when(pl.col("is_fraud") & known)
        labels.append(
            rows.select(
                "invoice",
                pl.col("at").alias("placed_at"),
                "country",
                said.then(pl.lit(value=True)).alias("is_fraud"),
                said.then("reported_at").alias("reported_at"),
            )
        )

    def decide(
        self,
        version: int,
        training_tables: Mapping[str, int],
        at: datetime = START,
        features: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        """Make a version champion in the ledger."""
        ledger = self.lakehouse.table(fraud.name)
        ledger.create(LEDGER_SCHEMA)
        before = last_decision(ledger.scan())
        row = {
            "sequence": ledger.count() + 1,
            "decided_at": at,
            "model_name": fraud.name,
            "version": version,
            "decision": "promoted",
            "reasons": "it is better",
            "champion_before": None if before is None else before["champion"],
            "champion": version,
            "training_tables": json.dumps(training_tables),
            "feature_versions": json.dumps(features or {}),
        }
        ledger.append(pl.DataFrame([row], schema=LEDGER_SCHEMA))

    def predicted(self, *slices: str) -> PredictedTable:
        found = watched_predictions(scored.name, DECLARED, self.lakehouse, slices)
        assert isinstance(found, PredictedTable)
        return found

    def step(self, now: datetime, kind: LiveAccuracy | None = None) -> AccuracyStep:
        kind = kind or LiveAccuracy()
        predicted = self.predicted(*kind.slices)
        return AccuracyStep(predicted, question_of(predicted, [kind]), now, 0)

    @property
    def table(self) -> Table:
        return accuracy_table(self.lakehouse)

    def rows(self) -> pl.DataFrame:
        return self.table.scan().collect()
