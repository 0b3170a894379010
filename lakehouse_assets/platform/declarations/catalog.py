"""All declarations of a lakehouse together, in the order of the graph. How they are checked against each other is in `checks`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import polars as pl

from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError, nearest_or_all
from lakehouse_assets.platform.declarations.checks import problems, waits_for
from lakehouse_assets.platform.declarations.copied_columns import tell_copies
from lakehouse_assets.platform.declarations.endpoints import Endpoint
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.monitors import Monitor
from lakehouse_assets.platform.declarations.tables import TableDeclaration

D = TypeVar("D", bound=Declaration)


@dataclass(frozen=True)
class Catalog:
    """What all products declare. Making one checks that they fit together, and tells recipes of the columns that they took over.

    Attributes:
        declarations: In no particular order.
        external: Tables that exist besides the declared ones, as plain Dagster assets do. Their columns are not known.

    Raises:
        DeclarationError: Two have one name, or one folder of files; a source is unknown; a source lacks a column; there is a circle; a
            reference cannot be kept.
    """

    declarations: tuple[Declaration, ...]
    external: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        tell_copies(self.declarations)
        for problem in problems(self.declarations, self.external):
            raise DeclarationError(problem.text)

    def __getitem__(self, name: str) -> Declaration:
        """The declaration of a name.

        Raises:
            LookupError: There is none, with the nearest.
        """
        if name not in self._by_name:
            raise LookupError(f"no product declares {name!r}{nearest_or_all(name, self._by_name)}")
        return self._by_name[name]

    def get(self, name: str) -> Declaration | None:
        """The declaration of a name, or None."""
        return self._by_name.get(name)

    @cached_property
    def feeds(self) -> list[FeedDeclaration]:
        """The bronze tables of feeds."""
        return self._of(FeedDeclaration)

    @cached_property
    def tables(self) -> list[TableDeclaration]:
        """The tables that are computed from other tables, feature sets and prediction tables among them."""
        return self._of(TableDeclaration)

    @cached_property
    def feature_sets(self) -> list[FeatureSet]:
        """The feature sets."""
        return self._of(FeatureSet)

    @cached_property
    def models(self) -> list[ModelDeclaration]:
        """The models."""
        return self._of(ModelDeclaration)

    @cached_property
    def endpoints(self) -> list[Endpoint]:
        """The endpoints."""
        return self._of(Endpoint)

    @cached_property
    def monitors(self) -> list[Monitor]:
        """The monitors that are declared by that word; a table may imply others (`monitoring.kinds.implied`)."""
        return self._of(Monitor)

    @cached_property
    def schemas(self) -> Mapping[str, pl.Schema]:
        """The promised columns of feeds and tables, by name. A ledger's are not among them."""
        return {one.name: one.schema for one in [*self.feeds, *self.tables]}

    @cached_property
    def in_order(self) -> tuple[Declaration, ...]:
        """The declarations, each after what it reads, quarantines among it, and what its rows are checked against."""
        waits = waits_for(self.declarations)
        waiting = dict(self._by_name)
        ordered: list[Declaration] = []
        while ready := [one for one in waiting.values() if not waits[one.name] & waiting.keys()]:
            ordered += [waiting.pop(one.name) for one in ready]
        return tuple(ordered)

    def readers(self, name: str) -> list[Declaration]:
        """The declarations that read a table."""
        return [one for one in self.declarations if name in one.sources()]

    def made_of(self, names: Iterable[str]) -> list[Declaration]:
        """These declarations and all that read them, also by way of others, in order."""
        found = set(names)
        for one in self.in_order:
            if found.intersection(one.sources()):
                found.add(one.name)
        return [one for one in self.in_order if one.name in found]

    def needed_for(self, names: Iterable[str]) -> list[Declaration]:
        """These declarations and all that they read, also by way of others, in order."""
        found = set(names)
        for one in reversed(self.in_order):
            if one.name in found:
                found.update(one.sources())
        return [one for one in self.in_order if one.name in found]

    @cached_property
    def _by_name(self) -> dict[str, Declaration]:
        return {one.name: one for one in self.declarations}

    def _of(self, kind: type[D]) -> list[D]:
        return [one for one in self.declarations if isinstance(one, kind)]
