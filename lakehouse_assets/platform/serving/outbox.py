"""Rows that were accepted and are on their way to a feed's landing zone: an outbox on the disk of this machine.

Rows and their ids are one transaction, flushed to the disk before it is answered; callers that wait at once share it. Files are made of
rows when `land` is called, as `background` does again and again. Which rows a file holds is decided in the database first and its name
follows from its number, so after a crash the same file is put again and the zone recognises it. Several processes of one machine share an
outbox. The database is in `outbox_store`, what a row may be is decided in `ingest`.
"""

import math
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from tempfile import NamedTemporaryFile

from lakehouse_assets.platform.ingestion.zone import NotLanded, Zone
from lakehouse_assets.platform.serving.outbox_store import OutboxStore, OutboxUnavailable, PushedRow
from lakehouse_assets.platform.storage import disk

_LONGEST_WAIT = 30.0
_STATE_SECONDS = 1.0
_ROWS_OF_A_COMMIT = 10_000
_LOG = getLogger(__name__)


@dataclass(frozen=True)
class OutboxBounds:
    """How large files become, and how much may wait.

    Attributes:
        rows: Most rows of a file.
        remembered_seconds: For how long an id is recognised after it was accepted.
        waiting_bytes: Most bytes of rows that wait to be landed.
    """

    rows: int = 5_000
    remembered_seconds: float = 7 * 86_400
    waiting_bytes: int = 2 * 1024**3


@dataclass(frozen=True)
class OutboxState:
    """What an outbox tells of itself: rows that wait (NaN: not known now), and why the last file could not be landed (empty: it could)."""

    waiting: float
    trouble: str


@dataclass(frozen=True)
class _Waiting:
    rows: Sequence[PushedRow]
    until: float
    accepted: "Future[int]"


def waiting_rows(path: Path) -> float:
    """How many rows of an outbox wait; NaN if its database cannot be read now.

    Args:
        path: Of the database.
    """
    bounds = OutboxBounds()
    store = OutboxStore(path, bounds.waiting_bytes, bounds.remembered_seconds)
    try:
        return store.waiting(_STATE_SECONDS)
    except (sqlite3.Error, OSError):
        return math.nan
    finally:
        store.close()


class Outbox:
    """The outbox of one feed.

    Args:
        path: Of the database.
        zone: Opens the landing zone of the feed; asked each time, since a bucket may be away.
        name: The name of a file, from the id of the database and the file's number.
        content: The bytes of a file, from its number and its rows.
        bounds: How large files become.
    """

    def __init__(
        self,
        path: Path,
        zone: Callable[[], Zone],
        name: Callable[[str, int], str],
        content: Callable[[int, Sequence[str]], bytes],
        bounds: OutboxBounds | None = None,
    ) -> None:
        self.path, self.bounds = path, bounds or OutboxBounds()
        self._zone, self._name, self._content = zone, name, content
        self._writing, self._reading = (OutboxStore(path, self.bounds.waiting_bytes, self.bounds.remembered_seconds) for _ in range(2))
        self._asked: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._starting, self._landing = threading.Lock(), threading.Lock()
        self._writer: threading.Thread | None = None  # a service lands in another process than it accepts: that one needs no thread
        self._is_closed = False
        self._trouble = ""

    def add(self, rows: Sequence[PushedRow], seconds: float = _LONGEST_WAIT) -> int:
        """Accept rows, all or none, and wait until they are durable; how many are new. The others had been accepted before.

        Args:
            rows: The rows.
            seconds: It is not waited for longer.

        Raises:
            SameIdOtherRow: An id was accepted with another content.
            OutboxUnavailable: They cannot be made durable.
        """
        asked = _Waiting(rows, time.monotonic() + seconds, Future())
        with self._starting:
            if self._is_closed:
                raise OutboxUnavailable("the service is stopping: send the rows again")
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_regularly, name="outbox-write", daemon=True)
                self._writer.start()
            self._asked.put(asked)
        try:
            return asked.accepted.result(seconds)
        except TimeoutError:
            asked.accepted.cancel()  # unless it is being written: who sends it again is told that it is known
            raise OutboxUnavailable(f"rows could not be made durable within {seconds:g} seconds: send them again") from None
        except CancelledError:
            raise OutboxUnavailable("the service is stopping: send the rows again") from None

    def state(self) -> OutboxState:
        """What it tells of itself."""
        return OutboxState(waiting_rows(self.path), self._trouble)

    def land(self) -> bool:
        """Land all rows that wait, now; whether that succeeded."""
        with self._landing:
            try:
                while self._land_one():
                    pass
            except Exception as error:  # noqa: BLE001 a bucket that is away raises what its client pleases; the rows stay
                lines = str(error).splitlines() or [type(error).__name__]
                if lines[0] != self._trouble:
                    _LOG.warning("rows wait to be landed in %s: %s", self.path.stem, lines[0])
                self._trouble = lines[0]
                return False
            self._trouble = ""
            return True

    def close(self, seconds: float = 10.0) -> bool:
        """Accept nothing more, and wait for at most some seconds until what was sent is durable; whether it is. What waits stays."""
        with self._starting:
            self._is_closed = True
            writer = self._writer
        if writer is not None:
            self._asked.put(None)
            writer.join(seconds)
        if self._landing.acquire(blocking=False):  # otherwise a file is being landed
            self._reading.close()
            self._landing.release()
        return writer is None or not writer.is_alive()

    # --- accepting

    def _write_regularly(self) -> None:
        while (first := self._asked.get()) is not None:
            asked, rows = [first], len(first.rows)
            with suppress(queue.Empty):
                while rows < _ROWS_OF_A_COMMIT:
                    following = self._asked.get_nowait()
                    if following is None:
                        self._asked.put(None)
                        break
                    asked.append(following)
                    rows += len(following.rows)
            # Nobody waits any more for those whose time is over: nothing of them is accepted.
            self._write([one for one in asked if one.accepted.set_running_or_notify_cancel()])
        self._writing.close()

    def _write(self, asked: Sequence[_Waiting]) -> None:
        """One transaction with the rows of all who wait; each is given an answer."""
        if not asked:
            return
        answers: Sequence[int | Exception]
        try:
            answers = self._writing.accept([one.rows for one in asked], max(one.until for one in asked) - time.monotonic())
        except Exception as error:  # noqa: BLE001 each of those who wait has to hear of it
            why = disk.reason(error, self.path.parent) or str(error)
            answers = [OutboxUnavailable(f"rows cannot be accepted now, send them again: {why}")] * len(asked)
        for one, answer in zip(asked, answers, strict=True):
            one.accepted.set_exception(answer) if isinstance(answer, Exception) else one.accepted.set_result(answer)

    # --- landing

    def _land_one(self) -> bool:
        """Land the next file; False if no row waits."""
        file = self._reading.next_file(self.bounds.rows, _LONGEST_WAIT)
        if file is None:
            return False
        if file.contents:  # otherwise another process landed it meanwhile
            self._put(self._content(file.number, file.contents), self._name(file.store, file.number))
        self._reading.landed(file.number, _LONGEST_WAIT)
        return True

    def _put(self, content: bytes, name: str) -> None:
        zone = self._zone()
        with NamedTemporaryFile(dir=self.path.parent, prefix=".", suffix=Path(name).suffix) as file:
            file.write(content)
            file.flush()
            try:
                zone.put(Path(file.name), name)
            except NotLanded:
                # The name is of this file alone. If it is there with other bytes, a release that spelled rows otherwise landed it.
                try:
                    zone.stat(name)
                except OSError:
                    pass
                else:
                    return
                raise
