"""Micro-batches: tables follow their feeds within seconds, in one process that stays, without a run of Dagster for each batch.

A batch takes the same steps as a run, so it is as safe: rows and watermarks are one commit, a process that dies leaves nothing half done,
and a run of Dagster at the same time takes what is left. Models are not trained here. What the steps do is in the pipeline room.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import takewhile
from typing import Final
from uuid import uuid4

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.operations.pending import reason_of
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.failures import failure_text
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.platform.quality.account import RowAccount

EVERYTHING_SECONDS: Final = 10.0
"""After so long all tables are asked whether they are behind, as when another process refreshed a source of theirs or promoted a model."""
_FIRST_RETRY, _LONGEST_RETRY = 2.0, 300.0


@dataclass(frozen=True)
class MicroBatch:
    """What one batch did.

    Attributes:
        run_id: Stands in its commits.
        began: When it began (UTC).
        seconds: How long it took.
        rows: Rows that the commits of this batch wrote, updated or took away, by table; a row whose place another one took counts once.
            What another process committed meanwhile is not among them, nor is a table of which this batch changed no row.
        failed: What went wrong, by table; it is tried again.
    """

    run_id: str
    began: datetime
    seconds: float
    rows: dict[str, int]
    failed: dict[str, str]


@dataclass
class _Failure:
    """When a table that failed is tried again: later each time."""

    wait: float
    again: float


@dataclass
class Follower:
    """Tables that are kept up to date.

    Attributes:
        root: Where they lie.
        runner: Takes the steps.
        declarations: The tables and feeds, each after what it reads.
    """

    root: Root
    runner: Runner
    declarations: Sequence[Declaration]
    _failures: dict[str, _Failure] = field(default_factory=dict)
    _asked_all: float = field(default=float("-inf"))

    @classmethod
    def of(cls, root: Root, catalog: Catalog, names: Iterable[str]) -> "Follower":
        """The follower of some tables and products, and of all that they are made of; of everything if none is named."""
        named = {*names}
        written = [one for one in catalog.declarations if one.outputs()]  # what only watches a table asks for no refresh of it
        chosen = [one.name for one in written if not named or named & {one.name, one.product}]
        followed = [one for one in catalog.needed_for(chosen) if not one.is_log]
        return cls(root, Runner(catalog, root.lakehouse, root.ingestion, root.registry, root.settings.seed, compute=root.compute), followed)

    def batch(self) -> MicroBatch | None:
        """Bring up to date what is behind; None if nothing is.

        A table that fails is told of and tried again later, and what reads it waits. The others go on.
        """
        now = time.monotonic()
        ask_all = now - self._asked_all >= EVERYTHING_SECONDS
        if ask_all:
            self._asked_all = now
        began, run_id = clock.now(), f"follow-{uuid4().hex[:12]}"
        changed: set[str] = set()
        stopped: set[str] = set()
        rows: dict[str, int] = {}
        failed: dict[str, str] = {}
        for one in self.declarations:
            sources = {*one.sources()}
            failure = self._failures.get(one.name)
            if stopped & sources or (failure is not None and time.monotonic() < failure.again):
                stopped.add(one.name)
                continue
            # Files land at any time; a table changes after its sources.
            if not (ask_all or failure or one.name in self._feeds or changed & sources):
                continue
            try:
                if reason_of(self.root, one) is None:
                    self._failures.pop(one.name, None)
                    continue
                self._step(one, run_id, rows)
            except Exception as error:  # noqa: BLE001 whatever it is, the other tables go on
                failed[one.name] = failure_text(one.name, error)
                stopped.add(one.name)
                self._fails(one.name)
            else:
                self._failures.pop(one.name, None)
                changed.add(one.name)  # by this batch, or by another process that was faster
        if not rows and not failed:
            return None
        return MicroBatch(run_id, began, time.monotonic() - now, rows, failed)

    @cached_property
    def _feeds(self) -> set[str]:
        return {feed.name for feed in self.runner.catalog.feeds}

    def _step(self, one: Declaration, run_id: str, rows: dict[str, int]) -> None:
        """Bring a table up to date, and note how many rows that changed, also where it fails after a part was committed."""
        table = self.root.lakehouse.table(one.name)
        before = table.version() if table.exists() else -1
        try:
            self.runner.step(one, run_id, False)  # noqa: FBT003 never a full refresh
        finally:
            if count := self._rows(one, before, run_id):
                rows[one.name] = count

    def _rows(self, one: Declaration, before: int, run_id: str) -> int:
        """How many rows the commits of a batch changed after a version, by what they say themselves: other processes commit in between."""
        table = self.root.lakehouse.table(one.name)
        if not table.exists():
            return 0
        count = 0
        for commit in takewhile(lambda commit: commit["version"] > before, table.commits()):
            info = commit["info"]
            if info.get("run_id") == run_id and "account" in info:
                account = RowAccount.from_json(info["account"])
                count += max(account.written + account.updated, account.removed)
        return count

    def _fails(self, name: str) -> None:
        before = self._failures.get(name)
        wait = _FIRST_RETRY if before is None else min(before.wait * 2, _LONGEST_RETRY)
        self._failures[name] = _Failure(wait, time.monotonic() + wait)


def follow(
    follower: Follower,
    seconds: float,
    on_batch: Callable[[MicroBatch], None],
    wait: Callable[[float], bool],
    after_each: Callable[[], None] = lambda: None,
) -> None:
    """Take one batch after the other until told to stop.

    Args:
        follower: What is kept up to date.
        seconds: How long to wait after nothing was new.
        on_batch: Told of each batch.
        wait: Waits for so many seconds; True: stop.
        after_each: Called after each look, also where nothing was new; it must not take long.
    """
    while True:
        batch = follower.batch()
        if batch is not None:
            on_batch(batch)
        after_each()
        if wait(0.0 if batch is not None and batch.rows else seconds):
            return
