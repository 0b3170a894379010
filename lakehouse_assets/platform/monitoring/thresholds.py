"""From which value on a drift metric is an alarm: thresholds by windows that are resampled from a baseline, with their false-alarm rates.

A quiet stream alarms at most once in a hundred windows a column, and the whole table at most once in twenty. Rows that are near each other
in time are often alike, so that a window of them tells less than its number says: how much less is measured on stretches of the baseline,
and windows are resampled at that smaller size. Which metrics there are is in `drift_metrics`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from lakehouse_assets.platform.monitoring import distances
from lakehouse_assets.platform.monitoring.cells import Counts
from lakehouse_assets.platform.monitoring.distances import Array

COLUMN_RATE, TABLE_RATE = 0.01, 0.05
"""False alarms a window: of a column, and of the whole table."""
LEAST_ROWS = 20
"""Independent rows without which no window is tested."""
_DRAWS, _DRAWS_OF_MANY = 2_000, 500
_TAIL = 100
_FEW_CELLS = 20
# Numbers of which no cell has more than so many rows are resampled by their ranks, which are alike for all columns.
_EVEN, _RANKS = 0.02, np.full(200, 1_000_000)
_LEAST_BLOCKS = 16
_KEPT_BLOCKS = 0.8
# From so much likeness of the rows of a stretch on, a column moves with time: by all of a baseline, and by neighbours alone.
_MOVES, _MOVES_ON = 0.5, 0.1
_SEED = 20_260_101


def null_points(base: Array, new: Array) -> Array:
    """How far the share of the last cell moved, in percentage points."""
    found: Array = 100 * np.abs((new - base)[..., -1])
    return found


STATISTICS: Mapping[str, Callable[[Array, Array], Array]] = {
    "ks_test": distances.kolmogorov_smirnov,
    "js_distance": distances.jensen_shannon,
    "percent_null_delta": null_points,
    "percent_nan_delta": null_points,
}
"""What may alarm, as a function of shares in cells."""
_CUMULATED = {"ks_test"}
_OF_TWO = {"percent_null_delta", "percent_nan_delta"}


def false_alarm_rate(columns: int, tests: int) -> float:
    """Of one test: so that the alarms of a column's tests, and those of all columns, keep their rates however they depend on each other."""
    return min(COLUMN_RATE, TABLE_RATE / max(columns, 1)) / tests


@dataclass
class Thresholds:
    """The thresholds of tests on the distributions of a baseline.

    Attributes:
        dependence: Of each column and test, by how much a window of alike rows counts for fewer; one that is not named: 1. Infinite where
            a column moves with time, as a running number does.
    """

    dependence: Mapping[tuple[str, str], float] = field(default_factory=dict)
    _known: dict[tuple[object, ...], float] = field(default_factory=dict)

    def threshold(self, of: tuple[str, str], base: Counts, rows: int, compared: int, *, rate: float) -> float | None:
        """The value that a metric passes in a share `rate` of quiet windows at most; None: no value tells anything.

        Args:
            of: The column and the metric.
            base: The counts of the baseline in the cells.
            rows: Of the window.
            compared: Rows of what it is compared with.
            rate: The false-alarm rate.
        """
        alike = self.dependence.get(of, 1.0)
        if not np.isfinite(alike):
            return None
        size = 1 / (alike * (1 / rows + 1 / compared))
        # Sizes are taken down to the next of few, so that not each window has to be resampled.
        if size < LEAST_ROWS:
            return None
        size = int(2 ** (np.floor(3 * np.log2(size)) / 3))
        if of[1] in _CUMULATED and base.max() <= _EVEN * base.sum():
            base = _RANKS
        key = (of[1], base.tobytes(), size, rate)
        if key not in self._known:
            self._known[key] = resampled(of[1], base, size, rate)
        return self._known[key]


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
    squares = STATISTICS[test](expected, drawn) ** 2
    edge = np.partition(squares, -_TAIL)[-_TAIL]
    beyond = squares[squares > edge]
    share = len(beyond) / draws
    if rate >= share:
        return float(np.sqrt(np.quantile(squares, 1 - rate)))
    # At half of the rate, because the tail is known from a hundred draws.
    return float(np.sqrt(edge + (beyond.mean() - edge) * np.log(2 * share / rate)))


# --- rows that depend on each other


def dependence(blocks: Mapping[str, Counts], tests: Mapping[str, str | None], *, between_neighbours: bool = False) -> Thresholds:
    """Thresholds that know how alike the rows of a stretch of time are (the design effect of Kish).

    Args:
        blocks: Of each column the counts in stretches of time, in order, with nulls and NaN as the last two cells.
        tests: The test of the values of each column.
        between_neighbours: Whether windows are compared with the one before, and the rows may have changed at some time: stretches are then
            compared with their neighbours too, and the most unlike ones are left out. Else with all of a baseline, which is taken as good.
    """
    found: dict[tuple[str, str], float] = {}
    for name, counts in blocks.items():
        values = counts[:, :-2]
        rows = np.stack([counts.sum(axis=1) - counts[:, -2], counts[:, -2]], axis=1)
        nans = np.stack([values.sum(axis=1), counts[:, -1]], axis=1)
        parts = {"percent_null_delta": rows, "percent_nan_delta": nans} | ({test: values} if (test := tests[name]) else {})
        for test, part in parts.items():
            found[name, test] = _alike(part, cumulated=test in _CUMULATED, neighbours=between_neighbours)
    return Thresholds(found)


def _alike(blocks: Counts, *, cumulated: bool, neighbours: bool) -> float:
    """The largest ratio of how much stretches differ to how much they would if rows were independent, over lengths of stretches."""
    largest, blocks = 1.0, blocks[blocks.sum(axis=1) > 0]
    while len(blocks) >= _LEAST_BLOCKS:
        unlike = _between(blocks, cumulated=cumulated) if neighbours else _from_all(blocks, cumulated=cumulated)
        if unlike - 1 >= (_MOVES_ON if neighbours else _MOVES) * (blocks.sum() / len(blocks)):
            return np.inf
        largest = max(largest, unlike)
        even = len(blocks) // 2 * 2
        blocks = blocks[:even:2] + blocks[1:even:2]
    return largest


def _from_all(blocks: Counts, *, cumulated: bool) -> float:
    base, scale = _shape(blocks, cumulated=cumulated)
    if scale <= 0:
        return 1.0
    rows = blocks.sum(axis=1)
    distance = rows * _squares(distances.shares(blocks) - base, cumulated=cumulated) / scale
    return float(distance.sum() / (len(blocks) - 1))


def _between(blocks: Counts, *, cumulated: bool) -> float:
    base, scale = _shape(blocks, cumulated=cumulated)
    if scale <= 0:
        return 1.0

    def kept(counts: Counts) -> float:
        rows = counts.sum(axis=1).astype(np.float64)
        weight = rows[1:] * rows[:-1] / (rows[1:] + rows[:-1])
        distance = weight * _squares(np.diff(distances.shares(counts), axis=0), cumulated=cumulated) / scale
        return float(np.sort(distance)[: int(_KEPT_BLOCKS * len(distance))].mean())

    random, rows = np.random.default_rng(_SEED), blocks.sum(axis=1)
    independent = np.mean([kept(random.multinomial(rows, base)) for _ in range(20)])
    return kept(blocks) / float(independent) if independent > 0 else 1.0


def _shape(blocks: Counts, *, cumulated: bool) -> tuple[Array, float]:
    """The shares of all, and the variance of one row summed over cells."""
    base = distances.shares(blocks.sum(axis=0))
    upto = np.cumsum(base) if cumulated else base
    return base, float((upto * (1 - upto)).clip(min=0).sum())


def _squares(difference: Array, *, cumulated: bool) -> Array:
    found: Array = ((np.cumsum(difference, axis=-1) if cumulated else difference) ** 2).sum(axis=-1)
    return found
