"""Until when the work of this process has to be over, for work that can stop early. Work that runs elsewhere is not stopped.

Long loops `check` once a round. Who sets a deadline catches `OutOfTime`, and does without what was not finished.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

clock: Callable[[], float] = time.monotonic
"""Seconds; only differences mean something."""

_ends: list[float] = []


class OutOfTime(Exception):
    """The deadline has passed."""


@contextmanager
def stopping_at(end: float | None) -> Iterator[None]:
    """The work within has to be over when `clock` is at `end`; None: no deadline, besides those of what is around it."""
    if end is None:
        yield
        return
    _ends.append(end)
    try:
        yield
    finally:
        _ends.pop()


def has_passed() -> bool:
    """Whether a deadline has passed."""
    return bool(_ends) and clock() >= min(_ends)


def check() -> None:
    """End the work if its deadline has passed.

    Raises:
        OutOfTime: It has.
    """
    if has_passed():
        raise OutOfTime
