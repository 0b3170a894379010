"""The word `table`: a Delta table that a pure function computes from other tables.

What its kind means is in `row_kinds`, `change_kinds` and `computed_kinds`.
"""

import inspect
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations import places
from lakehouse_assets.platform.declarations.base import (
    QUARANTINE_SUFFIX,
    Declaration,
    DeclarationError,
    nearest,
    owner_of,
    require_distinct,
    require_once,
    text_of,
)
from lakehouse_assets.platform.declarations.code import source_of
from lakehouse_assets.platform.declarations.kind import Kind, require_kind
from lakehouse_assets.platform.quality import missing_column
from lakehouse_assets.platform.quality.contract import (
    Contract,
    columns_of,
    copies_of,
    freshness_of,
    key_columns,
    personal_of,
    references_of,
    rules_of,
    schema_of,
)
from lakehouse_assets.platform.quality.copied import Copied
from lakehouse_assets.platform.quality.rules import Rule, feed_rules, key_rule
from lakehouse_assets.platform.storage.errors import TypeNotStorable
from lakehouse_assets.platform.storage.lakehouse import STAGING_SUFFIX
from lakehouse_assets.platform.storage.scd2 import IS_CURRENT
from lakehouse_assets.platform.storage.types import check_partition_columns, stored_schema

Picture = Callable[[Callable[[str], pl.LazyFrame]], bytes]
"""Draws a table (PNG), from a function that gives the rows of any table by its name."""


# What a function fails of when it is written wrong. Errors that it raises of its rows, and those of Polars, pass as they are.
_MISTAKES = (NameError, AttributeError, LookupError, ImportError, TypeError, ArithmeticError, AssertionError)


class FunctionError(DeclarationError):
    """The function of a table has a mistake. The message names the table, the function with its file and line, and the remedy."""


@dataclass(frozen=True)
class Dimension:
    """A table in which rows are looked up. It is read whole.

    Attributes:
        table: Its name.
        key: The column by which inputs refer to it: when a row of the dimension changes, the rows of inputs with its value in this column
            are computed again. Without a key a change restates nothing: rows keep what was looked up when they were computed, and a full
            refresh may give other values.
    """

    table: str
    key: str | None = None


@dataclass(frozen=True)
class TableDeclaration(Declaration):
    """A table that is computed from other tables. Calling it calls the function, which is pure."""

    contract: type[Contract]
    kind: Kind
    inputs: Mapping[str, str]
    dimensions: Mapping[str, Dimension]
    function: Callable[..., pl.LazyFrame]
    partition_by: tuple[str, ...] = ()
    row_for_row: bool = True
    picture: Picture | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        source_of(self.function)  # read now: its file may be edited while this code runs
        self._check_types()
        self._check_parameters()
        self.kind.check(self)
        self._check_columns()
        self._check_rules()

    def _written_at(self) -> tuple[str, int]:
        return places.of_function(self.function)

    def __call__(self, *args: Any, **kwargs: Any) -> pl.LazyFrame:
        """The rows, from the frames that the function reads.

        Raises:
            FunctionError: The function has a mistake: it returned something else than a lazy frame, or names what does not exist.
        """
        try:
            frame: Any = self.function(*args, **kwargs)
            if isinstance(frame, pl.LazyFrame):
                frame.collect_schema()  # what it names is looked for now, while it is known whose function it is
                return frame
        except pl.exceptions.ColumnNotFoundError as error:
            given = [one for one in (*args, *kwargs.values()) if isinstance(one, pl.LazyFrame)]
            columns = [name for one in given for name in one.collect_schema()]
            raise FunctionError(f"{self._function} names {missing_column.sentence(error, columns)}") from error
        except _MISTAKES as error:
            at = places.of_error(error, [Path(self.written_at[0]).parent])
            where = f", at {places.place(*at)}" if at else ""
            raise FunctionError(f"{self._function} failed{where}: {places.reason(error)}") from error
        advice = "call .lazy() on it" if isinstance(frame, pl.DataFrame) else "return the rows"
        raise FunctionError(f"{self._function} returned a {type(frame).__name__} instead of a LazyFrame: {advice}")

    @property
    def _function(self) -> str:
        place = self.place
        return f"{self.name}: its function {self.function.__name__}" + (f" ({place})" if place else "")

    def sources(self) -> tuple[str, ...]:
        """See `Declaration.sources`."""
        return tuple(dict.fromkeys([*self.inputs.values(), *(dimension.table for dimension in self.dimensions.values())]))

    def references(self) -> tuple[str, ...]:
        """See `Declaration.references`."""
        return tuple(dict.fromkeys(reference.table for reference in references_of(self.contract).values()))

    def outputs(self) -> tuple[str, ...]:
        """See `Declaration.outputs`."""
        return (self.name, self.quarantine)

    @property
    def declared_name(self) -> str:
        """The name that people know: that of the table whose place this one takes, if it is computed to do so."""
        return self.name.removesuffix(STAGING_SUFFIX)

    @property
    def quarantine(self) -> str:
        """The name of the sibling table that has the rejected rows."""
        return self.name + QUARANTINE_SUFFIX

    @property
    def schema(self) -> pl.Schema:
        """The columns that the contract promises, with those that the kind adds."""
        return self.kind.stored(schema_of(self.contract))

    @property
    def personal(self) -> frozenset[str]:
        """See `Declaration.personal`."""
        return personal_of(self.contract).columns

    def described(self) -> Mapping[str, str]:
        """See `Declaration.described`."""
        return {info.name: info.description for info in columns_of(self.contract) if info.description}

    def copies(self) -> Mapping[str, Copied]:
        """See `Declaration.copies`."""
        return copies_of(self.contract)

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns that tell stored rows apart; none if rows may repeat."""
        return self.kind.identity(self.contract)

    @property
    def partitions(self) -> tuple[str, ...]:
        """The columns that the table is partitioned by."""
        return self.kind.partition_by(self.partition_by)

    @property
    def keeps_key_by_rule(self) -> bool:
        """Whether a row that repeats a key is rejected by the rule `key_unique`."""
        return self.kind.key_rule and bool(key_columns(self.contract))

    @property
    def rules(self) -> list[Rule]:
        """The rules that rows are checked by: the contract's, those of rows that come in files, the key's, and those of the kind."""
        unique = key_rule(self.contract) if self.keeps_key_by_rule else None
        of_files = [bound.rule for bound in feed_rules(self.contract)] if self.kind.takes_rows else []
        return [*rules_of(self.contract), *of_files, *([unique] if unique else []), *self.kind.rules()]

    @property
    def layout(self) -> str:
        """What decides which rows a stored table has and where they lie: kind, inputs, key and partitions."""
        inputs = ", ".join(sorted(self.inputs.values()))
        return f"{self.kind.layout}; inputs {inputs}; key {', '.join(sorted(self.identity))}; partitions {', '.join(self.partitions)}"

    @property
    def layout_number(self) -> int:
        """The layout as a number that a commit can carry."""
        return zlib.crc32(self.layout.encode())

    @property
    def function_number(self) -> int:
        """The code of the function as a number that a commit can carry; never 0."""
        return zlib.crc32(source_of(self.function).encode()) + 1

    def check_sources(self, schemas: Mapping[str, pl.Schema]) -> None:
        """Refuse inputs and dimensions that lack a needed column; `schemas` has the columns of declared tables, by name.

        Raises:
            DeclarationError: With the parameter and the remedy.
        """
        inputs = {parameter: schemas[name] for parameter, name in self.inputs.items() if name in schemas}
        self.kind.check_sources(self, inputs)
        for parameter, dimension in self.dimensions.items():
            where = f"{self.name}: dimension {parameter} ({dimension.table})"
            if dimension.key is None:
                continue
            stored = schemas.get(dimension.table, {dimension.key: None})
            if dimension.key not in stored:
                raise DeclarationError(
                    f"{where} has no column {dimension.key!r}: name the column by which rows refer to it.{nearest(dimension.key, stored)}"
                )
            referring = [parameter for parameter, schema in inputs.items() if dimension.key in schema]
            if len(inputs) == len(self.inputs) and not referring:
                raise DeclarationError(
                    f"{where}: no input has the column {dimension.key!r}, so no row refers to it. Leave key out, or name the column by "
                    f"which {', '.join(self.inputs)} refers to it in both tables"
                )
            for other in referring:
                its, ours = inputs[other][dimension.key], stored[dimension.key]
                if ours is not None and its != ours:
                    raise DeclarationError(
                        f"{where}: its key {dimension.key!r} is {ours} there and {its} in the input {other}. Give both one type"
                    )

    def _check_parameters(self) -> None:
        where = self.name
        if not self.inputs:
            raise DeclarationError(f"{where}: inputs is empty: name at least one table that it is computed from")
        if both := set(self.inputs) & set(self.dimensions):
            raise DeclarationError(f"{where}: {min(both)} is an input and a dimension: rename one parameter")
        if self.quarantine in self.sources():
            raise DeclarationError(
                f"{where} reads its own quarantine: rejected rows come back by `lakehouse quarantine replay {where}`, so take it out of "
                "inputs and dimensions"
            )
        if self.name in self.sources():
            raise DeclarationError(f"{where} reads itself: a table is computed from others, so take it out of inputs and dimensions")
        given = {*self.inputs, *self.dimensions, *self._extra_parameters}
        taken = list(inspect.signature(self.function).parameters)
        for parameter in taken:
            if parameter not in given:
                raise DeclarationError(
                    f"{where}: its function takes {parameter!r}, which is neither an input nor a dimension: add it to inputs."
                    f"{nearest(parameter, given)}"
                )
        for parameter in given:
            if parameter not in taken:
                raise DeclarationError(f"{where}: its function does not take {parameter!r}: add the parameter, or leave the source out")
        if not self.row_for_row and not self.kind.takes_rows:
            raise DeclarationError(
                f"{where}: row_for_row=False means nothing for {self.kind.word}, whose rows are not counted one by one: leave it out"
            )

    def _check_types(self) -> None:
        """What a parameter is, before anything is asked of it."""
        contract: Any = self.contract
        if not (isinstance(contract, type) and issubclass(contract, Contract)):
            raise DeclarationError(f"{self.name}: contract={_short(contract)} is no subclass of Contract: give the class")
        require_kind(self.name, self.kind)
        inputs: Mapping[str, Any] = self.inputs
        for parameter, source in inputs.items():
            if not isinstance(source, str):
                name = source.name if isinstance(source, Declaration) else "sales.silver.invoice_lines"
                raise DeclarationError(f"{self.name}: the input {parameter} is {_short(source)}: name the table, as in {name!r}")
        for parameter, dimension in self.dimensions.items():
            if not isinstance(dimension, Dimension):
                raise DeclarationError(
                    f"{self.name}: the dimension {parameter} is {_short(dimension)}: write Dimension('product.layer.name')"
                )
        require_once(self.name, "partition_by", self.partition_by)
        try:
            columns = contract.to_schema().columns
        except Exception as error:  # Pandera has errors of many types for a class that is no model
            raise DeclarationError(f"{self.name}: contract {contract.__name__} is none that Pandera takes: {error}") from error
        if unknown := [name for name in self.partition_by if name not in columns and name != IS_CURRENT]:
            raise DeclarationError(
                f"{self.name}: partition_by names the column {unknown[0]!r}, which contract {contract.__name__} lacks: add it, or name "
                f"another.{nearest(unknown[0], columns)}"
            )

    def _check_columns(self) -> None:
        require_distinct(f"{self.name}, contract {self.contract.__name__}", self.schema)
        if set(self.partitions) == set(self.schema):
            raise DeclarationError(
                f"{self.name}: it is partitioned by all of its columns, {', '.join(self.partitions)}, so that its files would have none: "
                "partition it by fewer"
            )
        try:
            check_partition_columns(stored_schema(self.schema), self.partitions)
        except TypeNotStorable as error:
            raise DeclarationError(f"{self.name}, contract {self.contract.__name__}: {error}") from error
        key = {name: self.schema[name] for name in (*key_columns(self.contract), *self.identity)}
        if vague := [name for name, dtype in key.items() if dtype.is_float() or dtype.is_nested()]:
            raise DeclarationError(
                f"{self.name}: the key has {', '.join(vague)}, and floats and nested values cannot tell rows apart: give it another type, "
                "or take it out of the key"
            )

    def _check_rules(self) -> None:
        try:
            rules_of(self.contract)
            freshness_of(self.contract)
        except DeclarationError as error:
            raise DeclarationError(f"{self.name}: {error}") from error

    @property
    def scored_by(self) -> str:
        """The model whose champion computes the rows; empty if none does."""
        return ""

    def arguments(self, champions: Callable[[Any], Any]) -> dict[str, Any]:  # noqa: ARG002 most tables need none
        """Arguments of the function besides its frames; `champions` gives the champion of a model, or None."""
        return {}

    @property
    def _extra_parameters(self) -> tuple[str, ...]:
        """Parameters of the function besides its frames."""
        return ()


def _short(value: Any) -> str:
    """What was given in the place of something else, for a message."""
    return f"the declaration of {value.name}" if isinstance(value, Declaration) else repr(value)


def by_parameter(name: str, argument: str, sources: Any) -> dict[str, Any]:
    """The sources of a table by the parameters of its function.

    Raises:
        DeclarationError: It is something else than a dict.
    """
    if not isinstance(sources, Mapping):
        example = "{'lines': 'sales.silver.invoice_lines'}"
        raise DeclarationError(f"{name}: {argument}={sources!r} is no dict from a parameter of the function to its table: write {example}")
    return dict(sources)


def table(
    name: str,
    *,
    contract: type[Contract],
    kind: Kind,
    inputs: Mapping[str, str],
    dimensions: Mapping[str, Dimension] = MappingProxyType({}),
    partition_by: tuple[str, ...] = (),
    row_for_row: bool = True,
    picture: Picture | None = None,
    owner: str | None = None,
) -> Callable[[Callable[..., pl.LazyFrame]], TableDeclaration]:
    """Declare a table by the pure function that computes it; its docstring describes the table to people.

    Args:
        name: `product.layer.name`.
        contract: Columns, types, rules, key.
        kind: What is recomputed when sources change, and how it is written.
        inputs: The tables whose changes drive what is recomputed, by the parameters of the function.
        dimensions: The tables in which rows are looked up, by the parameters of the function.
        partition_by: Columns by which the table is partitioned; `ByPartition` says so itself, and `SCD2` adds `is_current`.
        row_for_row: Whether the function returns one row for each that it is given; then no row can get lost in it unseen.
        picture: Draws the table for people, after each change.
        owner: Who answers for it; the product's team by default.

    Raises:
        DeclarationError: The declaration cannot be meant.
    """

    def declare(function: Callable[..., pl.LazyFrame]) -> TableDeclaration:
        return TableDeclaration(
            name,
            text_of(function),
            owner_of(name, owner),
            contract,
            kind,
            by_parameter(name, "inputs", inputs),
            by_parameter(name, "dimensions", dimensions),
            function,
            partition_by,
            row_for_row,
            picture,
        )

    return declare
