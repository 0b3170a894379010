"""A queue for the writers of this machine that lost a race for a table: one after the other, they retry without competition.

It is a performance measure and no lock: optimistic concurrency makes commits safe with or without it, and writers of other machines are
not in it. Without it new writers win again and again, and the retries of many writers at once starve each other.
"""

import fcntl
import hashlib
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

_SECONDS_BETWEEN_TRIES = 0.01
_DIGITS_OF_A_NAME = 32


def wait_for_queue(uri: str, seconds: float) -> None:
    """Let the queued writer that retries now finish, but wait at most so long.

    Args:
        uri: Of the table: a folder or an address in a bucket.
        seconds: The longest wait.
    """
    with _lock(uri, fcntl.LOCK_SH, seconds):
        return


def join_queue(uri: str, seconds: float) -> AbstractContextManager[None]:
    """Wait at most so long to be the one writer of the table that retries; inside the block `wait_for_queue` of others waits.

    It ends with the block, and also with the process. When the time is up, the block runs regardless.
    """
    return _lock(uri, fcntl.LOCK_EX, seconds)


def lock_file(uri: str) -> Path:
    """The file that the queue of a table locks: one for each address, so tables of one name under two roots do not share it."""
    address = uri if "://" in uri else os.path.realpath(uri)
    digest = hashlib.sha256(address.encode()).hexdigest()[:_DIGITS_OF_A_NAME]
    return Path(tempfile.gettempdir(), f"lakehouse-{os.getuid()}-{digest}.lock")


@contextmanager
def _lock(uri: str, how: int, seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    with ExitStack() as stack:
        with suppress(OSError):  # where nothing can be written, there is no queue
            # In a folder that others may write to, a link of theirs must not lead to a file of ours.
            opened = os.open(lock_file(uri), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            file = stack.enter_context(os.fdopen(opened, "w"))
            while not _locked(file, how) and time.monotonic() < deadline:
                time.sleep(_SECONDS_BETWEEN_TRIES * random.uniform(0.5, 1.5))  # noqa: S311 jitter, not a secret
        yield


def _locked(file: TextIO, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
