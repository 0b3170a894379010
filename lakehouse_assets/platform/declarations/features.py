"""The word `feature_set`: a table by entity and event time that also keeps when each value became known.

How training rows are joined to it belongs to the features room.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

import polars as pl

from lakehouse_assets.platform.declarations.base import DeclarationError, owner_of, require_once, text_of
from lakehouse_assets.platform.declarations.kind import Inputs, Kind, Plan, Result, require_columns, require_key, require_kind
from lakehouse_assets.platform.declarations.tables import Dimension, Picture, TableDeclaration, by_parameter
from lakehouse_assets.platform.quality.contract import Contract
from lakehouse_assets.platform.storage import known_at
from lakehouse_assets.platform.storage.commit import Commit, Written
from lakehouse_assets.platform.storage.known_at import IS_RETRACTED, KNOWN_AT
from lakehouse_assets.platform.storage.table import Table

if TYPE_CHECKING:
    from lakehouse_assets.platform.declarations.tables import TableDeclaration as Declared


@dataclass(frozen=True)
class Revisions(Kind):
    """Computes what another kind computes, and keeps every value with the time from which on it was known.

    Attributes:
        of: The kind that says what is recomputed.
        on: The columns that identify a value: entity and event time.
    """

    of: Kind
    on: tuple[str, ...]

    rewrites = False

    @property
    def word(self) -> str:
        """See `Kind.word`."""
        return "feature_set"

    def check(self, table: "Declared") -> None:
        """See `Kind.check`."""
        require_kind(table.name, self.of)
        require_once(f"{table.name}: feature_set", "entity with event_time", self.on)
        if self.of.takes_rows:
            raise DeclarationError(
                f"{table.name}: {self.of.word} is no kind of a feature set, which has to be computed again where its sources are "
                "revised: use ByKey, ByPartition, Trailing or Full"
            )
        require_columns(table, [*self.on, KNOWN_AT], table.schema, f"contract {table.contract.__name__}")
        require_key(table, [self.on, (*self.on, KNOWN_AT)])
        if IS_RETRACTED in table.contract.to_schema().columns:
            raise DeclarationError(
                f"{table.name}, contract {table.contract.__name__}: feature_set adds the column {IS_RETRACTED} itself: rename that of the "
                "contract, or leave it out"
            )
        self.of.check(table)

    def check_sources(self, table: "Declared", schemas: Mapping[str, Mapping[str, pl.DataType]]) -> None:
        """See `Kind.check_sources`."""
        self.of.check_sources(table, schemas)

    def stored(self, schema: pl.Schema) -> pl.Schema:
        """See `Kind.stored`. A key that its sources do not give any more is retracted by a row."""
        return pl.Schema({**schema, IS_RETRACTED: pl.Boolean()})

    def identity(self, contract: type[Contract]) -> tuple[str, ...]:  # noqa: ARG002
        """See `Kind.identity`."""
        return (*self.on, KNOWN_AT)

    def result_key(self, contract: type[Contract]) -> tuple[str, ...]:  # noqa: ARG002
        """See `Kind.result_key`."""
        return self.on

    def check_result(self, rows: pl.DataFrame) -> str:
        """See `Kind.check_result`."""
        return self.of.check_result(rows)

    @property
    def layout(self) -> str:
        """See `Kind.layout`."""
        return f"revisions by {', '.join(self.on)} of {self.of.layout}"

    def plan(self, inputs: Inputs) -> Plan:
        """See `Kind.plan`."""
        return self.of.plan(inputs)

    def parts(self, plan: Plan, inputs: Inputs, rows: int) -> list[Plan]:
        """See `Kind.parts`."""
        return self.of.parts(plan, inputs, rows)

    def write(self, table: Table, result: Result, commit: Commit) -> Written:
        """See `Kind.write`."""
        return known_at.revise(table, result.rows, self.on, datetime.now(UTC), commit, scope=None if result.adds else result.scope)


@dataclass(frozen=True)
class FeatureSet(TableDeclaration):
    """A feature set.

    Attributes:
        entity: The columns that identify what the features are about.
        event_time: The column that says for when a value holds.
        ttl: How long a value may be used after its event time; None: without end.
    """

    entity: tuple[str, ...] = ()
    event_time: str = ""
    ttl: timedelta | None = None


def feature_set(
    name: str,
    *,
    contract: type[Contract],
    entity: tuple[str, ...],
    event_time: str,
    kind: Kind,
    inputs: Mapping[str, str],
    dimensions: Mapping[str, Dimension] = MappingProxyType({}),
    ttl: timedelta | None = None,
    partition_by: tuple[str, ...] = (),
    picture: Picture | None = None,
    owner: str | None = None,
) -> Callable[[Callable[..., pl.LazyFrame]], FeatureSet]:
    """Declare a feature set by the pure function that computes it.

    Args:
        name: `product.features.name`.
        contract: Columns, types, rules. Its key is entity and event time; the column `known_at` says from when on a row was known.
        entity: The columns that identify what the features are about.
        event_time: The column that says for when a value holds.
        kind: What is recomputed when sources change: a kind that computes a scope as a whole.
        inputs: As for `table`.
        dimensions: As for `table`.
        ttl: How long a value may be used after its event time.
        partition_by: As for `table`.
        picture: As for `table`.
        owner: As for `table`.

    Raises:
        DeclarationError: The declaration cannot be meant.
    """

    def declare(function: Callable[..., pl.LazyFrame]) -> FeatureSet:
        return FeatureSet(
            name,
            text_of(function),
            owner_of(name, owner),
            contract,
            Revisions(kind, (*entity, event_time)),
            by_parameter(name, "inputs", inputs),
            by_parameter(name, "dimensions", dimensions),
            function,
            partition_by=partition_by,
            picture=picture,
            entity=entity,
            event_time=event_time,
            ttl=ttl,
        )

    return declare
