"""Keeps a table quick to read and no larger than it has to be: compaction, checkpoints, vacuum, each only where there is need.

None of it changes a row or looks like a change to a reader. Whose cursors and which pinned versions have to stay readable is said by the
caller; when upkeep runs is not decided here.

Vacuum deletes files itself: that of delta-rs takes change files (`_change_data/`) away under readers that still need them, whatever
versions it is told to keep, and without `full` it forgets removed files once a checkpoint has forgotten them.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction

from lakehouse_assets.platform.storage import inventory
from lakehouse_assets.platform.storage.commit import next_write, with_retries
from lakehouse_assets.platform.storage.errors import CommitConflict, NoSuchVersion
from lakehouse_assets.platform.storage.inventory import Inventory
from lakehouse_assets.platform.storage.table import WRITER, Table

TARGET_FILE_BYTES: Final = 128 * 1024**2
SMALL_FILE_BYTES: Final = TARGET_FILE_BYTES // 4
SMALL_FILES_A_PARTITION: Final = 8
"""So many small files in one partition are put together."""
LOG_ENTRIES: Final = 20
"""A reader has to read at most so many commits one by one."""
LONGEST_WRITE: Final = timedelta(days=1)
"""An unknown file that is younger may belong to a write that is under way."""
UPKEEP: Final = "lakehouse.upkeep"
COMPACTED, CHECKPOINTED, VACUUMED = "compacted", "checkpointed", "vacuumed"

# A transaction and not a property of the table: a restore sets properties back.
_READABLE_FROM = "lakehouse.readable-from"
# A long compaction keeps what it has done so far, and bears other writers better.
_COMPACTION_COMMITS_EVERY = timedelta(minutes=1)
# Files that compaction leaves alone are rewritten by sorting their whole partition, up to this size.
_SORTED_BYTES = 4 * TARGET_FILE_BYTES
_SORTABLE = ("string", "long", "integer", "short", "byte", "date", "timestamp", "double", "float", "boolean")

Partition = tuple[tuple[str, Any], ...]
"""Names and values of the partition columns; empty where a table has none."""


@dataclass(frozen=True)
class Need:
    """What a table is like, and what upkeep would do about it.

    Attributes:
        version: Of the table.
        files: Data files of that version.
        small_files: Those of them that are small.
        bytes: Of all data files.
        partitions: How many have rows.
        log_entries: Commits since the last checkpoint.
        crowded: Partitions with too many small files.
        views: Partitions with files that some readers refuse, since a merge wrote their strings as views.
        unneeded: Files in the folder that nobody needs any more.
        unneeded_bytes: Of these.
        unknown_why: Why it could not be told what is unneeded, if so.
    """

    version: int
    files: int
    small_files: int
    bytes: int
    partitions: int
    log_entries: int
    crowded: tuple[Partition, ...]
    views: tuple[Partition, ...]
    unneeded: int
    unneeded_bytes: int
    unknown_why: str = ""

    @property
    def wants(self) -> tuple[str, ...]:
        """What upkeep would do."""
        reasons = {
            COMPACTED: self.crowded or self.views,
            CHECKPOINTED: self.log_entries > LOG_ENTRIES,
            VACUUMED: self.unneeded,
        }
        return tuple(name for name, reason in reasons.items() if reason)


@dataclass(frozen=True)
class Tended:
    """What upkeep did to a table.

    Attributes:
        table: Its name.
        done: Of `COMPACTED`, `CHECKPOINTED`, `VACUUMED`.
        why_not: Why something that was needed was not done; empty if all was.
        seconds: How long it took.
    """

    table: str
    files_before: int
    files_after: int
    bytes_freed: int
    done: tuple[str, ...]
    why_not: str
    seconds: float


@dataclass(frozen=True)
class _Keep:
    """What has to stay readable; the attributes are the arguments of `tend`."""

    keep_from: int | None
    pinned: Collection[int]
    retention: timedelta
    now: datetime

    def floor(self, stock: Inventory, newest: int) -> int:
        """The version from which on all have to stay readable."""
        standing = max((version for version, at in stock.commits.items() if at <= self.now - self.retention), default=0)
        return min(standing, newest if self.keep_from is None else max(self.keep_from, 0), newest)

    @property
    def old(self) -> datetime:
        """A file of this age belongs to no write that is under way."""
        return self.now - max(self.retention, LONGEST_WRITE)


def readable_from(table: Table) -> int:
    """The version from which on every version can be read whole; of earlier ones vacuum may have deleted files."""
    return _readable_from(table.delta())


def _readable_from(delta: DeltaTable) -> int:
    return delta.transaction_version(_READABLE_FROM) or 0


def look(table: Table, *, keep_from: int | None, pinned: Collection[int], retention: timedelta, now: datetime) -> Need:
    """What a table is like; the arguments are those of `tend`."""
    return _look(table, _Keep(keep_from, pinned, retention, now))


def _look(table: Table, keep: _Keep) -> Need:
    stock = inventory.take(table)
    delta = table.delta()
    files = _files(delta)
    small = files.filter(pl.col("bytes") < SMALL_FILE_BYTES)
    crowded = _partitions(small, delta, at_least=SMALL_FILES_A_PARTITION)
    views = _partitions(_viewed(table, files), delta)
    reason, unneeded = "", set[str]()
    try:
        unneeded, _ = _unneeded(table, delta, stock, keep)
    except NoSuchVersion as error:
        reason = str(error)
    return Need(
        version=delta.version(),
        files=files.height,
        small_files=small.height,
        bytes=int(files["bytes"].sum()),
        partitions=len(_partitions(files, delta)),
        log_entries=stock.log_entries,
        crowded=crowded,
        views=views,
        unneeded=len(unneeded),
        unneeded_bytes=_bytes(stock, unneeded),
        unknown_why=reason,
    )


def tend(table: Table, *, keep_from: int | None, pinned: Collection[int], retention: timedelta, run_id: str, now: datetime) -> Tended:
    """Compact, checkpoint and vacuum a table where there is need. Killed anywhere, it leaves a table with the same rows.

    Args:
        table: The table.
        keep_from: The smallest cursor of those who read its changes: this version and all later ones, with all that changed between them,
            stay readable. None: nobody reads them.
        pinned: Versions that stay readable besides.
        retention: How long a version stays readable after it was replaced.
        run_id: Stands in the commits.
        now: With time zone.
    """
    started = time.monotonic()
    keep = _Keep(keep_from, pinned, retention, now)
    before = _look(table, keep)
    done: list[str] = []
    why_not, freed = [before.unknown_why] if before.unknown_why else [], 0
    if before.crowded or before.views:
        try:
            compacted = _compact(table, before, run_id)
            rewritten, left = _lonely_views(table, run_id)
            done += [COMPACTED] * (compacted or rewritten)
            why_not += [left] * bool(left)
        except CommitConflict as error:
            why_not.append(str(error))
    if inventory.take(table).log_entries > LOG_ENTRIES:
        table.delta().create_checkpoint()
        done.append(CHECKPOINTED)
    if before.unneeded:
        try:
            freed = _vacuum(table, keep, run_id)
            done.append(VACUUMED)
        except CommitConflict as error:
            why_not.append(str(error))
    files_after = len(table.delta().file_uris())
    return Tended(table.name, before.files, files_after, freed, tuple(done), "; ".join(why_not), time.monotonic() - started)


# --- compaction


def _files(delta: DeltaTable) -> pl.DataFrame:
    """`path` in the folder, `bytes`, and the partition columns under their own names with the prefix `partition.`."""
    actions = pl.DataFrame(delta.get_add_actions(flatten=True))
    values = [f"partition.{name}" for name in delta.metadata().partition_columns]
    paths = pl.col("path").map_elements(unquote, return_dtype=pl.String)
    return actions.select(paths, pl.col("size_bytes").alias("bytes"), *values)


def _partitions(files: pl.DataFrame, delta: DeltaTable, at_least: int = 1) -> tuple[Partition, ...]:
    """The partitions that have so many of the files."""
    names = delta.metadata().partition_columns
    if not names:
        return ((),) if files.height >= at_least else ()
    values = [f"partition.{name}" for name in names]
    counted = files.group_by(values, maintain_order=True).len().filter(pl.col("len") >= at_least)
    return tuple(tuple(zip(names, row, strict=True)) for row in counted.select(values).iter_rows())


def _viewed(table: Table, files: pl.DataFrame) -> pl.DataFrame:
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


def _compact(table: Table, need: Need, run_id: str) -> bool:
    partitions = tuple(dict.fromkeys([*need.crowded, *need.views]))
    removed = 0
    for filters in _filters(partitions):
        metrics = with_retries(table.name, table.uri, partial(_compact_once, table, filters, run_id))
        removed += int(metrics["numFilesRemoved"])
    return removed > 0


def _compact_once(table: Table, filters: Any, run_id: str) -> Mapping[str, Any]:
    return table.delta().optimize.compact(
        partition_filters=filters,
        target_size=TARGET_FILE_BYTES,
        min_commit_interval=_COMPACTION_COMMITS_EVERY,
        writer_properties=WRITER,
        commit_properties=_info("compact", run_id),
    )


def _lonely_views(table: Table, run_id: str) -> tuple[bool, str]:
    """Rewrite what compaction leaves alone: the one file of a partition. Whether there was some, and why some was left."""
    delta = table.delta()
    files = _files(delta)
    partitions = _partitions(_viewed(table, files), delta)
    column = _sortable(delta)
    rewritten = [partition for partition in partitions if column is not None and _bytes_of(files, partition) <= _SORTED_BYTES]
    for filters in _filters(rewritten):
        with_retries(table.name, table.uri, partial(_sort_once, table, str(column), filters, run_id))
    left = len(partitions) - len(rewritten)
    said = f"{left} partitions keep strings that some readers refuse: they are too large to be rewritten for that"
    return bool(rewritten), said if left else ""


def _sort_once(table: Table, column: str, filters: Any, run_id: str) -> Mapping[str, Any]:
    return table.delta().optimize.z_order(
        [column],
        partition_filters=filters,
        target_size=TARGET_FILE_BYTES,
        writer_properties=WRITER,
        commit_properties=_info("compact", run_id),
    )


def _sortable(delta: DeltaTable) -> str | None:
    partitions = delta.metadata().partition_columns
    columns = (field.name for field in delta.schema().fields if getattr(field.type, "type", "") in _SORTABLE)
    return next((name for name in columns if name not in partitions), None)


def _bytes_of(files: pl.DataFrame, partition: Partition) -> int:
    is_there = [pl.col(f"partition.{name}").eq_missing(pl.lit(value)) for name, value in partition]
    return int(files.filter(is_there)["bytes"].sum()) if partition else int(files["bytes"].sum())


# --- vacuum


def _unneeded(table: Table, delta: DeltaTable, stock: Inventory, keep: _Keep) -> tuple[set[str], int]:
    """The files that can go, and the version from which on all is readable without them."""
    newest = delta.version()
    floor = keep.floor(stock, newest)
    # A file of a version from the floor on is either there still or was removed by a commit above the floor.
    needed = inventory.files_of(delta) | set(inventory.log_files(table, delta, floor, newest).files["path"])
    for version in keep.pinned:
        if version < floor:
            with suppress(NoSuchVersion):
                needed |= inventory.files_of(table.delta(version))
    return {path for path, stored in stock.data.items() if path not in needed and stored.modified <= keep.old}, floor


def _bytes(stock: Inventory, paths: Collection[str]) -> int:
    return sum(stock.data[path].size for path in paths)


def _vacuum(table: Table, keep: _Keep, run_id: str) -> int:
    """Say from where on the table stays readable, then delete; how many bytes. What a kill leaves is for the next time."""
    stock = inventory.take(table)

    def announce() -> set[str]:
        delta = table.delta()
        unneeded, floor = _unneeded(table, delta, stock, keep)
        if unneeded:
            # With it a restore to a version that loses files now conflicts, and looks again.
            transactions = [Transaction(_READABLE_FROM, max(_readable_from(delta), floor)), next_write(delta)]
            delta.create_write_transaction(
                [],
                "append",
                delta.schema(),
                partition_by=delta.metadata().partition_columns,
                commit_properties=_info("vacuum", run_id, transactions),
            )
        return unneeded

    unneeded = with_retries(table.name, table.uri, announce)
    files = inventory.file_system(table)
    for path in unneeded:
        _delete(files, path)
    return _bytes(stock, unneeded)


def _delete(files: Any, path: str) -> None:
    with suppress(FileNotFoundError):  # another upkeep was faster
        files.delete_file(path)


def _info(what: str, run_id: str, transactions: list[Transaction] | None = None) -> CommitProperties:
    return CommitProperties(custom_metadata={"lakehouse.run_id": run_id, UPKEEP: what}, app_transactions=transactions)


def unlogged(table: Table, now: datetime) -> dict[str, int]:
    """Files that no commit names, by their size: what killed writes left, old enough to belong to none that is under way.

    Raises:
        NoSuchVersion: The log has not all its commits any more, so it cannot be told.
    """
    stock, delta = inventory.take(table), table.delta()
    named = inventory.files_of(delta) | set(inventory.log_files(table, delta, -1, delta.version()).files["path"])
    return {path: stored.size for path, stored in stock.data.items() if path not in named and stored.modified <= now - LONGEST_WRITE}
