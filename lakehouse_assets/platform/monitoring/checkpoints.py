"""Checkpoints of logs: of a table that is only added to, the rows that still count, so that who asks for these does not read all others.

A checkpoint is a cached result and no state: what counts is the log. It has the rows that count up to a commit, and a reader adds what
came behind it; of days that retention deleted it reads what the log still has. Who does not find it, or finds that the log is another one,
reads the log whole. Which rows count says its owner.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.monitoring import cache
from lakehouse_assets.platform.monitoring.reasons import TROUBLE, reason
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.retention import deleted_before, is_before

_LOGGER = logging.getLogger(__name__)
ORDER: Final = "sequence"
"""The column of a log by which rows of a later commit have a larger number."""
EVERY: Final = 64
"""So far a log may go on, by its numbers, before a new checkpoint is made."""
_ROWS: Final = "rows"


@dataclass(frozen=True)
class Log:
    """A log of which some rows count.

    Attributes:
        lakehouse: Has the log and the cache.
        name: Of its table, one of `platform_tables.BY_DAY`.
        counting: Leaves the rows that count. Of the rows that counted before and those that came, it leaves what it would of all; the last
            row always counts.
        identity: Columns that tell rows of one commit apart.
        code: The modules that say which rows count.
        complete: Gives rows of an earlier release the columns of this one.
    """

    lakehouse: Lakehouse
    name: str
    counting: Callable[[pl.LazyFrame], pl.LazyFrame]
    identity: Sequence[str]
    code: tuple[str, ...]
    complete: Callable[[pl.LazyFrame], pl.LazyFrame] = lambda rows: rows

    def rows(self, opened: DeltaTable | None = None, until: int | None = None) -> pl.LazyFrame:
        """The rows that count, and some that came after them.

        Args:
            opened: The log as it is read; None: as it is now.
            until: The number of a row: those that counted when it was the newest one; None: those that count now.

        Raises:
            NoSuchTable: There is no log yet.
        """
        opened = self.lakehouse.table(self.name).now() if opened is None else opened
        log, frames = pl.scan_delta(opened), cache.read(self.lakehouse, self._key(opened))
        if until is not None:
            log = log.filter(pl.col(ORDER).fill_null(0) <= until)
        if frames is None:
            return self.complete(log)
        known = frames[_ROWS]
        last = known[ORDER].max()
        if until is not None and known.filter(pl.col(ORDER) > until).height:
            return self.complete(log)  # rows that counted then may count no more
        later = log.filter(pl.col(ORDER) >= last).collect()
        of_last = known.filter(pl.col(ORDER) == last)
        if of_last.join(later, on=[ORDER, *self.identity], how="anti", nulls_equal=True).height:
            return self.complete(log)  # it lost its end, or is read as it was before
        earlier = [known.filter(pl.col(ORDER) < last)]
        if (first := deleted_before(opened)) is not None:  # most of these rows are gone, whatever the checkpoint has of them
            is_old = is_before(first, platform_tables.BY_DAY[self.name]).fill_null(value=True)  # rows without a day are in the log
            earlier = [log.filter(is_old, pl.col(ORDER) < last).collect(), earlier[0].filter(~is_old)]
        return self.complete(pl.concat([*earlier, later], how="diagonal_relaxed").lazy())

    def went_on(self, number: int, now: datetime) -> None:
        """Make a checkpoint if the last one is far behind.

        Args:
            number: The newest one of the log.
            now: The moment (UTC).
        """
        try:
            key = self._key(self.lakehouse.table(self.name).now())
            before = self.lakehouse.table(cache.TABLE).cursor(key)
            if number - (before or 0) < EVERY:
                return
            rows = self.counting(self.rows()).collect()
        except TROUBLE as error:  # what was committed is in the log, whatever becomes of its checkpoint
            _LOGGER.warning("no checkpoint of %s was made: %s", self.name, reason(error))
            return
        cache.write(self.lakehouse, key, f"checkpoint of {self.name}", {_ROWS: rows}, now, Commit((Cursor(key, before, number),)))

    def _key(self, opened: DeltaTable) -> str:
        return cache.digest(self.name, opened.metadata().id, opened.schema().to_json(), cache.source_of(*self.code))
