"""What the products declare, and what they define with Dagster's own means.

Every module below a package is imported; no list is kept anywhere.
"""

from dataclasses import dataclass, field
from types import ModuleType

import dagster as dg

from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.catalog import Catalog, declarations_in, modules_of
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.orchestration import versions
from lakehouse_assets.platform.orchestration.assets import build


@dataclass(frozen=True)
class Products:
    """What all products declare together, and what they define with Dagster's own means."""

    catalog: Catalog
    plain: dg.Definitions = field(default_factory=dg.Definitions)
    modules: tuple[ModuleType, ...] = ()

    @property
    def declarations(self) -> tuple[Declaration, ...]:
        """All declarations."""
        return self.catalog.declarations

    @property
    def feeds(self) -> list[FeedDeclaration]:
        """The bronze tables of feeds."""
        return self.catalog.feeds

    @property
    def tables(self) -> list[TableDeclaration]:
        """The tables that are computed from other tables."""
        return self.catalog.tables

    @property
    def models(self) -> list[ModelDeclaration]:
        """The models."""
        return self.catalog.models

    @property
    def plain_tables(self) -> frozenset[str]:
        """The tables of assets that are defined with Dagster's own means."""
        return tables_of(self.plain)

    def assets(self, tables: str = "") -> list[dg.AssetsDefinition]:
        """The declarations as Dagster's assets; `tables` is the root of the tables, which the web UI shows."""
        return build(self.catalog, versions.of_texts([feed.name for feed in self.feeds], self.modules), tables)


def load(package: ModuleType) -> Products:
    """Import all modules below a package and gather what they declare.

    Raises:
        DeclarationError: The declarations do not fit together.
    """
    modules = list(modules_of(package))
    plain = _plain(modules)
    return Products(Catalog(declarations_in(modules), tables_of(plain)), plain, tuple(modules))


def tables_of(plain: dg.Definitions) -> frozenset[str]:
    """The tables of assets that are defined with Dagster's own means."""
    assets = [asset for asset in plain.assets or () if isinstance(asset, dg.AssetsDefinition | dg.AssetSpec)]
    keys = [key for asset in assets for key in (asset.keys if isinstance(asset, dg.AssetsDefinition) else [asset.key])]
    return frozenset(".".join(key.path) for key in keys)


def _plain(modules: list[ModuleType]) -> dg.Definitions:
    """What the modules define with Dagster's own decorators."""
    values = list({id(value): value for module in modules for value in vars(module).values()}.values())
    return dg.Definitions(
        assets=[value for value in values if isinstance(value, dg.AssetsDefinition | dg.AssetSpec)],
        asset_checks=[value for value in values if isinstance(value, dg.AssetChecksDefinition)],
        jobs=[value for value in values if isinstance(value, dg.JobDefinition)],
        schedules=[value for value in values if isinstance(value, dg.ScheduleDefinition)],
        sensors=[value for value in values if isinstance(value, dg.SensorDefinition)],
    )
