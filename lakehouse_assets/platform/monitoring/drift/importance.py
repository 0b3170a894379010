"""What the champion of a model owes to a column of a table. Drift of what hardly matters is told last, and asks for no training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.pipeline.champions import champion_by_ledger, scorer_of
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets.platform.storage.lakehouse import Lakehouse


@dataclass(frozen=True)
class Importance:
    """The importances of the inputs of one version of a model.

    Attributes:
        model: The model.
        version: The version; None: none is champion, and nothing is known.
        registry: Opens MLflow.
    """

    model: ModelDeclaration
    version: int | None
    registry: Callable[[], Registry]

    def of(self, table: str, column: str) -> float | None:
        """The share that the predictions owe to a column of a table; None if that is not known.

        Of a table that the model learns from, a column that is no input has none. Of other tables, columns count by their names.
        """
        examples = self.model.examples
        name = f"{getattr(examples, 'prefixes', {}).get(table, '')}{column}"
        if self._shares is None or column == examples.target:
            return None
        if name in self._shares:
            return self._shares[name]
        return 0.0 if name in examples.inputs or table in self.model.sources() else None

    @cached_property
    def _shares(self) -> Mapping[str, float] | None:
        """By input; None if it has none, or they cannot be read."""
        if self.version is None:
            return None
        try:
            found = scorer_of(self.registry(), self.model, self.version).model.importance()
        except LookupError:
            return None
        return None if found is None else dict(found.select("input", "importance").iter_rows())


def importances(catalog: Catalog, lakehouse: Lakehouse, registry: Callable[[], Registry], table: str) -> list[Importance]:
    """Of the champions that learn from a table."""
    models = [model for model in catalog.models if table in model.sources()]
    return [Importance(model, champion_by_ledger(lakehouse, model), registry) for model in models]
