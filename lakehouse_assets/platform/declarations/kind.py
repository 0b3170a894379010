"""What a kind of table is: how it turns what changed in its sources into work for its function, and how the result is written.

The kinds themselves are in `row_kinds` and `change_kinds` (the function is given rows that are new) and `computed_kinds` (it is given all
rows of a scope).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

from lakehouse_assets.platform.declarations.base import DeclarationError, nearest, require_once
from lakehouse_assets.platform.quality.contract import Contract, key_columns
from lakehouse_assets.platform.quality.rules import Rule
from lakehouse_assets.platform.quality.split import Split
from lakehouse_assets.platform.storage.commit import Commit, Written
from lakehouse_assets.platform.storage.scopes import Scope
from lakehouse_assets.platform.storage.source import Source
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

if TYPE_CHECKING:
    from lakehouse_assets.platform.declarations.tables import TableDeclaration

Function = Callable[..., pl.LazyFrame]


@dataclass(frozen=True)
class Inputs:
    """What the function of a table reads in one batch.

    Attributes:
        sources: The inputs, by parameter. What changes in them drives what is computed.
        dimensions: The tables in which rows are looked up, by parameter.
        keys: By parameter, the column that refers to a dimension; dimensions that restate nothing are left out.
        function: The table's function.
        stored: The table that is written.
        key: The contract's key, if it has one.
        extra: Further arguments of the function, as a champion.
        others: What else drives the table, by name, as the ledger of a model.
    """

    sources: Mapping[str, Source]
    dimensions: Mapping[str, Source]
    keys: Mapping[str, str]
    function: Function
    stored: Table
    key: tuple[str, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Source] = field(default_factory=dict)

    @property
    def only(self) -> tuple[str, Source]:
        """The one input of a kind that takes one."""
        [(name, source)] = self.sources.items()
        return name, source

    @property
    def is_first(self) -> bool:
        """Whether an input, or a dimension that restates, has to be read as a whole."""
        restating = [self.dimensions[name] for name in self.keys]
        return any(source.is_new for source in [*self.sources.values(), *restating])

    @property
    def moved(self) -> bool:
        """Whether a source that drives or restates has something new."""
        return any(source.moved for source in self.sources.values()) or bool(self.restated)

    @cached_property
    def restated(self) -> dict[str, pl.DataFrame]:
        """By dimension that changed, the values of its key whose rows came or went, in the column that refers to it."""
        changed = {name: column for name, column in self.keys.items() if self.dimensions[name].moved}
        found = {name: self.dimensions[name].touched((column,)) for name, column in changed.items()}
        return {name: values for name, values in found.items() if values.height}

    def whole_dimensions(self) -> dict[str, pl.LazyFrame]:
        """The dimensions as they are now."""
        return {name: source.rows() for name, source in self.dimensions.items()}

    def referring(self, source: Source) -> Iterator[pl.LazyFrame]:
        """The rows of an input that refer to a dimension's rows that changed."""
        rows = source.rows()
        columns = rows.collect_schema()
        for name, values in self.restated.items():
            if self.keys[name] in columns:
                yield rows.join(values.lazy(), on=self.keys[name], how="semi")


@dataclass(frozen=True)
class Plan:
    """The work of one batch.

    Attributes:
        frames: What the function is given; None: nothing can be computed yet, so there are no rows.
        scope: What of the table its result replaces; None: its rows are added to the table, or merged into it.
        filtered: Whether rows of the result outside the scope are left out; else they are an error of the function.
        counted: The input whose rows must all come out again, if there is one.
        columns: Further columns of the result, with one value each.
        note: What the kind has to know of table and sources as they were then, when it writes the result.
    """

    frames: Mapping[str, Any] | None
    scope: Scope | None
    filtered: bool = False
    counted: str | None = None
    columns: Mapping[str, pl.Expr] = field(default_factory=dict)
    note: Any = None


@dataclass(frozen=True)
class Result:
    """The rows of one batch on their way into the table.

    Attributes:
        rows: Those that passed the contract.
        bad: Those that did not.
        scope: See `Plan.scope`.
        identity: The columns that tell stored rows apart.
        taken: Where rows are released: the rows with contested keys that the table has taken since, with the columns
            `Kind.taken_columns`; None if no key is contested. See `Kind.contested`.
        note: See `Plan.note`.
    """

    rows: pl.DataFrame
    bad: pl.DataFrame
    scope: Scope | None
    identity: Sequence[str]
    taken: pl.DataFrame | None = None
    note: Any = None

    @property
    def adds(self) -> bool:
        """Whether rows are added to the table, or merged into it, and nothing is replaced."""
        return self.scope is None or self.scope.is_empty


class Kind(ABC):
    """How a table follows its sources. The methods `check…` refuse what cannot be meant, when it is declared."""

    takes_rows: ClassVar[bool] = False
    """Whether the function is given each new row once, so that its rows can be counted and rejected rows replayed."""
    rewrites: ClassVar[bool] = True
    """Whether a full refresh puts its result in the place of all that the table has."""

    # --- when it is declared

    @property
    def word(self) -> str:
        """What a product calls it, for messages."""
        return type(self).__name__

    @abstractmethod
    def check(self, table: "TableDeclaration") -> None:
        """Refuse a declaration that this kind cannot keep.

        Raises:
            DeclarationError: With the parameter and the remedy.
        """

    def check_sources(self, table: "TableDeclaration", schemas: Mapping[str, Mapping[str, pl.DataType]]) -> None:  # noqa: B027 most need none
        """Refuse inputs that lack a column that the kind needs; `schemas` has the columns of those inputs that are known, by parameter.

        Raises:
            DeclarationError: With the parameter and the remedy.
        """

    def stored(self, schema: pl.Schema) -> pl.Schema:
        """The columns of the stored table, from those of the contract."""
        return schema

    def identity(self, contract: type[Contract]) -> tuple[str, ...]:
        """The columns that tell stored rows apart; none if rows may repeat."""
        return key_columns(contract)

    def computes_each(self, key: Sequence[str]) -> bool:  # noqa: ARG002 most look at more rows
        """Whether rows are computed from the input's rows of one value of the key alone."""
        return False

    @property
    def waits_for(self) -> str:
        """The column of time until which rows of the inputs are left out; empty if they are not."""
        return ""

    def partition_by(self, declared: tuple[str, ...]) -> tuple[str, ...]:
        """The columns that the table is partitioned by."""
        return declared

    @property
    def recomputed_by(self) -> str:
        """The column by whose values parts of the table can be computed again by themselves; empty if there is none."""
        return ""

    @property
    def layout(self) -> str:
        """What of the declaration decides what stored rows look like: where it changes, the table needs a full refresh."""
        return repr(self)

    def rules(self) -> list[Rule]:
        """Rules of the kind, besides the contract's."""
        return []

    @property
    def key_rule(self) -> bool:
        """Whether a row that repeats a key is rejected by the rule `key_unique`."""
        return False

    # --- in each batch

    def changed_at(self, source: Table, after: int | None) -> int | None:
        """The newest version of a source that changed something for a table of this kind, as `Table.changed_at` has it."""
        return source.changed_at(after)

    @abstractmethod
    def plan(self, inputs: Inputs) -> Plan:
        """What the function has to be given, and what its result replaces."""

    def parts(self, plan: Plan, inputs: Inputs, rows: int) -> list[Plan]:  # noqa: ARG002 a kind that cannot divide its work needs neither
        """The same work in parts of about so many rows, each of which can be committed by itself."""
        return [plan]

    def settle(self, parts: Split, stored: Table, *, replaces_all: bool) -> Split:  # noqa: ARG002 most kinds judge rows one by one
        """Rows after the verdicts that are passed on more than one row at once."""
        return parts

    def plan_partitions(self, inputs: Inputs, values: Sequence[Any]) -> Plan:
        """The work to compute the rows with some values of `recomputed_by` again.

        Raises:
            DeclarationError: There is no such column.
        """
        raise DeclarationError(f"{inputs.stored.name}: {self.word} cannot be computed again by partition {list(values)}")

    def result_key(self, contract: type[Contract]) -> tuple[str, ...]:
        """The columns whose values the function may return once only; a repetition is an error of the function."""
        return () if self.takes_rows else self.identity(contract)

    def check_result(self, rows: pl.DataFrame) -> str:  # noqa: ARG002 most kinds take what the contract takes
        """What is wrong with the rows that the function returned, whatever the contract says; empty if nothing is."""
        return ""

    @abstractmethod
    def write(self, table: Table, result: Result, commit: Commit) -> Written:
        """Write the good rows of a batch."""

    def contested(self, table: Table, rows: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 most kinds have all that they need in the table
        """The keys for which `release` needs the rows that the table has taken since these rows were rejected, besides what it stores."""
        return pl.DataFrame()

    @property
    def taken_columns(self) -> tuple[str, ...]:
        """The columns that `release` needs of rows that the table has taken: the key, and what says which of two rows counts."""
        return ()

    def release(self, table: Table, result: Result, commit: Commit) -> Written:
        """Write rows that were rejected before and pass now."""
        return self.write(table, result, commit)


def require_kind(where: str, kind: Any) -> None:
    """Refuse what is no kind, as the class of one in place of an instance.

    Raises:
        DeclarationError: So it is.
    """
    if not isinstance(kind, Kind):
        is_class = isinstance(kind, type) and issubclass(kind, Kind)
        remedy = f"it is the class: write {kind.__name__}(…)" if is_class else "give it one, as Full() or ByKey('column')"
        raise DeclarationError(f"{where}: kind={kind.__name__ if is_class else repr(kind)} is no kind of a table: {remedy}")


def require_own_key(table: "TableDeclaration", key: Sequence[str], others: Iterable[str]) -> None:
    """Refuse a key that names a column twice, or one that tells the rows of one key apart.

    Raises:
        DeclarationError: So it is.
    """
    require_once(f"{table.name}: {table.kind.word}", "key", key)
    if both := [name for name in others if name in key]:
        raise DeclarationError(
            f"{table.name}: {table.kind.word} has {both[0]!r} in its key, and goes by it among the rows of one key, which have one value "
            "of it: take it out of the key, or name another column"
        )


def require_columns(table: "TableDeclaration", columns: Iterable[str], schema: Mapping[str, Any], where: str) -> None:
    """Refuse columns that do not exist.

    Raises:
        DeclarationError: One of them does not, with the nearest that does.
    """
    for name in columns:
        if name not in schema:
            raise DeclarationError(
                f"{table.name}: {table.kind.word} names the column {name!r}, which {where} lacks: add it, or name another."
                f"{nearest(name, schema)}"
            )


def require_one_input(table: "TableDeclaration") -> None:
    """Refuse more or fewer inputs than one.

    Raises:
        DeclarationError: So it is.
    """
    if len(table.inputs) != 1:
        given = ", ".join(table.inputs) or "none"
        raise DeclarationError(
            f"{table.name}: {table.kind.word} takes one input, and inputs has {given}. Declare further tables as dimensions, or use "
            "ByPartition, ByKey, Trailing or Full"
        )


def require_every_input_has(table: "TableDeclaration", columns: Iterable[str], schemas: Mapping[str, Mapping[str, pl.DataType]]) -> None:
    """Refuse an input that lacks a column by which the kind goes, or has it in another type than the table.

    Raises:
        DeclarationError: With the input.
    """
    kind = table.kind.word
    for parameter, schema in schemas.items():
        for name in columns:
            source = table.inputs[parameter]
            if name not in schema:
                raise DeclarationError(
                    f"{table.name}: {kind} goes by the column {name!r}, which the input {parameter} ({source}) lacks. Add it there, or "
                    f"declare {source} as a dimension.{nearest(name, schema)}"
                )
            if schema[name] != table.schema[name]:
                raise DeclarationError(
                    f"{table.name}: {kind} goes by the column {name!r}, which is {schema[name]} in the input {parameter} ({source}) and "
                    f"{table.schema[name]} in the contract. {_one_type(name, schema[name], table.schema[name])}"
                )


def _one_type(name: str, given: pl.DataType, wanted: pl.DataType) -> str:
    if given == pl.Date and wanted == TIMESTAMP:
        return f"Give the input a column of moments: {moment_of_date(name)} is the end of a day, when all of it is known"
    return "Give both one type"


def moment_of_date(name: str) -> str:
    """How a column of dates becomes one of moments, as source."""
    return f'`pl.col("{name}").cast(pl.Datetime("us", "UTC")) + pl.duration(days=1)`'


def require_key(table: "TableDeclaration", keys: Sequence[Sequence[str]]) -> None:
    """Refuse a contract whose key is not the one by which the kind tells rows apart.

    Raises:
        DeclarationError: So it is.
    """
    if set(key_columns(table.contract)) not in [set(key) for key in keys]:
        columns = ", ".join(key_columns(table.contract))
        declared = f"the key {columns}" if columns else "no key"
        wanted = " or ".join(", ".join(key) for key in keys)
        raise DeclarationError(
            f"{table.name}: contract {table.contract.__name__} has {declared}, but {table.kind.word} tells rows apart by {wanted}. "
            "Mark exactly these columns with column(key=True), or change the kind"
        )


def require_partitions_in_key(table: "TableDeclaration", key: Sequence[str], partitions: Sequence[str] | None = None) -> None:
    """Refuse a partition column outside the key: one key could be in two partitions.

    Args:
        table: The declaration.
        key: The columns of its key.
        partitions: The columns to check; by default all that the table is partitioned by.

    Raises:
        DeclarationError: So it is.
    """
    if outside := [name for name in (table.partitions if partitions is None else partitions) if name not in key]:
        own = f"the key {', '.join(key) or '(none)'} of contract {table.contract.__name__}"
        raise DeclarationError(
            f"{table.name}: it is partitioned by {', '.join(outside)}, which is not part of {own}, so one key could be in two partitions. "
            "Add it to the key with column(key=True), or leave it out"
        )
