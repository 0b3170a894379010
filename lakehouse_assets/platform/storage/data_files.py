"""Data files that Polars writes and delta-rs publishes: about half of the CPU time of delta-rs' own writer.

Only appends to tables on a local disk go this way. A bucket, a table with constraints or invariants, and every commit that removes or
updates rows stay with delta-rs, which checks and encodes them itself. What a row means is not known here.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from functools import partial
from json import dumps
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import polars as pl
from deltalake import CommitProperties, DeltaTable
from deltalake.transaction import AddAction
from pyarrow import parquet

from lakehouse_assets.platform.storage import paths
from lakehouse_assets.platform.storage.bucket import is_bucket

_NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
_ROWS_OF_A_FILE = 500_000
_BOUNDED = (pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Float32, pl.Float64, pl.String, pl.Date, pl.Datetime)


def can_append(table: DeltaTable) -> bool:
    """Whether a table's files can be written here: on a local disk, without constraints that delta-rs would check row by row."""
    metadata, fields = table.metadata(), table.schema().fields
    constrained = any(key.startswith("delta.constraints.") for key in metadata.configuration) or any(field.metadata for field in fields)
    return not is_bucket(paths.folder(table)) and not constrained and len(fields) > len(metadata.partition_columns)


def append(table: DeltaTable, frames: Iterable[pl.DataFrame], properties: CommitProperties) -> None:
    """One commit with the rows of `frames`; afterwards `table` is at the version of that commit.

    While a frame is written, the next one is taken from `frames`; at most two are in memory. If there are no rows, the commit carries its
    properties alone.

    Args:
        table: One that `can_append`.
        frames: Rows with exactly the columns and types of the table.
        properties: Of the commit. The number of files and rows is added, as delta-rs does for its own writes.

    Raises:
        CommitFailedError: Another writer committed what this commit excludes. The files stay unreferenced, for vacuum.
    """
    columns = table.metadata().partition_columns
    actions = list(_write(Path(paths.folder(table)), frames, columns))
    before, metrics = table.version(), {"num_added_files": len(actions), "num_added_rows": sum(rows for _, rows in actions)}
    carried = CommitProperties(
        custom_metadata={**(properties.custom_metadata or {}), "operationMetrics": metrics},
        max_commit_retries=properties.max_commit_retries,
        app_transactions=properties.app_transactions,
    )
    table.create_write_transaction(
        [action for action, _ in actions], "append", table.schema(), partition_by=columns, commit_properties=carried
    )
    _advance(table, before, actions[0][0].path if actions else None)


def _advance(table: DeltaTable, before: int, path: str | None) -> None:
    """Bring `table` to the version with the file `path`. delta-rs leaves it at the version that it had."""
    table.update_incremental()
    if path is None or table.version() == before + 1:
        return
    name = path.rpartition("/")[2]
    log = Path(paths.folder(table), "_delta_log")
    for version in range(before + 1, table.version()):
        if name in (log / f"{version:020d}.json").read_text():
            table.load_as_version(version)
            return


def _write(folder: Path, frames: Iterable[pl.DataFrame], columns: Sequence[str]) -> Iterator[tuple[AddAction, int]]:
    """The files of all frames, each with its rows, once they are written."""
    with ThreadPoolExecutor(2, "data-files") as threads:
        waiting: Iterable[tuple[AddAction, int]] = ()
        for frame in frames:
            started = threads.map(partial(_write_file, folder), _files(frame, columns))
            yield from waiting
            waiting = started
        yield from waiting


def _files(frame: pl.DataFrame, columns: Sequence[str]) -> Iterator[tuple[dict[str, Any], pl.DataFrame]]:
    """The rows of each file, in their order, with the partition that it belongs to."""
    for values, rows in _partitions(frame, columns):
        for part in rows.drop(columns).iter_slices(_ROWS_OF_A_FILE):
            yield dict(zip(columns, values, strict=True)), part


def _partitions(frame: pl.DataFrame, columns: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], pl.DataFrame]]:
    if not frame.height:
        return
    if not columns:
        yield (), frame
        return
    runs = frame.select(pl.struct(columns).rle().struct.unnest())
    if runs["value"].n_unique() < runs.height:
        yield from frame.partition_by(columns, as_dict=True).items()
        return
    # Rows that come partition by partition, as over time, are not copied.
    starts = runs["len"].cum_sum() - runs["len"]
    for start, length, value in zip(starts, runs["len"], runs["value"], strict=True):
        yield tuple(value[name] for name in columns), frame.slice(start, length)


def _write_file(folder: Path, file: tuple[dict[str, Any], pl.DataFrame]) -> tuple[AddAction, int]:
    partition, rows = file
    values = {name: _as_text(value) for name, value in partition.items()}
    path = "/".join([*(_folder_name(name, value) for name, value in values.items()), f"part-{uuid4()}.zstd.parquet"])
    target = folder / path
    rows.write_parquet(target, compression="zstd", compression_level=1, mkdir=True)
    action = AddAction(
        path=path,
        size=target.stat().st_size,
        partition_values=values,
        modification_time=time.time_ns() // 1_000_000,
        data_change=True,
        # Not escaped: delta-rs reads an escaped character beyond U+1FFFF as another one.
        stats=dumps(_statistics(target, rows.schema), ensure_ascii=False),
    )
    return action, rows.height


def _as_text(value: Any) -> str | None:
    """A partition's value as the Delta protocol spells it."""
    return value if value is None or isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def _folder_name(name: str, value: str | None) -> str:
    # As delta-rs does it, and Polars reads it: the name as it is, the value escaped.
    return f"{name}={_NULL_FOLDER if value is None else quote(value, safe='')}"


def _statistics(path: Path, schema: Mapping[str, pl.DataType]) -> dict[str, Any]:
    """The statistics of a file in Delta's form, from its own footer."""
    footer = parquet.read_metadata(path)
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    positions = {groups[0].column(number).path_in_schema: number for number in range(footer.num_columns)}
    nulls: dict[str, int] = {}
    least: dict[str, Any] = {}
    largest: dict[str, Any] = {}
    for name, dtype in schema.items():
        if name not in positions or dtype.is_nested():
            continue
        chunks = [group.column(positions[name]).statistics for group in groups]
        if any(chunk is None or not chunk.has_null_count for chunk in chunks):
            continue
        nulls[name] = sum(chunk.null_count for chunk in chunks)
        bounds = _bounds([chunk for chunk in chunks if chunk.num_values]) if dtype in _BOUNDED else None
        if bounds is not None:
            least[name], largest[name] = bounds
    return {"numRecords": footer.num_rows, "minValues": least, "maxValues": largest, "nullCount": nulls}


def _bounds(chunks: Sequence[Any]) -> tuple[Any, Any] | None:
    """The smallest and the largest value of a column; None if it has none, or none that can be written down."""
    if not chunks or not all(chunk.has_min_max for chunk in chunks):
        return None
    try:
        least, largest = min(chunk.min for chunk in chunks), max(chunk.max for chunk in chunks)
        bounds = (_bound(least, -0.0), _bound(largest, 0.0))
    except (OverflowError, ValueError):  # a moment or day that Python does not have
        return None
    return None if None in bounds else bounds


def _bound(value: Any, zero: float) -> Any:
    """A bound as JSON has it; None if JSON does not. Polars cuts bounds of long texts off, and raises an upper one that it cut."""
    if isinstance(value, float):
        return None if value in {float("inf"), -float("inf")} or value != value else value or zero  # noqa: PLR0124 - NaN
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    return value.isoformat() if isinstance(value, date) else value
