"""Writes a new product from sample files: whole or not at all, and never over one that is there."""

import keyword
import re
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import lakehouse_assets
from lakehouse_assets.scaffold.guess import guess
from lakehouse_assets.scaffold.render import Product, modules
from lakehouse_assets.scaffold.render_test import test_module
from lakehouse_assets.scaffold.samples import read_samples
from lakehouse_assets.scaffold.tables import Table

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_OF_THE_PLATFORM = frozenset({"platform"})


@dataclass(frozen=True)
class NewProduct:
    """A product that was written.

    Attributes:
        name: The first word of its tables' names.
        folder: Where it lies.
        package: By which it is imported.
        files: The names of its modules.
        tables: What was guessed.
        setting: What LAKEHOUSE_PRODUCTS has to be for the product to be loaded; empty if it is so already.
    """

    name: str
    folder: Path
    package: str
    files: tuple[str, ...]
    tables: Sequence[Table]
    setting: str = ""

    @property
    def forecast(self) -> str | None:
        """The table of predictions; None if nothing is forecast."""
        return next((f"{self.name}.predictions.{table.gold.name}" for table in self.tables if table.gold and table.forecast), None)

    @property
    def doubts(self) -> list[str]:
        """The guesses that deserve a look, with their table."""
        return [f"{self.name}.silver.{table.name}: {doubt}" for table in self.tables for doubt in table.doubts]


def new_product(
    name: str,
    files: Sequence[Path],
    *,
    folder: Path,
    package: str,
    keys: Sequence[str] = (),
    times: Sequence[str] = (),
    products: Collection[str] = (),
    feeds: Collection[str] = (),
    forecast: str | None = None,
) -> NewProduct:
    """Write a product that is guessed from files.

    Args:
        name: Of the product.
        files: CSV, JSON Lines, XLSX or parquet.
        folder: Of the package that holds products; it is created if it is not there.
        package: The name by which that package is imported.
        keys: Declared keys, each the names of its columns with commas between them.
        times: Declared columns of time.
        products: Names of products that exist.
        feeds: Names of feeds that exist.
        forecast: What is forecast, as VALUE or VALUE,BY; None: nothing.

    Raises:
        ValueError: The name cannot be one, the product exists, or a declared column does not.
        RefusedFile: A file cannot be read.
        OSError: The folder cannot be written.
    """
    check_name(name, folder, products)
    if not files:
        raise ValueError("no file is given: a product is guessed from sample files, as in `lakehouse new PRODUCT --from FILE`")
    tables = guess(read_samples(files, name, feeds), keys, times, forecast)
    is_own = folder.resolve().is_relative_to(Path(lakehouse_assets.__file__).resolve().parents[1])
    product = Product(name, f"{package}.{name}", is_own, tables)
    written = {"__init__": "", **modules(product), f"test_{name}": test_module(product)}
    write_whole(folder, name, {f"{module}.py": source for module, source in written.items()})
    return NewProduct(name, folder / name, product.package, tuple(f"{module}.py" for module in written), tables)


def check_name(name: str, folder: Path, products: Collection[str]) -> None:
    """Refuse a name of a product.

    Raises:
        ValueError: It cannot be one, or is taken.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ValueError(
            f"{name!r} cannot be the name of a product: write small letters, digits and single underscores, as in library_loans"
        )
    if name in _OF_THE_PLATFORM:
        raise ValueError(f"{name!r} is kept for tables of the platform: choose another name")
    if (folder / name).exists():
        raise ValueError(f"{folder / name} exists, and nothing is written over it: choose another name, or remove the folder")
    if name in products:
        raise ValueError(f"there is a product {name} already, in another package: choose another name")


def write_whole(folder: Path, name: str, files: dict[str, str]) -> None:
    """All files under another name first: a product that is half there would be loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "__init__.py").exists():
        (folder / "__init__.py").touch()
    unfinished = folder / f".{name}.tmp"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        for file, source in files.items():
            (unfinished / file).write_text(source, encoding="utf-8")
        unfinished.rename(folder / name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
