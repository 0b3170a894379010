"""Folders of segments on the disk of this machine, one for each process that writes.

A folder has one writer at a time, who holds its lock; the system frees the lock however the process ends. The next process takes the folder
over and goes on counting, so that there are as many writers as there ever were processes at once. A segment is closed as soon as the next
one is there, so another process may drain what a writer has closed. What is in a segment is for `segments`, who appends to it for `spool`.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self
from uuid import uuid4

_LOCK, _ENDING = "lock", ".segment"

Segments = list[tuple[int, Path]]
"""Files with their numbers."""


def spool_of(home: Path) -> Path:
    """The folder of the spools of all processes of a machine.

    Args:
        home: The folder of this machine that the settings call home.
    """
    return home / "serving" / "spool"


class Place:
    """A folder of segments. `claim` and `dead` give those whose lock this process holds.

    Attributes:
        folder: The folder.
        is_original: Whether it lies where it was made. In a copy no new segment may be written: two would have the same number.
    """

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder, self._descriptor = folder, descriptor
        status = os.fstat(descriptor)
        mark = f"{status.st_dev}:{status.st_ino}".encode()
        if not (written := os.pread(descriptor, 100, 0)):
            with suppress(OSError):  # a full disk: it is written the next time
                os.pwrite(descriptor, mark, 0)
        self.is_original = written in {b"", mark}

    @classmethod
    def locked(cls, folder: Path) -> Self | None:
        """The folder with its lock; None if a process that lives has it, or it cannot be opened."""
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(folder, descriptor)
        except OSError:
            os.close(descriptor)
            return None

    @property
    def writer(self) -> str:
        """The name of the writer, which no other place has."""
        return self.folder.name

    def segments(self) -> Segments:
        """All segments with their numbers, oldest first."""
        return _segments(self.folder)

    def path(self, number: int) -> Path:
        """Where the segment of a number is."""
        return self.folder / f"{number:012d}{_ENDING}"

    def unlock(self) -> None:
        """Give the lock back."""
        os.close(self._descriptor)


def _segments(folder: Path) -> Segments:
    return sorted((int(path.stem), path) for path in folder.glob(f"*{_ENDING}") if path.stem.isdigit())


def closed_segments(folder: Path) -> Segments:
    """The segments of a place to which nothing is written any more, whether its writer lives or not, oldest first: all but the last."""
    return _segments(folder)[:-1]


def claim(spool: Path) -> Place:
    """A place to write to: one whose process is gone, or a new one.

    Raises:
        OSError: None can be made.
    """
    spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    for place in _places(spool):
        if place.is_original:
            return place
        place.unlock()
    for _ in range(3):
        folder = spool / uuid4().hex[:16]
        folder.mkdir(mode=0o700)
        if (made := Place.locked(folder)) is not None:  # otherwise another process was faster
            return made
    raise OSError("no file can be made in the folder of the spool")


def dead(spool: Path) -> Iterator[Place]:
    """The places whose process is gone, each locked while it is looked at, and empty afterwards except for its last segment."""
    for place in _places(spool):
        try:
            yield place
        finally:
            place.unlock()


def _places(spool: Path) -> Iterator[Place]:
    with suppress(FileNotFoundError):
        for folder in sorted(spool.iterdir()):
            if folder.is_dir() and (place := Place.locked(folder)) is not None:
                yield place
