"""Where work runs: the three verbs that every place of work offers, and what code has to keep to so that all places give the same results.

What the work is does not belong here, and neither does reading or writing tables. `local` is this process, `processes` others of this
machine.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import polars as pl

if TYPE_CHECKING:
    import lightgbm

T = TypeVar("T")
R = TypeVar("R")


class Compute(Protocol):
    """A place of work. Functions are pure: they may run elsewhere, in any order, and more than once.

    They are functions of modules, or `functools.partial` of such, with data, items and results that can be pickled: see `travel`. A place
    that is sent along is a plain one where it arrives: there is no work at several places within work at several places.
    """

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """The results for all items, in the order of the items. The first error ends the work and is raised as it was."""
        ...

    def key_map(self, function: Callable[[pl.LazyFrame], pl.LazyFrame], frame: pl.LazyFrame, keys: Sequence[str]) -> pl.LazyFrame:
        """What `function` makes of the rows, in no particular order.

        It may be given them in parts, some of them empty. All rows with the same `keys` are in one part, in the order of `frame`.
        """
        ...

    def fit(self, dataset: Callable[[int, int], "lightgbm.Dataset"], parameters: Mapping[str, Any], rounds: int) -> "lightgbm.Booster":
        """Train a model with LightGBM.

        Args:
            dataset: From `part` and `parts` to the rows of that part, 0 ≤ `part` < `parts`. Called where the part is trained on.
            parameters: As `lightgbm.train` takes them. Equal trees on every machine need a seed and `deterministic`.
            rounds: Number of trees (times classes).
        """
        ...
