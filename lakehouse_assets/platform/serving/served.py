"""An endpoint while it is served: what it takes, which versions answer now, and why one does not.

The versions are swapped as one value, so whoever reads it once works with one version to the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import polars as pl

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.endpoints import Endpoint, Roles
from lakehouse_assets.platform.quality.contract import key_columns
from lakehouse_assets.platform.serving.assemble import Form, Lookups, event_type, features_type
from lakehouse_assets.platform.serving.forecasts import Newest
from lakehouse_assets.platform.serving.refused import Refused, refused
from lakehouse_assets.platform.serving.rows import Row, RowType
from lakehouse_assets.platform.serving.rules import RowRules
from lakehouse_assets.platform.serving.scorer import Loaded

NOT_LOADED: Final = "it is still being loaded"


@dataclass(frozen=True)
class Versions:
    """The versions that answer.

    Attributes:
        champion: Answers.
        challenger: Answers its share, or scores in the shadow; None: there is none, or it is not asked.
        newest: Of an endpoint that is asked by keys, its predictions.
    """

    champion: Loaded
    challenger: Loaded | None = None
    newest: Newest | None = None


@dataclass
class Served:
    """An endpoint while it is served.

    Attributes:
        endpoint: As it is declared.
        roles: Where its features come from.
        versions: Those that answer; None: none can.
        why: By variant, why a version was not taken.
    """

    endpoint: Endpoint
    roles: Roles
    versions: Versions | None = None
    why: dict[str, str] = field(default_factory=lambda: {"champion": NOT_LOADED})

    @property
    def name(self) -> str:
        """What it is called in addresses."""
        return self.endpoint.word

    @cached_property
    def types(self) -> dict[str, RowType]:
        """The rows that it takes, by form."""
        if self.endpoint.by_keys:
            return {"keys": RowType(f"a key of {self.roles.driving.name}", self.entity, frozenset(self.entity))}
        columns = event_type(self.roles, self.endpoint.model.examples.target)
        keys = RowType(f"a key of {columns.what.removeprefix('a row of ')}", {name: columns.columns[name] for name in self.key})
        return {"rows": columns, "features": features_type(self.roles, self.endpoint.model.examples.inputs), "keys": keys}

    @cached_property
    def fields(self) -> frozenset[str]:
        """All names that a field of a row may have."""
        return frozenset(name for kind in self.types.values() for name in kind.columns)

    @cached_property
    def entity(self) -> dict[str, pl.DataType]:
        """The columns that name what is predicted, with their types."""
        return {name: self.roles.driving.schema[name] for name in self.roles.driving.entity}

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The columns that tell events apart."""
        return key_columns(self.roles.event.contract) if self.roles.event is not None else tuple(self.entity)

    @cached_property
    def rules(self) -> RowRules:
        """The rules that events keep."""
        assert self.roles.event is not None  # noqa: S101 asked of events alone
        return RowRules(self.roles.event.contract, list(self.types["rows"].columns))

    @cached_property
    def identity(self) -> tuple[str, ...]:
        """The columns that tell full rows of features apart."""
        return tuple(self.roles.identity)

    def check(self, form: Form, rows: Sequence[Row]) -> None:
        """Refuse rows that break a rule which is told at once, or that repeat a key.

        Raises:
            Refused: With each row and field.
        """
        names = self.key if form == "rows" else self.identity
        if len(rows) > 1:
            seen: dict[tuple[object, ...], int] = {}
            for number, row in enumerate(rows):
                key = tuple(row[name] for name in names)
                if None not in key and (first := seen.setdefault(key, number)) != number:
                    raise refused(422, f"it has the key of row {first}: send each row once, or in requests of their own", names[0], number)
        if form == "rows" and (errors := list(self.rules.broken(rows, clock.now()))):
            raise Refused(422, errors)

    def ready(self) -> Versions:
        """The versions that answer.

        Raises:
            Refused: None can.
        """
        versions = self.versions
        if versions is None:
            raise refused(503, f"{self.name} has no model that can answer: {self.why.get('champion', NOT_LOADED)}", retry_after="5")
        return versions

    @property
    def lookups(self) -> Lookups | None:
        """Where the champion's features are looked up."""
        return None if self.versions is None else self.versions.champion.assembler.lookups
