"""Kinds whose function is given change events or snapshots of keys, each new row once: the latest state, or a history, of each key.

What all kinds of rows have in common is in `row_kinds`; how events are folded is in the storage room.
"""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from lakehouse_assets.platform.declarations.base import DeclarationError, require_once
from lakehouse_assets.platform.declarations.kind import (
    Inputs,
    Plan,
    Result,
    require_key,
    require_one_input,
    require_own_key,
    require_partitions_in_key,
)
from lakehouse_assets.platform.declarations.row_kinds import RowKind, restate_keys
from lakehouse_assets.platform.declarations.snapshots import rejected_rows, snapshot_rules, whole_snapshots
from lakehouse_assets.platform.quality.contract import Contract
from lakehouse_assets.platform.quality.rules import Rule
from lakehouse_assets.platform.quality.split import Split
from lakehouse_assets.platform.storage import scd1, scd2, snapshots
from lakehouse_assets.platform.storage.commit import Commit, Written
from lakehouse_assets.platform.storage.scd1 import Latest
from lakehouse_assets.platform.storage.scd2 import IS_CURRENT, IS_DELETED, VALID_FROM, History
from lakehouse_assets.platform.storage.scopes import Everything
from lakehouse_assets.platform.storage.snapshots import Snapshots
from lakehouse_assets.platform.storage.table import Table

if TYPE_CHECKING:
    from lakehouse_assets.platform.declarations.tables import TableDeclaration

RETIRE_AT_MOST = 0.2


@dataclass(frozen=True)
class _Changes(RowKind):
    """Change events or snapshots of keys, in any order.

    Attributes:
        key: The columns of the key.
        sequence_by: The number of an event, or of a snapshot.
        snapshot: Whether rows with one number are a snapshot, which is whole: a key that it lacks is retired.
        retire_at_most: A snapshot that would retire a larger share of the current keys is refused; its rows go into the quarantine. Of
            fewer current keys than `SHARE_COUNTS_FROM_KEYS` (20) the share is not asked.
    """

    key: tuple[str, ...]
    sequence_by: str
    snapshot: bool = field(default=False, kw_only=True)
    retire_at_most: float = field(default=RETIRE_AT_MOST, kw_only=True)

    @property
    @abstractmethod
    def storage(self) -> Latest | History | Snapshots:
        """The same for the storage room."""

    def check(self, table: "TableDeclaration") -> None:
        """See `Kind.check`."""
        require_one_input(table)
        require_own_key(table, self.key, (self.sequence_by, VALID_FROM, IS_DELETED))
        where, kind = f"{table.name}, contract {table.contract.__name__}", self.word
        columns = table.contract.to_schema().columns
        for column in (*self.key, self.sequence_by, VALID_FROM, IS_DELETED):
            if column not in columns or columns[column].nullable:
                raise DeclarationError(f"{where}: {kind} needs a column {column} that is never null")
        if columns[IS_DELETED].dtype.type != pl.Boolean:
            raise DeclarationError(f"{where}: {IS_DELETED} says whether a key is gone: give it the type bool")
        if not isinstance(columns[VALID_FROM].dtype.type, pl.Datetime):
            raise DeclarationError(f"{where}: {VALID_FROM} says from when on a row holds: give it the type Timestamp")
        if not 0 <= self.retire_at_most <= 1:
            raise DeclarationError(f"{table.name}: retire_at_most is a share between 0 and 1, not {self.retire_at_most}")
        if not self.snapshot and self.retire_at_most != RETIRE_AT_MOST:
            raise DeclarationError(
                f"{table.name}: retire_at_most={self.retire_at_most} means nothing for events, which retire no key that they lack: leave "
                "it out, or say snapshot=True"
            )
        require_partitions_in_key(table, self.key, table.partition_by)
        self.check_unversioned(table, where)
        schema = pl.Schema({name: column.dtype.type for name, column in columns.items()})
        if taken := [name for name in self.stored(schema) if name in columns and name in self.adds(schema)]:
            raise DeclarationError(f"{where}: {kind} adds the column {taken[0]} itself: rename the contract's column, or leave it out")

    def check_unversioned(self, table: "TableDeclaration", where: str) -> None:
        """Refuse columns that cannot be unversioned."""

    def adds(self, schema: pl.Schema) -> set[str]:
        """The columns that the write adds to those of the contract."""
        bare = pl.Schema({name: dtype for name, dtype in schema.items() if name in {*self.key, self.sequence_by, *self._own}})
        return set(self.storage.schema(pl.Schema({**bare, VALID_FROM: schema[VALID_FROM], IS_DELETED: schema[IS_DELETED]}))) - {
            *bare,
            VALID_FROM,
            IS_DELETED,
        }

    @property
    def _own(self) -> tuple[str, ...]:
        return ()

    def stored(self, schema: pl.Schema) -> pl.Schema:
        """See `Kind.stored`."""
        return self.storage.schema(schema)

    @property
    def layout(self) -> str:
        """See `Kind.layout`."""
        return repr(self.storage)

    def rules(self) -> list[Rule]:
        """See `Kind.rules`."""
        return snapshot_rules(self.retire_at_most) if self.snapshot else []

    def settle(self, parts: Split, stored: Table, *, replaces_all: bool) -> Split:
        """See `Kind.settle`: refused snapshots go into quarantine as wholes."""
        how = self.storage
        if not isinstance(how, Snapshots):
            return parts
        return whole_snapshots(how, self.retire_at_most, stored, parts, replaces_all=replaces_all)

    def restate(self, inputs: Inputs) -> Plan:
        """See `RowKind.restate`. What a snapshot lacks concerns all keys, so snapshots are folded again from the first."""
        name, source = inputs.only
        if self.snapshot:
            return Plan({name: source.rows(), **inputs.whole_dimensions()}, Everything())
        return restate_keys(inputs, self.key)

    def write(self, table: Table, result: Result, commit: Commit) -> Written:
        """See `Kind.write`."""
        scope = None if result.adds else result.scope
        how = self.storage
        if isinstance(how, Snapshots):
            return snapshots.write(table, result.rows, how, commit, assumed=rejected_rows(how, result.bad), full_refresh=scope is not None)
        write: Any = scd1.write if isinstance(how, Latest) else scd2.write
        written: Written = write(table, result.rows, how, commit, scope=scope)
        return written


@dataclass(frozen=True)
class SCD1(_Changes):
    """Change events or snapshots, in any order, become the latest state of each key; a key that went stays as a tombstone."""

    @property
    def storage(self) -> Latest | Snapshots:
        """See `_Changes.storage`."""
        return Snapshots(self.key, self.sequence_by, history=False) if self.snapshot else Latest(self.key, self.sequence_by)

    def check(self, table: "TableDeclaration") -> None:
        """See `Kind.check`."""
        super().check(table)
        require_key(table, [self.key, (*self.key, self.sequence_by)])

    def identity(self, contract: type[Contract]) -> tuple[str, ...]:  # noqa: ARG002
        """See `Kind.identity`."""
        return self.key


@dataclass(frozen=True)
class SCD2(_Changes):
    """Change events or snapshots, in any order, become intervals of validity.

    Attributes:
        unversioned: Columns that open no new interval when they change: an interval shows their latest value.
    """

    unversioned: tuple[str, ...] = field(default=(), kw_only=True)

    def partition_by(self, declared: tuple[str, ...]) -> tuple[str, ...]:
        """See `Kind.partition_by`. Closed intervals lie apart, so that a later event costs the same however many there are."""
        return (*declared, IS_CURRENT)

    @property
    def storage(self) -> History | Snapshots:
        """See `_Changes.storage`."""
        kind = Snapshots if self.snapshot else History
        return kind(self.key, self.sequence_by, self.unversioned)

    @property
    def _own(self) -> tuple[str, ...]:
        return self.unversioned

    def check(self, table: "TableDeclaration") -> None:
        """See `Kind.check`."""
        if IS_CURRENT in table.partition_by:
            raise DeclarationError(f"{table.name}: {self.word} is always partitioned by {IS_CURRENT}: leave it out of partition_by")
        super().check(table)
        require_key(table, [(*self.key, self.sequence_by)])

    def check_unversioned(self, table: "TableDeclaration", where: str) -> None:
        """See `_Changes.check_unversioned`."""
        require_once(table.name, "unversioned", self.unversioned)
        own = {*self.key, self.sequence_by, VALID_FROM, IS_DELETED}
        columns = table.contract.to_schema().columns
        for column in self.unversioned:
            if column not in columns or column in own:
                values = ", ".join(name for name in columns if name not in own)
                raise DeclarationError(f"{where}: unversioned names {column!r}, which is no value of a row; there are {values}")

    def identity(self, contract: type[Contract]) -> tuple[str, ...]:  # noqa: ARG002
        """See `Kind.identity`."""
        return (*self.key, self.sequence_by)
