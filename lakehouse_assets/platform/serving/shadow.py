"""The challenger in the shadow: it scores what was answered, for the log alone, in a thread of its own and only while no request waits.

It takes few rows at a time, so that a request that comes meanwhile has not long to wait for its share of the processor. What does not fit
into its queue, as under load, is dropped and counted.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from lakehouse_assets.platform.serving.inference_log.records import InferenceRows
from lakehouse_assets.platform.serving.logged import Log, logged_of
from lakehouse_assets.platform.serving.metrics import Metrics
from lakehouse_assets.platform.serving.scored import BatchRows, score
from lakehouse_assets.platform.serving.scorer import Loaded
from lakehouse_assets.platform.serving.served import Served
from lakehouse_assets.platform.serving.work import Queue, Work

logger = logging.getLogger(__name__)
_AT_ONCE: Final = 16
"""Rows that are scored between two looks at what waits; a request is not divided, as its rows count each other."""


class Shadow:
    """Scores requests again, by a challenger.

    Args:
        queue: The requests that go first.
        log: Where the predictions go.
        metrics: Counts them.
    """

    def __init__(self, queue: Queue, log: Log, metrics: Metrics) -> None:
        self._queue, self._log, self._metrics = queue, log, metrics
        self._waiting: deque[tuple[Served, Loaded, Work]] = deque()
        self._rows = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Begin to score."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End; what waits is not scored any more."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify()
        self._thread.join(seconds)

    def put(self, served: Served, challenger: Loaded, works: Sequence[Work]) -> None:
        """Add requests that were answered."""
        with self._changed:
            for work in works:
                if self._closed or self._rows + len(work.rows) > self._queue.limits.shadow_rows:
                    self._metrics.shadow_dropped.labels(served.name).inc(len(work.rows))
                    continue
                self._waiting.append((served, challenger, work))
                self._rows += len(work.rows)
            self._changed.notify()

    def _run(self) -> None:
        while taken := self._take():
            served, challenger, _ = taken[0]
            works = [work for _, _, work in taken]
            try:
                self._score(served, challenger, works)
            except BaseException:  # a panic of Polars or delta-rs is no Exception
                logger.exception("version %s failed in the shadow of %s", challenger.champion.version, served.name)

    def _take(self) -> list[tuple[Served, Loaded, Work]]:
        """Some requests of one endpoint and version, once no other waits; none when it ends."""
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return []
            if not self._queue.wait_idle(1.0):
                continue
            with self._changed:
                taken: list[tuple[Served, Loaded, Work]] = []
                keys: set[tuple[Any, ...]] = set()
                count = 0
                while self._waiting:
                    served, challenger, work = self._waiting[0]
                    own = {tuple(row[name] for name in served.key) for row in work.rows}
                    same = not taken or (taken[0][0] is served and taken[0][1] is challenger)
                    # Predictions are told apart by their keys.
                    if not same or (taken and count + len(work.rows) > _AT_ONCE) or not keys.isdisjoint(own):
                        break
                    taken.append(self._waiting.popleft())
                    keys |= own
                    count += len(work.rows)
                self._rows -= count
                if taken:
                    return taken

    def _score(self, served: Served, challenger: Loaded, works: Sequence[Work]) -> None:
        rows = [row for work in works for row in work.rows]
        events = BatchRows("rows", rows, [len(work.rows) for work in works])
        scored = score(challenger, "shadow", events, range(len(rows)), explain=False)
        records: list[InferenceRows] = []
        start = 0
        for work in works:
            numbers = range(start, start + len(work.rows))
            start += len(work.rows)
            records += logged_of(work, scored, numbers, scored.seconds)
        self._log.append(records)
        self._metrics.rows.labels(served.name, "shadow").inc(len(scored.positions))
