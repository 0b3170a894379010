"""Finds what the products declare, without Dagster: every module below a package is imported, every declaration in it is taken.

No list of products is kept anywhere: a new folder is a new product. What a module defines with Dagster's own means is taken in
`orchestration.autoload`.
"""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from types import ModuleType

from lakehouse_assets.platform.declarations.declare import Declaration, FeedAsset, ModelAsset, TableAsset


def modules_of(package: ModuleType) -> list[ModuleType]:
    """All modules below a package, imported."""
    return list(_modules(package))


def declared_in(modules: Iterable[ModuleType]) -> tuple[Declaration, ...]:
    """The declarations in modules, in their order.

    Raises:
        ValueError: Two declarations have one name.
    """
    found: dict[str, Declaration] = {}
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, FeedAsset | TableAsset | ModelAsset) and found.setdefault(value.name, value) is not value:
                raise ValueError(f"two declarations have the name {value.name}, one of them in {module.__name__}: rename one")
    return tuple(found.values())


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for info in sorted(pkgutil.walk_packages(package.__path__, package.__name__ + "."), key=lambda info: info.name):
        yield importlib.import_module(info.name)
