"""What a piece of work used of this machine, by what the operating system counts for the process. Whose work it is is not known here.

The counts are of the process and not of a thread: other work in the same process is counted with it.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_STATUS, _SIZES, _IO = Path("/proc/self/status"), Path("/proc/self/statm"), Path("/proc/self/io")
_SECONDS_BETWEEN_LOOKS: Final = 0.05


@dataclass
class Usage:
    """What was used; None is what the operating system does not tell (all but CPU time, where there is no `/proc`).

    Attributes:
        cpu_seconds: Of all threads, and of child processes that have ended, in the system too.
        peak_memory_bytes: The most that was resident. Exact where the work set a new peak of its process; else the highest of twenty
            looks a second, so that a shorter peak may be missed.
        bytes_read: From files, whether they came from the disk or from its cache. Not from sockets, so nothing that came from a bucket.
    """

    cpu_seconds: float = 0.0
    peak_memory_bytes: int | None = None
    bytes_read: int | None = None


@contextmanager
def measured() -> Iterator[Usage]:
    """Measures what is done within it; the counts stand in the given value afterwards, also where an error went through."""
    usage = Usage()
    cpu, read, peak = _cpu_seconds(), _bytes_read(), _peak_memory()
    with _looking() as looks:
        try:
            yield usage
        finally:
            usage.cpu_seconds = _cpu_seconds() - cpu
            until = _bytes_read()
            usage.bytes_read = None if read is None or until is None else until - read
            now = _peak_memory()
            usage.peak_memory_bytes = now if now is None or peak is None or now > peak else max([*looks, _memory() or 0])


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@contextmanager
def _looking() -> Iterator[list[int]]:
    """The highest memory so far, as the only member of a list, kept by a thread."""
    done, highest = threading.Event(), [_memory() or 0]

    def look() -> None:
        while not done.wait(_SECONDS_BETWEEN_LOOKS):
            highest[0] = max(highest[0], _memory() or 0)

    if not highest[0]:  # nothing to look at
        yield highest
        return
    thread = threading.Thread(target=look, name="memory of a step", daemon=True)
    thread.start()
    try:
        yield highest
    finally:
        done.set()
        thread.join()


def _memory() -> int | None:
    """Bytes that are resident now."""
    try:
        return int(_SIZES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def _peak_memory() -> int | None:
    """The most bytes that were ever resident."""
    kilobytes = _value(_STATUS, "VmHWM")
    return None if kilobytes is None else kilobytes * 1024


def _bytes_read() -> int | None:
    return _value(_IO, "rchar")


def _value(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
