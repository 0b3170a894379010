"""Kinds whose function is given each new row once, and the two plain ones: appended, and merged by key.

While the source only adds rows, these alone are read. Where rows of it changed or went, or a dimension changed, the affected keys are
computed again from all rows of the source. Kinds that fold change events are in `change_kinds`, those that compute a scope as a whole in
`computed_kinds`.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import polars as pl

from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.kind import (
    Inputs,
    Kind,
    Plan,
    Result,
    require_columns,
    require_key,
    require_one_input,
    require_own_key,
    require_partitions_in_key,
)
from lakehouse_assets.platform.quality.contract import Contract, key_columns
from lakehouse_assets.platform.storage import merge
from lakehouse_assets.platform.storage import replace as replacing
from lakehouse_assets.platform.storage.commit import Commit, Counts, Written
from lakehouse_assets.platform.storage.lineage import ORDER
from lakehouse_assets.platform.storage.scopes import Everything, Keys, Nothing, Partitions, Scope
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import stored_schema

if TYPE_CHECKING:
    from lakehouse_assets.platform.declarations.tables import TableDeclaration


class RowKind(Kind):
    """A kind whose function is given each new row once."""

    takes_rows: ClassVar[bool] = True

    def plan(self, inputs: Inputs) -> Plan:
        """See `Kind.plan`."""
        name, source = inputs.only
        if source.before is None or (source.only_appended and not inputs.restated):
            return Plan({name: source.appended(), **inputs.whole_dimensions()}, None, counted=name)
        return self.restate(inputs)

    @abstractmethod
    def restate(self, inputs: Inputs) -> Plan:
        """The work where rows of the source changed or went, or refer to a row of a dimension that did."""


def require_order(table: "TableDeclaration", schemas: Mapping[str, Mapping[str, pl.DataType]], remedy: str) -> None:
    """Refuse an input whose rows have no order, where one of two rows with one key counts.

    Raises:
        DeclarationError: It is no feed.
    """
    for parameter, schema in schemas.items():
        if not set(ORDER) <= set(schema):
            raise DeclarationError(
                f"{table.name}: of two rows with one key it is unclear which counts, because the input {parameter} "
                f"({table.inputs[parameter]}) is no feed, whose rows have an order. {remedy}"
            )


def affected(inputs: Inputs) -> Iterator[pl.LazyFrame]:
    """What the function makes of rows that came, changed, went, or refer to a row of a dimension that did: as they were, and as they are.

    A function over a feed may look at the rows of a file together, as one that numbers them, so it is given whole files.
    """
    name, source = inputs.only
    now = inputs.whole_dimensions()
    before = now | {parameter: at.rows_before() for parameter, at in inputs.dimensions.items() if at.moved}
    referring = list(inputs.referring(source))
    if set(ORDER) <= set(source.rows().collect_schema()):
        files = [frame.select(ORDER[0]) for frame in (source.came(), source.went(), *referring)]
        numbers = Partitions(ORDER[0], pl.concat(files).unique().collect(engine="streaming").to_series().sort().to_list())
        yield inputs.function(**{name: numbers.filter(source.rows_before())}, **before)
        yield inputs.function(**{name: numbers.filter(source.rows())}, **now)
        return
    yield inputs.function(**{name: source.went()}, **before)
    yield inputs.function(**{name: source.came()}, **now)
    for rows in referring:
        yield inputs.function(**{name: rows}, **before)
        yield inputs.function(**{name: rows}, **now)


def affected_keys(inputs: Inputs, key: Sequence[str]) -> pl.DataFrame:
    """The keys of what `affected` gives, each once; a row that lacks one, for the quarantine, has nulls."""
    frames = [rows.select(key).unique().collect(engine="streaming") for rows in affected(inputs)]
    return pl.concat(frames).unique(maintain_order=True)


def restate_keys(inputs: Inputs, key: Sequence[str]) -> Plan:
    """All rows of the source, of which those with an affected key count, and those without a key, for the quarantine."""
    name, source = inputs.only
    if source.is_new:
        return Plan({name: source.rows(), **inputs.whole_dimensions()}, Everything())
    touched = affected_keys(inputs, key)
    keys = touched.drop_nulls()
    with_nulls = bool(source.moved) or keys.height < touched.height
    scope: Scope = Keys(keys, with_nulls=with_nulls) if with_nulls or keys.height else Nothing()
    return Plan({name: source.rows(), **inputs.whole_dimensions()}, scope, filtered=True)


@dataclass(frozen=True)
class Append(RowKind):
    """Each new row is added. The rows of the source never change; where a file was read again or taken back, its rows are replaced.

    A contract's key is kept by the rule `key_unique`: of rows with one key the first stays, the others go into quarantine.
    """

    def check(self, table: "TableDeclaration") -> None:
        """See `Kind.check`."""
        require_one_input(table)
        if restating := [name for name, dimension in table.dimensions.items() if dimension.key]:
            raise DeclarationError(
                f"{table.name}: Append never changes a row, so the dimension {restating[0]} cannot restate any: leave its key out, or use "
                "Upsert"
            )

    def check_sources(self, table: "TableDeclaration", schemas: Mapping[str, Mapping[str, pl.DataType]]) -> None:
        """See `Kind.check_sources`."""
        if key := key_columns(table.contract):
            require_order(table, schemas, f"Take the key {', '.join(key)} out of the contract, or use Upsert or ByKey")

    @property
    def key_rule(self) -> bool:
        """See `Kind.key_rule`."""
        return True

    def plan(self, inputs: Inputs) -> Plan:
        """See `Kind.plan`. Of rows with one key the first one counts, so they have to be in order."""
        plan = super().plan(inputs)
        name, source = inputs.only
        if not inputs.key or not set(ORDER) <= set(source.rows().collect_schema()):
            return plan
        frames = plan.frames or {}
        return replace(plan, frames={**frames, name: frames[name].sort(ORDER)})

    def restate(self, inputs: Inputs) -> Plan:
        """See `RowKind.restate`."""
        name, source = inputs.only
        rows = source.rows()
        has_lineage = set(ORDER) <= set(rows.collect_schema())
        if inputs.key:
            return restate_keys(inputs, inputs.key)
        if source.is_new or not has_lineage or not set(ORDER) <= set(inputs.stored.schema()):
            return Plan({name: rows, **inputs.whole_dimensions()}, Everything())
        files = Partitions(ORDER[0], sorted(source.touched(ORDER[:1]).to_series()))
        return Plan({name: files.filter(rows), **inputs.whole_dimensions()}, files)

    def write(self, table: Table, result: Result, commit: Commit) -> Written:
        """See `Kind.write`."""
        if result.scope is None or result.adds:
            return table.append(result.rows, commit)
        tells_apart = ORDER if isinstance(result.scope, Partitions) else result.identity
        return replacing.replace(table, result.rows, result.scope, tells_apart, commit)


@dataclass(frozen=True)
class Upsert(RowKind):
    """One row a key: new keys come in, changed rows are updated, keys that went are deleted.

    Attributes:
        key: The columns of the key, which are the contract's key.
        newest_by: Of two rows with one key the one with the larger value counts. It can be left out where the input is a feed: then the
            row counts that came later.
    """

    key: tuple[str, ...]
    newest_by: str | None = None

    def check(self, table: "TableDeclaration") -> None:
        """See `Kind.check`."""
        require_one_input(table)
        require_own_key(table, self.key, [self.newest_by] if self.newest_by else [])
        named = [*self.key, *([self.newest_by] if self.newest_by else [])]
        require_columns(table, named, table.schema, f"contract {table.contract.__name__}")
        require_key(table, [self.key])
        require_partitions_in_key(table, self.key)

    def check_sources(self, table: "TableDeclaration", schemas: Mapping[str, Mapping[str, pl.DataType]]) -> None:
        """See `Kind.check_sources`."""
        if self.newest_by is None:
            require_order(table, schemas, "Name a column in newest_by, or use ByKey")

    def identity(self, contract: type[Contract]) -> tuple[str, ...]:  # noqa: ARG002
        """See `Kind.identity`."""
        return self.key

    def restate(self, inputs: Inputs) -> Plan:
        """See `RowKind.restate`."""
        return restate_keys(inputs, self.key)

    def write(self, table: Table, result: Result, commit: Commit) -> Written:
        """See `Kind.write`."""
        if result.scope is None or result.adds:
            return merge.merge(table, result.rows, self.key, commit, newest_by=self.newest_by)
        newest = merge.latest(result.rows, self.key, self.newest_by)
        older = result.rows.height - newest.height
        scope, identity = result.scope, result.identity
        return _with_duplicates(older, commit, lambda counting: replacing.replace(table, newest, scope, identity, counting))

    def contested(self, table: Table, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Kind.contested`. A row that changed nothing left no trace: lineage does not say when the stored values came last."""
        return merge.changed_keys(table, rows, self.key, self.newest_by)

    @property
    def taken_columns(self) -> tuple[str, ...]:
        """See `Kind.taken_columns`."""
        return tuple(dict.fromkeys([*self.key, *([self.newest_by] if self.newest_by else []), *ORDER]))

    def release(self, table: Table, result: Result, commit: Commit) -> Written:
        """See `Kind.release`. What a later row said of a key is not undone by what an earlier one says."""
        rows = result.rows
        if result.taken is not None:
            both = pl.concat([result.taken, rows.select(result.taken.columns)])
            # As stored, as `merge` compares them: values of an Enum have another order than texts.
            newest = merge.latest(both.cast(stored_schema(both.schema)), self.key, self.newest_by)
            rows = rows.join(newest, on=list(ORDER), how="semi", maintain_order="left")
        older = result.rows.height - rows.height
        newest_by = self.newest_by
        return _with_duplicates(
            older, commit, lambda counting: merge.merge(table, rows, self.key, counting, newest_by=newest_by, by_lineage=False)
        )


def _with_duplicates(more: int, commit: Commit, write: Callable[[Commit], Written]) -> Written:
    """Write, and count that many duplicates besides those that the write sees: in the commit's info, and in what is returned."""

    def counted(counts: Counts) -> Counts:
        return replace(counts, duplicates=counts.duplicates + more)

    written = write(replace(commit, info=lambda counts: commit.info(counted(counts))))
    return written if written.counts is None else replace(written, counts=counted(written.counts))
