"""Whether declarations fit together: names, sources and their columns, references, the order of the graph.

What one declaration says by itself is checked when it is made. What becomes of a product with a problem is decided in `loading`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError, nearest, nearest_or_all
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.quality.contract import references_of
from lakehouse_assets.platform.storage import platform_tables


@dataclass(frozen=True)
class Problem:
    """Why declarations cannot be used.

    Attributes:
        declarations: Those that are wrong.
        what: Names the declaration, the parameter and the remedy.
        missing: The table that nobody declares, if that is the problem.
    """

    declarations: tuple[Declaration, ...]
    what: str
    missing: str | None = None

    @property
    def text(self) -> str:
        """With the place in the code."""
        place = self.declarations[0].place
        return f"{place}: {self.what}" if place else self.what


def problems(declarations: Sequence[Declaration], external: frozenset[str] = frozenset()) -> list[Problem]:
    """What is wrong with declarations that are to be used together, in their order; none if they fit.

    Args:
        declarations: In no particular order.
        external: Tables that exist besides the declared ones. Their columns are not known.
    """
    if found := [*_names(declarations), *_feeds(declarations)]:
        return found
    tables = [one for one in declarations if isinstance(one, TableDeclaration)]
    schemas = {one.name: one.schema for one in declarations if isinstance(one, FeedDeclaration | TableDeclaration)}
    known = {*(name for one in declarations for name in one.outputs()), *external, *platform_tables.ALL}
    found = [problem for one in declarations for problem in _sources(one, known)] or list(_circle(declarations))
    for table in tables if not found else ():
        found += [*_columns(table, schemas), *_references(table, schemas)]
    by_name = {one.name: one for one in declarations}
    return found or [Problem((one,), text) for one in declarations for text in one.problems_with(by_name)]


def waits_for(declarations: Iterable[Declaration]) -> dict[str, set[str]]:
    """By declaration, those that write what it reads and what its rows are checked against."""
    declarations = list(declarations)
    writer = {table: one.name for one in declarations for table in one.outputs()}
    return {one.name: {writer[name] for name in (*one.sources(), *one.references()) if name in writer} for one in declarations}


def _names(declarations: Iterable[Declaration]) -> Iterator[Problem]:
    seen: dict[str, Declaration] = {}
    for one in declarations:
        other = seen.setdefault(one.name, one)
        if other is not one:
            where = f" ({other.place} and {one.place})" if one.place else ""
            yield Problem((one, other), f"two declarations have the name {one.name}{where}: rename one")
        if "__" in one.name:
            yield Problem((one,), f"{one.name}: two underscores in a row are kept for tables of the platform: rename it")


def _feeds(declarations: Iterable[Declaration]) -> Iterator[Problem]:
    seen: dict[str, FeedDeclaration] = {}
    for one in declarations:
        if not isinstance(one, FeedDeclaration):
            continue
        # Folders that differ in case only are one on some disks.
        other = seen.setdefault(one.feed.name.casefold(), one)
        if other is not one and other.name != one.name:
            yield Problem(
                (one, other),
                f"{other.name} and {one.name} both read the files of feed {one.feed.name!r}, in any case of its letters, and each would "
                "judge the other's by its own header: rename one feed, and let one table read the other where both need the files",
            )


def _sources(one: Declaration, known: set[str]) -> Iterator[Problem]:
    for source in one.sources():
        if source not in known:
            yield Problem((one,), f"{one.name} reads {source}, which no product declares{nearest_or_all(source, known)}", source)


def _columns(table: TableDeclaration, schemas: Mapping[str, pl.Schema]) -> Iterator[Problem]:
    try:
        table.check_sources(schemas)
    except DeclarationError as error:
        yield Problem((table,), str(error))


def _references(table: TableDeclaration, schemas: Mapping[str, pl.Schema]) -> Iterator[Problem]:
    """References that no row could keep."""
    for column, target in references_of(table.contract).items():
        where = f"{table.name}: column {column} references {target}"
        if target.table == table.name:
            text = f"{where}, a column of its own table, whose rows are only being written: compare them in the function"
            yield Problem((table,), text)
        elif target.table not in schemas:
            yield Problem((table,), f"{where}, but no product declares {target.table}.{nearest(target.table, schemas)}", target.table)
        elif (stored := schemas[target.table].get(target.column)) != table.schema[column]:
            what = "which that table does not have" if stored is None else f"which is {stored} and not {table.schema[column]}"
            yield Problem((table,), f"{where}, {what}.{nearest(target.column, schemas[target.table])}")


def _circle(declarations: Iterable[Declaration]) -> Iterator[Problem]:
    """The declarations that wait for each other, without those that only wait for them or are waited for."""
    waits = {name: of - {name} for name, of in waits_for(declarations).items()}  # a reference to itself is refused by name
    names = set(waits)
    while free := {name for name in names if not waits[name] & names}:
        names -= free
    while ends := names - {source for name in names for source in waits[name]}:
        names -= ends
    if names:
        text = f"{', '.join(sorted(names))}: these tables read, or reference, each other in a circle. Take one of the inputs out"
        yield Problem(tuple(one for one in declarations if one.name in names), text)
