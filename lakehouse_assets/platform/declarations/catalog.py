"""All declarations of a lakehouse together: found in packages, checked against each other, and in the order of the graph."""

import importlib
import pkgutil
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import polars as pl

from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError, nearest, nearest_or_all
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.quality.contract import references_of
from lakehouse_assets.platform.storage import platform_tables

D = TypeVar("D", bound=Declaration)


@dataclass(frozen=True)
class Catalog:
    """What all products declare. Making one checks that the declarations fit together.

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
        _check_names(self.declarations)
        _check_feeds(self.feeds)
        for declaration in self.declarations:
            self._check_sources(declaration)
        for table in self.tables:
            table.check_sources(self.schemas)
            _check_references(table, self.schemas)
        _ = self.in_order

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
    def models(self) -> list[ModelDeclaration]:
        """The models."""
        return self._of(ModelDeclaration)

    @cached_property
    def schemas(self) -> Mapping[str, pl.Schema]:
        """The promised columns of feeds and tables, by name. A ledger's are not among them."""
        return {one.name: one.schema for one in [*self.feeds, *self.tables]}

    @cached_property
    def in_order(self) -> tuple[Declaration, ...]:
        """The declarations, each after what it reads, quarantines among it, and what its rows are checked against.

        Raises:
            DeclarationError: There is a circle.
        """
        waiting = dict(self._by_name)
        ordered: list[Declaration] = []
        while waiting:
            ready = [one for one in waiting.values() if not self._after[one.name] & waiting.keys()]
            if not ready:
                raise DeclarationError(
                    f"{', '.join(self._circle(waiting))}: these tables read, or reference, each other in a circle. Take one of the "
                    "inputs out"
                )
            ordered += [waiting.pop(one.name) for one in ready]
        return tuple(ordered)

    def readers(self, name: str) -> list[Declaration]:
        """The declarations that read a table."""
        return [one for one in self.declarations if name in one.sources()]

    def of_output(self, table: str) -> Declaration | None:
        """The declaration that writes a table."""
        return next((one for one in self.declarations if table in one.outputs()), None)

    @cached_property
    def _by_name(self) -> dict[str, Declaration]:
        return {one.name: one for one in self.declarations}

    @cached_property
    def _after(self) -> dict[str, set[str]]:
        """By declaration, those that write what it reads and what its rows are checked against."""
        writer = {table: one.name for one in self.declarations for table in one.outputs()}
        return {one.name: {writer[name] for name in (*one.sources(), *one.references()) if name in writer} for one in self.declarations}

    def _circle(self, waiting: Iterable[str]) -> list[str]:
        """The names without those that only read from a circle."""
        names = set(waiting)
        while ends := names - {source for name in names for source in self._after[name]}:
            names -= ends
        return sorted(names)

    def _of(self, kind: type[D]) -> list[D]:
        return [one for one in self.declarations if isinstance(one, kind)]

    def _check_sources(self, declaration: Declaration) -> None:
        known = {*self._by_name, *self.external, *(table.quarantine for table in self.tables), *platform_tables.ALL}
        for source in declaration.sources():
            if source not in known:
                raise DeclarationError(f"{declaration.name} reads {source}, which no product declares{nearest_or_all(source, known)}")


def _check_names(declarations: Iterable[Declaration]) -> None:
    seen: dict[str, Declaration] = {}
    for one in declarations:
        if seen.setdefault(one.name, one) is not one:
            raise DeclarationError(f"two declarations have the name {one.name}: rename one")
        if "__" in one.name:
            raise DeclarationError(f"{one.name}: two underscores in a row are kept for tables of the platform: rename it")


def _check_feeds(feeds: Iterable[FeedDeclaration]) -> None:
    seen: dict[str, FeedDeclaration] = {}
    for one in feeds:
        # Folders that differ in case only are one on some disks.
        other = seen.setdefault(one.feed.name.casefold(), one)
        if other is not one:
            raise DeclarationError(
                f"{other.name} and {one.name} both read the files of feed {one.feed.name!r}, in any case of its letters, and each would "
                "judge the other's by its own header: rename one feed, and let one table read the other where both need the files"
            )


def _check_references(table: TableDeclaration, schemas: Mapping[str, pl.Schema]) -> None:
    """Refuse references that no row could keep."""
    for column, target in references_of(table.contract).items():
        where = f"{table.name}: column {column} references {target}"
        if target.table == table.name:
            raise DeclarationError(f"{where}, a column of its own table, whose rows are only being written: compare them in the function")
        if target.table not in schemas:
            raise DeclarationError(f"{where}, but no product declares {target.table}.{nearest(target.table, schemas)}")
        stored = schemas[target.table].get(target.column)
        if stored != table.schema[column]:
            what = "which that table does not have" if stored is None else f"which is {stored} and not {table.schema[column]}"
            raise DeclarationError(f"{where}, {what}.{nearest(target.column, schemas[target.table])}")


def modules_of(package: ModuleType) -> Iterator[ModuleType]:
    """All modules below a package, imported, in the order of their names.

    Raises:
        DeclarationError: One cannot be imported, with the line that fails; or a folder of modules is no package.
    """
    return _modules_below(package, [Path(path) for path in package.__path__])


def _modules_below(package: ModuleType, roots: list[Path]) -> Iterator[ModuleType]:
    for folder in package.__path__:
        _check_packages(Path(folder), roots)
    for info in sorted(pkgutil.iter_modules(package.__path__, package.__name__ + "."), key=lambda info: info.name):
        try:
            module = importlib.import_module(info.name)
        except Exception as error:
            what = str(error) if isinstance(error, DeclarationError) else f"{type(error).__name__}: {error}"
            raise DeclarationError(f"{_line_of(error, roots) or info.name}: {what}") from error
        yield module
        if info.ispkg:
            yield from _modules_below(module, roots)


def _check_packages(folder: Path, roots: list[Path]) -> None:
    """Refuse folders that Python does not take for packages: the import system passes over them without a word."""
    for below in sorted(folder.iterdir()):
        is_package = not below.is_dir() or (below / "__init__.py").exists()
        if not is_package and below.name[0] not in "._" and next(below.rglob("*.py"), None) is not None:
            raise DeclarationError(f"{_shown(below, roots)} has modules and no __init__.py: add an empty one")


def _line_of(error: Exception, roots: list[Path]) -> str | None:
    """The line in a product at which its import failed; None if it is not known."""
    lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        lines.append((error.filename, error.lineno))
    shown = [f"{_shown(Path(file), roots)}:{line}" for file, line in lines if any(Path(file).is_relative_to(root) for root in roots)]
    return shown[-1] if shown else None


def _shown(path: Path, roots: list[Path]) -> str:
    """A path as people say it: from the folder of the products on."""
    return next((path.relative_to(root.parent).as_posix() for root in roots if path.is_relative_to(root)), str(path))


def declarations_in(modules: Iterable[ModuleType]) -> tuple[Declaration, ...]:
    """What modules declare, each once."""
    values = {id(value): value for module in modules for value in vars(module).values() if isinstance(value, Declaration)}
    return tuple(values.values())
