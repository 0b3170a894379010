"""The rows that the commits of a table inserted, changed and deleted, found through its log ("Change Data Feed" of the Delta protocol).

`DeltaTable.load_cdf` reads the same, but holds all rows in memory and does not find the files of a partition whose value has a space or
any other character that a path must escape. How far a reader has come is not kept here: see `commit.Cursor`.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable, Schema

from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.paths import folder

CHANGE_TYPE = "_change_type"

_CAME = ("insert", "update_postimage")
CAME = pl.col(CHANGE_TYPE).is_in(_CAME)
"""Of the rows of a change feed, those that were there after their commit."""

# Actions of a commit that name files, with what happened to the rows of the file. Change files (`cdc`) say that row by row, and where a
# commit has some, they say all about it.
_ACTIONS: Mapping[str, str | None] = {"add": "insert", "remove": "delete", "cdc": None}
_METADATA = pl.Struct({"schemaString": pl.String(), "partitionColumns": pl.List(pl.String())})
_FILE = pl.Struct({"path": pl.String(), "dataChange": pl.Boolean(), "stats": pl.String()})


def change_feed(table: DeltaTable, after: int, until: int, storage_options: Mapping[str, str], *, came: bool = False) -> pl.LazyFrame:
    """The rows of the commits above `after` up to `until`, oldest commit first, with the table's columns and `_change_type`.

    Args:
        table: The table at `until` or later.
        after: The last version that was seen already.
        until: The last version to read.
        storage_options: As delta-rs and Polars take them.
        came: Only the rows that came in, as they were after the commit.

    Raises:
        NoSuchVersion: The log of one of these commits was cleaned up.
    """
    schema = pl.scan_delta(table).collect_schema()
    partitions = {name: schema[name] for name in table.metadata().partition_columns}
    in_files = {name: dtype for name, dtype in schema.items() if name not in partitions}
    options: dict[str, Any] = {
        "hive_partitioning": bool(partitions),
        "hive_schema": partitions or None,
        "missing_columns": "insert",
        "extra_columns": "ignore",
        "glob": False,
        "storage_options": dict(storage_options) or None,
    }
    feed = [pl.LazyFrame(schema={**schema, CHANGE_TYPE: pl.String()})]
    for action, paths in _changed_files(table, after, until, storage_options, came=came):
        if kind := _ACTIONS[action]:
            rows = pl.scan_parquet(paths, schema=in_files, **options).with_columns(pl.lit(kind).alias(CHANGE_TYPE))
        else:
            rows = pl.scan_parquet(paths, schema={**in_files, CHANGE_TYPE: pl.String()}, **options)
            rows = rows.filter(CAME) if came else rows
        feed.append(rows.select(*schema, CHANGE_TYPE))
    return pl.concat(feed)


def last_change(table: DeltaTable, after: int, until: int, storage_options: Mapping[str, str]) -> int:
    """The newest version in (after, until] whose commit says that rows came, changed or went; `after` if there is none.

    A commit that was removed from the log counts as one: what it did is not known.
    """
    root = folder(table)
    for version in range(until, after, -1):  # almost always the first one is it
        with suppress(NoSuchVersion):
            if not _actions(root, version - 1, version, storage_options).height:
                continue
        return version
    return after


def step(table: DeltaTable, after: int, until: int, rows: int, storage_options: Mapping[str, str]) -> int:
    """The last version in (after, until] up to which about `rows` rows came, but at least one version with rows; `until` if all fit."""
    root = folder(table)
    files = _actions(root, after, until, storage_options).filter(pl.col("action") != "remove")
    if files["version"].n_unique() < 2:
        return until
    in_stats = pl.col("stats").str.json_path_match("$.numRecords").cast(pl.Int64)
    counted = files.with_columns(in_stats.alias("rows"))
    unknown = [root + unquote(path) for path in counted.filter(pl.col("rows").is_null())["path"]]  # change files have no statistics
    heights = [pl.scan_parquet(path, glob=False, storage_options=dict(storage_options) or None) for path in unknown]
    known = pl.Series([frame.select(pl.len()).collect().item() for frame in heights], dtype=pl.Int64)
    sized = pl.concat([counted.filter(pl.col("rows").is_not_null()), counted.filter(pl.col("rows").is_null()).with_columns(rows=known)])
    per_version = sized.group_by("version").agg(pl.col("rows").sum()).sort("version")
    beyond = per_version.filter((pl.col("rows").cum_sum() > rows) & (pl.int_range(pl.len()) > 0))
    return until if beyond.is_empty() else int(beyond["version"][0]) - 1


def only_appended(table: DeltaTable, after: int, until: int, storage_options: Mapping[str, str]) -> bool:
    """Whether the commits in (after, until] only added rows."""
    return not _actions(folder(table), after, until, storage_options)["action"].is_in(["remove", "cdc"]).any()


def layout_changed(table: DeltaTable, after: int, until: int, storage_options: Mapping[str, str]) -> bool:
    """Whether a commit in (after, until] changed partition columns or the type of a column, or dropped one.

    Rows before and after such a commit cannot be compared. A new column changes nothing of the others.
    """
    metadata = _metadata(folder(table), after, until, storage_options)
    if metadata.is_empty():
        return False
    before = table_at(table, after, storage_options)
    partitions, types = before.metadata().partition_columns, {field.name: str(field.type) for field in before.schema().fields}
    for written, columns in metadata.select("schemaString", "partitionColumns").iter_rows():
        now = {field.name: str(field.type) for field in Schema.from_json(written).fields}
        if columns != partitions or any(now.get(name) != dtype for name, dtype in types.items()):
            return True
    return False


def table_at(table: DeltaTable, version: int, storage_options: Mapping[str, str]) -> DeltaTable:
    """The same table at another version."""
    return DeltaTable(folder(table).rstrip("/"), version=version, storage_options=dict(storage_options))


def _metadata(root: str, after: int, until: int, storage_options: Mapping[str, str]) -> pl.DataFrame:
    """What the commits in (after, until] say about columns and partitions."""
    logs = [f"{root}_delta_log/{version:020d}.json" for version in range(after + 1, until + 1)]
    if not logs:
        return pl.DataFrame(schema={"schemaString": pl.String, "partitionColumns": pl.List(pl.String)})
    return _read_log(root, logs, {"metaData": _METADATA}, storage_options).select("metaData").drop_nulls().unnest("metaData")


def _changed_files(
    table: DeltaTable, after: int, until: int, storage_options: Mapping[str, str], *, came: bool
) -> list[tuple[str, list[str]]]:
    """Actions and paths of the files that hold the changes, oldest commit first, as few groups as that order allows."""
    root = folder(table)
    files = _actions(root, after, until, storage_options).filter((pl.col("action") != "remove") | pl.lit(not came))
    groups = files.group_by("action", pl.col("action").rle_id().alias("group"), maintain_order=True).agg("path")
    return [(action, [root + unquote(path) for path in paths]) for action, paths in groups.select("action", "path").iter_rows()]


def _actions(root: str, after: int, until: int, storage_options: Mapping[str, str]) -> pl.DataFrame:
    """What the commits in (after, until] did to rows: `version`, `action`, `path`, `stats`, oldest first; nothing of mere maintenance."""
    logs = [f"{root}_delta_log/{version:020d}.json" for version in range(after + 1, until + 1)]
    if not logs:
        return pl.DataFrame(schema={"version": pl.Int64, "action": pl.String, "path": pl.String, "stats": pl.String})
    commits = _read_log(root, logs, dict.fromkeys(_ACTIONS, _FILE), storage_options)
    files = pl.concat(commits.select("log", pl.lit(action).alias("action"), pl.col(action).struct.unnest()) for action in _ACTIONS)
    is_cdc = pl.col("action") == "cdc"
    version = pl.col("log").str.slice(-25, 20).cast(pl.Int64).alias("version")
    return (
        files.filter(pl.col("path").is_not_null())
        .filter(is_cdc | (pl.col("dataChange") & ~is_cdc.any().over("log")))
        .select(version, "action", "path", "stats")
        .sort("version", maintain_order=True)
    )


def _read_log(root: str, logs: list[str], schema: Mapping[str, pl.DataType], storage_options: Mapping[str, str]) -> pl.DataFrame:
    """Actions of commits, with the path of the commit as `log`.

    Raises:
        NoSuchVersion: The log of one of these commits was cleaned up.
    """
    try:
        return pl.read_ndjson(logs, schema=dict(schema), include_file_paths="log", storage_options=dict(storage_options) or None)
    except FileNotFoundError as error:
        raise NoSuchVersion(
            f"the log of {root} has not all of the versions {logs[0][-25:-5].lstrip('0') or 0} to {logs[-1][-25:-5].lstrip('0') or 0} any "
            "more, so what changed is unknown: read the whole table"
        ) from error
