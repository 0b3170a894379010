"""How predictions are made honest on rows that were not learnt from: probabilities by isotonic regression, bands by conformal prediction.

Which rows those are is for a learner to choose. What is found is a few numbers, stored as JSON.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lakehouse_assets.platform.modelling.metric_inputs import Vector

_PARTS: Final = 5
_LEAST: Final = 1e-15


@dataclass(frozen=True)
class Isotonic:
    """A curve from given to honest probabilities that never falls: straight lines between knots, level outside of them.

    Attributes:
        given: Probabilities of the knots, ascending.
        honest: What they become, never falling.
    """

    given: tuple[float, ...]
    honest: tuple[float, ...]

    def apply(self, probability: Vector) -> Vector:
        """The honest probabilities."""
        calibrated: Vector = np.interp(probability, self.given, self.honest)
        return calibrated

    def to_json(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"given": list(self.given), "honest": list(self.honest)}

    @staticmethod
    def from_json(stored: dict[str, Any]) -> "Isotonic":
        """Read what `to_json` gave."""
        return Isotonic(tuple(stored["given"]), tuple(stored["honest"]))


_AS_IT_IS: Final = Isotonic((0.0, 1.0), (0.0, 1.0))


def isotonic(probability: Vector, came: Vector, weight: Vector) -> Isotonic:
    """The curve that fits best to what came.

    It ends at least one row's worth away from 0 and 1, as some hundred rows do not prove that a thing never happens.

    Args:
        probability: Of rows that were not learnt from, at least one.
        came: 1 where it came, 0 where not.
        weight: How much each row counts.
    """
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(out_of_bounds="clip").fit(probability, came, sample_weight=weight)
    edge = 1 / (len(probability) + 2)
    honest = np.clip(fitted.y_thresholds_, edge, 1 - edge)
    return Isotonic(tuple(map(float, fitted.X_thresholds_)), tuple(map(float, honest)))


def calibration_curve(probability: Vector, came: Vector, weight: Vector) -> Isotonic:
    """The isotonic curve where it is better than the probabilities as they are, beyond chance; else the line that leaves them alone.

    Boosters that minimise log loss are mostly honest by themselves, and a curve through a few hundred rows follows their noise. So it is
    tried on rows that it was not fitted to, in five parts.

    Args:
        probability: As for `isotonic`; so are the others.
        came: 1 where it came, 0 where not.
        weight: How much each row counts.
    """
    part = np.arange(len(probability)) % _PARTS
    gain = np.zeros(len(probability))
    for number in range(_PARTS):
        fitted, tried = part != number, part == number
        if not fitted.any() or not tried.any():
            return _AS_IT_IS
        curve = isotonic(probability[fitted], came[fitted], weight[fitted])
        gain[tried] = _log_loss(probability[tried], came[tried]) - _log_loss(curve.apply(probability[tried]), came[tried])
    mean = float(np.average(gain, weights=weight))
    error = float(np.sqrt(np.sum((weight * (gain - mean)) ** 2))) / float(np.sum(weight))
    return isotonic(probability, came, weight) if mean > error else _AS_IT_IS


def _log_loss(probability: Vector, came: Vector) -> Vector:
    likely = np.clip(np.where(came > 0, probability, 1 - probability), _LEAST, 1.0)
    losses: Vector = -np.log(likely)
    return losses


def conformal_quantile(error: Vector, level: float) -> float:
    """The number that a new error is at most with the given probability, if errors of new rows are as these are.

    Args:
        error: Outcome minus prediction of rows that were not learnt from, at least one.
        level: Between 0 and 1. Beyond what so few rows can tell, it is the largest or smallest error.
    """
    ordered = np.sort(error)
    rank = math.ceil((len(ordered) + 1) * level) if level >= 0.5 else math.floor((len(ordered) + 1) * level)
    return float(ordered[min(max(rank, 1), len(ordered)) - 1])
