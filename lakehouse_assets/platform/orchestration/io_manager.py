"""Stores what a plain `@dg.asset` returns, a frame, as a Delta table, and loads it for assets that name it as an input.

The place in Dagster and the settings of where tables lie are dagster-deltalake's; what is written and what is left alone is
decided here, by the partitions of the run. Assets declared with `@table` read and write by themselves and do not come this way.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import polars as pl
from dagster_deltalake import DeltaLakeIOManager
from deltalake import DeltaTable

from lakehouse_assets.platform.far_times import as_python_holds
from lakehouse_assets.platform.orchestration.partitions import Condition, RowScope, row_scope
from lakehouse_assets.platform.storage import bucket, evolution, types
from lakehouse_assets.platform.storage.commit import Commit, Counts, Written
from lakehouse_assets.platform.storage.commit_log import INFO_PREFIX
from lakehouse_assets.platform.storage.errors import SchemaMismatch, ScopeError
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table

# What a write does follows from the asset's partitions alone; a setting that seems to say otherwise is refused, not ignored.
_REFUSED_SETTINGS = ("mode", "overwrite_schema", "writer_engine", "table_config", "schema_", "custom_metadata", "writer_properties")
_DEFAULT_WORDS = ("plain", "assets")


class LakehouseIOManager(DeltaLakeIOManager):
    """An IO manager for Polars frames, by settings `root_uri`, `storage_options` and `client_options` as in dagster-deltalake.

    An asset returns a `pl.DataFrame` or `pl.LazyFrame`, or None to leave its table as it is. Without partitions, the frame replaces
    the whole table, with its columns. With partitions, it replaces the rows of the run's partitions and no others, must not hold rows of
    others, and may add columns, which are null in the other rows;
    the metadata `partition_expr` names the column that the partitions stand for, or maps each dimension to its column.

    An input arrives as `pl.LazyFrame`, or as `pl.DataFrame` if annotated so: the rows of the partitions that the partition mapping
    asks for. The metadata `columns` of a `dg.AssetIn` selects columns.

    The asset `sales/silver/visits` is the table `sales.silver.visits`, `sales/visits` is `sales.assets.visits`, and `visits` is
    `plain.assets.visits`.

    Example:
        ```python
        @dg.asset(partitions_def=dg.DailyPartitionsDefinition("2024-01-01"), metadata={"partition_expr": "day"})
        def visits(context: dg.AssetExecutionContext) -> pl.LazyFrame: ...
        ```
    """

    @staticmethod
    def type_handlers() -> Sequence[Any]:
        """None: frames are all that is stored."""
        return ()

    def create_io_manager(self, context: dg.InitResourceContext) -> "TableIOManager":  # type: ignore[override] # noqa: ARG002 the base's way
        """The IO manager for the tables below `root_uri`.

        Raises:
            ValueError: A setting of dagster-deltalake is used that has no meaning here.
            BucketRefused: `root_uri` is a bucket on which commits are not safe, or that cannot be reached.
        """
        fields = DeltaLakeIOManager.model_fields
        changed = [name.rstrip("_") for name in _REFUSED_SETTINGS if getattr(self, name) != fields[name].default]
        if changed:
            raise ValueError(f"LakehouseIOManager has no setting {', '.join(changed)}: what it writes follows from the asset's partitions")
        options = self.storage_options.model_dump(exclude={"provider"}, exclude_none=True)
        if self.client_options:
            options |= self.client_options.model_dump(exclude_none=True)
        given = {name: str(value) for name, value in options.items()}
        bucket.ready(self.root_uri, given)
        return TableIOManager(Lakehouse(self.root_uri, given))


class TableIOManager(dg.IOManager):
    """Writes and reads the tables of one lakehouse. Dagster's half of `LakehouseIOManager`."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self.lakehouse = lakehouse

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Store the frame that an asset returned; None leaves the table as it is.

        Raises:
            ScopeError: Which rows to replace cannot be determined, or the frame holds others. Nothing was written.
            SchemaMismatch: The frame does not fit the table. Nothing was written.
            TypeError: The value is not a frame.
        """
        if obj is None:
            return
        table = self._table(context)
        asset = context.asset_key.to_user_string()
        partitions = context.asset_spec.partitions_def
        if partitions is not None and not context.has_asset_partitions:
            raise ScopeError(f"{asset} has partitions, but the run has none: start it for a partition or a range of partitions")
        mode = context.definition_metadata.get("mode", "overwrite")
        if mode != "overwrite":
            raise ScopeError(f"{asset} asks for mode {mode!r}, but a run always replaces its partitions, or the whole table without any")

        frame = _collected(asset, obj)
        schema = _schema(table, frame, asset, replaces_all=partitions is None)
        rows = types.fit(frame, schema, table.name)
        commit = Commit(info=lambda _: {f"{INFO_PREFIX}run_id": context.run_id})
        description = context.asset_spec.description or ""
        if partitions is None:
            table.create(schema, description=description)
            # The table takes over the columns of the frame; readers of its changes see all rows go and come.
            is_same = table.schema() == schema
            written = table.replace(rows, None, commit) if is_same else _take_over(table, rows, commit, description)
        else:
            partition_expr = context.definition_metadata.get("partition_expr")
            scope = row_scope(asset, partitions, partition_expr, context.asset_partition_keys, schema)
            _check_inside(asset, rows, scope)
            # A folder holds one value of its column; moments have too many, so their rows are found by the statistics of the files.
            folders = tuple(name for name in scope.columns if not isinstance(schema[name], pl.Datetime))
            table.create(schema, folders, description)
            written = _replace(table, rows, scope.condition, commit)
        _report(context, table, schema, written)

    def load_input(self, context: dg.InputContext) -> pl.LazyFrame | pl.DataFrame:
        """Load the rows of the partitions that the input asks for; all rows of a table without partitions.

        Raises:
            NoSuchTable: The asset was never materialised.
            ScopeError: Which rows are meant cannot be determined.
            TypeError: The input is annotated with something else than a Polars frame.
        """
        frame = self._table(context).scan()
        asset = context.asset_key.to_user_string()
        if context.has_asset_partitions:
            partition_expr = context.upstream_output.definition_metadata.get("partition_expr") if context.upstream_output else None
            scope = row_scope(asset, context.asset_partitions_def, partition_expr, context.asset_partition_keys, frame.collect_schema())
            frame = frame.filter(scope.condition.expression)
        if selected := context.definition_metadata.get("columns"):
            frame = frame.select(selected)
        wanted = context.dagster_type.typing_type
        if wanted is pl.DataFrame:
            return frame.collect(engine="streaming")
        if wanted in (pl.LazyFrame, Any):
            return frame
        raise TypeError(f"{asset} is loaded as pl.LazyFrame or pl.DataFrame, not as {wanted}: change the annotation of the input")

    def _table(self, context: dg.OutputContext | dg.InputContext) -> Table:
        if not context.has_asset_key:
            raise ScopeError(f"{context.name!r} is no asset, so it has no table: give it an io_manager_key of another IO manager")
        if len(context.asset_key.path) - 1 > len(_DEFAULT_WORDS):  # two such keys could end in the same three words
            raise ScopeError(f"{context.asset_key.to_user_string()} has more parts than product/layer/name: shorten the asset's key")
        return self.lakehouse.table(stored_as(context.asset_key))


def stored_as(key: dg.AssetKey) -> str:
    """The table of an asset: the words of its key, with words before the last where there are fewer than three."""
    *prefix, name = key.path
    return ".".join([*prefix, *_DEFAULT_WORDS[len(prefix) :], name])


def _schema(table: Table, frame: pl.DataFrame, asset: str, *, replaces_all: bool) -> pl.Schema:
    """The columns that the table has after the write: its own where the frame fits, those of the frame where it replaces all rows.

    Where it replaces some, columns that the table lacks are added; other rows have null in them.

    Raises:
        SchemaMismatch: The frame lacks columns of a table whose other rows stay, or has them in another type.
    """
    if not table.exists():
        return types.stored_schema(frame.schema)
    stored = table.schema()
    changes = evolution.schema_changes(stored, frame.schema)
    narrower = [name for name in changes.other if types.holds(stored[name], frame.schema[name])]
    if replaces_all:
        fits = not changes.new and not changes.gone and len(narrower) == len(changes.other)
        return stored if fits else types.stored_schema(frame.schema)
    if changes.gone or len(narrower) < len(changes.other):
        problems = [f"it lacks {name}" for name in changes.gone]
        problems += [f"{name} is {text}" for name, text in changes.other.items() if name not in narrower]
        raise SchemaMismatch(
            f"{asset}: what it returned does not fit {table.name}, whose other partitions stay: {'; '.join(problems)} (in the table "
            "first). "
            "Return these columns in the table's types, with nulls where there is no value; or give the asset another name, and "
            "materialise all of its partitions"
        )
    evolution.evolve(table, {**stored, **changes.new, **changes.wider})
    return table.schema()


def _take_over(table: Table, rows: pl.DataFrame, commit: Commit, description: str) -> Written:
    return evolution.swap(table, rows.lazy, identity=(), partition_by=(), commit=commit, description=description)


def _collected(asset: str, value: Any) -> pl.DataFrame:
    if isinstance(value, pl.LazyFrame):
        return value.collect(engine="streaming")
    if isinstance(value, pl.DataFrame):
        return value
    raise TypeError(f"{asset} returned a {type(value).__name__}: return a Polars frame, or give the asset another io_manager_key")


def _check_inside(asset: str, rows: pl.DataFrame, scope: RowScope) -> None:
    outside = rows.filter(~scope.condition.expression.fill_null(value=False)).select(scope.columns)
    if outside.height:
        first = ", ".join(f"{name} = {value}" for name, value in as_python_holds(outside.head(1)).row(0, named=True).items())
        raise ScopeError(
            f"{asset}: {outside.height} rows lie outside the partitions of this run, the first at {first}. "
            "Return the rows of `context.partition_keys` only"
        )


def _replace(table: Table, rows: pl.DataFrame, scope: Condition, commit: Commit) -> Written:
    """Put `rows` in the place of those in `scope`. Others stay, also those of the same file."""

    def attempt(delta: DeltaTable) -> Counts:
        removed = pl.scan_delta(delta).filter(scope.expression).select(pl.len()).collect().item()
        counts = Counts(written=rows.height, removed=removed)
        # Not marked as read before write: delta-rs itself refuses the commit if another one touched rows in the scope, and runs of
        # other partitions need not wait.
        properties = commit.properties(delta, counts, read_before_write=False)
        table.write_rows(delta, rows, properties, mode="overwrite", predicate=scope.sql)
        return counts

    return table.write(commit, attempt)


def _report(context: dg.OutputContext, table: Table, schema: pl.Schema, written: Written) -> None:
    """Say in the materialisation what was written; the table's version becomes the data version."""
    counts = written.counts or Counts()
    metadata: dict[str, Any] = {
        "dagster/column_schema": dg.TableSchema([dg.TableColumn(name, str(dtype)) for name, dtype in schema.items()]),
        "dagster/row_count": table.count(written.version),
        "dagster/table_name": table.name,
        "dagster/uri": table.uri,
        "delta_version": written.version,
        "rows_written": counts.written,
        "rows_removed": counts.removed,
    }
    if context.has_asset_partitions and len(context.asset_partition_keys) == 1:
        metadata["dagster/partition_row_count"] = counts.written
    context.add_output_metadata(metadata)
    if not context.step_context.has_data_version(context.asset_key):  # otherwise the asset itself has set it
        context.step_context.set_data_version(context.asset_key, dg.DataVersion(str(written.version)))
