"""Distances between two distributions that are counted in the same cells.

Pure functions of arrays: `base` is what is compared with, `new` what is compared. Several `new` may be given at once, a row each. On values
that have cells of their own they are what scipy gives for the rows; in between, they know no more than the cells.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

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


def area_from_half(base: Array, new: Array) -> Array:
    """How far the area under the ROC curve is from one half, if cells are in the order of a score."""
    place = np.cumsum(base, axis=-1) - base / 2
    found: Array = np.abs((new * place).sum(axis=-1) - 0.5)
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


def chi_squared(base: Array, new: Array) -> tuple[Array, Array]:
    """The statistics of the tests that two samples are of one distribution, without Yates' correction, and their degrees of freedom.

    Args:
        base: Counts, a row each.
        new: Counts, a row each.
    """
    both, rows = base + new, [side.sum(axis=1, keepdims=True) for side in (base, new)]
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = [both * (one / (rows[0] + rows[1])) for one in rows]
        parts = [np.where(both > 0, (side - mean) ** 2 / mean, 0) for side, mean in zip((base, new), expected, strict=True)]
    return parts[0].sum(axis=1) + parts[1].sum(axis=1), (both > 0).sum(axis=1) - 1


def stability_index(base: Array, new: Array) -> Array:
    """The population stability index over cells; a cell without rows counts as one of 0.01 per cent."""
    base, new = np.maximum(base, _LEAST_SHARE), np.maximum(new, _LEAST_SHARE)
    found: Array = ((new - base) * np.log(new / base)).sum(axis=-1)
    return found


def in_bins(base: Array, new: Array) -> tuple[Array, Array]:
    """The shares in ten bins of about equal share of the base, as the index of numbers is used; cell by cell if at most ten have rows."""
    few = np.count_nonzero(base, axis=1, keepdims=True) <= _BINS
    # A cell without rows in the base goes with the one before, so that there are ten at most in either case.
    own = np.maximum(np.cumsum(base > 0, axis=1) - 1, 0)
    bins = np.where(few, own, np.minimum((np.cumsum(base, axis=1) - base / 2) * _BINS, _BINS - 1)).astype(np.intp)
    places = (np.arange(len(base))[:, None] * _BINS + bins).ravel()
    found = [np.bincount(places, side.ravel(), minlength=len(base) * _BINS).reshape(-1, _BINS) for side in (base, new)]
    return found[0], found[1]


def wasserstein(bounds: tuple[Array, Array], base: Array, new: Array, ends: tuple[Array, Array]) -> Array:
    """The area between both cumulative distributions, taken as even within a cell, in the unit of the numbers.

    Args:
        bounds: The smallest and the largest number of each cell.
        base: Shares, a row each.
        new: Shares, a row each.
        ends: The smallest and the largest number of both, of each row.
    """
    difference = np.cumsum(new - base, axis=1)
    before = np.concatenate([np.zeros((len(base), 1)), difference[:, :-1]], axis=1)
    lower, upper = (np.clip(bound[None, :], ends[0][:, None], ends[1][:, None]) for bound in bounds)
    first, last = np.abs(before), np.abs(difference)
    crosses = before * difference < 0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mean = np.where(crosses, (first**2 + last**2) / (2 * (first + last)), (first + last) / 2)
        within = (mean * (upper - lower)).sum(axis=1)
        # Between two cells there may be a gap that holds no number.
        gaps = np.maximum(lower[:, 1:] - upper[:, :-1], 0)
        found: Array = within + (last[:, :-1] * gaps).sum(axis=1)
    return found
