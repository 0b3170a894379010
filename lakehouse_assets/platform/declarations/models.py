"""The words `model` and `predictions`: a model that is trained on a feature set, and the table of what its champion predicts.

How models are trained and promoted belongs to the registry and pipeline rooms.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations import places
from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError, owner_of, require_once, text_of
from lakehouse_assets.platform.declarations.kind import Inputs, Kind, Plan, Result, require_key, require_partitions_in_key
from lakehouse_assets.platform.declarations.tables import Picture, TableDeclaration
from lakehouse_assets.platform.quality.contract import Contract
from lakehouse_assets.platform.storage import merge
from lakehouse_assets.platform.storage.commit import Commit, Written
from lakehouse_assets.platform.storage.scopes import Nothing
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

CHAMPION = "champion"
"""The parameter under which a function of predictions is given the champion."""
MODEL_NAME, MODEL_VERSION, FEATURE_VERSION, SCORED_AT = "model_name", "model_version", "feature_version", "scored_at"


@dataclass(frozen=True)
class ModelDeclaration(Declaration):
    """A model: what it learns from and how. Its table is the ledger of every decision about it.

    Attributes:
        features: The feature set.
        train: From the feature set's rows and a seed to a `platform.modelling.result.Training`.
        load: From a folder to what `predict` of the product takes.
    """

    features: str
    train: Callable[[pl.LazyFrame, int], Any]
    load: Callable[[Any], Any]

    def _written_at(self) -> tuple[str, int]:
        return places.of_function(self.train)

    def sources(self) -> tuple[str, ...]:
        """See `Declaration.sources`."""
        return (self.features,)

    @property
    def schema(self) -> pl.Schema:
        """The columns of a ledger belong to the registry: nothing is promised here."""
        return pl.Schema()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Train, as the function does."""
        return self.train(*args, **kwargs)


def model(
    name: str, *, features: str, load: Callable[[Any], Any], owner: str | None = None
) -> Callable[[Callable[[pl.LazyFrame, int], Any]], ModelDeclaration]:
    """Declare a model by the function that trains it.

    Args:
        name: `product.models.name`.
        features: The feature set.
        load: Reads a model that was saved.
        owner: Who answers for it; the product's team by default.
    """

    def declare(function: Callable[[pl.LazyFrame, int], Any]) -> ModelDeclaration:
        return ModelDeclaration(name, text_of(function), owner_of(name, owner), features, function, load)

    return declare


@dataclass(frozen=True)
class Scores(Kind):
    """The champion scores the features, again when the one or the other changes. Scores of earlier champions and features stay.

    Attributes:
        key: The columns that tell scores apart, the model's version among them.
    """

    key: tuple[str, ...]

    rewrites = False

    @property
    def word(self) -> str:
        """See `Kind.word`."""
        return "predictions"

    def check(self, table: TableDeclaration) -> None:
        """See `Kind.check`."""
        require_once(f"{table.name}: predictions", "key", self.key)
        if MODEL_VERSION not in self.key:
            raise DeclarationError(
                f"{table.name}: the key {', '.join(self.key)} lacks {MODEL_VERSION}, so one champion would overwrite what another predicted"
                f": add {MODEL_VERSION} to key, and mark it with column(key=True)"
            )
        require_key(table, [self.key])
        require_partitions_in_key(table, self.key)
        missing = [name for name in (MODEL_NAME, MODEL_VERSION, FEATURE_VERSION, SCORED_AT) if name not in table.schema]
        if missing:
            raise DeclarationError(
                f"{table.name}: contract {table.contract.__name__} lacks {', '.join(missing)}, which every prediction has: add it"
            )

    def identity(self, contract: type[Contract]) -> tuple[str, ...]:  # noqa: ARG002
        """See `Kind.identity`."""
        return self.key

    def plan(self, inputs: Inputs) -> Plan:
        """See `Kind.plan`."""
        champion = inputs.extra[CHAMPION]
        name, features = inputs.only
        if champion is None:
            return Plan(None, Nothing())
        stamps = {
            MODEL_NAME: pl.lit(champion.name),
            MODEL_VERSION: pl.lit(champion.version, dtype=pl.Int64),
            FEATURE_VERSION: pl.lit(features.after, dtype=pl.Int64),
            SCORED_AT: pl.lit(datetime.now(UTC)).cast(TIMESTAMP),
        }
        return Plan({CHAMPION: champion, name: features.rows(), **inputs.whole_dimensions()}, None, columns=stamps)

    def write(self, table: Table, result: Result, commit: Commit) -> Written:
        """See `Kind.write`."""
        return merge.merge(table, result.rows, self.key, commit, ignore=(FEATURE_VERSION, SCORED_AT))


@dataclass(frozen=True)
class Predictions(TableDeclaration):
    """A table of predictions. Its model's ledger is a source, so a new champion is noticed.

    Attributes:
        model: The model whose champion scores.
    """

    model: ModelDeclaration = field(kw_only=True)

    def sources(self) -> tuple[str, ...]:
        """See `Declaration.sources`."""
        return (*super().sources(), self.model.name)

    @property
    def scored_by(self) -> str:
        """See `TableDeclaration.scored_by`."""
        return self.model.name

    def arguments(self, champions: Callable[[Any], Any]) -> dict[str, Any]:
        """See `TableDeclaration.extra`."""
        return {CHAMPION: champions(self.model)}

    @property
    def _extra_parameters(self) -> tuple[str, ...]:
        return (CHAMPION,)


def predictions(
    name: str,
    *,
    contract: type[Contract],
    model: ModelDeclaration,
    features: str,
    key: tuple[str, ...],
    partition_by: tuple[str, ...] = (),
    picture: Picture | None = None,
    owner: str | None = None,
) -> Callable[[Callable[..., pl.LazyFrame]], Predictions]:
    """Declare a prediction table by the pure function that scores: it is given `champion` (its `model`, `name`, `version`) and `features`.

    The platform adds `model_name`, `model_version`, `feature_version` and `scored_at`, which the contract has to name.

    Args:
        name: `product.predictions.name`.
        contract: Columns, types, rules.
        model: Whose champion scores.
        features: The feature set.
        key: The columns that tell scores apart; `model_version` is one of them.
        partition_by: As for `table`.
        picture: As for `table`.
        owner: As for `table`.

    Raises:
        DeclarationError: The declaration cannot be meant.
    """

    def declare(function: Callable[..., pl.LazyFrame]) -> Predictions:
        return Predictions(
            name,
            text_of(function),
            owner_of(name, owner),
            contract,
            Scores(key),
            {"features": features},
            MappingProxyType({}),
            function,
            partition_by=partition_by,
            picture=picture,
            model=model,
        )

    return declare
