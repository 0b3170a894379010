"""The gate: what a challenger has to pass to become champion. It compares numbers; aliases are set by `registry`.

The comparison is paired and clustered. All models are scored on the same unseen rows, so what is hard for one is hard
for all and cancels out. Errors of one forecast origin go up and down together, so an origin counts as one observation
and not as its hundreds of rows. The interval is that of a ratio estimator over origins with Student's t (a
Diebold-Mariano test with errors clustered by origin). In simulations with five origins it lets one in twenty models
through that are no better than the baseline, as it says; a block bootstrap lets through one in ten.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

CONFIDENCE: Final = 0.90
# How much worse than the champion, as a share of its score, a challenger may be in the worst case of the interval.
CHAMPION_MARGIN: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A challenger against one other model on the same rows.

    Attributes:
        metric: What the scores are, for example "WAPE". Lower is better.
        opponent: Name of the other model.
        score: Of the challenger.
        opponent_score: Of the other model.
        low: Lower end of the interval of the improvement, `opponent_score - score`.
        high: Its upper end.
        passed: Whether the challenger passes against this one by its improvement.
        equal: Whether both have the same errors.
    """

    metric: str
    opponent: str
    score: float
    opponent_score: float
    low: float
    high: float
    passed: bool
    equal: bool = False

    @property
    def improvement(self) -> float:
        """How much lower the challenger's score is."""
        return self.opponent_score - self.score

    def __str__(self) -> str:
        verdict = "better" if self.improvement > 0 else "worse"
        interval = f"{CONFIDENCE:.0%} interval of the improvement {self.low:.3f} to {self.high:.3f}"
        if math.isinf(self.low):
            interval = "there is one origin only, so how much that may be chance is unknown"
        return (
            f"{self.metric} {self.score:.3f} against {self.opponent_score:.3f} for {self.opponent}: "
            f"{verdict} by {abs(self.improvement):.3f} ({interval})."
        )


@dataclass(frozen=True)
class Decision:
    """Whether a challenger becomes champion, and why: sentences for people, comparisons for tables."""

    promote: bool
    reasons: tuple[str, ...]
    comparisons: tuple[Comparison, ...]


def decide(
    errors: pl.DataFrame,
    *,
    origin: str,
    scale: str,
    challenger: str,
    baselines: Sequence[str],
    champion: str | None = None,
    metric: str = "WAPE",
) -> Decision:
    """Decide whether the challenger becomes champion.

    - It has to beat the best of the naive baselines beyond doubt: the whole interval of the improvement is above zero.
      A model costs more than a baseline to run and to understand, so the burden of proof is with the model.
    - It has to beat the champion on average, and the interval has to rule out that it is worse by more than
      `CHAMPION_MARGIN` of the champion's score. Proof beyond doubt is not asked for: a champion that is trained anew on
      more data is rarely much better, and refusing it would let the model in use grow old. For the same reason it
      passes if its errors are the champion's own to the digit: it is the same method, trained on newer data.

    Args:
        errors: One row for each forecast value that no compared model has seen in training. A score is the sum of a
            model's errors over the sum of `scale`: with absolute errors and absolute actual values that is WAPE.
        origin: Column that says which forecast origin a row belongs to.
        scale: Column with what errors are measured against.
        challenger: Column with the errors of the challenger; its name is used in the reasons, as are the next two.
        baselines: Columns with the errors of the naive baselines.
        champion: Column with the errors of the champion, or None if there is none.
        metric: Name of the score.

    Raises:
        ValueError: There is no baseline, or an error is missing: then the rows are not the same for all.
    """
    if not baselines:
        raise ValueError("the gate needs at least one naive baseline to compare the challenger with")
    candidates = [challenger, *baselines, *([] if champion is None else [champion])]
    _require_same_rows(errors, [scale, *candidates])
    origins = errors.group_by(origin).agg(pl.col(scale, *candidates).sum()).sort(origin)
    best_baseline = min(baselines, key=lambda name: origins[name].sum())

    comparisons = [_compare(origins, scale, challenger, best_baseline, metric, allowed_loss=0.0)]
    if champion is not None:
        comparisons.append(_compare(origins, scale, challenger, champion, metric, allowed_loss=CHAMPION_MARGIN))
    passes_baseline = comparisons[0].passed
    passes_champion = champion is None or comparisons[1].passed or comparisons[1].equal
    promote = passes_baseline and passes_champion
    reasons = [str(comparison) for comparison in comparisons]
    if not passes_baseline:
        reasons.append("It stays challenger: the improvement over the best naive baseline is not beyond doubt.")
    elif not promote:
        reasons.append(
            "It stays challenger: it has to beat the champion on average, and the interval must not reach "
            f"{CHAMPION_MARGIN:.0%} of the champion's {metric} on the other side."
        )
    elif champion is None:
        reasons.append("It becomes champion: there is none so far.")
    elif comparisons[1].equal:
        reasons.append("It becomes champion: the same method, trained on newer data.")
    else:
        reasons.append("It becomes champion.")
    return Decision(promote, tuple(reasons), tuple(comparisons))


def _require_same_rows(errors: pl.DataFrame, columns: list[str]) -> None:
    missing = errors.select((~pl.col(name).cast(pl.Float64).is_finite()).fill_null(value=True).sum() for name in columns)
    for name, count in missing.row(0, named=True).items():
        if count:
            raise ValueError(
                f"{name!r} has no number in {count:,} of {errors.height:,} rows of the comparison: "
                "score all models on the same rows, or leave those rows out for all"
            )
    if errors.is_empty() or errors[columns[0]].sum() <= 0:
        raise ValueError(f"{columns[0]!r} adds up to nothing over {errors.height:,} rows: there is nothing to measure errors against")


def _compare(origins: pl.DataFrame, scale: str, challenger: str, opponent: str, metric: str, *, allowed_loss: float) -> Comparison:
    scales, errors, opponent_errors = (origins[name].cast(pl.Float64).to_numpy() for name in (scale, challenger, opponent))
    score, opponent_score = float(errors.sum() / scales.sum()), float(opponent_errors.sum() / scales.sum())
    improvement = opponent_score - score
    deviation = _half_interval(opponent_errors - errors, scales)
    low, high = improvement - deviation, improvement + deviation
    return Comparison(
        metric=metric,
        opponent=opponent,
        score=score,
        opponent_score=opponent_score,
        low=low,
        high=high,
        passed=improvement > 0 and low > -allowed_loss * opponent_score,
        equal=origins[challenger].equals(origins[opponent], check_names=False),
    )


def _half_interval(gains: NDArray[np.float64], scales: NDArray[np.float64]) -> float:
    """Half the width of the interval of `sum(gains) / sum(scales)` over independent origins (linearised ratio)."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    degrees = len(gains) - 1
    if degrees == 0:
        return math.inf  # one origin says nothing about how much the next may differ
    residuals = (gains - scales * gains.sum() / scales.sum()) / scales.mean()
    deviation = math.sqrt((residuals**2).sum() / degrees / len(gains))
    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2)) * deviation
