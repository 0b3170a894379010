"""Until when the work of this thread has to be over, for work that can stop early. Work that runs elsewhere is told what is `left`.

Long loops `check` once a round. Who sets a deadline catches `OutOfTime`, and does without what was not finished.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

clock: Callable[[], float] = time.monotonic
"""Seconds; only differences mean something."""

# Of this thread alone: another one may train something else.
_ends: Final[ContextVar[tuple[float, ...]]] = ContextVar("ends", default=())


class OutOfTime(Exception):
    """The deadline has passed."""


@contextmanager
def stopping_at(until: float | None) -> Iterator[None]:
    """The work within has to be over when `clock` is at `until`; None: no deadline, besides those of what is around it."""
    if until is None:
        yield
        return
    before = _ends.set((*_ends.get(), until))
    try:
        yield
    finally:
        _ends.reset(before)


def end() -> float:
    """When by `clock` the next deadline is; infinite where there is none. All processes of a machine have one clock."""
    return min(_ends.get(), default=math.inf)


def has_passed() -> bool:
    """Whether a deadline has passed."""
    return clock() >= end()


def check() -> None:
    """End the work if its deadline has passed.

    Raises:
        OutOfTime: It has.
    """
    if has_passed():
        raise OutOfTime
