"""The spool: segments on the disk of this machine, to which one process appends what is on its way to the lake.

Appending is one write to an open file, so what was appended survives the process (`kill -9`), and a thread that flushes the file makes it
survive a power failure a second later. A full disk, or any other trouble, is no error of who appends: records wait in memory, as many as
its bound allows, and what is dropped then is counted. Whose segments lie where is in `places`, what becomes of closed ones in `drain`.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lakehouse_assets.platform.serving.inference_log.places import Place, claim
from lakehouse_assets.platform.serving.inference_log.records import MARKER_BYTES, Record, frames, remarked
from lakehouse_assets.platform.serving.inference_log.segments import create_segment

_PAUSE_AFTER_TROUBLE = 0.5
_LOOKS_EVERY: Final = 1.0


@dataclass(frozen=True)
class Bounds:
    """How large a spool may become.

    Attributes:
        segment_bytes: A segment of so many bytes is closed.
        segment_seconds: A segment whose first record is so old is closed.
        memory_bytes: Most bytes of records that wait in memory while nothing can be written.
        disk_bytes: Most bytes of segments on disk while the lake takes none.
        fsync_seconds: How often what was appended is flushed to the disk, for a power failure; 0: never.
    """

    segment_bytes: int = 8 * 1024 * 1024
    segment_seconds: float = 15.0
    memory_bytes: int = 64 * 1024 * 1024
    disk_bytes: int = 4 * 1024 * 1024 * 1024
    fsync_seconds: float = 1.0


@dataclass(frozen=True)
class SpoolState:
    """What a spool tells of itself, for metrics.

    Attributes:
        appended: Records since the process started.
        dropped: Records that were lost because neither disk nor memory had room for them.
        waiting_bytes: Bytes of records in memory, which a kill of the process would lose.
        disk_bytes: Bytes of the segments of this writer.
        backlog: Records of this process that are not in the lake yet, as far as it was looked lately.
        trouble: Why nothing could be written the last time; empty if all is well.
    """

    appended: int
    dropped: int
    waiting_bytes: int
    disk_bytes: int
    backlog: int
    trouble: str


class Spool:
    """The segments of this process.

    Args:
        folder: Of the spools of all processes.
        bounds: How large it may become.
    """

    def __init__(self, folder: Path, bounds: Bounds | None = None) -> None:
        self.folder, self.bounds = folder, bounds or Bounds()
        self._lock = threading.Lock()
        self._place: Place | None = None
        self._descriptor, self._marker, self._number = -1, bytes(MARKER_BYTES), 0
        self._size, self._since = 0, 0.0
        self._closed_bytes = 0
        self._records: dict[int, int] = {}  # of each segment that is not drained yet, how many this process wrote into it
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._appended = self._dropped = 0
        self._trouble, self._again_at, self._is_broken = "", 0.0, False
        self._is_flushed = True
        self._unflushed: list[int] = []  # descriptors of closed segments
        self._stop = threading.Event()
        with self._lock:
            self._try(self._open)
        self._keeper = threading.Thread(target=self._keep_regularly, name="spool", daemon=True)
        self._keeper.start()

    # --- appending

    def append(self, entries: Sequence[tuple[str, Record]]) -> bool:
        """Append records with their tables. Never raises, and never waits for more than a write to the file.

        Returns:
            Whether all of them are in the file: if not, they wait in memory, or were dropped.
        """
        with self._lock:
            new = frames(self._marker, entries)
            self._appended += sum(record.count for _, record in entries)
            if self._waiting and time.monotonic() >= self._again_at:
                self._write_waiting()
            written = 0 if self._waiting or not self._is_ready() else self._write(new)
            for frame, (_, record) in zip(new[written:], entries[written:], strict=True):
                self._keep(frame, record.count)
            return written == len(new)

    def sync(self) -> bool:
        """Flush what was appended to the disk, for a power failure; whether that was possible for all of it."""
        with self._lock:
            if self._descriptor < 0 or self._place is None:
                return False
            descriptors, self._unflushed = self._unflushed, []
            try:
                descriptors.append(os.dup(self._descriptor))
                descriptors.append(os.open(self._place.folder, os.O_RDONLY))
                done = not self._waiting
            except OSError:
                done = False
        for descriptor in descriptors:
            try:
                os.fsync(descriptor)
            except OSError:
                done = False
            finally:
                os.close(descriptor)
        return done

    # --- closed segments

    @property
    def writer(self) -> str:
        """The name of the folder in which the segments of this process are; empty while it has none."""
        place = self._place
        return "" if place is None else place.writer

    def close_segment(self, *, at_once: bool = False) -> None:
        """Close the open segment if it is due, so that it can be drained, and count again what was not.

        Args:
            at_once: Close it whether it is due or not.
        """
        self._count_closed()
        with self._lock:
            if at_once:
                self._again_at = 0.0
            if self._waiting:
                self._write_waiting()
            if self._size and (at_once or time.monotonic() - self._since >= self.bounds.segment_seconds):
                self._try(self._open)
            if not self.bounds.fsync_seconds:
                while self._unflushed:
                    os.close(self._unflushed.pop())

    def state(self) -> SpoolState:
        """What it tells of itself."""
        with self._lock:
            backlog = sum(self._records.values()) + len(self._waiting)
            return SpoolState(self._appended, self._dropped, self._waiting_bytes, self._closed_bytes + self._size, backlog, self._trouble)

    def close(self) -> bool:
        """Write what waits, if that is possible, and give the place back; whether nothing waits any more."""
        self._stop.set()
        with self._lock:
            self._again_at = 0.0
            if self._waiting:
                self._write_waiting()
        self.sync()
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            if self._place is not None:
                self._place.unlock()
                self._place = None
            self._again_at = float("inf")
            return not self._waiting

    def _count_closed(self) -> None:
        """Count the bytes of closed segments again: some may have been drained."""
        with self._lock:
            place, open_number, before = self._place, self._number, self._closed_bytes
        if place is None:
            return
        sizes = {}
        for number, path in place.segments():
            with suppress(FileNotFoundError):  # another process drains them
                sizes[number] = path.stat().st_size
        on_disk = sum(size for number, size in sizes.items() if number < open_number)
        with self._lock:
            self._closed_bytes += on_disk - before  # and what was closed meanwhile
            for number in [one for one in self._records if one < open_number and one not in sizes]:
                del self._records[number]

    # --- under the lock

    def _is_ready(self) -> bool:
        if self._closed_bytes + self._size >= self.bounds.disk_bytes:
            self._fail(OSError(f"the spool has {self.bounds.disk_bytes:,} bytes, its bound, and the lake takes none"))
            return False
        if self._descriptor >= 0 and not self._is_broken and self._size < self.bounds.segment_bytes:
            return True
        if time.monotonic() >= self._again_at and self._try(self._open):
            return True
        return self._descriptor >= 0 and not self._is_broken  # longer than it should be

    def _open(self) -> None:
        """Close the open segment and begin the next one; if that fails, the open one stays in use."""
        if self._place is None:
            place = claim(self.folder)
            self._place, self._number = place, max((number for number, _ in place.segments()), default=0)
        descriptor, marker = create_segment(self._place, self._number + 1)
        if self._descriptor >= 0:
            self._unflushed.append(self._descriptor)
        self._closed_bytes += self._size
        self._descriptor, self._marker, self._number, self._size = descriptor, marker, self._number + 1, 0
        self._is_broken = False

    def _write(self, new: Sequence[bytes]) -> int:
        """How many frames are in the file now, from the first on. One that is there in part is passed over by who reads."""
        if new and self._marker != new[0][:MARKER_BYTES]:
            new = [remarked(self._marker, frame) for frame in new]
        data = new[0] if len(new) == 1 else b"".join(new)
        try:
            count = os.write(self._descriptor, data)
        except OSError as error:
            self._is_broken = True  # a new file may do: this one may be too large, or lie on a bad block
            self._fail(error)
            return 0
        if not self._size:
            self._since = time.monotonic()
        self._size += count
        self._is_flushed = False
        if count == len(data):
            self._trouble = ""
            self._records[self._number] = self._records.get(self._number, 0) + len(new)
            return len(new)
        self._is_broken = True
        self._fail(OSError("the disk is full"))
        written = 0
        for frame in new:
            count -= len(frame)
            if count < 0:
                break
            written += 1
        self._records[self._number] = self._records.get(self._number, 0) + written
        return written

    def _write_waiting(self) -> None:
        if not self._is_ready():
            return
        while self._waiting:
            if not self._write([self._waiting[0]]):
                return
            self._waiting_bytes -= len(self._waiting.popleft())

    def _keep(self, frame: bytes, rows: int) -> None:
        if self._waiting_bytes + len(frame) > self.bounds.memory_bytes:
            self._dropped += rows
            return
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)

    def _try(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except OSError as error:
            self._fail(error)
            return False
        return True

    def _fail(self, error: OSError) -> None:
        self._trouble = error.strerror or str(error)
        self._again_at = time.monotonic() + _PAUSE_AFTER_TROUBLE

    def _keep_regularly(self) -> None:
        fsync = self.bounds.fsync_seconds
        while not self._stop.wait(min(fsync or _LOOKS_EVERY, _LOOKS_EVERY, self.bounds.segment_seconds / 2)):
            if fsync and (self._unflushed or not self._is_flushed):
                self._is_flushed = True
                self.sync()
            with suppress(OSError):  # the folder cannot be read now
                self.close_segment()
