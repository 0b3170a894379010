"""After a promotion: the old champion goes on in the shadow, and its live losses call it back or confirm the new one.

Two e-processes bet on the losses of each period as they come. They may be looked at after every period without a loss of their error rate
(Ville's inequality), which a test that is repeated does not allow.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lakehouse_assets.platform.declarations.gates import Gate
from lakehouse_assets.platform.modelling.gate.comparison import compare
from lakehouse_assets.platform.modelling.gate.losses import Losses
from lakehouse_assets.platform.wording import counted

SCALE: Final = 0.2
"""A loss that is 20 % lower in a period is a win in full: more counts as that, so that one period alone proves nothing."""
_BETS: Final = np.linspace(0.05, 0.95, 19)
"""The shares of its wealth that a gambler may put on each period; their mean is an e-process too, and none has to be chosen ahead."""


@dataclass(frozen=True)
class Recall:
    """What the live losses of a new champion say so far.

    Attributes:
        verdict: `call back`: the old champion was better. `confirm`: the new one is not worse by more than the margin, or the shadow is
            over and nothing spoke against it. `go on`: it is not known yet.
        reasons: Sentences, with numbers.
        against: The largest evidence (an e-value) so far that the new champion is worse than the old one.
        in_favour: The largest evidence so far that it is not worse by more than the margin.
        needed: From which evidence on it counts: one over the error rate.
        periods: How many there are.
    """

    verdict: Literal["call back", "confirm", "go on"]
    reasons: tuple[str, ...]
    against: float
    in_favour: float
    needed: float
    periods: int


def recall(
    live_losses: pl.DataFrame, rule: Gate, *, champion: str, previous: str, metric: str = "loss", shadow_over: bool = False
) -> Recall:
    """Whether the previous champion is called back.

    If the new one is no worse, it is called back at a rate of at most `rule.error_rate`, however often and however long one looks. Periods
    are the observations: at an error rate of 5 % it takes at least seven, each worse by `SCALE` or more. Short periods tell sooner.

    Args:
        live_losses: As for `decide`; a fold is a period of live predictions whose outcomes are known. Its names sort as periods do.
        rule: Of the model.
        champion: The candidate that is champion now.
        previous: The one that was it before.
        metric: As people call the score.
        shadow_over: Whether `rule.shadow` is over.

    Raises:
        ValueError: See `decide`.
    """
    table = Losses.of(live_losses)
    compared = compare(
        table.overall(champion),
        table.overall(previous),
        kind="champion",
        name=previous,
        metric=metric,
        test="on average",
        error_rate=rule.error_rate,
        needed=1,
    )
    losses = np.array([fold.loss for fold in compared.by_fold])
    gains = np.log(_positive(np.array([fold.opponent_loss for fold in compared.by_fold]))) - np.log(_positive(losses))
    against, in_favour = evidence(-gains), evidence(gains + math.log1p(rule.margin))
    needed = 1 / rule.error_rate
    verdict: Literal["call back", "confirm", "go on"] = "go on"
    if against >= needed:
        verdict = "call back"
        said = (
            f"The previous champion {previous} is called back: the new one is worse, with evidence of {against:.3g} "
            f"(from {needed:.3g} on it counts)."
        )
    elif in_favour >= needed:
        verdict = "confirm"
        said = (
            f"The new champion is confirmed: it is not worse by more than {rule.margin:.0%}, with evidence of {in_favour:.3g} "
            f"(from {needed:.3g} on it counts)."
        )
    elif shadow_over:
        verdict = "confirm"
        said = (
            f"The new champion is confirmed: the shadow of {counted(rule.shadow.days, 'day')} is over, and there is no proof against it "
            f"(evidence of {against:.3g}, from {needed:.3g} on it counts)."
        )
    else:
        said = f"Not known yet: evidence of {against:.3g} against the new champion and {in_favour:.3g} for it, and {needed:.3g} is needed."
    numbers = (
        f"{metric} {compared.score:.4g} against {compared.opponent_score:.4g} for {previous} in "
        f"{counted(compared.folds, 'period')}, better in {compared.better} of them."
        if compared.folds
        else "No period has live losses of both yet."
    )
    return Recall(verdict, (numbers, said), against, in_favour, needed, compared.folds)


def evidence(gains: NDArray[np.float64]) -> float:
    """The largest e-value along a sequence of log ratios, against the claim that they are at most 0 on average.

    Gains are cut at `SCALE` on both sides, so that every bet is fair and one period has a bounded say.
    """
    outcomes = np.clip(gains / SCALE, -1.0, 1.0)
    wealth = np.cumprod(1.0 + np.outer(_BETS, outcomes), axis=1).mean(axis=0)
    return float(wealth.max(initial=1.0))


def _positive(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """A loss of 0 is a win in full, and two of them are a draw: any small number does, as gains are cut."""
    return np.maximum(losses, np.finfo(np.float64).tiny)
