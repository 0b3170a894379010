"""Distances between two distributions that are counted in the same cells.

Pure functions of arrays: `base` is what is compared with, `new` what is compared. Several `new` may be given at once, a row each. On values
that have cells of their own they are what scipy gives for the rows; in between, they know no more than the cells.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from lakehouse_assets.platform.monitoring.cells import Numbers

Array = npt.NDArray[Any]
_BINS = 10
_LEAST_SHARE = 1e-4


def shares(counts: npt.ArrayLike) -> Array:
    """Counts as shares of their sum, which is not zero."""
    array = np.asarray(counts, dtype=np.float64)
    found: Array = array / array.sum(axis=-1, keepdims=True)
    return found


def kolmogorov_smirnov(base: Array, new: Array) -> Array:
    """The largest difference of the cumulative shares: less than the true one by at most what lies in one cell."""
    found: Array = np.abs(np.cumsum(new - base, axis=-1)).max(axis=-1)
    return found


def jensen_shannon(base: Array, new: Array) -> Array:
    """The root of the mean of both divergences from the mean of both, with natural logarithms."""
    middle = (base + new) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        of_base, of_new = base * np.log(base / middle), new * np.log(new / middle)
    divergence = (np.where(base > 0, of_base, 0).sum(axis=-1) + np.where(new > 0, of_new, 0).sum(axis=-1)) / 2
    found: Array = np.sqrt(np.maximum(divergence, 0))
    return found


def total_variation(base: Array, new: Array) -> Array:
    """Half of the sum of all differences."""
    found: Array = np.abs(new - base).sum(axis=-1) / 2
    return found


def infinity(base: Array, new: Array) -> Array:
    """The largest difference of the share of one value."""
    found: Array = np.abs(new - base).max(axis=-1)
    return found


def chi_squared(base: npt.ArrayLike, new: npt.ArrayLike) -> tuple[float, int]:
    """The statistic of the test that two samples are of one distribution, without Yates' correction, and its degrees of freedom."""
    table = np.array([base, new], dtype=np.float64)
    table = table[:, table.sum(axis=0) > 0]
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return float(((table - expected) ** 2 / expected).sum()), table.shape[1] - 1


def stability_index(base: Array, new: Array) -> float:
    """The population stability index over cells; a cell without rows counts as one of 0.01 per cent."""
    base, new = np.maximum(base, _LEAST_SHARE), np.maximum(new, _LEAST_SHARE)
    return float(((new - base) * np.log(new / base)).sum())


def in_bins(base: Array, new: Array) -> tuple[Array, Array]:
    """The shares in ten bins of about equal share of the base, as the index of numbers is used; as they are if ten cells have rows."""
    if np.count_nonzero(base) <= _BINS:
        return base, new
    bins = np.minimum((np.cumsum(base) - base / 2) * _BINS, _BINS - 1).astype(np.intp)
    return np.bincount(bins, base, minlength=_BINS), np.bincount(bins, new, minlength=_BINS)


def wasserstein(cells: Numbers, base: Array, new: Array, low: float, high: float) -> float:
    """The area between both cumulative distributions, taken as even within a cell, in the unit of the numbers.

    Args:
        cells: In which both are counted.
        base: Shares.
        new: Shares.
        low: The smallest number of both.
        high: The largest of both.
    """
    difference = np.cumsum(new - base)
    before = np.concatenate([[0.0], difference[:-1]])
    lower, upper = (np.clip(bound, low, high) for bound in cells.bounds)
    first, last = np.abs(before), np.abs(difference)
    crosses = before * difference < 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(crosses, (first**2 + last**2) / (2 * (first + last)), (first + last) / 2)
    return float((mean * (upper - lower)).sum())
