"""What lies in a table's folder and what its log says about it: files, commits, checkpoints. Nothing is changed here.

Deciding what of it is still needed belongs to `maintenance`, which version to go back to, to `restore`.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler
from pyarrow import fs, parquet

from lakehouse_assets.platform.storage.bucket import is_bucket, open_store, split_address
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.paths import folder
from lakehouse_assets.platform.storage.table import Table

_LOG = "_delta_log/"
_PATH = pl.Struct({"path": pl.String(), "dataChange": pl.Boolean()})
_FILE_ACTIONS = ("add", "remove", "cdc")
_LOG_SCHEMA = dict.fromkeys(_FILE_ACTIONS, _PATH) | {"txn": pl.Struct({"appId": pl.String(), "version": pl.Int64()})}
_FOOTERS_AT_ONCE = 8


@dataclass(frozen=True)
class Stored:
    """A file as it lies in the folder. `modified` has a time zone."""

    size: int
    modified: datetime


@dataclass(frozen=True)
class Inventory:
    """What lay in a table's folder.

    Attributes:
        data: Data and change files, by their path in the folder.
        commits: When the commit of each version was put there.
        checkpoints: By version, the path of its checkpoint.
        log_bytes: Of the files of the log, by their path.
    """

    data: Mapping[str, Stored]
    commits: Mapping[int, datetime]
    checkpoints: Mapping[int, str]
    log_bytes: Mapping[str, int]

    @property
    def checkpoint(self) -> int | None:
        """The newest version that has a checkpoint, if any."""
        return max(self.checkpoints, default=None)

    @property
    def log_entries(self) -> int:
        """How many commits a reader has to read one by one."""
        return len(self.commits) if self.checkpoint is None else sum(version > self.checkpoint for version in self.commits)


@dataclass(frozen=True)
class LogFiles:
    """What some commits name.

    Attributes:
        files: `version`, `action` (add, remove, cdc), `path` in the folder and `dataChange`, oldest first.
        transactions: `version` of the commit, `appId` and `cursor` of each transaction that was set, oldest first.
    """

    files: pl.DataFrame
    transactions: pl.DataFrame


def file_system(table: Table) -> Any:
    """The table's folder as a file system of Arrow, on a disk or in a bucket."""
    if "://" in table.uri:
        return fs.PyFileSystem(DeltaStorageHandler(table.uri, dict(table.storage_options)))
    return fs.SubTreeFileSystem(str(Path(table.uri).absolute()), fs.LocalFileSystem())


def take(table: Table) -> Inventory:
    """List the table's folder."""
    data: dict[str, Stored] = {}
    commits: dict[int, datetime] = {}
    checkpoints: dict[int, str] = {}
    log_bytes: dict[str, int] = {}
    for path, stored in _listed(table):
        if not path.startswith(_LOG):
            # A killed write may leave an unfinished file behind, whose name has more after `.parquet`.
            if ".parquet" in path:
                data[path] = stored
            continue
        version, _, kind = path.removeprefix(_LOG).partition(".")
        if not version.isdecimal():
            continue
        log_bytes[path] = stored.size
        if kind == "json":
            commits[int(version)] = stored.modified
        elif kind == "checkpoint.parquet":
            checkpoints[int(version)] = path
    return Inventory(data, commits, checkpoints, log_bytes)


def commit_path(version: int) -> str:
    """The path of a commit in the table's folder."""
    return f"{_LOG}{version:020d}.json"


def _listed(table: Table) -> Iterator[tuple[str, Stored]]:
    """The files in the table's folder, by their paths in it."""
    if is_bucket(table.uri):  # a request for a thousand objects, where a file system asks for every folder
        prefix = split_address(table.uri)[1]
        for page in open_store(table.uri, table.storage_options).list(prefix):
            for entry in page:
                yield entry["path"].removeprefix(f"{prefix}/"), Stored(entry["size"], entry["last_modified"])
        return
    for info in file_system(table).get_file_info(fs.FileSelector("", recursive=True)):
        if info.type == fs.FileType.File:
            yield info.path, Stored(info.size, info.mtime)


def files_of(delta: DeltaTable) -> set[str]:
    """The paths of the data files of the version that was opened, as they are called in the folder."""
    return {unquote(path) for path in pl.DataFrame(delta.get_add_actions())["path"]}


def missing_files(table: Table, version: int) -> list[str]:
    """The data files of a version that are not in the table's folder any more.

    Raises:
        NoSuchVersion: The log does not know the version (any more).
    """
    return sorted(files_of(table.delta(version)) - take(table).data.keys())


def log_files(table: Table, delta: DeltaTable, after: int, until: int) -> LogFiles:
    """What the commits in (after, until] name.

    Raises:
        NoSuchVersion: The log of one of these commits was cleaned up.
    """
    logs = [f"{folder(delta)}{commit_path(version)}" for version in range(after + 1, until + 1)]
    if not logs:
        files = pl.DataFrame(schema={"version": pl.Int64, "action": pl.String, "path": pl.String, "dataChange": pl.Boolean})
        return LogFiles(files, pl.DataFrame(schema={"version": pl.Int64, "appId": pl.String, "cursor": pl.Int64}))
    try:
        lines = pl.read_ndjson(logs, schema=_LOG_SCHEMA, include_file_paths="log", storage_options=dict(table.storage_options) or None)
    except FileNotFoundError as error:
        raise NoSuchVersion(f"the log of {table.name} has not all versions from {after + 1} to {until} any more") from error
    lines = lines.with_columns(pl.col("log").str.slice(-25, 20).cast(pl.Int64).alias("version"))
    files = pl.concat(lines.select("version", pl.lit(action).alias("action"), pl.col(action).struct.unnest()) for action in _FILE_ACTIONS)
    files = files.filter(pl.col("path").is_not_null()).with_columns(pl.col("path").map_elements(unquote, return_dtype=pl.String))
    transactions = lines.filter(pl.col("txn").is_not_null()).select(
        "version", pl.col("txn").struct.field("appId"), pl.col("txn").struct.field("version").alias("cursor")
    )
    return LogFiles(files.sort("version", maintain_order=True), transactions.drop_nulls().sort("version", maintain_order=True))


def with_string_views(table: Table, paths: Iterable[str]) -> set[str]:
    """Those of the files whose strings some readers refuse, because they were written as views; only their footers are read."""
    has_views = partial(_has_string_views, file_system(table))
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        listed = list(paths)
        return {path for path, has in zip(listed, pool.map(has_views, listed), strict=True) if has}


def _has_string_views(files: Any, path: str) -> bool:
    try:
        return any(_is_view(column.type) for column in parquet.read_schema(path, filesystem=files))
    except FileNotFoundError:
        return False


def _is_view(dtype: pa.DataType) -> bool:
    if pa.types.is_string_view(dtype) or pa.types.is_binary_view(dtype):
        return True
    return any(_is_view(dtype.field(number).type) for number in range(dtype.num_fields))
