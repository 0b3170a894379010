"""What every declaration of a product has: a name, an owner, the tables that it reads and writes.

Graph, order and operations use these alone. What a table, a feed or a model has besides is in modules of their own.
"""

import difflib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

import polars as pl

from lakehouse_assets.platform.declarations import places
from lakehouse_assets.platform.declarations.importing import note
from lakehouse_assets.platform.quality.copied import Copied
from lakehouse_assets.platform.quality.declaration_error import DeclarationError as DeclarationError  # noqa: PLC0414 contracts raise it too
from lakehouse_assets.platform.storage.table import QUARANTINE_SUFFIX as QUARANTINE_SUFFIX  # noqa: PLC0414 tables that are missing name it

_OWNER = re.compile(r"team:[A-Za-z0-9_-]+|[^@\s]+@[^@\s]+\.[^@\s]+")
_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){2}")


class Declares(ABC):
    """A value that declares something when a module of a product has it: a declaration itself, or a recipe that made several."""

    @property
    @abstractmethod
    def declarations(self) -> "tuple[Declaration, ...]":
        """What it declares."""


@dataclass(frozen=True)
class Declaration(Declares):
    """Something that a product declares under the name `product.layer.name`."""

    name: str
    description: str
    owner: str
    written_at: tuple[str, int] = field(init=False, compare=False, repr=False)
    """File and line of the declaration."""

    is_log: ClassVar[bool] = False
    """Whether its table keeps what was decided or answered, so that it never goes back with others."""

    _names: ClassVar[re.Pattern[str]] = _NAME

    def __post_init__(self) -> None:
        object.__setattr__(self, "written_at", self._written_at())
        if not self._names.fullmatch(self.name):
            raise DeclarationError(
                f"{self.name!r} is no name of a table: write product.layer.name in lower case, as in sales.silver.invoice_lines"
            )
        note(self)

    def _written_at(self) -> tuple[str, int]:
        return places.of_caller()

    @property
    def declarations(self) -> "tuple[Declaration, ...]":
        """See `Declares.declarations`."""
        return (self,)

    @property
    def place(self) -> str:
        """Where it is written, for messages; empty if that is no file."""
        return places.place(*self.written_at)

    @property
    def product(self) -> str:
        """The first word of the name."""
        return self.name.split(".")[0]

    @property
    def layer(self) -> str:
        """The middle word of the name."""
        return self.name.split(".")[1]

    @abstractmethod
    def sources(self) -> tuple[str, ...]:
        """The tables that it consumes, each once. It keeps a watermark for each of them."""

    def references(self) -> tuple[str, ...]:
        """The tables that its rows are checked against."""
        return ()

    def outputs(self) -> tuple[str, ...]:
        """The tables that it writes, the one of its own name first."""
        return (self.name,)

    def retention(self) -> Mapping[str, timedelta]:
        """The tables, each with days in a partition column `date`, whose rows are deleted once they are so old."""
        return {}

    def pinned(self) -> Mapping[str, int]:
        """By table the version that has to stay readable, as the declaration names it."""
        return {}

    def problems_with(self, declared: "Mapping[str, Declaration]") -> Iterator[str]:  # noqa: ARG002 most have none
        """Why it does not fit to the other declarations, besides its sources; each text names the remedy."""
        yield from ()

    @property
    @abstractmethod
    def schema(self) -> pl.Schema:
        """The columns that it promises."""

    @property
    def feed_name(self) -> str | None:
        """The feed whose files it reads, if it does."""
        return None

    @property
    def personal(self) -> frozenset[str]:
        """The columns that hold personal data."""
        return frozenset()

    def described(self) -> Mapping[str, str]:
        """By column what a value means, of those that say so."""
        return {}

    def copies(self) -> Mapping[str, Copied]:
        """By column, the column of another table in which its values stand, of those that a recipe took over."""
        return {}

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        """Declarations that are made of a function call it."""
        raise DeclarationError(f"{self.name} is not declared by a function")


def require_once(where: str, parameter: str, names: Sequence[str]) -> None:
    """Refuse a list of columns that is a text, or that names a column twice.

    Raises:
        DeclarationError: So it is.
    """
    if isinstance(names, str):
        raise DeclarationError(f"{where}: {parameter}={names!r} is one text: write a tuple of columns, as in {parameter}=({names!r},)")
    if twice := [name for name in dict.fromkeys(names) if list(names).count(name) > 1]:
        raise DeclarationError(f"{where}: {parameter} names {twice[0]!r} twice: name each column once")


def require_distinct(where: str, names: Iterable[str]) -> None:
    """Refuse columns whose names differ in case only, which Delta takes for one.

    Raises:
        DeclarationError: There are two.
    """
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(name.casefold(), name)) != name:
            raise DeclarationError(
                f"{where}: the columns {other!r} and {name!r} differ in case only, and Delta has no two such: rename one"
            )


def owner_of(name: str, owner: str | None) -> str:
    """Who answers for a table: the product's team unless somebody is named.

    Raises:
        DeclarationError: An owner is neither a team nor an e-mail address.
    """
    given = owner or f"team:{name.split('.', maxsplit=1)[0]}"
    for one in owners_of(given):
        if not _OWNER.fullmatch(one):
            raise DeclarationError(
                f"{name}: owner={given!r}: write team:NAME or an e-mail address, or several with commas between, as in "
                "'team:sales, ada@example.org'"
            )
    return given


def owners_of(owner: str) -> list[str]:
    """The teams and people of an owner, which are separated by commas."""
    return [one.strip() for one in owner.split(",")]


def text_of(function: Any) -> str:
    """The docstring of a function as one line."""
    return " ".join((function.__doc__ or "").split())


def nearest(name: str, known: Iterable[str]) -> str:
    """A question that ends a message: did the author mean another name?"""
    near = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean {near[0]}?" if near else ""


def nearest_or_all(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that says that a name is not known: the nearest name, or, if none is near, all.

    Quarantines are named only to who asks for one: they would double the list.
    """
    names = sorted(full for full in known if full.endswith(QUARANTINE_SUFFIX) == name.endswith(QUARANTINE_SUFFIX))
    last = name.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(name, names, 1) or [full for full in names if full.rsplit(".", 1)[-1] == last]
    return f": did you mean {near[0]}?" if near else f". There are: {', '.join(names) or 'none'}"
