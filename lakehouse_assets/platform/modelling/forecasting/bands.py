"""How wide the band around a median has to be, learnt from days that the model had not seen: conformal, by days ahead and by side.

Conformalized quantile regression (Romano, Patterson and Candès 2019), with errors in units of a quantile's distance from the median (CQR-m
of Sesia and Candès 2020), so that a band stays narrow where the model is sure. Neighbouring days err together, so half weeks are what is
counted: with few of them a band is wide. Newer days weigh more. Boosters do not belong here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lakehouse_assets.platform.modelling.quantile import MEDIAN

Numbers = npt.NDArray[np.float64]

BUCKETS = 4
_LEAST_ROWS = 100  # in a bucket, to have a stretch of its own
_HALF_LIFE = 365.0  # days
_HIGHEST_LEVEL = 0.995
_MOST_STRETCH = 4.0
# Without any unseen day a band is this much wider than the model thinks.
_UNKNOWN = 2.0
# How much of last year's rise or fall may fail to come back, as long as it was seen once. As a share of its logarithm.
_SEASON_DOUBT = 0.3


@dataclass(frozen=True)
class Bands:
    """How far each quantile is moved away from the median.

    Attributes:
        quantiles: Ascending, symmetric around the median.
        stretch: For each of `BUCKETS` parts of the horizon and each quantile the factor on its distance from the median.
        horizon: Days ahead that the parts divide.
        doubt: See `season_doubt`.
    """

    quantiles: tuple[float, ...]
    stretch: tuple[tuple[float, ...], ...]
    horizon: int
    doubt: float

    def apply(self, values: Numbers, horizon: Numbers, season: Numbers) -> Numbers:
        """Quantiles that hold, ascending in every row.

        Args:
            values: One row for each forecast and one column for each quantile, ascending.
            horizon: Days ahead of each row.
            season: The factor by which the season moves each row, 1 where none is known.
        """
        middle = self.quantiles.index(MEDIAN)
        median = values[:, [middle]]
        moved = median + np.array(self.stretch)[_bucket(horizon, self.horizon)] * (values - median)
        wider = np.exp(self.doubt * np.abs(np.log(season)))[:, None]
        side = np.sign(np.arange(len(self.quantiles)) - middle)
        # A quantile below zero goes further down where it is doubtful, one above the median further up.
        moved = moved * np.where(moved < 0, wider ** np.abs(side), wider**side)
        ordered: Numbers = np.sort(moved, axis=1)
        return ordered

    def to_json(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "quantiles": list(self.quantiles),
            "stretch": [list(part) for part in self.stretch],
            "horizon": self.horizon,
            "doubt": self.doubt,
        }

    @staticmethod
    def from_json(stored: dict[str, Any]) -> "Bands":
        """Read what `to_json` gave."""
        stretch = tuple(tuple(part) for part in stored["stretch"])
        return Bands(tuple(stored["quantiles"]), stretch, stored["horizon"], stored["doubt"])


def fit_bands(
    quantiles: Sequence[float],
    values: Numbers,
    outcome: Numbers,
    *,
    horizon: Numbers,
    age: Numbers,
    horizons: int,
    half_weeks: float,
    doubt: float,
) -> Bands:
    """The bands that would have held their share of unseen outcomes.

    Args:
        quantiles: Ascending, symmetric around the median.
        values: Their forecasts by models that had not seen the outcomes, ascending in each row.
        outcome: What came, one for each row.
        horizon: Days ahead of each row.
        age: Days since each row's outcome.
        horizons: Most days ahead.
        half_weeks: Half weeks of history, which count as the number of independent errors.
        doubt: See `season_doubt`.
    """
    weight = 0.5 ** (age / _HALF_LIFE)
    bucket = _bucket(horizon, horizons)
    everywhere = np.ones(len(outcome), dtype=bool)
    parts = []
    for part in range(BUCKETS):
        inside = bucket == part
        use = inside if inside.sum() >= _LEAST_ROWS else everywhere
        parts.append(
            tuple(_stretch(position, quantiles, values[use], outcome[use], weight[use], half_weeks) for position in range(len(quantiles)))
        )
    return Bands(tuple(quantiles), tuple(parts), horizons, doubt)


def season_doubt(days_with_season: float) -> float:
    """How far a season that was learnt from so many days is doubted: a share of the logarithm of its factor, nothing after a year."""
    return _SEASON_DOUBT * max(0.0, 1 - days_with_season / 365)


def level_with_few(level: float, independent: float) -> float:
    """The share of past errors that a bound has to hold so that it holds `level` of new ones, if there are so many independent ones."""
    return min(level * (1 + 1 / max(independent, 1)), _HIGHEST_LEVEL)


def weighted_quantile(values: Numbers, weight: Numbers, level: float) -> float:
    """The smallest of the values that at least this share of the weight does not exceed."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    return float(values[order][min(int(np.searchsorted(reached, level * reached[-1])), len(values) - 1)])


def _stretch(  # noqa: PLR0917
    position: int, quantiles: Sequence[float], values: Numbers, outcome: Numbers, weight: Numbers, half_weeks: float
) -> float:
    quantile, median = quantiles[position], values[:, list(quantiles).index(MEDIAN)]
    if quantile == MEDIAN:
        return 1.0
    distance = values[:, position] - median
    has_band = distance != 0
    if not has_band.any():
        return _UNKNOWN if not len(outcome) else 1.0
    needed = (outcome - median)[has_band] / distance[has_band]
    found = weighted_quantile(needed, weight[has_band], level_with_few(max(quantile, 1 - quantile), half_weeks))
    # Less than nothing would turn the band round.
    return min(max(found, 0.0), _MOST_STRETCH)


def _bucket(horizon: Numbers, horizons: int) -> npt.NDArray[np.int64]:
    width = math.ceil(horizons / BUCKETS)
    part: npt.NDArray[np.int64] = np.minimum((horizon - 1) // width, BUCKETS - 1).astype(np.int64)
    return part
