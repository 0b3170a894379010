"""Finds what the products declare: every module below a package is imported, every declaration in it is taken. No list is kept anywhere."""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import dagster as dg

from lakehouse_assets.platform.declarations.declare import Declaration, FeedAsset, ModelAsset, TableAsset
from lakehouse_assets.platform.orchestration.assets import build


@dataclass(frozen=True)
class Products:
    """What all products declare together, and what they define with Dagster's own means."""

    declarations: tuple[Declaration, ...]
    plain: dg.Definitions

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

    def assets(self) -> list[dg.AssetsDefinition]:
        """The declarations as Dagster's assets."""
        return build(self.declarations)


def load(package: ModuleType) -> Products:
    """Import all modules below a package and gather what they declare.

    Raises:
        ValueError: Two declarations have one name.
    """
    modules = list(_modules(package))
    found: dict[str, Declaration] = {}
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, FeedAsset | TableAsset | ModelAsset) and found.setdefault(value.name, value) is not value:
                raise ValueError(f"two declarations have the name {value.name}, one of them in {module.__name__}: rename one")
    return Products(tuple(found.values()), _plain(modules))


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


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for info in sorted(pkgutil.walk_packages(package.__path__, package.__name__ + "."), key=lambda info: info.name):
        yield importlib.import_module(info.name)
