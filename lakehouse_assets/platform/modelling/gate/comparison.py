"""A challenger against one other candidate on the same folds: one paired test with the fold as the unit.

Errors within a fold go up and down together, so a fold is one observation and not as many as it has rows. The test is Fisher's sign-flip
test of the logarithms of the ratios of losses: if both were equally good, each fold's gain might as well have been a loss. What a
comparison means for a promotion is in `decision`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["champion", "baseline", "one-line rule"]
Test = Literal["superiority", "non-inferiority", "on average"]

EXACT_FOLDS: Final = 13
"""Up to so many folds all assignments of signs are counted; beyond, a sample of them that is always the same."""
_SAMPLE: Final = 9_999
SMALLEST_SHARE: Final = 1e-3
"""A loss counts as at least this share of the other candidate's median loss, so that the ratio to a loss of 0 is a number."""


@dataclass(frozen=True)
class FoldScore:
    """How a candidate did on the rows of a fold: the metric's score, and its loss (at least 0, lower is better)."""

    score: float
    loss: float
    rows: int = 0


Folds = Mapping[str, FoldScore]
"""The scores of a candidate by the names of the folds."""


@dataclass(frozen=True)
class PairedFold:
    """Two candidates in one fold."""

    fold: str
    score: float
    opponent_score: float
    loss: float
    opponent_loss: float
    rows: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A challenger against one other candidate.

    Attributes:
        kind: What the other candidate is.
        opponent: Its name.
        metric: Name of the score.
        test: `superiority`: better at the error rate. `non-inferiority`: not worse by more than the margin, at the error rate.
            `on average`: a lower loss, without a test.
        margin: How much worse is allowed, as a share of the opponent's loss.
        least_gain: The smallest gain that is worth a promotion.
        error_rate: Of the test.
        score: Mean over the folds.
        opponent_score: Mean over the folds.
        gain: How much lower the challenger's loss is, as a share of the opponent's, by the geometric mean over the folds. Negative: worse.
        low: Lower end of the interval of the gain; minus infinity with one fold.
        high: Its upper end.
        chance: How often a challenger that is equally good (for non-inferiority: worse by the margin) would look as good as this one.
        better: In how many folds the challenger's loss is lower.
        needed: The fewest folds for a test.
        missing: Folds that one of the two has no score for: they are left out.
        equal: Whether both have the same losses to the last bit.
        passed: Whether the challenger passes.
        by_fold: The folds, in order.
    """

    kind: Kind
    opponent: str
    metric: str
    test: Test
    margin: float
    least_gain: float
    error_rate: float
    score: float
    opponent_score: float
    gain: float
    low: float
    high: float
    chance: float
    better: int
    needed: int
    missing: tuple[str, ...]
    equal: bool
    passed: bool
    by_fold: tuple[PairedFold, ...]

    @property
    def folds(self) -> int:
        """On how many folds the two were compared."""
        return len(self.by_fold)

    @property
    def opponent_loss(self) -> float:
        """Mean of the opponent's losses; NaN without a fold."""
        return _mean([fold.opponent_loss for fold in self.by_fold])

    @property
    def loss(self) -> float:
        """Mean of the challenger's losses; NaN without a fold."""
        return _mean([fold.loss for fold in self.by_fold])

    @property
    def mean_gain(self) -> float:
        """How much lower the mean of the losses is, as a share; one large loss can make it negative while `gain` is not."""
        return 1 - self.loss / self.opponent_loss if self.opponent_loss else 0.0 if not self.loss else -math.inf

    @property
    def enough(self) -> bool:
        """Whether there are enough folds to say anything."""
        return self.passed or self.folds >= self.needed

    @property
    def name(self) -> str:
        """The opponent as a sentence names it."""
        return f"the {self.kind} {self.opponent}" if self.opponent != self.kind else f"the {self.kind}"

    @property
    def scores(self) -> str:
        """The two scores in words."""
        return f"{self.metric} {self.score:.4g} against {self.opponent_score:.4g} for {self.name}"

    def __str__(self) -> str:
        if not self.by_fold:
            return f"{self.metric}: no fold has scores of both the challenger and {self.name}."
        text = self.scores
        if self.equal:
            return f"{text}: the same losses in {_folds(self.folds)}, to the last digit."
        if self.gain * self.mean_gain < 0:
            text += f": the mean loss is {_than(self.mean_gain)}, but"
        else:
            text += ":"
        text += f" by fold a loss {_than(self.gain)} (geometric mean), better in {self.better} of {_folds(self.folds)}"
        if self.folds == 1:
            return f"{text}; one fold does not say how much of that is chance."
        if self.test == "on average":
            return f"{text}."
        what = "an equally good model" if not self.margin else f"a model that is {self.margin:.0%} worse"
        return (
            f"{text} ({1 - 2 * self.error_rate:.0%} interval of the gain {self.low:.1%} to {self.high:.1%}; {what} looks as good in "
            f"{self.chance:.1%} of cases, and up to {self.error_rate:.0%} is allowed)."
        )


def compare(
    challenger: Folds,
    opponent: Folds,
    *,
    kind: Kind,
    name: str,
    metric: str,
    test: Test,
    error_rate: float,
    needed: int,
    margin: float = 0.0,
    least_gain: float = 0.0,
) -> Comparison:
    """Compare on the folds that both have a loss for.

    Besides the test, the mean loss has to be lower (for non-inferiority: within the margin), so that many small gains do not make up for
    one large loss that people would see in the scores.

    Args:
        challenger: Its scores.
        opponent: Those of the other candidate.
        kind: See `Comparison`, as what follows.
        name: Of the opponent.
        metric: Name of the score.
        test: Which.
        error_rate: Of the test.
        needed: The fewest folds.
        margin: Only for non-inferiority.
        least_gain: Only for superiority.
    """
    shared = sorted(fold for fold in challenger.keys() & opponent.keys() if _usable(challenger[fold]) and _usable(opponent[fold]))
    missing = tuple(sorted((challenger.keys() | opponent.keys()) - set(shared)))
    paired = tuple(_paired(fold, challenger[fold], opponent[fold]) for fold in shared)
    losses, others = np.array([fold.loss for fold in paired]), np.array([fold.opponent_loss for fold in paired])
    gains = log_gains(losses, others)
    equal = bool(paired) and bool((losses == others).all())
    chance = float(sign_flip(gains + math.log1p(margin)))
    lower = bool(paired) and (losses.mean() <= (1 + margin) * others.mean() if margin else losses.mean() < others.mean())
    gain, low, high = _interval(gains, error_rate)
    proven = lower and chance <= error_rate and len(paired) >= needed
    # The backtests of one recipe are mostly equal to the bit. What is nowhere worse needs no proof, however few the folds are.
    nowhere_worse = bool(paired) and bool((losses <= others).all())
    passed = {
        "superiority": proven and gain >= least_gain,
        "non-inferiority": proven or nowhere_worse,
        "on average": lower,
    }[test]
    return Comparison(
        kind=kind,
        opponent=name,
        metric=metric,
        test=test,
        margin=margin,
        least_gain=least_gain,
        error_rate=error_rate,
        score=_mean([fold.score for fold in paired]),
        opponent_score=_mean([fold.opponent_score for fold in paired]),
        gain=gain,
        low=low,
        high=high,
        chance=chance,
        better=int((losses < others).sum()),
        needed=needed if test != "on average" else 1,
        missing=missing,
        equal=equal,
        passed=bool(passed),
        by_fold=paired,
    )


def log_gains(losses: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm of `others / losses` by fold: above 0 where `losses` are lower. Losses of 0 count as `SMALLEST_SHARE` says.

    The floor comes from the other candidate alone, so that a lower loss never makes a gain smaller.
    """
    if not len(losses):
        return np.zeros(0)
    for reference in (others, losses):
        if (positive := reference[reference > 0]).size:
            smallest = SMALLEST_SHARE * float(np.median(positive))
            return np.log(np.maximum(others, smallest)) - np.log(np.maximum(losses, smallest))
    return np.zeros(len(losses))


def sign_flip(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of all assignments of signs to the gains whose mean is at least theirs. Exact up to `EXACT_FOLDS` gains.

    A gain that grows never makes it larger: an assignment counts if the gains whose signs it turns add up to nothing or less.

    Args:
        gains: By fold along the last axis.
    """
    if gains.shape[-1] < 2:
        return np.where((gains > 0).any(axis=-1), 0.5, 1.0)
    from scipy.stats import permutation_test  # type: ignore[import-untyped]

    exact = gains.shape[-1] <= EXACT_FOLDS
    tested = permutation_test(
        (gains,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**EXACT_FOLDS if exact else _SAMPLE,
        alternative="greater",
        axis=-1,
        rng=0,
    )
    return np.asarray(tested.pvalue)


def _interval(gains: NDArray[np.float64], error_rate: float) -> tuple[float, float, float]:
    """Gain and its interval by Student's t, as shares of the opponent's loss."""
    if not len(gains):
        return 0.0, -math.inf, 1.0
    mean = float(gains.mean())
    if len(gains) == 1:
        return -math.expm1(-mean), -math.inf, 1.0
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    half = float(stdtrit(len(gains) - 1, 1 - error_rate) * gains.std(ddof=1) / math.sqrt(len(gains)))
    return -math.expm1(-mean), -math.expm1(half - mean), -math.expm1(-half - mean)


def _paired(fold: str, challenger: FoldScore, opponent: FoldScore) -> PairedFold:
    return PairedFold(fold, challenger.score, opponent.score, challenger.loss, opponent.loss, challenger.rows)


def _usable(score: FoldScore) -> bool:
    return math.isfinite(score.loss)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _than(gain: float) -> str:
    """A loss against another, in words."""
    return f"{abs(gain):.1%} {'lower' if gain > 0 else 'higher'}"


def _folds(count: int) -> str:
    return f"{count} fold" if count == 1 else f"{count} folds"
