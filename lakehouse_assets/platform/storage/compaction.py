"""Puts the small files of a partition together, and rewrites files that some readers refuse. No row changes, no reader sees a change.

Which partitions need it is decided in `maintenance`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction

from lakehouse_assets.platform.storage import inventory
from lakehouse_assets.platform.storage.commit import with_retries
from lakehouse_assets.platform.storage.table import WRITER, Table

TARGET_FILE_BYTES: Final = 128 * 1024**2
MAINTENANCE: Final = "lakehouse.maintenance"
"""Marks a commit of maintenance, with what it did."""
# A long compaction keeps what it has done so far, and bears other writers better.
_COMMITS_EVERY = timedelta(minutes=1)
# Files that compaction leaves alone are rewritten by sorting their whole partition, up to this size.
_SORTED_BYTES = 4 * TARGET_FILE_BYTES
_SORTABLE = ("string", "long", "integer", "short", "byte", "date", "timestamp", "double", "float", "boolean")

Partition = tuple[tuple[str, Any], ...]
"""Names and values of the partition columns; empty where a table has none."""


def maintenance_info(what: str, run_id: str, transactions: list[Transaction] | None = None) -> CommitProperties:
    """What a commit of maintenance says about itself."""
    return CommitProperties(custom_metadata={"lakehouse.run_id": run_id, MAINTENANCE: what}, app_transactions=transactions)


def files_of(delta: DeltaTable) -> pl.DataFrame:
    """`path` in the folder, `bytes`, and the partition columns under their own names with the prefix `partition.`."""
    actions = pl.DataFrame(delta.get_add_actions(flatten=True))
    values = [f"partition.{name}" for name in delta.metadata().partition_columns]
    paths = pl.col("path").map_elements(unquote, return_dtype=pl.String)
    return actions.select(paths, pl.col("size_bytes").alias("bytes"), *values)


def partitions_of(files: pl.DataFrame, delta: DeltaTable, at_least: int = 1) -> tuple[Partition, ...]:
    """The partitions that have so many of the files."""
    names = delta.metadata().partition_columns
    if not names:
        return ((),) if files.height >= at_least else ()
    values = [f"partition.{name}" for name in names]
    counted = files.group_by(values, maintain_order=True).len().filter(pl.col("len") >= at_least)
    return tuple(tuple(zip(names, row, strict=True)) for row in counted.select(values).iter_rows())


def with_views(table: Table, files: pl.DataFrame) -> pl.DataFrame:
    """The files whose strings are views."""
    if not any(dtype.is_nested() or dtype in (pl.String, pl.Binary) for dtype in table.schema().values()):
        return files.clear()
    return files.filter(pl.col("path").is_in(list(inventory.with_string_views(table, files["path"]))))


def _filters(partitions: Sequence[Partition]) -> Iterator[list[tuple[str, str, Any]] | None]:
    """Filters that together name exactly these partitions, few of them.

    The null of a partition is the empty string to delta-rs, and only found by `=`.
    """
    groups: dict[Partition, list[Any]] = {}
    for partition in partitions:
        if not partition:
            yield None
            return
        groups.setdefault(partition[:-1], []).append(partition[-1][1])
    for first, last in groups.items():
        name = partitions[0][-1][0]
        equal = [(column, "=", "" if value is None else value) for column, value in first]
        if values := [value for value in last if value is not None]:
            yield [*equal, (name, "in", values)]
        if len(values) < len(last):
            yield [*equal, (name, "=", "")]


def compact(table: Table, partitions: Iterable[Partition], run_id: str) -> bool:
    """Put the small files of these partitions together; whether files were replaced.

    Raises:
        CommitConflict: Other writers did not let this one through; what was compacted before stays.
    """
    removed = 0
    for filters in _filters(tuple(dict.fromkeys(partitions))):
        metrics = with_retries(table.name, table.uri, partial(_compact_once, table, filters, run_id))
        removed += int(metrics["numFilesRemoved"])
    return removed > 0


def _compact_once(table: Table, filters: Any, run_id: str) -> Mapping[str, Any]:
    return table.delta().optimize.compact(
        partition_filters=filters,
        target_size=TARGET_FILE_BYTES,
        min_commit_interval=_COMMITS_EVERY,
        writer_properties=WRITER,
        commit_properties=maintenance_info("compact", run_id),
    )


def rewrite_views(table: Table, run_id: str) -> tuple[bool, str]:
    """Rewrite the files with string views that compaction leaves alone, as the only file of a partition is.

    Returns:
        Whether there were some, and why some were left.
    """
    delta = table.delta()
    files = files_of(delta)
    partitions = partitions_of(with_views(table, files), delta)
    column = _sortable(delta)
    rewritten = [partition for partition in partitions if column is not None and _bytes_of(files, partition) <= _SORTED_BYTES]
    for filters in _filters(rewritten):
        with_retries(table.name, table.uri, partial(_sort_once, table, str(column), filters, run_id))
    left = len(partitions) - len(rewritten)
    why_not = f"{left} partitions keep strings that some readers refuse: they are too large to be rewritten for that"
    return bool(rewritten), why_not if left else ""


def _sort_once(table: Table, column: str, filters: Any, run_id: str) -> Mapping[str, Any]:
    return table.delta().optimize.z_order(
        [column],
        partition_filters=filters,
        target_size=TARGET_FILE_BYTES,
        writer_properties=WRITER,
        commit_properties=maintenance_info("compact", run_id),
    )


def _sortable(delta: DeltaTable) -> str | None:
    partitions = delta.metadata().partition_columns
    columns = (field.name for field in delta.schema().fields if getattr(field.type, "type", "") in _SORTABLE)
    return next((name for name in columns if name not in partitions), None)


def _bytes_of(files: pl.DataFrame, partition: Partition) -> int:
    is_there = [pl.col(f"partition.{name}").eq_missing(pl.lit(value)) for name, value in partition]
    return int(files.filter(is_there)["bytes"].sum()) if partition else int(files["bytes"].sum())
