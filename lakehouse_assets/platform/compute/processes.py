"""Work in other processes of this machine: the cheap way to use many cores for work that is bound to Python or to one thread.

The contract of each verb is in `protocol`, what a worker is given in `pool`. Functions travel by pickle: they are functions of modules,
with their data as arguments of `functools.partial`. What cannot travel is an error; it is never done here in silence.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import polars as pl

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.compute.pool import cores, map_in_workers

if TYPE_CHECKING:
    import lightgbm

T = TypeVar("T")
R = TypeVar("R")
_PART: Final = "__part"


@dataclass(frozen=True)
class Processes:
    """A pool of processes for each call, as starting one takes a second and idle ones cost memory.

    Within a worker, work is local: a `Processes` that travels arrives as `Local`.

    Attributes:
        workers: Most processes at once; 0: one for each core. Each gets its share of the cores and of the memory that queries may use.
        least_items: `map` of fewer items is done in this process.
        least_rows: `key_map` of fewer rows is done in this process.

    Raises:
        ValueError: The number of workers is negative.
    """

    workers: int = 0
    least_items: int = 2
    least_rows: int = 1_000_000

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"{self.workers} processes cannot work: name how many, or 0 for one on each core (LAKEHOUSE_COMPUTE_WORKERS)")

    def __reduce__(self) -> tuple[type[Local], tuple[()]]:
        """There are no pools within pools."""
        return Local, ()

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """See `Compute.map`. Items are sent one at a time, the function once to each worker.

        The error that is raised is the first that is heard of; what is at work then is ended. An item whose process was killed is worked on
        again by another one, at most twice.

        Raises:
            CannotTravel: The function, an item or a result cannot be pickled.
            WorkerLost: An item ended three processes.
        """
        waiting = list(items)
        if len(waiting) < self.least_items:
            return Local().map(function, waiting)
        return map_in_workers(function, waiting, self._workers)

    def key_map(self, function: Callable[[pl.LazyFrame], pl.LazyFrame], frame: pl.LazyFrame, keys: Sequence[str]) -> pl.LazyFrame:
        """See `Compute.key_map`. The rows go through a temporary folder; the results are in memory.

        Raises:
            ValueError: A key is no column.
            CannotTravel: The function cannot be pickled.
            WorkerLost: A part ended three processes.
        """
        Local().check_keys(frame, keys)
        with tempfile.TemporaryDirectory(prefix="lakehouse-parts-") as folder:
            whole = Path(folder, "rows.arrow")
            part = (pl.struct(keys).hash() % self._workers).alias(_PART)
            frame.with_columns(part).sink_ipc(whole)
            if pl.scan_ipc(whole).select(pl.len()).collect().item() < self.least_rows:
                return Local().key_map(function, frame, keys)
            made: list[pl.DataFrame] = map_in_workers(partial(_of_part, function, whole), range(self._workers), self._workers)
        return pl.concat(made).lazy()

    def fit(self, dataset: Callable[[int, int], "lightgbm.Dataset"], parameters: Mapping[str, Any], rounds: int) -> "lightgbm.Booster":
        """See `Compute.fit`. One model is trained in this process: LightGBM uses its cores by itself."""
        return Local().fit(dataset, parameters, rounds)

    @property
    def _workers(self) -> int:
        return self.workers or cores()


def _of_part(function: Callable[[pl.LazyFrame], pl.LazyFrame], whole: Path, part: int) -> pl.DataFrame:
    """What a function makes of the rows of one part, which are in the order of all."""
    return function(pl.scan_ipc(whole).filter(pl.col(_PART) == part).drop(_PART)).collect()
