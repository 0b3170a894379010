"""What the products declare, as Dagster's assets, and what they define with Dagster's own means.

How products are found and imported, and what becomes of a broken one, is in `declarations.loading`. No list of modules is kept anywhere.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType, ModuleType
from typing import Any

import dagster as dg
from dagster._core.definitions.module_loaders.object_list import ALL_LOADABLE_TYPES
from dagster._core.definitions.partitions.partitioned_schedule import UnresolvedPartitionedAssetScheduleDefinition
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster.components.core.component_tree import ComponentTree
from dagster.components.definitions import LazyDefinitions

from lakehouse_assets.platform.declarations import places
from lakehouse_assets.platform.declarations.base import Declaration, owners_of
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.loading import BrokenProduct, Loaded, load_packages
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.modules import ProductModules
from lakehouse_assets.platform.declarations.packages import ProductPackage
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.orchestration import table_partitions
from lakehouse_assets.platform.orchestration.assets import build
from lakehouse_assets.platform.orchestration.io_manager import stored_as

_JOBS = (dg.JobDefinition, UnresolvedAssetJobDefinition)
_SCHEDULES = (dg.ScheduleDefinition, UnresolvedPartitionedAssetScheduleDefinition)


@dataclass(frozen=True)
class Products:
    """What all products declare together, and what they define with Dagster's own means.

    Attributes:
        catalog: The declarations.
        plain: By product, what it defines with Dagster's own means.
        modules: Of the products.
        broken: The products that cannot be used.
    """

    catalog: Catalog
    plain: Mapping[str, dg.Definitions] = field(default_factory=lambda: MappingProxyType({}))
    modules: tuple[ModuleType, ...] = ()
    broken: tuple[BrokenProduct, ...] = ()

    @classmethod
    def of(cls, loaded: Loaded) -> "Products":
        """What was loaded, for Dagster."""
        plain = {product.name: product.plain for product in loaded.products if product.plain is not None}
        return cls(loaded.catalog, plain, loaded.modules, loaded.broken)

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
    def owners(self) -> dict[str, str]:
        """By table, who answers for it, with commas between several."""
        plain = (spec for definitions in self.plain.values() for asset in definitions.assets or () for spec in _specs_of(asset))
        found = {stored_as(spec.key): ", ".join(spec.owners) for spec in plain}
        return found | {name: ", ".join(owners_of(one.owner)) for one in self.declarations for name in one.outputs()}

    def assets(self, tables: str = "") -> list[dg.AssetsDefinition]:
        """The declarations as Dagster's assets; `tables` is the root of the tables, which the web UI shows."""
        return [*build(self.catalog, tables), *table_partitions.build(self.catalog, tables)]


def load(*packages: ProductPackage | ModuleType) -> Products:
    """Import all products of packages and gather what they declare. A product with an error is among `broken`, and logged.

    Raises:
        SettingError: A package cannot be imported under its name.
    """
    loaded = load_packages(packages, with_plain)
    for product in loaded.broken:
        dg.get_dagster_logger().warning(product.text)
    return Products.of(loaded)


# --- what is defined with Dagster's own means


def with_plain(product: ProductModules) -> ProductModules:
    """A product with what it defines with Dagster's own means, or with the error that this has.

    As in a `defs` folder of Dagster: assets, checks, jobs, schedules and sensors at the top of a module, lists of them, `dg.Definitions`
    objects, functions with `@dg.definitions`, and components (folders with a `defs.yaml`).
    """
    try:
        plain = _definitions(product)
        tables = frozenset() if plain is None else _tables_of(plain)
    except Exception as caught:  # noqa: BLE001 whatever the product's code or Dagster raises
        error: BaseException = caught
        while error.__cause__ is not None:  # Dagster draws the tree of components around what went wrong
            error = error.__cause__
        at = places.of_error(error, [product.path])
        where = places.place(*at) if at else places.shown(product.path)
        return replace(product, error=f"{where}: {places.reason(error)}")
    return replace(product, plain=plain, external=tables)


def _definitions(product: ProductModules) -> dg.Definitions | None:
    """All that a product defines; None if it is nothing."""
    loadable: dict[int, Any] = {}
    whole: dict[int, dg.Definitions | LazyDefinitions[dg.Definitions]] = {}
    for value in _values(product):
        if isinstance(value, dg.Definitions | LazyDefinitions):
            whole[id(value)] = value
        elif isinstance(value, ALL_LOADABLE_TYPES):
            loadable[id(value)] = value
    # What stands in a `Definitions` object as well is not defined twice.
    found = [_evaluated(value, product) if isinstance(value, LazyDefinitions) else value for value in whole.values()]
    listed = {id(value) for definitions in found for value in _listed(definitions)}
    found += [_of_values([value for value in loadable.values() if id(value) not in listed])] if loadable else []
    found += _components(product)
    return dg.Definitions.merge(*found) if found else None


def _values(product: ProductModules) -> Iterator[Any]:
    for module in product.modules:
        for value in vars(module).values():
            # By its own type: many of Dagster's definitions are tuples to Python.
            if type(value) in {list, tuple} and all(isinstance(one, ALL_LOADABLE_TYPES) for one in value):
                yield from value
            else:
                yield value


def _listed(definitions: dg.Definitions) -> Iterator[Any]:
    for values in (definitions.assets, definitions.asset_checks, definitions.jobs, definitions.schedules, definitions.sensors):
        yield from values or ()


def _of_values(values: list[Any]) -> dg.Definitions:
    kinds: dict[str, Any] = {
        "asset_checks": dg.AssetChecksDefinition,
        "schedules": _SCHEDULES,
        "sensors": dg.SensorDefinition,
        "jobs": _JOBS,
    }
    arguments: dict[str, Any] = {name: [] for name in (*kinds, "assets")}
    for value in values:
        arguments[next((name for name, types in kinds.items() if isinstance(value, types)), "assets")].append(value)
    return dg.Definitions(**arguments)


def _components(product: ProductModules) -> list[dg.Definitions]:
    """What the components in a product's folder define."""
    if not product.components:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Dagster's own code, as `dg.load_from_defs_folder` does
        return [_tree(product).build_defs_at_path(folder) for folder in product.components]


def _evaluated(lazy: LazyDefinitions[dg.Definitions], product: ProductModules) -> dg.Definitions:
    if not lazy.has_context_arg:
        return lazy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lazy(_tree(product).load_context)


def _tree(product: ProductModules) -> ComponentTree:
    return ComponentTree.from_module(defs_module=product.modules[0], project_root=product.path.parent)


def partitioned(plain: Iterable[dg.Definitions]) -> list[dg.AssetKey]:
    """The assets with partitions: each run of one has to say which."""
    specs = (spec for definitions in plain for asset in definitions.assets or () for spec in _specs_of(asset))
    return [spec.key for spec in specs if spec.partitions_def is not None]


def _tables_of(plain: dg.Definitions) -> frozenset[str]:
    """The tables of assets; those of assets that Dagster makes up later are not known."""
    return frozenset(".".join(spec.key.path) for asset in plain.assets or () for spec in _specs_of(asset))


def _specs_of(asset: Any) -> list[dg.AssetSpec]:
    if isinstance(asset, dg.AssetsDefinition):
        return list(asset.specs)
    return [asset] if isinstance(asset, dg.AssetSpec) else []
