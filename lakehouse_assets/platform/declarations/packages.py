"""Which packages hold products, by the setting `LAKEHOUSE_PRODUCTS`: names that Python can import, or folders of this machine.

What the modules of these packages declare is not loaded here.
"""

import importlib
import importlib.util
import keyword
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from lakehouse_assets.settings import BUILT_IN_PRODUCTS, SettingError, variable

OWN_PRODUCTS = "./my_products"
"""The folder of a person's own products, if the setting names none."""
_VARIABLE = variable("products")


@dataclass(frozen=True)
class ProductPackage:
    """A package whose sub-packages are products.

    Attributes:
        name: By which Python imports it.
        folder: Where it lies.
        import_root: The folder that has to be on Python's path for that; None: it can be imported as it is.
    """

    name: str
    folder: Path
    import_root: Path | None = None

    def load(self) -> ModuleType:
        """The package, imported.

        Raises:
            SettingError: Python finds another package of that name.
            Exception: Whatever its `__init__.py` raises.
        """
        if self.import_root is not None and str(self.import_root) not in sys.path:
            sys.path.append(str(self.import_root))
            importlib.invalidate_caches()
        package = importlib.import_module(self.name)
        folders = [os.path.realpath(folder) for folder in getattr(package, "__path__", ())]
        if os.path.realpath(self.folder) not in folders:
            other = folders[0] if folders else getattr(package, "__file__", None) or "Python itself"
            raise SettingError(
                f"{_VARIABLE}: {self.folder} cannot be imported as {self.name}, because Python has another module of that name "
                f"({other}). Rename the folder"
            )
        return package

    @property
    def text(self) -> str:
        """As the setting names it to a process that runs in another folder."""
        if self.import_root is None:
            return self.name
        return str(self.folder)


def product_packages(setting: str) -> list[ProductPackage]:
    """The packages that `LAKEHOUSE_PRODUCTS` names, in its order. None is imported; parents of a dotted name are.

    Args:
        setting: Names or folders, with commas between them: `my_package`, `./my_products`, `my_package,lakehouse_assets.products`. A name
            is looked for on Python's path, then in the working directory. What has a slash, or begins with a dot or ~, is a folder.

    Raises:
        SettingError: One of them does not exist or is no package, or nothing is named.
    """
    return [_package(item) for item in _items(setting)]


def new_product_package(setting: str) -> ProductPackage:
    """The package into which a new product is written: the first that is not the built-in one.

    With the built-in one alone it is `OWN_PRODUCTS`, which the setting has to name then: what a person writes does not belong into the
    platform's code. A folder that does not exist yet is named all the same: whoever writes into it creates it.

    Raises:
        SettingError: As `product_packages`, for the package that is chosen.
    """
    chosen = next((item for item in _items(setting) if item != BUILT_IN_PRODUCTS), OWN_PRODUCTS)
    if not _is_path(chosen):
        return _package(chosen)
    folder = _folder(chosen)
    return ProductPackage(folder.name, folder, folder.parent)


def from_any_folder(setting: str) -> str:
    """The setting for a process that runs in another folder.

    Raises:
        SettingError: As `product_packages`.
    """
    return ",".join(package.text for package in product_packages(setting))


def _items(setting: str) -> Iterator[str]:
    items = [item.strip() for item in setting.split(",") if item.strip()]
    if not items:
        raise SettingError(f"{_VARIABLE} is empty: name a package or a folder of products, or leave it unset")
    yield from dict.fromkeys(items)


def _is_path(item: str) -> bool:
    return item.startswith((".", "~")) or "/" in item or os.sep in item


def _folder(item: str) -> Path:
    folder = Path(os.path.abspath(Path(item).expanduser()))  # noqa: PTH100 resolves .., and keeps links
    if not folder.name.isidentifier() or keyword.iskeyword(folder.name):
        raise SettingError(f"{_VARIABLE}={item}: {folder.name!r} cannot be the name of a Python package: rename the folder, as my_products")
    return folder


def _package(item: str) -> ProductPackage:
    if _is_path(item):
        folder = _folder(item)
        if not folder.is_dir():
            raise SettingError(f"{_VARIABLE}={item}: {folder} is no folder. Create it, or `lakehouse new PRODUCT` creates it")
        return ProductPackage(folder.name, folder, folder.parent)
    if not all(word.isidentifier() for word in item.split(".")):
        raise SettingError(f"{_VARIABLE}={item}: {item!r} is no name of a Python package. A folder is written with a slash: ./{item}")
    try:
        spec = importlib.util.find_spec(item)
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.submodule_search_locations is not None:
        return ProductPackage(item, Path(next(iter(spec.submodule_search_locations))))
    here = Path.cwd().joinpath(*item.split("."))
    if spec is None and here.is_dir():
        return ProductPackage(item, here, Path.cwd())
    what = "is a module and no package: put it into a folder" if spec is not None else "is not on Python's path, nor in this folder"
    raise SettingError(f"{_VARIABLE}={item}: the package {item} {what}. Install it, or name its folder: ./{item}")
