"""Work in this process, one thing after the other: Polars and LightGBM use the cores. The contract of each verb is in `protocol`."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from lakehouse_assets.platform.compute import deadline
from lakehouse_assets.platform.compute.progress import telling

if TYPE_CHECKING:
    import lightgbm

T = TypeVar("T")
R = TypeVar("R")


class Local:
    """This process."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """See `Compute.map`."""
        waiting, results = list(items), []
        with telling() as tell:
            for number, item in enumerate(waiting, start=1):
                tell(f"part {number} of {len(waiting)}")
                results.append(function(item))
        return results

    def key_map(self, function: Callable[[pl.LazyFrame], pl.LazyFrame], frame: pl.LazyFrame, keys: Sequence[str]) -> pl.LazyFrame:
        """See `Compute.key_map`; all rows are one part. A key that is no column would go unnoticed here and fail elsewhere: ValueError."""
        self.check_keys(frame, keys)
        return function(frame)

    def check_keys(self, frame: pl.LazyFrame, keys: Sequence[str]) -> None:
        """Raise unless rows can be kept together by some columns.

        Raises:
            ValueError: One of them is no column, or there is none.
        """
        missing = sorted(set(keys) - set(frame.collect_schema()))
        if missing or not keys:
            raise ValueError(
                f"rows cannot be kept together by {', '.join(missing) or 'no key'}: the frame has {frame.collect_schema().names()}"
            )

    def fit(self, dataset: Callable[[int, int], "lightgbm.Dataset"], parameters: Mapping[str, Any], rounds: int) -> "lightgbm.Booster":
        """See `Compute.fit`; there is one part."""
        # Threads that spin while they wait make two trainings on the same cores several times slower. Read once, when OpenMP is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        import lightgbm

        with telling() as tell:
            callbacks = [lambda at: tell(f"round {at.iteration + 1} of {rounds}"), lambda _: deadline.check()]
            return lightgbm.train(dict(parameters), dataset(0, 1), num_boost_round=rounds, callbacks=callbacks)
