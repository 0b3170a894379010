"""The runs that ended, each read once: in the order of the numbers of the events with which they ended, whatever clocks say.

Alerts and system tables consume them, and each keeps in its own table what it has consumed: a watermark, and the numbers of the last ones
above it.

In a database that several processes write to at once (PostgreSQL), an event gets its number before it can be seen, so one with a smaller
number may appear after one with a greater one. Whoever remembers the greatest number alone would never see it. Here the last numbers are
remembered one by one, and what is above the watermark and not among them is still to be consumed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Final

import dagster as dg

from lakehouse_assets.platform.storage.commit import Cursor

RUNS_AT_ONCE: Final = 100
"""So many runs are read at once."""
CURSOR: Final = "dagster/runs"
"""The greatest number that was consumed."""
FLOOR: Final = f"{CURSOR}/floor"
"""What has this number or a smaller one is consumed."""
REMEMBERED: Final = 16
"""So many runs may end while the end of one is being written."""
# The event comes first, then the state of the run; a process that dies in between must not hold up the runs behind it.
_END_WRITTEN_WITHIN: Final = timedelta(minutes=10)
_ENDS: Final = (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED)
_SLOTS: Final = tuple(f"{CURSOR}/{number}" for number in range(REMEMBERED))


@dataclass(frozen=True)
class Consumed:
    """What was consumed.

    Attributes:
        newest: The greatest number; None: none was.
        floor: The watermark.
        numbers: The last numbers above the watermark; 0: a place that is free.
    """

    newest: int | None
    floor: int
    numbers: tuple[int, ...]

    @classmethod
    def nothing(cls, floor: int = 0) -> "Consumed":
        """Before the first."""
        return cls(None, floor, (0,) * REMEMBERED)

    @classmethod
    def read(cls, watermark: Callable[[str], int | None]) -> "Consumed":
        """As it was committed last; an earlier release had committed the greatest number alone."""
        newest, floor = watermark(CURSOR), watermark(FLOOR)
        if newest is None:
            return cls.nothing()
        if floor is None:
            return replace(cls.nothing(newest), newest=newest)
        return cls(newest, floor, tuple(watermark(slot) or 0 for slot in _SLOTS))

    def has(self, number: int) -> bool:
        """Whether an event was consumed."""
        return number <= self.floor or number in self.numbers

    def with_all(self, numbers: Sequence[int]) -> "Consumed":
        """After these were consumed too; the smallest numbers give way to the watermark."""
        found = self
        for number in sorted(numbers):
            places = [*found.numbers, number]
            oldest = min(places)
            if oldest != number:
                places[places.index(oldest)] = number  # in its place, so that few places change
            found = Consumed(max(found.newest or 0, number), max(found.floor, oldest), tuple(places[:REMEMBERED]))
        return found

    def cursors(self, watermark: Callable[[str], int | None]) -> list[Cursor]:
        """What is committed, from what was committed before."""
        now = {CURSOR: self.newest or 0, FLOOR: self.floor, **dict(zip(_SLOTS, self.numbers, strict=True))}
        before = {name: watermark(name) for name in now}
        # A floor of 0 is written too: without one, an earlier release had committed the greatest number alone.
        return [Cursor(name, before[name], after) for name, after in now.items() if (before[name] or 0) != after or before[FLOOR] is None]


@dataclass(frozen=True)
class Ends:
    """The events with which runs ended.

    Attributes:
        instance: Where they are recorded.
    """

    instance: dg.DagsterInstance

    @property
    def newest(self) -> int | None:
        """The greatest number; None: no run has ended."""
        return max((record.storage_id for record in self._read(None, 1)), default=None)

    def last(self, of_each: int, now: datetime) -> tuple[list[dg.EventLogRecord], int]:
        """The newest ones, oldest first, and up to which number others are left out.

        Args:
            of_each: Most of each way to end.
            now: The moment (UTC).
        """
        records = self._written(self._read(None, of_each), now)
        numbers: dict[str | None, list[int]] = {}
        for record in records:
            numbers.setdefault(record.event_log_entry.get_dagster_event().event_type_value, []).append(record.storage_id)
        return records, max((min(of) - 1 for of in numbers.values() if len(of) >= of_each), default=0)

    def after(self, consumed: Consumed, now: datetime) -> tuple[list[dg.EventLogRecord], list[dg.EventLogRecord]]:
        """The next ones that were not consumed, oldest first, and those among the remembered that were.

        Args:
            consumed: What was.
            now: The moment (UTC).
        """
        records = self._read(consumed.floor, RUNS_AT_ONCE + REMEMBERED)
        new = self._written([record for record in records if not consumed.has(record.storage_id)], now)[:RUNS_AT_ONCE]
        return new, [record for record in records if consumed.has(record.storage_id)]

    def _written(self, records: Sequence[dg.EventLogRecord], now: datetime) -> list[dg.EventLogRecord]:
        """Those before the first whose run is still being written as ended: the event comes first."""

        def is_written(record: dg.EventLogRecord) -> bool:
            run = self.instance.get_run_by_id(record.run_id)
            at = datetime.fromtimestamp(record.event_log_entry.timestamp, UTC)
            return run is None or run.is_finished or now - at >= _END_WRITTEN_WITHIN

        return list(takewhile(is_written, records))

    def _read(self, after: int | None, limit: int) -> list[dg.EventLogRecord]:
        """Those after a number, oldest first, or with None the newest ones; at most so many of each kind.

        Of a kind that has more, and so of all, none is given that is newer than what was read of it.
        """
        found, until = list[dg.EventLogRecord](), None
        for kind in _ENDS:
            filters = dg.RunStatusChangeRecordsFilter(kind, after_storage_id=after)
            result = self.instance.fetch_run_status_changes(filters, limit=limit, ascending=after is not None)
            found += result.records
            if after is not None and len(result.records) == limit:
                last = result.records[-1].storage_id
                until = last if until is None else min(until, last)
        ordered = sorted(found, key=lambda record: record.storage_id)
        return [record for record in ordered if until is None or record.storage_id <= until]
