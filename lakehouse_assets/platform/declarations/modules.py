"""The products of a package as modules: found in its folder and imported, each by itself.

A product is a folder, with or without `__init__.py`, or a single module. What products declare is put together in `loading`.
"""

import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from lakehouse_assets.platform.declarations import places
from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError, Declares
from lakehouse_assets.platform.declarations.importing import Made, importing, is_interrupt, noting

COMPONENT_FILES = ("defs.yaml", "defs.yml", "component.yaml")
"""What makes a folder a component of Dagster."""

# As pytest finds them: what is tested runs without its tests.
_TEST_FILE = re.compile(r"test_.*|.*_test|conftest")
_TABLE_NAME = re.compile(r"""["']([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*){2})["']""")


@dataclass(frozen=True)
class ProductModules:
    """A product after the attempt to import its modules.

    Attributes:
        name: Of its folder or module.
        path: Its folder or file.
        package: The name of the package that has it.
        modules: That were imported.
        components: Folders of Dagster components, whose Python files are the components' own.
        error: Why it cannot be used, with file and line, in one to three lines; None if it can.
        plain: What it defines by Dagster's own means, which only `orchestration` understands.
        external: The tables of these definitions.
    """

    name: str
    path: Path
    package: str
    modules: tuple[ModuleType, ...] = ()
    components: tuple[Path, ...] = ()
    error: str | None = None
    plain: Any = None
    external: frozenset[str] = frozenset()

    @cached_property
    def declarations(self) -> tuple[Declaration, ...]:
        """What its modules declare, each once; what they only import from another product is among it."""
        return declarations_in(self.modules)

    @cached_property
    def mentions(self) -> frozenset[str]:
        """The tables that its files name, whether they can be imported or not."""
        files = sorted(self.path.rglob("*.py")) if self.path.is_dir() else [self.path]
        return frozenset(name for file in files for name in _TABLE_NAME.findall(_text(file)))

    def has(self, file: str) -> bool:
        """Whether a file is one of its own."""
        return Path(file) == self.path or Path(file).is_relative_to(self.path)


@dataclass
class _Import:
    """The import of one product, module by module."""

    modules: list[ModuleType] = field(default_factory=list)
    components: list[Path] = field(default_factory=list)

    def take(self, path: Path, name: str) -> None:
        """Import a module, or a folder with all below it."""
        self.modules.append(importlib.import_module(name))
        if path.is_dir():
            for below in _entries(path):
                if is_component(below):
                    self.components.append(below)
                else:
                    self.take(below, f"{name}.{below.stem}")


def products_in(package: ModuleType) -> list[ProductModules]:
    """The products of a package, each with its modules imported or with the error that kept one from it, by their names."""
    paths = [path for folder in dict.fromkeys(package.__path__) for path in _entries(Path(folder))]
    with noting() as made:
        found = [_product(path, package.__name__, paths) for path in sorted(paths, key=lambda path: path.stem)]
    kept = {id(one) for product in found for one in product.declarations}
    # What the platform copied while it declared something was made by the same statement as the copy.
    copied = {(_name_of(one.declared), one.file, one.line) for one in made if id(one.declared) in kept}
    lost = [one for one in made if id(one.declared) not in kept and (_name_of(one.declared), one.file, one.line) not in copied]
    return [product if product.error else replace(product, error=_kept_nowhere(product, lost)) for product in found]


def _product(path: Path, package: str, others: Iterable[Path]) -> ProductModules:
    name, found = path.stem, _Import()
    error: str | None = None
    if not name.isidentifier():
        better = re.sub(r"\W", "_", name)
        error = f"{places.shown(path)}: {name!r} cannot be the name of a Python package: rename it, as {better}"
        return ProductModules(name, path, package, error=error)
    try:
        with importing(name):
            found.take(path, f"{package}.{name}")
    except BaseException as caught:
        if is_interrupt(caught, others):
            raise
        # A product may fail of anything, and takes no other down.
        error = _import_error(caught, path, others)
    if is_component(path):
        found.components.append(path)
    return ProductModules(name, path, package, tuple(found.modules), tuple(found.components), error)


def _import_error(error: BaseException, product: Path, others: Iterable[Path]) -> str:
    """What keeps a product from being imported, with file and line."""
    text = str(error) if isinstance(error, DeclarationError) else places.reason(error)
    at = places.of_error(error, others)
    if at is None:
        return f"{places.shown(product)}: {text}"
    if not Path(at[0]).is_relative_to(product):
        text = f"it imports from another product, which fails: {text}"
    return f"{places.place(*at)}: {text}"


def _entries(folder: Path) -> Iterator[Path]:
    """The modules and the folders with modules or components in a folder; hidden and private folders are none, nor are files of tests."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name[0] not in "._" and (is_component(path) or next(path.rglob("*.py"), None) is not None):
                yield path
        elif path.suffix == ".py" and not path.name.startswith((".", "__")) and not _TEST_FILE.fullmatch(path.stem):
            yield path


def is_component(path: Path) -> bool:
    """Whether a folder is a component of Dagster."""
    return any((path / name).is_file() for name in COMPONENT_FILES)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def declarations_in(modules: Iterable[ModuleType]) -> tuple[Declaration, ...]:
    """What modules declare, each once: in a variable, or in a list or dictionary that is one."""
    values = (value for module in modules for held in vars(module).values() for value in _members(held) if isinstance(value, Declares))
    return tuple({id(one): one for value in values for one in value.declarations}.values())


def _members(value: object) -> Iterable[object]:
    if type(value) is dict:
        return list(value.values())
    return value if type(value) in {list, tuple} else (value,)  # type: ignore[return-value]  # Dagster's are tuples that refuse to be read


def _kept_nowhere(product: ProductModules, lost: Iterable[Made]) -> str | None:
    """What is wrong with a declaration that no module has: it would not be there, and nobody would say so."""
    one = next((one for one in lost if product.has(one.file)), None)
    if one is None:
        return None
    at = places.place(one.file, one.line)
    return f"{at}: {_name_of(one.declared)} is declared here, and no variable of the module keeps it. Give it a name of its own"


def _name_of(declared: object) -> str:
    """The name of a declaration."""
    return str(getattr(declared, "name", ""))
