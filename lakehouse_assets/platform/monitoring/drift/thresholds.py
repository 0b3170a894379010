"""The value that a drift metric passes seldom by chance alone, if rows are independent: thresholds by windows resampled from a baseline.

Rows that depend on each other are the matter of `calibration`, which only ever raises what is found here. Which metrics there are is in
`drift_metrics`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from lakehouse_assets.platform.monitoring.drift import distances
from lakehouse_assets.platform.monitoring.drift.distances import Array
from lakehouse_assets.platform.monitoring.profiling.cells import Counts

COLUMN_RATE, TABLE_RATE = 0.01, 0.05
"""False alarms a window: of a column, and of the whole table."""
DOMAIN, DOMAIN_RATE = "domain_classifier_auc", 0.01
"""The metric of all columns together, and its part of the false alarms of the whole table; the others are those of single columns."""
LEAST_ROWS = 20
"""Rows without which no window is tested."""
_DRAWS, _DRAWS_OF_MANY = 2_000, 500
_TAIL = 100
_FEW_CELLS = 20
# Numbers of which no cell has more than so many rows are resampled by their ranks, which are alike for all columns.
_EVEN = 0.02
RANKS = np.full(200, 1_000_000)
"""The counts of a baseline in cells that have as many rows each."""
_SEED = 20_260_101


def points(base: Array, new: Array) -> Array:
    """How far the share of the last cell moved, in percentage points."""
    found: Array = 100 * np.abs((new - base)[..., -1])
    return found


@dataclass(frozen=True)
class Test:
    """A metric that may alarm.

    Attributes:
        of: The metric of shares in cells.
        most: The largest value that it can have.
    """

    of: Callable[[Array, Array], Array]
    most: float


TESTS: Mapping[str, Test] = {
    "ks_test": Test(distances.kolmogorov_smirnov, 1.0),
    "js_distance": Test(distances.jensen_shannon, float(np.sqrt(np.log(2)))),
    "percent_null_delta": Test(points, 100.0),
    "percent_nan_delta": Test(points, 100.0),
    DOMAIN: Test(distances.area_from_half, 0.5),
}
_CUMULATED = {"ks_test"}
_OF_TWO = {"percent_null_delta", "percent_nan_delta"}


def false_alarm_rate(columns: int, tests: int, slices: int = 1) -> float:
    """Of one test: so that the alarms of a column's tests, and those of all columns and slices, keep their rates however they depend.

    Args:
        columns: Of the table.
        tests: Of the column, with all that a window is compared with.
        slices: Of the table, with the whole.
    """
    return min(COLUMN_RATE, (TABLE_RATE - DOMAIN_RATE) / max(columns * slices, 1)) / tests


@dataclass
class Independent:
    """Thresholds as if rows were independent, each resampled once."""

    _known: dict[tuple[object, ...], float] = field(default_factory=dict)

    def threshold(self, test: str, base: Counts, size: float, rate: float) -> float:
        """The value that a metric passes in a share `rate` of quiet windows.

        Args:
            test: The metric.
            base: The counts of the baseline in the cells.
            size: Of the window; if it is compared with few rows, as many as the difference of both is worth. It is taken down to the next
                of few sizes, so that not each window has to be resampled.
            rate: The false-alarm rate.
        """
        rows = int(2 ** (np.floor(2 * np.log2(max(size, 1))) / 2))
        shape = even(test, base)
        key = (test, shape.tobytes(), rows, rate)
        if key not in self._known:
            self._known[key] = resampled(test, shape, rows, rate)
        return self._known[key]


def even(test: str, base: Counts) -> Counts:
    """The counts; those of ranks, if all cells of numbers have about the same."""
    return RANKS if test in _CUMULATED and base.max() <= _EVEN * base.sum() else base


def squares(test: str, base: Counts, sizes: Array, seed: int = _SEED) -> Array:
    """The squares of a metric of windows that are resampled from a baseline, one of each size."""
    seen = even(test, base)
    seen = seen[seen > 0] if test not in _OF_TWO else seen
    if len(seen) < 2:
        return np.zeros(len(sizes))
    expected, rows = distances.shares(seen), np.maximum(sizes.astype(np.int64), 1)
    found: Array = TESTS[test].of(expected, np.random.default_rng(seed).multinomial(rows, expected) / rows[:, None]) ** 2
    return found


def resampled(test: str, base: Counts, size: int, rate: float) -> float:
    """The value that a metric passes in a share `rate` of windows that are resampled from a baseline.

    Args:
        test: The metric.
        base: The counts of the baseline in the cells.
        size: Rows of a window.
        rate: The false-alarm rate. One that is smaller than what was drawn can tell is read off the tail, which falls as the exponential of
            the square, or faster.
    """
    # One value more, of which the baseline tells only that it has at most about one in all its rows.
    seen = np.maximum(base, [0, 1]) if test in _OF_TWO else np.append(base[base > 0], 1)
    expected = distances.shares(seen)
    draws = _DRAWS if len(seen) <= _FEW_CELLS else _DRAWS_OF_MANY
    drawn = np.random.default_rng(_SEED).multinomial(size, expected, size=draws) / size
    found = TESTS[test].of(expected, drawn) ** 2
    edge = np.partition(found, -_TAIL)[-_TAIL]
    beyond = found[found > edge]
    share = len(beyond) / draws
    if rate >= share:
        return float(np.sqrt(np.quantile(found, 1 - rate)))
    # At half of the rate, because the tail is known from a hundred draws.
    return float(np.sqrt(edge + (beyond.mean() - edge) * np.log(2 * share / rate)))
