"""How much quiet windows differ: the windows of a baseline, each compared with the rest of it, or with the one before.

Season, weekdays, and rows that are alike because they are near each other are in these differences, so a threshold made of them knows
them. Three things raise it: chance alone (`thresholds`), the spread of the windows with what so few of them leave unknown, and the largest
differences that all columns together had. One lowers it: what is halfway from the farthest window to the most that can be is an alarm
whatever the spread (further out, if there are few windows), so that a wrong unit is found in every column that does not move with time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lakehouse_assets.platform.monitoring.drift import distances
from lakehouse_assets.platform.monitoring.drift.distances import Array
from lakehouse_assets.platform.monitoring.drift.thresholds import COLUMN_RATE, LEAST_ROWS, TABLE_RATE, TESTS, Independent, squares
from lakehouse_assets.platform.monitoring.profiling.cells import Counts

LEAST_WINDOWS = 8
"""Windows of a baseline without which none is tested."""
MOVES = "it moves with time"
_DRAWS = 200
_MOVING_ORDER, _MOVING, _MOVING_PAIRS = 0.8, 0.35, 0.6
_KEPT, _LEFT_OUT = 0.9, 2
# What leaving out the largest tenth takes from the mean of squares of normal values, and adds to the degrees of freedom they seem to have.
_OF_MEAN, _OF_FREEDOM = 0.62, 1.7
_LARGEST = 0.9999
_MANY_WINDOWS = 100
# How far from the most that can be to the farthest quiet window an alarm is certain: of windows against all, and against the one before,
# where two days may be unusual.
_OF_WAY, _OF_WAY_FROM_BEFORE = 0.5, 0.25
# Days whose effects are not normal are further out than few windows tell: by so many over their number squares are raised.
_UNKNOWN = 25


@dataclass(frozen=True)
class Quiet:
    """The differences of a test between windows that are taken as quiet.

    Attributes:
        test: The metric.
        base: The counts of all windows together.
        values: Of each comparison; NaN where there were too few rows.
        sizes: To how many rows of a window against all each comparison amounts.
        trimmed: Whether some of them may be changes: the largest are left out.
        of_way: How far from the most that can be to the farthest of them an alarm is certain, if there are many.
    """

    test: str
    base: Counts
    values: Array
    sizes: Array
    trimmed: bool = False
    of_way: float = _OF_WAY
    _scale: list[float] = field(default_factory=list)

    @property
    def kept(self) -> Array:
        """Which comparisons count."""
        found = np.flatnonzero(np.isfinite(self.values))
        if not self.trimmed:
            return found
        out = max(_LEFT_OUT, int(np.ceil((1 - _KEPT) * len(found))))
        order = np.argsort(self.values[found] * np.sqrt(self.sizes[found]), kind="stable")
        return np.sort(found[order[: max(len(found) - out, 0)]])

    def at(self, size: float) -> Array:
        """The squares that windows of another size would have had: never less than they may be.

        What rows of one window share does not average out as it grows; what they do not share does.
        """
        if not self._scale:
            self._scale.append(self._common())
        common, kept = self._scale[0], self.kept
        ratio = self.sizes[kept] / size
        factor = np.where(ratio >= 1, ratio, common + (1 - common) * ratio)
        found: Array = np.minimum(self.values[kept] ** 2 * factor, TESTS[self.test].most ** 2)
        return found

    def spread(self, size: float, rate: float) -> float:
        """The square that a new window passes in a share `rate`, by how the windows spread (as a scaled F distribution)."""
        from scipy.special import fdtri  # type: ignore[import-untyped]

        found = self.at(size)
        mean, several = found.mean(), len(found)
        if mean <= 0:
            return 0.0
        var = found.var(ddof=1)
        freedom = (2 * mean**2 / var if var > 0 else 1e4) * (1 - 2 / np.sqrt(several))
        upper = mean + np.sqrt(var / several)
        if self.trimmed:
            upper, freedom = upper / _OF_MEAN, freedom / _OF_FREEDOM
        freedom = float(np.clip(freedom, 1, 1e4))
        # Half of what normal differences would allow: days may be further from the others than these.
        return float((1 + _UNKNOWN / several) * upper * fdtri(freedom, freedom * several / 2, 1 - rate))

    def _common(self) -> float:
        """The share of the squares that the rows of a window have in common."""
        kept = self.kept
        repeats = -(-_DRAWS // max(len(kept), 1))
        chance = squares(self.test, self.base, np.tile(self.sizes[kept], repeats)).reshape(repeats, -1).mean(axis=0)
        if not chance.any():
            return 1.0
        ratio = self.values[kept] ** 2 / np.maximum(chance, chance.mean() / 100)
        mean = ratio.mean() / (_OF_MEAN if self.trimmed else 1)
        upper = mean + ratio.std() / np.sqrt(len(ratio))
        return float(np.clip(1 - 1 / max(upper, 1e-9), 0, 1))


@dataclass
class Calibration:
    """The thresholds of one kind of comparison, of the whole or a slice.

    Attributes:
        quiet: Of each column and test the differences of quiet windows; none: rows count as independent.
        rates: Of each column the false-alarm rate of one test.
        moving: Columns whose values are others at each time.
        windows: How the windows are called.
        tables: Among how many tables (slices, kinds of comparison) the false alarms of the whole are shared out.
        kinds: Among how many kinds of comparison those of a column are.
    """

    quiet: Mapping[tuple[str, str], Quiet] | None
    rates: Mapping[str, float]
    moving: frozenset[str] = frozenset()
    windows: str = "windows"
    tables: int = 1
    kinds: int = 1
    independent: Independent = field(default_factory=Independent)
    _raised: dict[str, float] | None = None
    _known: dict[tuple[str, str, float], tuple[float | None, str | None]] = field(default_factory=dict)

    def threshold(self, column: str, test: str, base: Counts, size: float) -> tuple[float | None, str | None]:
        """The value that a metric passes seldom in quiet windows; None with the reason if no value tells anything.

        Args:
            column: Of the table.
            test: The metric.
            base: The counts that quiet windows are resampled from.
            size: To how many rows of a window against all the comparison amounts.
        """
        if size < LEAST_ROWS / 2:
            return None, f"there are fewer than {LEAST_ROWS} rows"
        if column in self.moving and test in {"ks_test", "js_distance"}:
            return None, MOVES
        size = float(2 ** (np.floor(3 * np.log2(size)) / 3))
        key = (column, test, size)
        if key not in self._known:
            self._known[key] = self._threshold(column, test, base, size)
        return self._known[key]

    def _threshold(self, column: str, test: str, base: Counts, size: float) -> tuple[float | None, str | None]:
        rate = self.rates[column]
        chance = self.independent.threshold(test, base, size, rate)
        if self.quiet is None:
            return chance, None
        quiet, most = self.quiet.get((column, test)), TESTS[test].most
        windows = 0 if quiet is None else len(quiet.kept)
        if quiet is None or windows < LEAST_WINDOWS:
            return None, f"the baseline has {windows} {self.windows} with {LEAST_ROWS} rows, and {LEAST_WINDOWS} are needed"
        if self._raised is None:
            self._raised = self._factors()
        by_spread = np.sqrt(quiet.spread(size, rate) * max(1.0, self._raised.get(column, 1.0), self._raised[""]))
        # The fewer windows there are, the less the farthest of them says.
        known = min(1.0, windows / _MANY_WINDOWS) * quiet.of_way
        far = most - known * (most - np.sqrt(quiet.at(size).max()))
        found = max(chance, min(by_spread, far))
        if found >= _LARGEST * most:
            return None, "its quiet windows differ from each other as much as can be"
        return float(found), None

    def _factors(self) -> dict[str, float]:
        """By how much squares have to be raised so that the quiet windows themselves keep the rates: of each column, and of all (`""`)."""
        raised: dict[str, float] = {}
        whole: list[Array] = []
        for (column, _), quiet in (self.quiet or {}).items():
            kept = quiet.kept
            if quiet.trimmed or len(kept) < LEAST_WINDOWS or column in self.moving:
                continue
            size = float(np.median(quiet.sizes[kept]))
            limit = quiet.spread(size, self.rates[column])
            if limit <= 0:
                continue
            ratio = np.zeros(len(quiet.values))
            ratio[kept] = quiet.at(size) / limit
            raised[column] = max(raised.get(column, 1.0), _conformal(ratio[kept], COLUMN_RATE / self.kinds))
            whole.append(ratio)
        together = np.max(np.stack(whole), axis=0) if whole else np.zeros(0)
        return raised | {"": _conformal(together, TABLE_RATE / self.tables) if len(together) else 1.0}


def _conformal(ratios: Array, rate: float) -> float:
    """The value that one more of the same kind passes in a share `rate` at most, as far as so many tell."""
    at = int(np.ceil((len(ratios) + 1) * (1 - rate)))
    return float(np.sort(ratios)[min(at, len(ratios)) - 1])


def parts(counts: Counts, test: str | None, *, floats: bool) -> Iterator[tuple[str, Counts]]:
    """The counts of windows in the cells of each test: of nulls, of values, of NaN.

    Args:
        counts: With nulls and NaN as the last two cells.
        test: Of the values; None if they are not compared.
        floats: Whether there may be NaN.
    """
    rows, values = counts.sum(axis=-1), counts[..., :-2]
    yield "percent_null_delta", np.stack([rows - counts[..., -2], counts[..., -2]], axis=-1)
    if test is not None:
        yield test, values
    if floats:
        yield "percent_nan_delta", np.stack([values.sum(axis=-1), counts[..., -1]], axis=-1)


def from_rest(test: str, windows: Counts, total: Counts) -> Quiet:
    """The windows of a baseline, each compared with the rest of it."""
    rest, rows = np.maximum(total - windows, 0), windows.sum(axis=1)
    sizes, usable = _sizes(rows, rest.sum(axis=1))
    values = np.full(len(windows), np.nan)
    if usable.any():
        values[usable] = TESTS[test].of(distances.shares(rest[usable]), distances.shares(windows[usable]))
    return Quiet(test, total, values, sizes)


def from_before(test: str, windows: Counts, follows: Sequence[bool] | Array, total: Counts, *, trimmed: bool) -> Quiet:
    """Windows, each compared with the one before."""
    rows = windows.sum(axis=1)
    sizes, usable = _sizes(rows[1:], rows[:-1])
    usable &= np.asarray(follows, dtype=bool)[1:]
    values = np.full(len(usable), np.nan)
    if usable.any():
        values[usable] = TESTS[test].of(distances.shares(windows[:-1][usable]), distances.shares(windows[1:][usable]))
    return Quiet(test, total, values, sizes, trimmed, _OF_WAY_FROM_BEFORE)


def _sizes(rows: Array, compared: Array) -> tuple[Array, Array]:
    usable = (rows >= LEAST_ROWS) & (compared >= LEAST_ROWS)
    with np.errstate(divide="ignore"):
        return 1 / (1 / rows + 1 / compared), usable


def moves(quiet: Quiet, windows: Counts) -> bool:
    """Whether a column has other values at each time, by its windows in order against the rest: a running number, a file name."""
    kept = quiet.kept
    if len(kept) < LEAST_WINDOWS:
        return False
    middle, most = np.median(quiet.values[kept]), TESTS[quiet.test].most
    if quiet.test == "js_distance":
        return bool(middle >= _MOVING_PAIRS * most and middle**2 >= 4 * squares(quiet.test, quiet.base, quiet.sizes[kept]).mean())
    below = np.cumsum(quiet.base) - quiet.base / 2
    place = (windows[kept] * below).sum(axis=1) / windows[kept].sum(axis=1)
    ranks = np.argsort(np.argsort(place, kind="stable"))
    order = abs(np.corrcoef(ranks, np.arange(len(kept)))[0, 1])
    return bool(middle >= _MOVING * most and order >= _MOVING_ORDER)


def moves_on(quiet: Quiet) -> bool:
    """Whether a column has other values in each window than in the one before."""
    kept = quiet.kept
    if len(kept) < LEAST_WINDOWS:
        return False
    middle, most = np.median(quiet.values[kept]), TESTS[quiet.test].most
    return bool(middle >= _MOVING_PAIRS * most and middle**2 >= 4 * squares(quiet.test, quiet.base, quiet.sizes[kept]).mean())
