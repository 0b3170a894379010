"""Mean, spread and range of numbers, added up over batches in all groups at once.

Which numbers they are is decided in `counting`; what is made of them is in `statistics`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lakehouse_assets.platform.monitoring.profiling.cells import PART, Counts
from lakehouse_assets.platform.monitoring.profiling.groups import Marked
from lakehouse_assets.platform.monitoring.profiling.sketches import grown

# Sums of so many numbers, each so much smaller, cannot overflow.
_SMALLER, _LARGE = 2.0**-64, 2.0**900

Floats = npt.NDArray[np.float64]


@dataclass
class Moments:
    """Mean, spread and range of the finite numbers of each group, added up over batches (Chan's way, so that nothing cancels out)."""

    count: Floats
    mean: Floats
    squares: Floats
    low: Floats
    high: Floats
    zeros: Floats

    @classmethod
    def none(cls) -> "Moments":
        """Of one group without rows."""
        return cls(np.zeros(1), np.zeros(1), np.zeros(1), np.full(1, np.inf), np.full(1, -np.inf), np.zeros(1))

    def make_room(self, size: int) -> None:
        """For so many groups."""
        self.count, self.mean, self.squares, self.zeros = (grown(part, size) for part in (self.count, self.mean, self.squares, self.zeros))
        self.low, self.high = grown(self.low, size, np.inf), grown(self.high, size, -np.inf)

    def add(self, at: npt.NDArray[np.intp], count: Floats, mean: Floats, squares: Floats) -> None:
        """Add counts, means and sums of squared differences of some groups."""
        has = count > 0
        at, count, mean, squares = at[has], count[has], mean[has], squares[has]
        together = self.count[at] + count
        with np.errstate(over="ignore", invalid="ignore"):
            apart, share = mean - self.mean[at], count / together
            self.squares[at] += squares + apart * apart * self.count[at] * share
            self.mean[at] = self.mean[at] * (1 - share) + mean * share
        self.count[at] = together

    def add_numbers(self, marked: Marked, numbers: Floats, size: int, often: npt.NDArray[np.int64] | None = None) -> None:
        """Add the finite ones of the numbers of a batch; there are so many groups by now.

        Args:
            marked: The group of each number.
            numbers: Of the batch.
            size: How many groups there are.
            often: How many times each number counts; None: once.
        """
        self.make_room(size)
        if not len(numbers):
            return
        local, at, groups = marked.local, marked.present, len(marked.present)
        ends = numbers.min(), numbers.max()
        if not np.isfinite(ends).all():
            finite = np.flatnonzero(np.isfinite(numbers))
            if not len(finite):
                return
            local, numbers = local if groups == 1 else local.take(finite), numbers.take(finite)
            ends = numbers.min(), numbers.max()
        scale = 1.0 if max(-ends[0], ends[1]) < _LARGE else _SMALLER
        scaled = numbers if scale == 1 else numbers * scale
        squares = np.zeros(groups)
        with np.errstate(invalid="ignore", over="ignore"):
            if groups == 1 and often is None:
                low, high = (np.array([end]) for end in ends)
                count, zeros = np.array([float(len(numbers))]), np.array([len(numbers) - np.count_nonzero(numbers)])
                mean = np.array([scaled.mean() / scale])
                for start in range(0, len(numbers), PART):
                    apart = numbers[start : start + PART] - mean[0]
                    squares += np.einsum("i,i->", apart, apart)
            else:
                times = np.ones(len(numbers)) if often is None else often
                low, high = np.full(groups, np.inf), np.full(groups, -np.inf)
                np.minimum.at(low, local, numbers)
                np.maximum.at(high, local, numbers)
                count = np.bincount(local, times, minlength=groups)
                zeros = np.bincount(local, times * (numbers == 0), minlength=groups)
                mean = np.bincount(local, scaled * times, minlength=groups) / np.maximum(count, 1) / scale
                apart = numbers - mean.take(local)
                squares += np.bincount(local, apart * apart * times, minlength=groups)
            self.add(at, count, mean, squares)
        self.low[at], self.high[at] = np.minimum(self.low[at], low), np.maximum(self.high[at], high)
        self.zeros[at] += zeros

    def add_counted(self, at: npt.NDArray[np.intp], counts: Counts, numbers: Floats, size: int) -> None:
        """Add numbers that are counted already: how often each is in each of some groups."""
        self.make_room(size)
        count = counts.sum(axis=1).astype(np.float64)
        mean = counts @ numbers / np.maximum(count, 1)
        apart = numbers - mean[:, None]
        self.add(at, count, mean, (counts * apart * apart).sum(axis=1))
        has = counts > 0
        self.low[at] = np.minimum(self.low[at], np.where(has, numbers, np.inf).min(axis=1, initial=np.inf))
        self.high[at] = np.maximum(self.high[at], np.where(has, numbers, -np.inf).max(axis=1, initial=-np.inf))
