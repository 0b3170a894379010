"""Changes what a table is like without giving up its id and its versions: new columns, wider types, descriptions, another layout.

Which changes of a contract may be carried out without asking is decided above.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from deltalake import CommitProperties, DeltaTable
from pyarrow import fs

from lakehouse_assets.platform.storage import inventory, merge, types
from lakehouse_assets.platform.storage.bucket import is_bucket
from lakehouse_assets.platform.storage.commit import Commit, Counts, Written, with_retries
from lakehouse_assets.platform.storage.errors import CutShort
from lakehouse_assets.platform.storage.replace import multiset_difference
from lakehouse_assets.platform.storage.stream import write_parts
from lakehouse_assets.platform.storage.table import Table

_ROWS_AT_ONCE = 100_000
_LOG = "_delta_log"
_FIRST_COMMIT = f"{_LOG}/{0:020d}.json"


@dataclass(frozen=True)
class SchemaChanges:
    """How wanted columns differ from those of a table.

    Attributes:
        new: Columns that the table lacks.
        wider: Columns whose wanted type has every value of the stored one.
        other: Columns whose wanted type has not, with a text.
        gone: Columns that the table has besides.
    """

    new: Mapping[str, pl.DataType]
    wider: Mapping[str, pl.DataType]
    other: Mapping[str, str]
    gone: Sequence[str]


def schema_changes(stored: Mapping[str, pl.DataType], wanted: Mapping[str, pl.DataType]) -> SchemaChanges:
    """Compare the columns of a table with wanted ones."""
    wanted = types.stored_schema(wanted)
    differing = {name: dtype for name, dtype in wanted.items() if name in stored and stored[name] != dtype}
    wider = {name: dtype for name, dtype in differing.items() if types.holds(dtype, stored[name])}
    return SchemaChanges(
        {name: dtype for name, dtype in wanted.items() if name not in stored},
        wider,
        {name: f"{stored[name]} instead of {dtype}" for name, dtype in differing.items() if name not in wider},
        [name for name in stored if name not in wanted],
    )


def evolve(table: Table, wanted: Mapping[str, pl.DataType], description: str = "") -> None:
    """Add the columns of `wanted` that the table lacks, widen types, and set the description; where nothing differs, no commit is made.

    A new column is null in the rows that exist. A wider type rewrites the files in one commit, because readers of the oldest protocol know
    no widened files.

    Raises:
        TypeNotStorable: A column's type cannot be stored.
        CommitConflict: Other writers did not let this one through.
    """
    changes = schema_changes(table.schema(), wanted)
    if changes.new:
        table.add_columns(changes.new)
    if changes.wider:
        schema = pl.Schema({name: changes.wider.get(name, dtype) for name, dtype in table.schema().items()})
        _rewrite(table, schema)
    if description and (table.now().metadata().description or "") != description:
        with_retries(table.name, table.uri, lambda: table.delta().alter.set_table_description(description))


def _rewrite(table: Table, schema: pl.Schema) -> None:
    def attempt(delta: DeltaTable) -> Counts:
        rows = pl.scan_delta(delta)
        stored = rows.collect_schema()
        if all(stored[name] == dtype for name, dtype in schema.items()):
            return Counts()
        wider = rows.with_columns(pl.col(name).cast(dtype) for name, dtype in schema.items() if stored[name] != dtype)
        layout = _Layout(schema, delta.metadata().partition_columns, rows.select(pl.len()).collect().item())
        _write_all(table, delta, wider, layout, Commit().properties(delta, Counts(), read_before_write=True))
        return Counts()

    table.write(Commit(), attempt)


def swap(
    table: Table,
    rows: Callable[[], pl.LazyFrame],
    *,
    identity: Sequence[str],
    partition_by: Sequence[str],
    commit: Commit,
    description: str = "",
) -> Written:
    """Put rows in the place of all that the table has, in one commit; the table keeps its id and its versions go on.

    Where columns, types and partitions stay, only the rows that differ are written. Else the table is rewritten, part by part, with the
    columns of `rows`.

    Args:
        table: The table.
        rows: All its rows from now on.
        identity: The columns that tell rows apart; none: they are compared as wholes.
        partition_by: The partition columns from now on.
        commit: What the write carries.
        description: Of the table.

    Raises:
        CommitConflict: Other writers did not let this one through.
    """

    def attempt(delta: DeltaTable) -> Counts:
        new, stored = rows(), pl.scan_delta(delta)
        schema = new.collect_schema()
        is_new = not delta.version()  # then there is nothing to compare with, which would take all rows into memory
        if not is_new and stored.collect_schema() == schema and delta.metadata().partition_columns == list(partition_by):
            return _write_difference(table, delta, (new, stored), identity, commit)
        counted = [frame.select(pl.len()).collect(engine="streaming").item() for frame in (new, stored)]
        counts = Counts(written=counted[0], removed=counted[1])
        layout = _Layout(schema, partition_by, counts.written, description)
        _write_all(table, delta, new, layout, commit.properties(delta, counts, read_before_write=True))
        return counts

    return table.write(commit, attempt)


def _write_difference(
    table: Table, delta: DeltaTable, frames: tuple[pl.LazyFrame, pl.LazyFrame], identity: Sequence[str], commit: Commit
) -> Counts:
    new, stored = frames
    total = new.select(pl.len()).collect(engine="streaming").item()
    if not identity or not _tells_apart(stored, identity):
        came, went = _multiset_differences(new, stored)
        counts = Counts(written=came.height, duplicates=total - came.height, removed=went.height)
        properties = commit.properties(delta, counts, read_before_write=True)
        if went.height:
            _write_all(table, delta, new, _Layout(new.collect_schema(), delta.metadata().partition_columns, total), properties)
        else:
            table.write_rows(delta, came, properties)
        return counts
    keys = list(identity)
    columns = [name for name in new.collect_schema() if not name.startswith("_") or name in keys]
    # Rows of which anything but lineage differs: hashes are compared first, so that memory follows the difference.
    hashed = [frame.select(*keys, pl.struct(columns).hash().alias("__hash")) for frame in (new, stored)]
    came_keys = hashed[0].join(hashed[1], on=[*keys, "__hash"], how="anti", nulls_equal=True).select(keys).collect(engine="streaming")
    went_keys = hashed[1].join(hashed[0], on=keys, how="anti", nulls_equal=True).select(keys).collect(engine="streaming")
    came = new.join(came_keys.lazy(), on=keys, how="semi", nulls_equal=True).collect(engine="streaming")
    placed = list(dict.fromkeys([*keys, *delta.metadata().partition_columns]))
    old = stored.select(placed).join(came_keys.lazy(), on=keys, how="semi").collect(engine="streaming")
    gone = stored.join(went_keys.lazy(), on=keys, how="semi").collect(engine="streaming")
    changed = came.join(old, on=keys, how="semi", maintain_order="left")
    fresh = came.join(old, on=keys, how="anti", maintain_order="left")
    found = merge.Difference(fresh, changed, total - came.height)
    counts = Counts(fresh.height, changed.height, found.duplicates, gone.height)
    before = pl.concat([old, gone.select(placed)])
    properties = commit.properties(delta, counts, read_before_write=True)
    merge.write_difference(table, delta, found, identity, properties, removed=gone, before=before)
    return counts


def _tells_apart(stored: pl.LazyFrame, identity: Sequence[str]) -> bool:
    """Whether stored rows have the key that the table has from now on: its key may have been another."""
    keys = stored.select(identity)
    found = keys.select(
        pl.len().alias("rows"), pl.struct(pl.all()).n_unique().alias("keys"), pl.any_horizontal(pl.all().is_null().any()).alias("nulls")
    )
    rows, distinct, nulls = found.collect(engine="streaming").row(0)
    return rows == distinct and not nulls


def _multiset_differences(new: pl.LazyFrame, stored: pl.LazyFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    both = pl.collect_all([new, stored], engine="streaming")
    return multiset_difference(*both), multiset_difference(both[1], both[0])


@dataclass(frozen=True)
class _Layout:
    """What a table is like once all its rows are written again."""

    schema: pl.Schema
    partition_by: Sequence[str]
    rows: int
    description: str = ""


def _write_all(table: Table, delta: DeltaTable, rows: pl.LazyFrame, layout: _Layout, properties: CommitProperties) -> None:
    """Write all rows, part by part, so that they are never all in memory.

    Raises:
        CutShort: Not all could be read. Nothing was written.
    """

    def parts() -> Iterator[pl.DataFrame]:
        count = 0
        for part in rows.collect_batches(chunk_size=_ROWS_AT_ONCE, engine="streaming"):
            count += part.height
            yield part
        if count != layout.rows:
            # Polars ends batches early, and without an error, where it hears a signal: see `compute.signals`.
            raise CutShort(f"{table.name}: {count:,} of {layout.rows:,} rows could be read, so nothing was written. Start this again.")

    how = {"description": layout.description} if layout.description else {}
    partition_by = list(layout.partition_by)
    write_parts(table, delta, parts, layout.schema, properties, mode="overwrite", schema_mode="overwrite", partition_by=partition_by, **how)


def drop(*tables: Table) -> None:
    """Delete tables that belong together and that nobody reads, the first one last.

    A kill leaves tables that can be opened: at their newest versions, at earlier ones, or empty, and the first never ahead of the others.
    So whoever made them can continue with them, or delete them again.
    """
    for table in tables:
        files = inventory.file_system(table)
        for path in sorted(_files(files, _LOG), reverse=True):
            if path != _FIRST_COMMIT:
                files.delete_file(path)
    for table in reversed(tables):
        files = inventory.file_system(table)
        for path in sorted(_files(files, ""), key=lambda path: path == _FIRST_COMMIT):
            files.delete_file(path)
        if not is_bucket(table.uri):
            shutil.rmtree(table.uri, ignore_errors=True)


def _files(files: fs.FileSystem, folder: str) -> list[str]:
    found = files.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
    return [info.path for info in found if info.type == fs.FileType.File]
