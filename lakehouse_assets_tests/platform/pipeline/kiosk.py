"""A product for tests of models with several feature sets: orders, the cards that paid them, and the towns that they came from.

What is known of an order comes from the order itself, what is known of a card at each order, what is known of a town at the end of an hour.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import polars as pl

from lakehouse_assets import (
    ByKey,
    ClassPrior,
    Contract,
    Gate,
    GradientBoosting,
    Labels,
    LogLoss,
    RollingTime,
    Timestamp,
    column,
    feature_set,
    model,
    predictions,
    window_features,
)
from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.models import ModelDeclaration, Predictions
from lakehouse_assets.platform.features.manifest import pin
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.model_step import ModelStep, ModelStepResult
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.platform.storage.commit import Commit
from lakehouse_assets.platform.storage.replace import replace
from lakehouse_assets.platform.storage.scopes import Everything, Keys
from lakehouse_assets.settings import Settings

ORDERS, OWN, CARDS, TOWNS = "kiosk.gold.orders", "kiosk.features.orders", "kiosk.features.cards", "kiosk.features.towns"
MODEL, SCORES = "kiosk.models.refunds", "kiosk.predictions.orders"
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
SCHEMA = pl.Schema(
    {
        "order": pl.String(),
        "at": pl.Datetime("us", "UTC"),
        "card": pl.String(),
        "town": pl.String(),
        "amount": pl.Float64(),
        "refunded": pl.Boolean(),
    }
)
INPUTS = ("amount", "card_count_1d", "card_amount_sum_30d", "count_1d")
Row = tuple[str, datetime, str | None, str, float, bool]


class OwnFeatures(Contract):
    """What an order says of itself."""

    order: str = column(key=True)
    at: Timestamp = column(key=True)
    known_at: Timestamp
    card: str = column(nullable=True)
    town: str
    amount: float = column(description="What was paid, in pounds.")


class Score(Contract):
    """How likely an order is refunded, and from what that was worked out."""

    order: str = column(key=True)
    model_name: str
    model_version: int = column(key=True)
    amount: float
    card_count_1d: int
    card_amount_sum_30d: float
    count_1d: int = column(nullable=True)
    probability: float
    feature_version: int
    scored_at: Timestamp


def own(orders: pl.LazyFrame) -> pl.LazyFrame:
    """The order by itself."""
    return orders.select("order", "at", "card", "town", "amount", known_at=pl.col("at"))


def own_features(function: Callable[..., pl.LazyFrame] = own) -> FeatureSet:
    """The driving feature set."""
    declare = feature_set(OWN, contract=OwnFeatures, entity=("order",), event_time="at", kind=ByKey("order"), inputs={"orders": ORDERS})
    return declare(function)


def cards(where: pl.Expr | None = None) -> FeatureSet:
    """Of each card at each order; another `where` is another meaning."""
    return window_features(
        CARDS,
        of=ORDERS,
        entity=("card",),
        time="at",
        windows=("1d", "30d"),
        values={"*": ("count",), "amount": ("sum",)},
        where=where,
        ttl=timedelta(days=30),
        defaults={"count_1d": 0, "amount_sum_30d": 0.0},
    )


def towns() -> FeatureSet:
    """Of each town at the end of an hour."""
    return window_features(TOWNS, of=ORDERS, entity=("town",), time="at", windows=("1d",), values={"*": ("count",)}, every="1h")


def refunds(sets: Sequence[FeatureSet], **changes: Any) -> ModelDeclaration:
    """The model; the gate lets every version through."""
    declared: dict[str, Any] = {
        "labels": Labels(ORDERS, ("order",), at="at", target="refunded", settled=timedelta(days=1)),
        "features": tuple(sets),
        "prefixes": {CARDS: "card_"},
        "learner": GradientBoosting(objective="binary", rounds=5, early_stopping=None, min_data_in_leaf=5),
        "split": RollingTime(every=timedelta(days=5), count=2),
        "metric": LogLoss(),
        "baselines": {"share": ClassPrior("binary")},
        "one_line_rule": False,
        "gate": Gate(mode="off", leakage=None),
    }
    return model(MODEL, description="Whether an order is refunded.", **(declared | changes))


def scored(trained: ModelDeclaration, **changes: Any) -> Predictions:
    """What the champion says of each order."""

    def score(champion: Any, features: pl.LazyFrame) -> pl.LazyFrame:
        rows = features.collect()
        return rows.select("order", *INPUTS).hstack(champion.model.predict(rows).select("probability")).lazy()

    score.__doc__ = "How likely an order is refunded."
    declared = {"features": OWN, "key": ("order", "model_version"), "row_for_row": True} | changes
    return predictions(SCORES, contract=Score, model=trained, **declared)(score)


@dataclass
class Kiosk:
    """The product on a root of its own."""

    settings: Settings
    cards: FeatureSet = field(default_factory=cards)
    own: FeatureSet = field(default_factory=own_features)

    @cached_property
    def root(self) -> Root:
        """The root, with the table that the test fills."""
        root = Root(self.settings)
        root.lakehouse.table(ORDERS).create(SCHEMA)
        return root

    @property
    def model(self) -> ModelDeclaration:
        """Of the present feature sets."""
        return refunds((self.own, self.cards, towns()))

    @property
    def declarations(self) -> tuple[Declaration, ...]:
        """Everything, with the present feature sets."""
        return self.own, self.cards, towns(), self.model, scored(self.model)

    def land(self, rows: Sequence[Row]) -> None:
        """Orders come, in one commit; those that had come before are revised."""
        stored, frame = self.root.lakehouse.table(ORDERS), pl.DataFrame(rows, SCHEMA, orient="row")
        replace(stored, frame, Keys(frame.select("order").unique()), ("order",), Commit())

    def take_back(self, order: str) -> None:
        """An order goes."""
        stored = self.root.lakehouse.table(ORDERS)
        replace(stored, stored.scan().filter(pl.col("order") != order).collect(), Everything(), ("order",), Commit())

    @property
    def runner(self) -> Runner:
        """Of the present declarations."""
        root, catalog = self.root, Catalog(self.declarations, frozenset({ORDERS}))
        return Runner(catalog, root.lakehouse, root.ingestion, root.registry, 1)

    def run(self, *names: str) -> None:
        """Bring tables up to date, all but the model by default."""
        self.runner.run(names or (OWN, CARDS, TOWNS, SCORES), run_id="run")

    @property
    def step(self) -> ModelStep:
        """Of the model."""
        return ModelStep(self.model, self.root.lakehouse, self.root.registry(), 1, "run")

    def train(self) -> ModelStepResult:
        """Train and score."""
        result = self.step.run(retrain=True)
        self.run(SCORES)
        return result

    def scores(self) -> pl.DataFrame:
        """Of the newest model version, by order."""
        rows = self.root.lakehouse.table(SCORES).scan().filter(pl.col("model_version") == pl.col("model_version").max())
        return rows.sort("order").collect()

    def training_rows(self) -> pl.DataFrame:
        """The examples as they would be learnt from now, by order."""
        examples = self.model.examples
        pinned = pin(self.root.lakehouse, examples.sources())
        return examples.rows(pinned.read).select("order", *INPUTS).sort("order").collect()
