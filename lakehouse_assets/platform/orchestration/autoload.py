"""What the products declare and what they define with Dagster's own means. How their modules are found is in `declarations.discover`."""

from dataclasses import dataclass, field
from types import ModuleType

import dagster as dg

from lakehouse_assets.platform.declarations.declare import Declaration, FeedAsset, ModelAsset, TableAsset
from lakehouse_assets.platform.declarations.discover import declared_in, modules_of
from lakehouse_assets.platform.orchestration.assets import build


@dataclass(frozen=True)
class Products:
    """What all products declare together, and what they define with Dagster's own means."""

    declarations: tuple[Declaration, ...]
    plain: dg.Definitions = field(default_factory=dg.Definitions)

    @property
    def feeds(self) -> list[FeedAsset]:
        """The bronze tables of feeds."""
        return [asset for asset in self.declarations if isinstance(asset, FeedAsset)]

    @property
    def tables(self) -> list[TableAsset]:
        """The tables that are worked out from other tables."""
        return [asset for asset in self.declarations if isinstance(asset, TableAsset)]

    @property
    def models(self) -> list[ModelAsset]:
        """The models."""
        return [asset for asset in self.declarations if isinstance(asset, ModelAsset)]

    @property
    def plain_tables(self) -> frozenset[str]:
        """The tables of assets that are defined with Dagster's own means."""
        plain = [asset for asset in self.plain.assets or () if isinstance(asset, dg.AssetsDefinition | dg.AssetSpec)]
        keys = [key for asset in plain for key in (asset.keys if isinstance(asset, dg.AssetsDefinition) else [asset.key])]
        return frozenset(".".join(key.path) for key in keys)

    def assets(self) -> list[dg.AssetsDefinition]:
        """The declarations as Dagster's assets."""
        return build(self.declarations)


def load(package: ModuleType) -> Products:
    """Import all modules below a package and gather what they declare.

    Raises:
        ValueError: Two declarations have one name.
    """
    modules = modules_of(package)
    return Products(declared_in(modules), _plain(modules))


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
