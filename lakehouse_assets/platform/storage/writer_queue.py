"""A queue for the writers of this machine that lost a race for a table, so that each comes to its turn.

It makes nothing safe: commits are, with or without it, and writers of other machines do not see it. But without it those who come fresh
win again and again, and the tries of many writers at once leave none of them the processor.
"""

import fcntl
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

_SECONDS_BETWEEN_LOOKS = 0.01


def wait_for_turns(table: str, seconds: float) -> None:
    """Wait until no other writer of the table is in its turn, but at most so long."""
    with _lock(table, fcntl.LOCK_SH, seconds):
        return


def turn(table: str, seconds: float) -> AbstractContextManager[None]:
    """Wait for a turn, at most so long, and have it: until it ends, `wait_for_turns` holds up whoever begins to write.

    The turn ends with the block, and also with the process. After the time one goes on without it.
    """
    return _lock(table, fcntl.LOCK_EX, seconds)


@contextmanager
def _lock(table: str, how: int, seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    with ExitStack() as stack:
        with suppress(OSError):  # where nothing can be written, there is no queue
            path = Path(tempfile.gettempdir(), f"lakehouse-{os.getuid()}-{table}.lock")
            # In a folder that others may write to, a link of theirs must not lead to a file of ours.
            opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            file = stack.enter_context(os.fdopen(opened, "w"))
            while not _locked(file, how) and time.monotonic() < deadline:
                time.sleep(_SECONDS_BETWEEN_LOOKS * random.uniform(0.5, 1.5))  # noqa: S311 jitter, not a secret
        yield


def _locked(file: TextIO, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
