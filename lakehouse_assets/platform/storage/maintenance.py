"""Keeps a table quick to read and no larger than it has to be: compaction, checkpoints, vacuum and log retention, each where it is needed.

None of it changes a row or is a change to a reader. Which cursors and pinned versions have to stay readable is passed in;
when maintenance runs is not decided here. How files are put together is in `compaction`, what of a log can go in `log_retention`.

Vacuum deletes files itself: that of delta-rs takes change files (`_change_data/`) away under readers that still need them, whatever
versions it is told to keep, and without `full` it forgets removed files once a checkpoint has forgotten them.
"""

import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl
from deltalake import DeltaTable, Transaction

from lakehouse_assets.platform.storage import compaction, inventory, log_retention
from lakehouse_assets.platform.storage.commit import next_write, with_retries
from lakehouse_assets.platform.storage.compaction import Partition, files_of, maintenance_info, partitions_of, with_views
from lakehouse_assets.platform.storage.errors import CommitConflict, NoSuchVersion
from lakehouse_assets.platform.storage.inventory import Inventory
from lakehouse_assets.platform.storage.table import Table

SMALL_FILE_BYTES: Final = compaction.TARGET_FILE_BYTES // 4
SMALL_FILES_A_PARTITION: Final = 8
"""So many small files in one partition are put together."""
LOG_ENTRIES: Final = 20
"""A reader has to read at most so many commits one by one; and so many that nobody needs make it worth to clean a log up."""
LONGEST_WRITE: Final = timedelta(days=1)
"""An unknown file that is younger may belong to a write that is under way."""
COMPACTED, CHECKPOINTED, VACUUMED, CLEANED = "compacted", "checkpointed", "vacuumed", "log cleaned up"

READABLE_FROM: Final = "lakehouse.readable-from"
"""The watermark that holds `readable_from`. A transaction and not a property of the table: a restore sets properties back."""


@dataclass(frozen=True)
class State:
    """The state of a table, and what maintenance would do about it.

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
        unneeded_commits: Commits of the log that nobody needs any more.
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
    unneeded_commits: int
    unknown_why: str = ""

    @property
    def due(self) -> tuple[str, ...]:
        """What maintenance would do."""
        reasons = {
            COMPACTED: self.crowded or self.views,
            CHECKPOINTED: self.log_entries > LOG_ENTRIES,
            VACUUMED: self.unneeded,
            CLEANED: self.unneeded_commits >= LOG_ENTRIES,
        }
        return tuple(name for name, reason in reasons.items() if reason)


@dataclass(frozen=True)
class Maintained:
    """What maintenance did to a table.

    Attributes:
        table: Its name.
        done: Of `COMPACTED`, `CHECKPOINTED`, `VACUUMED`, `CLEANED`.
        why_not: Why something that was due was not done; empty if all was.
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
class Keep:
    """What has to stay readable.

    Attributes:
        keep_from: The smallest cursor of those who read the table's changes: this version and all later ones, with all that changed
            between them, stay readable. None: nobody reads them.
        pinned: Versions that stay readable as well.
        retention: How long a version stays readable after it was replaced.
        now: With time zone.
        log_retention: How long a commit stays in the log; at least as long as versions stay readable.
        log_from: Commits above this version stay in the log whatever their age. None: there is no such version.
    """

    keep_from: int | None
    pinned: Collection[int]
    retention: timedelta
    now: datetime
    log_retention: timedelta = timedelta(days=30)
    log_from: int | None = None

    def floor(self, stock: Inventory, newest: int, readable: int) -> int:
        """The version from which on all have to stay readable; `readable` is the oldest that is."""
        standing = self._standing(stock, self.retention, newest)
        return max(min(standing, newest if self.keep_from is None else max(self.keep_from, 0)), readable)

    def log_floor(self, stock: Inventory, newest: int, floor: int) -> int:
        """The version from which on all commits have to stay in the log."""
        standing = self._standing(stock, self.log_retention, newest)
        return min(standing, floor, newest if self.log_from is None else max(self.log_from, 0))

    def _standing(self, stock: Inventory, retention: timedelta, newest: int) -> int:
        """The version before the first commit that is younger: where a clock stepped back, more is kept and not less."""
        young = [version for version, at in stock.commits.items() if at > self.now - retention]
        return max(min(young, default=newest + 1) - 1, 0)

    @property
    def old(self) -> datetime:
        """A file of this age belongs to no write that is under way."""
        return self.now - max(self.retention, LONGEST_WRITE)


@dataclass(frozen=True)
class _Unneeded:
    """What can be deleted: data and change files, log files in their order; `begin` is the oldest version that can be read without them."""

    data: frozenset[str] = frozenset()
    log: log_retention.Unneeded = log_retention.Unneeded((), 0, 0)
    begin: int = 0

    @property
    def paths(self) -> tuple[str, ...]:
        return (*sorted(self.data), *(self.log.paths if self.log.commits >= LOG_ENTRIES else ()))

    @property
    def done(self) -> list[str]:
        return [VACUUMED] * bool(self.data) + [CLEANED] * (self.log.commits >= LOG_ENTRIES)


def readable_from(table: Table) -> int:
    """The version from which on every version can be read whole; of earlier ones maintenance may have deleted files or commits."""
    return _readable_from(table.delta())


def _readable_from(delta: DeltaTable) -> int:
    return delta.transaction_version(READABLE_FROM) or 0


def state(table: Table, keep: Keep) -> State:
    """The state of a table; nothing is changed."""
    stock = inventory.take(table)
    delta = table.delta()
    files = files_of(delta)
    small = files.filter(pl.col("bytes") < SMALL_FILE_BYTES)
    reason, unneeded = "", _Unneeded()
    try:
        unneeded = _unneeded(table, delta, stock, keep)
    except NoSuchVersion as error:
        reason = str(error)
    return State(
        version=delta.version(),
        files=files.height,
        small_files=small.height,
        bytes=int(files["bytes"].sum()),
        partitions=len(partitions_of(files, delta)),
        log_entries=stock.log_entries,
        crowded=partitions_of(small, delta, at_least=SMALL_FILES_A_PARTITION),
        views=partitions_of(with_views(table, files), delta),
        unneeded=len(unneeded.data),
        unneeded_bytes=_bytes(stock, unneeded.paths),
        unneeded_commits=unneeded.log.commits,
        unknown_why=reason,
    )


def maintain(table: Table, keep: Keep, run_id: str) -> Maintained:
    """Compact, checkpoint, vacuum and clean the log of a table up where it is due. Killed anywhere, it leaves a table with the same rows.

    Args:
        table: The table.
        keep: What has to stay readable.
        run_id: Is written into the commits.
    """
    started = time.monotonic()
    before = state(table, keep)
    done: list[str] = []
    why_not, freed = [before.unknown_why] if before.unknown_why else [], 0
    if before.crowded or before.views:
        try:
            compacted = compaction.compact(table, [*before.crowded, *before.views], run_id)
            rewritten, left = compaction.rewrite_views(table, run_id)
            done += [COMPACTED] * (compacted or rewritten)
            why_not += [left] * bool(left)
        except CommitConflict as error:
            why_not.append(str(error))
    if inventory.take(table).log_entries > LOG_ENTRIES:
        table.delta().create_checkpoint()
        done.append(CHECKPOINTED)
    if {VACUUMED, CLEANED}.intersection(before.due):
        try:
            deleted, freed = _delete_unneeded(table, keep, run_id)
            done += deleted
        except CommitConflict as error:
            why_not.append(str(error))
    files_after = len(table.delta().file_uris())
    return Maintained(table.name, before.files, files_after, freed, tuple(done), "; ".join(why_not), time.monotonic() - started)


def _unneeded(table: Table, delta: DeltaTable, stock: Inventory, keep: Keep) -> _Unneeded:
    newest = delta.version()
    floor = keep.floor(stock, newest, _readable_from(delta))
    # A file of a version from the floor on is either there still or was removed by a commit above the floor.
    needed = inventory.files_of(delta) | set(inventory.log_files(table, delta, floor, newest).files["path"])
    for version in keep.pinned:
        if version < floor:
            with suppress(NoSuchVersion):
                needed |= inventory.files_of(table.delta(version))
    data = frozenset(path for path, stored in stock.data.items() if path not in needed and stored.modified <= keep.old)
    log = log_retention.unneeded(stock, keep.log_floor(stock, newest, floor), keep.pinned)
    return _Unneeded(data, log, floor if data else log.begin)


def _bytes(stock: Inventory, paths: Iterable[str]) -> int:
    return sum(stock.data[path].size if path in stock.data else stock.log_bytes[path] for path in paths)


def _delete_unneeded(table: Table, keep: Keep, run_id: str) -> tuple[list[str], int]:
    """Announce from where on the table stays readable, then delete; what was done, and bytes. What a kill leaves is for the next time."""
    stock = inventory.take(table)

    def announce() -> _Unneeded:
        delta = table.delta()
        unneeded = _unneeded(table, delta, stock, keep)
        if unneeded.paths:
            # With it a restore to a version that loses files now conflicts, and reads again what it may go back to.
            transactions = [Transaction(READABLE_FROM, max(_readable_from(delta), unneeded.begin)), next_write(delta)]
            delta.create_write_transaction(
                [],
                "append",
                delta.schema(),
                partition_by=delta.metadata().partition_columns,
                commit_properties=maintenance_info("vacuum", run_id, transactions),
            )
        return unneeded

    unneeded = with_retries(table.name, table.uri, announce)
    if CLEANED in unneeded.done:
        table.delta(unneeded.log.begin)  # raises unless it can be opened by the checkpoint that the log is to begin with
        table.delta().create_checkpoint()  # so that readers are led to a checkpoint that stays
    files = inventory.file_system(table)
    for path in unneeded.paths:
        _delete(files, path)
    return unneeded.done, _bytes(stock, unneeded.paths)


def _delete(files: Any, path: str) -> None:
    with suppress(FileNotFoundError):  # another process was faster
        files.delete_file(path)


def unlogged(table: Table, now: datetime, pinned: Collection[int] = ()) -> dict[str, int]:
    """Files that no commit names, by their size: what killed writes left, old enough to belong to none that is under way.

    Args:
        table: The table.
        now: With time zone.
        pinned: Versions whose files stay though their commits may be gone.

    Raises:
        NoSuchVersion: The log has lost commits that maintenance did not remove, so it cannot be told.
    """
    stock, delta = inventory.take(table), table.delta()
    begin = delta.version() if _readable_from(delta) else 0
    while begin - 1 in stock.commits:
        begin -= 1
    # A file of a version from there on is either there still or was removed by a later commit.
    named = inventory.files_of(delta) | set(inventory.log_files(table, delta, begin - 1, delta.version()).files["path"])
    for version in pinned:
        with suppress(NoSuchVersion):
            named |= inventory.files_of(table.delta(version))
    return {path: stored.size for path, stored in stock.data.items() if path not in named and stored.modified <= now - LONGEST_WRITE}
