"""Sweeps: tests of very many histories, moments of death or numbers of threads.

The suite runs a sample of each, which fails if the mechanism breaks; `python -m benchmarks.sweeps` runs the same functions in full.
"""

import os
from collections.abc import Iterable
from typing import Any, TypeVar

from hypothesis import settings

VARIABLE = "LAKEHOUSE_TESTS_SWEEP"
FULL = VARIABLE in os.environ

T = TypeVar("T")


def of(sample: T, everything: T) -> T:
    """What is tried: a sample, or in a full sweep everything."""
    return everything if FULL else sample


def cases(everything: Iterable[Any], sample: Iterable[str]) -> list[Any]:
    """The parameters of a test whose ids are in the sample, or in a full sweep all of them."""
    found, wanted = list(everything), set(sample)
    missing = wanted - {one.id for one in found}
    assert not missing, missing
    return found if FULL else [one for one in found if one.id in wanted]


def examples(few: int, many: int, **how: Any) -> settings:
    """A property with few examples, or in a full sweep many; no limit on the time of one."""
    return settings(max_examples=of(few, many), deadline=None, **how)
