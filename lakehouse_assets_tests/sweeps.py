"""How much of a sweep is run: a sample in the suite, all of it by `python -m benchmarks.sweeps`.

A sweep does one thing at every place, on every format or with very many examples. The sample fails when the mechanism breaks; the sweep
finds the one place at which it does.
"""

import os
from typing import TypeVar

T = TypeVar("T")
VARIABLE = "SWEEPS"
"""The environment variable that asks for whole sweeps, with the value `all`."""


def sweep(sample: T, whole: T) -> T:
    """What is run now of a sweep: cases, or a count of examples or seconds."""
    return whole if os.environ.get(VARIABLE) == "all" else sample
