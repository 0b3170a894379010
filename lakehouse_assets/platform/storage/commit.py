"""One commit: its cursors, its info, and how it is retried when another writer was faster.

Law 1 lives here: cursors are `txn` entries of the Delta protocol ("Transaction Identifiers") in the same commit as the rows. What is
written is the business of `table`, `merge`, `scd2` and `known_at`.
"""

import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError

from lakehouse_assets.platform.storage.errors import CommitConflict, CursorMoved
from lakehouse_assets.platform.storage.writer_queue import join_queue, wait_for_queue

T = TypeVar("T")

# Every write that first reads the table carries the next number under this name, so that of two such writes on one version the second is
# refused by the protocol and reads again. Appends do not read and do not carry it.
_READ_BEFORE_WRITE = "lakehouse.read-before-write"

# Only writers of other machines, and those that had begun before, compete with the queued writer that retries.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.2
# The longest that a new writer waits for the queued ones.
_LONGEST_WAIT_FOR_QUEUE = 20.0

NEVER = -1
"""The cursor of a source that was never read: the protocol can set a transaction's version, but not take it away."""


@dataclass(frozen=True)
class Cursor:
    """How far a table has consumed `source`: from `before` (None: nothing yet) to `after`, both inclusive."""

    source: str
    before: int | None
    after: int

    def is_reached(self, at: int | None) -> bool:
        """Whether a table whose cursor is at `at` has consumed this. A number that does not advance, such as a hash, is met exactly."""
        if at is None:
            return False
        return at >= self.after if self.before is None or self.before < self.after else at == self.after


@dataclass(frozen=True)
class Counts:
    """What became of the rows of one write.

    Attributes:
        written: New rows.
        updated: Rows that changed an existing row.
        duplicates: Rows that the table or the write itself holds already, or holds newer.
        removed: Rows of the table that went away.
    """

    written: int = 0
    updated: int = 0
    duplicates: int = 0
    removed: int = 0


@dataclass(frozen=True)
class Written:
    """The end of a write: the table's version after it, and what became of the rows (None: an earlier try had committed them)."""

    version: int
    counts: Counts | None


def _no_info(_: Counts) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Commit:
    """What a write carries besides its rows.

    Attributes:
        cursors: Advanced by this commit, all of them or none.
        info: Strings that are written into the commit, made once the counts are known. `Table.history` shows those whose key starts
            with `commit_log.INFO_PREFIX`. It may raise to stop the write.
        forgets: Cursors that this commit resets to before their first step.
    """

    cursors: tuple[Cursor, ...] = ()
    info: Callable[[Counts], Mapping[str, str]] = _no_info
    forgets: tuple[str, ...] = ()

    def done(self, table: DeltaTable) -> bool:
        """Whether the table already holds this commit.

        Raises:
            CursorMoved: It holds a part of the batch, or the batch does not start at the table's cursor.
        """
        current = [(cursor, cursor_of(table, cursor.source)) for cursor in self.cursors]
        if current and all(cursor.is_reached(at) for cursor, at in current):
            return True
        for cursor, at in current:
            if at != cursor.before:
                raise CursorMoved(
                    f"the cursor of {cursor.source!r} is at {at}, this batch starts at {cursor.before}: "
                    "read from the cursor and do the batch again"
                )
        return False

    def properties(self, table: DeltaTable, counts: Counts, *, read_before_write: bool) -> CommitProperties:
        """The commit in delta-rs' terms, on the version of `table`."""
        transactions = [Transaction(cursor.source, cursor.after) for cursor in self.cursors]
        transactions += [Transaction(source, NEVER) for source in self.forgets if cursor_of(table, source) is not None]
        if read_before_write:
            transactions.append(next_write(table))
        return CommitProperties(app_transactions=transactions, custom_metadata=dict(self.info(counts)))


def next_write(table: DeltaTable) -> Transaction:
    """What every commit carries that was computed from the rows of the version at hand."""
    return Transaction(_READ_BEFORE_WRITE, (table.transaction_version(_READ_BEFORE_WRITE) or 0) + 1)


def cursor_of(table: DeltaTable, source: str) -> int | None:
    """How far the table has consumed `source`; None if never, also where a restore brought it back to before its first reading."""
    at = table.transaction_version(source)
    return None if at == NEVER else at


def with_retries(name: str, uri: str, attempt: Callable[[], T], *, seconds: float = 120.0) -> T:
    """Optimistic concurrency: call `attempt`, which opens the table afresh each time, until no other writer commits in between.

    Args:
        name: Of the table, for the error.
        uri: Of the table: writers that lost a race for this address retry one after the other.
        attempt: Reads, computes and commits.
        seconds: How long to retry.

    Raises:
        CommitConflict: Other writers were faster for `seconds`.
    """
    deadline = time.monotonic() + seconds
    wait_for_queue(uri, min(seconds, _LONGEST_WAIT_FOR_QUEUE))
    with suppress(CommitFailedError):
        return attempt()
    pause = _SHORTEST_PAUSE
    with join_queue(uri, seconds):
        while True:
            try:
                return attempt()
            except CommitFailedError as error:
                if time.monotonic() > deadline:
                    raise CommitConflict(
                        f"{name}: other writers were faster for {seconds:.0f} seconds; nothing was written. "
                        "Run again, or lower the number of writers at once."
                    ) from error
                time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 jitter, not a secret
                pause = min(pause * 2, _LONGEST_PAUSE)
