"""The handle of one Delta table: read it at a version, see what changed since a cursor, append, replace a scope.

A write states its cursors and its scope and either happens whole or not at all. Merges are in `merge`, histories of versions in `scd2`;
which table is read and written when is not decided here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from lakehouse_assets.platform.far_times import as_python_holds
from lakehouse_assets.platform.storage import data_files, paths, predicates, types
from lakehouse_assets.platform.storage import table_cache as opened
from lakehouse_assets.platform.storage.bucket import is_bucket
from lakehouse_assets.platform.storage.change_feed import CHANGE_TYPE, change_feed, last_change, layout_changed, only_appended, step
from lakehouse_assets.platform.storage.commit import Commit, Counts, Written, cursor_of, with_retries
from lakehouse_assets.platform.storage.commit_log import commits
from lakehouse_assets.platform.storage.errors import NoSuchTable, NoSuchVersion, SchemaMismatch, ScopeError, TableDamaged
from lakehouse_assets.platform.storage.predicates import ColumnValues

HISTORY: Final = 100
"""So many commits `Table.history` shows unless it is asked for more."""
QUARANTINE_SUFFIX: Final = "__quarantine"
"""Ends the name of the table with the rejected rows of the one of the same name without it."""
_ROWS_AT_ONCE = 100_000
WRITER = WriterProperties(compression="ZSTD", compression_level=1)  # as fast as Snappy, and smaller
_PROPERTIES: Mapping[str, str | None] = {
    "delta.enableChangeDataFeed": "true",
    # A version that a model was trained on must stay readable: the log is cleaned up by maintenance, never as a commit's side effect.
    "delta.enableExpiredLogCleanup": "false",
    "delta.checkpointInterval": "10",
}


@dataclass(frozen=True)
class Table:
    """A Delta table by its name `product.layer.name`. Cheap: nothing is opened before it is needed.

    Attributes:
        name: The three words.
        uri: Folder or object prefix.
        storage_options: As delta-rs takes them.
    """

    name: str
    uri: str
    storage_options: Mapping[str, str] = field(default_factory=dict)

    # --- what it is

    def exists(self) -> bool:
        """Whether the table has been created."""
        if opened.has_newest(self.uri, self.storage_options):  # delta-rs would list the whole log
            return True
        return opened.is_table(self.uri, self.storage_options)

    def delta(self, version: int | None = None) -> DeltaTable:
        """The table as delta-rs opens it, at its latest or the given version.

        Raises:
            NoSuchTable: It was never created.
            NoSuchVersion: It does not have that version.
            TableDamaged: Its newest version cannot be opened.
            SchemaMismatch: It uses column mapping, which readers through Arrow return as nulls.
        """
        try:
            table = paths.OpenedTable(self.uri, version=version, storage_options=dict(self.storage_options))
        except TableNotFoundError as error:
            if version is not None and self.exists():  # its log was cleaned up
                raise self._no_version(version) from error
            raise NoSuchTable(f"table {self.name} does not exist yet: `lakehouse run {self._made_by}` makes it") from error
        except (DeltaError, OverflowError) as error:
            if version is not None:
                raise self._no_version(version) from error
            raise self._damaged(str(error).splitlines()[0]) from error
        if version is None and self._is_empty_commit(table.version()):
            raise self._damaged(f"its last commit, version {table.version()}, is empty")
        if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
            raise SchemaMismatch(f"table {self.name} uses column mapping, which Arrow readers return as nulls: rewrite it without")
        return table

    @property
    def _made_by(self) -> str:
        """What a run has to be told to make the table. A quarantine that was deleted is made with its table alone."""
        base = self.name.removesuffix(QUARANTINE_SUFFIX)
        return self.name if base == self.name else f"{base} --full-refresh"

    def _is_empty_commit(self, version: int) -> bool:
        """Whether a commit has no content, as after a power failure: delta-rs opens the table without it."""
        if is_bucket(self.uri):
            return False  # a bucket puts whole objects
        commit = Path(self.uri, "_delta_log", f"{version:020d}.json")
        return commit.exists() and not commit.stat().st_size  # it may be in a checkpoint alone

    def _damaged(self, why: str) -> TableDamaged:
        return TableDamaged(
            f"table {self.name} cannot be opened: {why}. `lakehouse restore {self.name} --last-good` goes back to its last good version, "
            "and the next run brings it up to date"
        )

    def _no_version(self, version: int) -> NoSuchVersion:
        return NoSuchVersion(f"table {self.name} has no version {version} (any more): see `lakehouse history {self.name}`")

    def now(self) -> DeltaTable:
        """The table at its latest version, for reading only: others may hold the same object. Far cheaper than `delta`.

        Raises:
            NoSuchTable: It was never created.
            SchemaMismatch: As `delta`.
        """
        return opened.latest(self.uri, self.storage_options, self.delta)

    def _at(self, version: int | None) -> DeltaTable:
        """The table at a version, or now, for reading only."""
        now = self.now()
        return now if version in {None, now.version()} else self.delta(version)

    def create(
        self,
        schema: Mapping[str, pl.DataType],
        partition_by: tuple[str, ...] = (),
        description: str = "",
        watermarks: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Create the table as version 0, with these watermarks, unless it exists; an existing one keeps its schema.

        Raises:
            TypeNotStorable: A column's type, or a partition column's, cannot be stored.
        """
        if self.exists():
            return
        stored = types.stored_schema(schema)
        types.check_partition_columns(stored, partition_by)
        try:
            DeltaTable.create(
                self.uri,
                types.delta_schema(stored),
                mode="error",
                partition_by=list(partition_by),
                name=self.name,
                description=description,
                configuration=_PROPERTIES,
                storage_options=dict(self.storage_options),
                # Tried again, the creation that came second would become version 1 and replace the first one's schema.
                commit_properties=CommitProperties(
                    app_transactions=[Transaction(name, number) for name, number in watermarks.items()], max_commit_retries=0
                ),
            )
        except DeltaError:
            if not self.exists():  # otherwise another writer created it at the same moment
                raise

    def add_columns(self, schema: Mapping[str, pl.DataType]) -> None:
        """Add columns that the table does not have yet; its rows have null there.

        Raises:
            TypeNotStorable: A column's type cannot be stored.
            CommitConflict: Other writers did not let this one through.
        """
        stored = types.stored_schema(schema)
        if {column.name for column in self.now().schema().fields}.issuperset(stored):
            return

        def attempt() -> None:
            table = self.delta()
            existing = {column.name for column in table.schema().fields}
            if new := [column for column in types.delta_schema(stored).fields if column.name not in existing]:
                table.alter.add_columns(new)

        with_retries(self.name, self.uri, attempt)

    def version(self) -> int:
        """The latest version."""
        return self.now().version()

    def schema(self) -> pl.Schema:
        """Names and types in the order of the columns."""
        return self.scan().collect_schema()

    def count(self, version: int | None = None) -> int:
        """Rows, from the log alone if every file says how many it has, as all that were written here do."""
        table = self._at(version)
        in_files = pl.DataFrame(table.get_add_actions())["num_records"]
        return _count(pl.scan_delta(table)) if in_files.null_count() else int(in_files.sum())

    def cursor(self, source: str, version: int | None = None) -> int | None:
        """How far the table has consumed `source`, at a version or now; None if never, or if the table does not exist."""
        try:
            return cursor_of(self._at(version), source)
        except NoSuchTable:
            return None

    def changed_at(self, after: int | None) -> int | None:
        """The newest version that rows came, changed or went with, if it is above `after`; else `after`.

        Compaction, checkpoints and other maintenance make versions too, but nothing that a reader would have to read. With `after=None` the
        newest version of any kind. A commit that maintenance removed from the log counts as a change.

        Raises:
            NoSuchVersion: A cursor points past the table.
        """
        table = self.now()
        if after is None:
            return table.version()
        self._check_range(table, after, table.version())
        return last_change(table, after, table.version(), self.storage_options)

    def history(self, limit: int = HISTORY) -> list[dict[str, Any]]:
        """The newest commits, newest first, at most `limit`, as `commits` gives them."""
        return list(commits(self.uri, self.storage_options, self.version(), limit))

    def commits(self, newest: int | None = None) -> Iterator[dict[str, Any]]:
        """All commits that the log still has, newest first, from a version on (None: the latest).

        Each has `version`, `at` (UTC), `operation`, `metrics`, and under `info` what the platform wrote into it. They are read as they are
        asked for: who stops early pays for what was read. Maintenance removes old ones from the log.
        """
        return commits(self.uri, self.storage_options, self.version() if newest is None else newest)

    # --- reading

    def scan(self, version: int | None = None, at: datetime | None = None) -> pl.LazyFrame:
        """The rows at a version, at a moment, or now. The frame stays on the version it was made with.

        Raises:
            NoSuchVersion: There is no such version, or none at that moment.
        """
        return pl.scan_delta(self._at(version if at is None else self.version_at(at)))

    def version_at(self, at: datetime) -> int:
        """The newest version whose commit says that it was made at a moment (naive: UTC) or before, by the clock of its writer.

        Raises:
            NoSuchVersion: There was none yet, or the log does not reach back so far any more.
        """
        # By the times that stand in the commits: delta-rs goes by those of the files, which change when a table is copied.
        moment = at if at.tzinfo else at.replace(tzinfo=UTC)
        begin = ""
        for commit in self.commits():
            if commit["at"] <= moment:
                return int(commit["version"])
            begin = f"its log begins with version {commit['version']} of {commit['at'].isoformat()}"
        raise NoSuchVersion(f"table {self.name} has no version of {moment.isoformat()} or before: {begin}, see `lakehouse history`")

    def changes(self, after: int | None, until: int) -> pl.LazyFrame:
        """The rows that were inserted or changed in the versions above `after` up to `until`, in the order of the commits.

        A row that changed twice stands there twice. With `after=None` these are all rows at `until`.

        Raises:
            NoSuchVersion: A cursor points past the table, as after the table was deleted and created again.
        """
        if after is None:
            return self.scan(until)
        return self.change_feed(after, until, came=True).drop(CHANGE_TYPE)

    def step(self, after: int | None, until: int, rows: int) -> int:
        """How far to read from `after` towards `until` so that about `rows` rows came; at least one version with rows."""
        return step(self.now(), -1 if after is None else after, until, rows, self.storage_options)

    def only_appended(self, after: int, until: int) -> bool:
        """Whether the versions above `after` up to `until` only added rows.

        Raises:
            NoSuchVersion: As `changes`.
        """
        self._check_range(self.now(), after, until)
        return only_appended(self.now(), after, until, self.storage_options)

    def layout_changed(self, after: int, until: int) -> bool:
        """Whether partitions or types of columns changed in the versions above `after` up to `until`: see `change_feed.layout_changed`.

        Raises:
            NoSuchVersion: As `changes`.
        """
        self._check_range(self.now(), after, until)
        return layout_changed(self.now(), after, until, self.storage_options)

    def change_feed(self, after: int, until: int, *, came: bool = False) -> pl.LazyFrame:
        """The rows that the commits above `after` up to `until` inserted, changed and deleted, with `_change_type`; see `change_feed`.

        Raises:
            NoSuchVersion: As `changes`.
        """
        table = self.now()
        self._check_range(table, after, until)
        return change_feed(table, after, until, self.storage_options, came=came)

    def _check_range(self, table: DeltaTable, after: int, until: int) -> None:
        if not after <= until <= table.version():
            raise NoSuchVersion(
                f"table {self.name} is at version {table.version()}, but the changes of {after + 1} to {until} were asked for: "
                "it was replaced or restored behind the back of its readers, which have to read the whole of it again"
            )

    # --- writing

    def append(self, frame: pl.DataFrame, commit: Commit | None = None) -> Written:
        """Add rows.

        Raises:
            SchemaMismatch: Columns or types differ from the table's.
            ScopeError: A partition value cannot name a folder.
            CursorMoved: As `Commit.done`.
            CommitConflict: Other writers did not let this one through.
        """
        commit = commit or Commit()

        def attempt(table: DeltaTable) -> Counts:
            counts = Counts(written=frame.height)
            self.write_rows(table, frame, commit.properties(table, counts, read_before_write=False))
            return counts

        return self.write(commit, attempt)

    def replace(self, frame: pl.DataFrame, scope: ColumnValues | None, commit: Commit | None = None) -> Written:
        """Put `frame` in the place of the rows in `scope` (None: of all rows). Rows outside the scope stay as they are.

        Raises:
            ScopeError: A row of the frame lies outside the scope, or the scope is not made of values of partition columns.
            SchemaMismatch: Columns or types differ from the table's.
            CursorMoved: As `Commit.done`.
            CommitConflict: Other writers did not let this one through.
        """
        commit = commit or Commit()

        def attempt(table: DeltaTable) -> Counts:
            fitted = self.fit(table, frame)
            replaced = pl.scan_delta(table)
            if scope is not None:
                self._check_scope(table, fitted, scope)
                replaced = replaced.filter(predicates.expression(scope))
            counts = Counts(written=fitted.height, removed=_count(replaced))
            properties = commit.properties(table, counts, read_before_write=True)
            # "true" names all rows. Without a predicate, rows that another writer appends at the same time would stay.
            self.write_rows(table, fitted, properties, mode="overwrite", predicate="true" if scope is None else predicates.sql(scope))
            return counts

        return self.write(commit, attempt)

    def _check_scope(self, table: DeltaTable, frame: pl.DataFrame, scope: ColumnValues) -> None:
        unpartitioned = sorted(set(scope) - set(table.metadata().partition_columns))
        if unpartitioned:
            raise ScopeError(f"{self.name} is not partitioned by {', '.join(unpartitioned)}: a scope is made of partition columns")
        predicates.check(scope, frame.schema, self.name)
        outside = frame.filter(~predicates.expression(scope))
        if outside.height:
            sample = as_python_holds(outside.select(list(scope)).head(1)).row(0, named=True)
            raise ScopeError(f"{self.name}: {outside.height} rows lie outside the scope of this write, the first at {sample}")

    def write(self, commit: Commit | None, attempt: Callable[[DeltaTable], Counts]) -> Written:
        """Run `attempt` on the freshly opened table until no other writer comes in between; at most once for the same cursors."""
        return with_retries(self.name, self.uri, partial(self._once, commit or Commit(), attempt))

    def _once(self, commit: Commit, attempt: Callable[[DeltaTable], Counts]) -> Written:
        table = self.delta()
        if commit.done(table):
            return Written(table.version(), None)
        counts = attempt(table)
        written = Written(table.version(), counts)
        opened.put(self.uri, self.storage_options, table)
        return written

    def fit(self, table: DeltaTable, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame as the table can hold it, whole.

        Raises:
            SchemaMismatch: Columns or types differ from the table's.
            ScopeError: A partition value cannot name a folder.
        """
        fitted = types.fit(frame, pl.scan_delta(table).collect_schema(), self.name)
        paths.check_partition_values(fitted, table.metadata().partition_columns, self.name)
        return fitted

    def write_rows(self, table: DeltaTable, frame: pl.DataFrame, properties: CommitProperties, **how: Any) -> None:
        """One commit with the rows of a frame: appended, or as `how` tells delta-rs.

        Raises:
            SchemaMismatch: Columns or types differ from the table's.
            ScopeError: A partition value cannot name a folder.
        """
        fitted = self.fit(table, frame)
        if not how and fitted.height and data_files.can_append(table):
            data_files.append(table, [fitted], properties)
        else:
            self.write_arrow(table, _as_arrow(fitted), properties, **how)

    def write_arrow(self, table: DeltaTable, rows: pa.RecordBatchReader, properties: CommitProperties, **how: Any) -> None:
        """One commit of delta-rs' own writer, of rows that are known to fit."""
        write_deltalake(table, rows, **({"mode": "append"} | how), writer_properties=WRITER, commit_properties=properties)


def _as_arrow(frame: pl.DataFrame) -> pa.RecordBatchReader:
    """The rows slice by slice, so that they are not in memory a second time.

    `to_arrow`, because string views, which Polars itself would hand over, are refused by some readers of the files.
    """
    batches = (batch for part in frame.iter_slices(_ROWS_AT_ONCE) for batch in part.to_arrow().to_batches())
    return pa.RecordBatchReader.from_batches(frame.head(0).to_arrow().schema, batches)


def _count(rows: pl.LazyFrame) -> int:
    return int(rows.select(pl.len()).collect().item())
