"""The gate: what a challenger has to pass to become champion. It compares numbers; aliases are set by `registry`.

The comparison is paired and clustered. All models are scored on the same unseen rows, so what is hard for one is hard for all and cancels
out. Errors of one forecast origin go up and down together, so an origin counts as one observation and not as its hundreds of rows.

Whether a model is better than a baseline is decided by Fisher's sign-flip test over origins: if the two were equally good, each origin's
gain might as well have been a loss. The test is exact for any number of origins, and one origin with a very large gain, such as Christmas,
does not count against the model. The interval, of a ratio estimator with Student's t (a Diebold-Mariano test with errors
clustered by origin), says how large the difference may be; against a champion it is what counts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

CONFIDENCE: Final = 0.90
# How often a model that is no better than the baseline may seem so by chance. With few origins no test can be as sure as that: then the
# model has to be better from each of them.
CHANCE: Final = 0.05
_MOST_FLIPS: Final = 4096
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
        chance: How often equally good models would differ as much, by the sign-flip test.
        better_origins: From how many origins the challenger is better.
        origins: How many there are.
        passed: Whether the challenger passes against this one by its improvement.
        equal: Whether both have the same errors.
    """

    metric: str
    opponent: str
    score: float
    opponent_score: float
    low: float
    high: float
    chance: float
    better_origins: int
    origins: int
    passed: bool
    equal: bool = False

    @property
    def improvement(self) -> float:
        """How much lower the challenger's score is."""
        return self.opponent_score - self.score

    def __str__(self) -> str:
        text = f"{self.metric} {self.score:.3f} against {self.opponent_score:.3f} for {self.opponent}"
        if self.equal:
            return f"{text}: the same errors."
        verdict = "better" if self.improvement > 0 else "worse"
        text += f": {verdict} by {abs(self.improvement):.3f}, better from {self.better_origins} of {self.origins} origins"
        if self.origins == 1:
            return f"{text}; one origin alone does not say how much of that is chance."
        return f"{text} (by chance {self.chance:.0%} of the time; {CONFIDENCE:.0%} interval {self.low:.3f} to {self.high:.3f})."


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

    - It has to beat the best of the naive baselines beyond chance: see `CHANCE`. A model costs more than a baseline to run and to
      understand, so the burden of proof is with the model.
    - It has to beat the champion on average, and the interval has to rule out that it is worse by more than
      `CHAMPION_MARGIN` of the champion's score. Proof beyond doubt is not asked for: a champion that is retrained on
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

    comparisons = [_against_baseline(_compare(origins, scale, challenger, best_baseline, metric))]
    if champion is not None:
        comparisons.append(_against_champion(_compare(origins, scale, challenger, champion, metric)))
    passes_baseline = comparisons[0].passed
    passes_champion = champion is None or comparisons[1].passed or comparisons[1].equal
    promote = passes_baseline and passes_champion
    reasons = [str(comparison) for comparison in comparisons]
    if not passes_baseline:
        reasons.append("It stays challenger: the improvement over the best naive baseline may be chance.")
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


def _compare(origins: pl.DataFrame, scale: str, challenger: str, opponent: str, metric: str) -> Comparison:
    scales, errors, opponent_errors = (origins[name].cast(pl.Float64).to_numpy() for name in (scale, challenger, opponent))
    score, opponent_score = float(errors.sum() / scales.sum()), float(opponent_errors.sum() / scales.sum())
    gains = opponent_errors - errors
    deviation = _half_interval(gains, scales)
    return Comparison(
        metric=metric,
        opponent=opponent,
        score=score,
        opponent_score=opponent_score,
        low=opponent_score - score - deviation,
        high=opponent_score - score + deviation,
        chance=_chance(gains),
        better_origins=int((gains > 0).sum()),
        origins=len(gains),
        passed=False,
        equal=origins[challenger].equals(origins[opponent], check_names=False),
    )


def _against_baseline(comparison: Comparison) -> Comparison:
    everywhere = comparison.origins > 1 and comparison.better_origins == comparison.origins
    return replace(comparison, passed=comparison.improvement > 0 and (comparison.chance <= CHANCE or everywhere))


def _against_champion(comparison: Comparison) -> Comparison:
    return replace(comparison, passed=comparison.improvement > 0 and comparison.low > -CHAMPION_MARGIN * comparison.opponent_score)


def _chance(gains: NDArray[np.float64]) -> float:
    """The share of all assignments of signs to the gains whose sum is as large as theirs; of many gains, of a sample of assignments."""
    if 2 ** len(gains) <= _MOST_FLIPS:
        signs = np.array(list(product((1, -1), repeat=len(gains))))
    else:
        signs = np.random.default_rng(0).choice((1, -1), size=(_MOST_FLIPS, len(gains)))
        signs[0] = 1
    return float((signs @ gains >= gains.sum() * (1 - 1e-12)).mean())


def _half_interval(gains: NDArray[np.float64], scales: NDArray[np.float64]) -> float:
    """Half the width of the interval of `sum(gains) / sum(scales)` over independent origins (linearised ratio)."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    degrees = len(gains) - 1
    if degrees == 0:
        return math.inf  # one origin says nothing about how much the next may differ
    residuals = (gains - scales * gains.sum() / scales.sum()) / scales.mean()
    deviation = math.sqrt((residuals**2).sum() / degrees / len(gains))
    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2)) * deviation
