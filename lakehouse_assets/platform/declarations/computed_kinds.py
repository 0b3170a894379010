"""Kinds whose function is given all rows of a scope: by partition, by key, a tail, everything. The result takes the place of that scope.

One scope is determined from all sources together, and every input is read at that scope. Kinds whose function is given new rows are in
`row_kinds`.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as dataclass_replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from lakehouse_assets.platform.declarations.base import DeclarationError, require_once
from lakehouse_assets.platform.declarations.kind import (
    Inputs,
    Kind,
    Plan,
    Result,
    require_columns,
    require_every_input_has,
    require_partitions_in_key,
)
from lakehouse_assets.platform.quality.contract import key_columns
from lakehouse_assets.platform.storage.commit import Commit, Written
from lakehouse_assets.platform.storage.replace import replace
from lakehouse_assets.platform.storage.scopes import Everything, Intervals, Keys, Nothing, Partitions, Scope, Tail, earlier_by
from lakehouse_assets.platform.storage.table import Table

if TYPE_CHECKING:
    from lakehouse_assets.platform.declarations.tables import TableDeclaration


class ComputedKind(Kind):
    """A kind whose result replaces its scope."""

    @property
    def orders_by(self) -> str:
        """The column whose tail is computed again from the first change on; empty if the kind is none of a tail."""
        return ""

    @abstractmethod
    def scope(self, inputs: Inputs) -> Scope:
        """What of the table has to be computed again."""

    def plan(self, inputs: Inputs) -> Plan:
        """See `Kind.plan`."""
        return self.plan_for(inputs, self.scope(inputs))

    def plan_for(self, inputs: Inputs, scope: Scope) -> Plan:
        """The work for a scope: every input is read at it."""
        frames = {name: self.read(source.rows(), scope) for name, source in inputs.sources.items()}
        return Plan(frames | inputs.whole_dimensions(), scope)

    def read(self, rows: pl.LazyFrame, scope: Scope) -> pl.LazyFrame:
        """The rows of an input that the function is given for a scope."""
        return scope.filter(rows)

    def write(self, table: Table, result: Result, commit: Commit) -> Written:
        """See `Kind.write`."""
        return replace(table, result.rows, result.scope or Everything(), result.identity, commit)


def touched(inputs: Inputs, columns: tuple[str, ...]) -> pl.DataFrame:
    """The values of columns in rows that came, changed or went in any input, or that refer to a row of a dimension that did."""
    values = [source.touched(columns) for source in inputs.sources.values() if source.moved]
    for source in inputs.sources.values():
        values += [rows.select(columns).unique().collect(engine="streaming") for rows in inputs.referring(source)]
    first = next(iter(inputs.sources.values())).rows().select(columns).limit(0).collect()
    return pl.concat([first, *values]).unique(maintain_order=True)


@dataclass(frozen=True)
class ByPartition(ComputedKind):
    """The function is given all rows of every partition that changed in any input; those partitions are replaced.

    Attributes:
        column: The partition column: a string, date, integer or boolean, of the contract and of every input.
    """

    column: str

    def check(self, table: "TableDeclaration") -> None:
        """See `Kind.check`."""
        require_columns(table, [self.column], table.schema, f"contract {table.contract.__name__}")
        if table.partition_by not in {(), (self.column,)}:
            raise DeclarationError(f"{table.name}: ByPartition({self.column!r}) is partitioned by that column: leave partition_by out")
        if key := key_columns(table.contract):
            require_partitions_in_key(table, key)

    def check_sources(self, table: "TableDeclaration", schemas: Mapping[str, Mapping[str, pl.DataType]]) -> None:
        """See `Kind.check_sources`."""
        require_every_input_has(table, [self.column], schemas)

    def partition_by(self, declared: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ARG002
        """See `Kind.partition_by`."""
        return (self.column,)

    @property
    def recomputed_by(self) -> str:
        """See `Kind.recomputed_by`."""
        return self.column

    def plan_partitions(self, inputs: Inputs, values: Sequence[Any]) -> Plan:
        """See `Kind.plan_partitions`."""
        return self.plan_for(inputs, Partitions(self.column, values))

    def scope(self, inputs: Inputs) -> Scope:
        """See `ComputedKind.scope`."""
        if not inputs.is_first:
            return self._partitions([touched(inputs, (self.column,))])
        stored = [inputs.stored.scan()] if inputs.stored.exists() else []
        rows = [source.rows() for source in inputs.sources.values()]
        return self._partitions([frame.select(self.column).unique().collect(engine="streaming") for frame in [*rows, *stored]])

    def _partitions(self, values: list[pl.DataFrame]) -> Partitions:
        distinct = pl.concat(values).to_series().unique()
        return Partitions(self.column, sorted(distinct, key=lambda value: (value is None, value)))

    def parts(self, plan: Plan, inputs: Inputs, rows: int) -> list[Plan]:
        """See `Kind.parts`: groups of partitions that together have about so many rows of the inputs, in order."""
        scope = plan.scope
        if not isinstance(scope, Partitions) or len(scope.values) < 2:
            return [plan]
        counted = pl.concat(
            [scope.filter(source.rows()).select(self.column).group_by(self.column).len() for source in inputs.sources.values()]
        )
        sizes = dict(counted.group_by(self.column).agg(pl.col("len").sum()).collect(engine="streaming").iter_rows())
        groups: list[list[Any]] = [[]]
        filled = 0
        for value in scope.values:
            size = sizes.get(value, 0)
            if groups[-1] and filled + size > rows:
                groups.append([])
                filled = 0
            groups[-1].append(value)
            filled += size
        return [self.plan_for(inputs, Partitions(self.column, group)) for group in groups]

    def write(self, table: Table, result: Result, commit: Commit) -> Written:
        """See `Kind.write`."""
        if not isinstance(result.scope, Partitions) or result.scope.is_empty:
            return super().write(table, result, commit)
        return table.replace(result.rows, {self.column: result.scope.values}, commit)


@dataclass(frozen=True)
class ByKey(ComputedKind):
    """The function is given all rows of every key that changed in any input; those keys are replaced, and keys that went are deleted.

    Attributes:
        columns: The key, of every input and of the contract, whose own key may be finer.
    """

    columns: tuple[str, ...]

    def __init__(self, *columns: str) -> None:
        object.__setattr__(self, "columns", columns)

    def check(self, table: "TableDeclaration") -> None:
        """See `Kind.check`."""
        if not self.columns:
            raise DeclarationError(f"{table.name}: ByKey() names no column: name those by which the table is grouped")
        require_once(table.name, "ByKey", self.columns)
        require_columns(table, self.columns, table.schema, f"contract {table.contract.__name__}")
        require_key_within(table, self.columns)
        if outside := [name for name in table.partition_by if name not in self.columns]:
            raise DeclarationError(
                f"{table.name}: partition_by={', '.join(outside)} is not among the columns of ByKey, so one key could be in two partitions"
                ": add it to ByKey, or leave it out"
            )

    def check_sources(self, table: "TableDeclaration", schemas: Mapping[str, Mapping[str, pl.DataType]]) -> None:
        """See `Kind.check_sources`."""
        require_every_input_has(table, self.columns, schemas)

    def computes_each(self, key: Sequence[str]) -> bool:
        """See `Kind.computes_each`."""
        return bool(key) and {*key} <= {*self.columns}

    def scope(self, inputs: Inputs) -> Scope:
        """See `ComputedKind.scope`. Rows without a key belong to nobody and are not read."""
        if inputs.is_first:
            return Everything()
        keys = touched(inputs, self.columns).drop_nulls()
        return Keys(keys) if keys.height else Nothing()

    def check_result(self, rows: pl.DataFrame) -> str:
        """See `Kind.check_result`."""
        lacking = rows.select(pl.any_horizontal(pl.col(name).is_null() for name in self.columns).sum()).item()
        return f"{lacking} rows have no value in {', '.join(self.columns)}, by which the table is grouped" if lacking else ""

    def read(self, rows: pl.LazyFrame, scope: Scope) -> pl.LazyFrame:
        """See `ComputedKind.read`."""
        return scope.filter(rows.drop_nulls(list(self.columns)))


@dataclass(frozen=True)
class ByKeyAndTime(ComputedKind):
    """The function looks at one key at a time, and back by `lookback` at most: of each key that changed, the rows near it are replaced.

    The function is given of each such key the rows from its first change on, less the lookback, to the lookback after its last change: no
    other row can have changed.

    Attributes:
        columns: The key, of every input and of the contract.
        time: A date, a timestamp or a whole number that orders the rows, of every input and of the contract.
        lookback: How far before a row its value may depend on rows of the inputs. A timedelta, or a whole number.
    """

    columns: tuple[str, ...]
    time: str
    lookback: timedelta | int

    def __init__(self, *columns: str, time: str, lookback: timedelta | int) -> None:
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "time", time)
        object.__setattr__(self, "lookback", lookback)

    def check(self, table: "TableDeclaration") -> None:
        """See `Kind.check`."""
        ByKey(*self.columns).check(table)
        require_lookback(table, self.time, self.lookback)
        require_key_within(table, (*self.columns, self.time))

    def check_sources(self, table: "TableDeclaration", schemas: Mapping[str, Mapping[str, pl.DataType]]) -> None:
        """See `Kind.check_sources`."""
        require_every_input_has(table, (*self.columns, self.time), schemas)

    def scope(self, inputs: Inputs) -> Scope:
        """See `ComputedKind.scope`. Rows without a key or a time are not read."""
        if inputs.is_first:
            return Everything()
        changed = touched(inputs, (*self.columns, self.time)).drop_nulls()
        first, last = pl.col(self.time).min().alias(Intervals.FIRST), pl.col(self.time).max().alias(Intervals.LAST)
        keys = changed.group_by(self.columns, maintain_order=True).agg(first, last + self.lookback)
        return Intervals(keys, self.time) if keys.height else Nothing()

    def check_result(self, rows: pl.DataFrame) -> str:
        """See `Kind.check_result`."""
        return ByKey(*self.columns).check_result(rows)

    def read(self, rows: pl.LazyFrame, scope: Scope) -> pl.LazyFrame:
        """See `ComputedKind.read`."""
        return scope.looking_back(self.lookback).filter(rows.drop_nulls([*self.columns, self.time]))

    def plan_for(self, inputs: Inputs, scope: Scope) -> Plan:
        """See `ComputedKind.plan_for`. Rows of the lookback come out again, and are left out."""
        return dataclass_replace(super().plan_for(inputs, scope), filtered=True)


@dataclass(frozen=True)
class Trailing(ComputedKind):
    """The function looks back only, and no further than `lookback`: from the first change on its result is replaced.

    The function is given all rows from the first changed value on, less the lookback. Of what it returns, the rows after the last value
    before the first change count: no other row can have changed.

    Attributes:
        column: A date, a timestamp or a whole number that orders the rows, of every input and of the contract.
        lookback: How far before a row its value may depend on rows of the inputs. A timedelta, or a whole number.
    """

    column: str
    lookback: timedelta | int

    def check(self, table: "TableDeclaration") -> None:
        """See `Kind.check`."""
        require_lookback(table, self.column, self.lookback)
        require_key_within(table, (self.column,))
        require_partitions_in_key(table, key_columns(table.contract))

    def check_sources(self, table: "TableDeclaration", schemas: Mapping[str, Mapping[str, pl.DataType]]) -> None:
        """See `Kind.check_sources`."""
        require_every_input_has(table, [self.column], schemas)

    @property
    def orders_by(self) -> str:
        """See `ComputedKind.orders_by`."""
        return self.column

    def scope(self, inputs: Inputs) -> Scope:
        """See `ComputedKind.scope`."""
        if inputs.is_first:
            return Everything()
        values = touched(inputs, (self.column,)).to_series()
        if not values.drop_nulls().len():  # rows without a value go into quarantine
            return Partitions(self.column, (None,)) if values.len() else Nothing()
        last = self._last_before(inputs, values.min())
        return Everything() if last is None else Tail(self.column, last)

    def _last_before(self, inputs: Inputs, first: Any) -> Any | None:
        """The last value before the first that changed. No input has rows between the two, the result may: days without a sale."""
        # Mostly it is near, and what is older need not be read.
        for nearest in (earlier_by(first, self.lookback), None):
            condition = (pl.col(self.column) < first) & (pl.lit(value=True) if nearest is None else pl.col(self.column) >= nearest)
            earlier = [source.rows().filter(condition).select(pl.col(self.column).max()) for source in inputs.sources.values()]
            last = pl.concat(pl.collect_all(earlier, engine="streaming")).to_series().max()
            if last is not None:
                return last
        return None

    def read(self, rows: pl.LazyFrame, scope: Scope) -> pl.LazyFrame:
        """See `ComputedKind.read`."""
        return scope.looking_back(self.lookback).filter(rows)

    def plan_for(self, inputs: Inputs, scope: Scope) -> Plan:
        """See `ComputedKind.plan_for`. Rows of the lookback come out again, and are left out."""
        return dataclass_replace(super().plan_for(inputs, scope), filtered=True)


@dataclass(frozen=True)
class Full(ComputedKind):
    """The function is given everything, whatever changed in inputs or dimensions; only rows that differ are written."""

    def check(self, table: "TableDeclaration") -> None:
        """See `Kind.check`."""
        require_partitions_in_key(table, key_columns(table.contract))

    def scope(self, inputs: Inputs) -> Scope:
        """See `ComputedKind.scope`."""
        looked_up = any(source.moved for source in inputs.dimensions.values())
        return Everything() if inputs.is_first or inputs.moved or looked_up else Nothing()


def require_lookback(table: "TableDeclaration", column: str, lookback: Any) -> None:
    """Refuse a column that is no time, or a lookback that does not fit it.

    Raises:
        DeclarationError: So it is.
    """
    kind = table.kind.word
    require_columns(table, [column], table.schema, f"contract {table.contract.__name__}")
    dtype = table.schema[column]
    if not (dtype.is_integer() or dtype == pl.Date or isinstance(dtype, pl.Datetime)):
        raise DeclarationError(f"{table.name}: {kind} goes by {column!r}, which is {dtype}: name a date, timestamp or whole number")
    wanted = int if dtype.is_integer() else timedelta
    if type(lookback) is not wanted:
        raise DeclarationError(f"{table.name}: lookback={lookback!r} does not fit {column!r} ({dtype}): give it as {wanted.__name__}")
    if lookback < wanted():
        raise DeclarationError(
            f"{table.name}: lookback={lookback!r} is negative, and a function that looks ahead is not {kind}: use ByPartition or Full"
        )
    if isinstance(lookback, timedelta) and dtype == pl.Date and lookback != timedelta(days=lookback.days):
        raise DeclarationError(f"{table.name}: lookback={lookback!r} is no number of whole days, and {column!r} is a date: round it up")


def require_key_within(table: "TableDeclaration", columns: Sequence[str]) -> None:
    """Refuse a contract whose key lacks a column by which the kind goes.

    Raises:
        DeclarationError: So it is.
    """
    key = key_columns(table.contract)
    missing = [name for name in columns if name not in key]
    if missing:
        raise DeclarationError(
            f"{table.name}: {table.kind.word} goes by {', '.join(columns)}, but the key of contract {table.contract.__name__} is "
            f"{', '.join(key) or 'empty'}: mark {', '.join(missing)} with column(key=True), with whatever else tells rows apart"
        )
