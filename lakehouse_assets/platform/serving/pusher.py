"""Tells the windows of the online store of events that were scored, at once, in the background: the next request counts them."""

import logging
import threading
from collections import deque
from typing import Final

from lakehouse_assets.platform.serving.assemble import Lookups
from lakehouse_assets.platform.serving.metrics import Metrics
from lakehouse_assets.platform.serving.rows import Row

logger = logging.getLogger(__name__)
_MOST_ROWS: Final = 20_000
"""Events that wait at most. What is dropped comes by the sync, as soon as it is in its table."""


class Pusher:
    """Pushes events in a thread of its own, all that wait at once."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._waiting: deque[tuple[Lookups, list[Row]]] = deque()
        self._rows = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="pushing", daemon=True)

    def start(self) -> None:
        """Begin to push."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Push what waits, then end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(seconds)

    def put(self, lookups: Lookups, rows: list[Row]) -> None:
        """Add events; they are dropped if too many wait."""
        with self._changed:
            if self._rows + len(rows) > _MOST_ROWS:
                self._metrics.push_dropped.inc(len(rows))
                return
            self._waiting.append((lookups, rows))
            self._rows += len(rows)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                taken, self._waiting, self._rows = self._waiting, deque(), 0
            if not taken:
                return
            together: dict[int, tuple[Lookups, list[Row]]] = {}
            for lookups, rows in taken:
                together.setdefault(id(lookups), (lookups, []))[1].extend(rows)
            for lookups, rows in together.values():
                try:
                    lookups.push(rows)
                except BaseException:  # a panic of Polars or delta-rs is no Exception
                    logger.exception("%d events were not pushed to the online store", len(rows))
