"""Slices: a challenger must not be much worse in any part of the rows, even if it is better in all of them together.

Slices are the values of single columns. Losses by slice come from the caller; where the limits are is said by the rule.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from lakehouse_assets.platform.modelling.gate.comparison import Folds, log_gains, sign_flip

_LEAST_FOLDS: Final = 2


@dataclass(frozen=True, kw_only=True)
class SliceComparison:
    """A challenger against another candidate in the rows with one value of one column.

    Attributes:
        slice: The column.
        value: Its value.
        opponent: The other candidate.
        loss: Mean of the challenger's losses over the folds.
        opponent_loss: The same of the other.
        gain: How much lower the challenger's loss is, as a share; the geometric mean over the folds. Negative: it is worse.
        folds: On how many folds.
        rows: In all of them.
        margin: How much worse is allowed beyond doubt; None: the column is not named in the rule.
        worst: How much worse is allowed on average; None: any.
        chance: How often a challenger that is worse by just the margin would look as bad, after Holm's correction for all slices that have
            a margin. 1 where there is none.
        error_rate: Below this chance it is worse than allowed.
    """

    slice: str
    value: str
    opponent: str
    loss: float
    opponent_loss: float
    gain: float
    folds: int
    rows: int
    margin: float | None
    worst: float | None
    chance: float
    error_rate: float

    @property
    def too_bad(self) -> bool:
        """Whether it is proven that the challenger is worse than the margin allows."""
        return self.margin is not None and self.chance <= self.error_rate

    @property
    def far_too_bad(self) -> bool:
        """Whether it is worse than `worst` allows, on average."""
        return self.worst is not None and -self.gain > self.worst

    @property
    def passed(self) -> bool:
        """Whether the challenger holds in this slice."""
        return not self.too_bad and not self.far_too_bad

    def __str__(self) -> str:
        text = (
            f"where {self.slice} is {self.value}, the loss by fold is {abs(self.gain):.1%} {'lower' if self.gain > 0 else 'higher'} than "
            f"that of {self.opponent} (means {self.loss:.4g} against {self.opponent_loss:.4g}, {self.folds} folds, {self.rows:,} rows)"
        )
        if self.too_bad:
            return f"{text}: worse than the {self.margin:.0%} that the rule allows, and that is no chance ({self.chance:.1%} after Holm)."
        if self.far_too_bad:
            return f"{text}: the rule allows {self.worst:.0%} on average in the worst slice."
        return f"{text}."


def compare_slices(
    challenger: Mapping[tuple[str, str], Folds],
    opponent: Mapping[tuple[str, str], Folds],
    *,
    name: str,
    margins: Mapping[str, float],
    worst: float | None,
    error_rate: float,
    needed: int,
) -> tuple[SliceComparison, ...]:
    """Compare in every slice that both have losses for, worst first.

    The test is the sign-flip test, turned round. With few folds it cannot be as sure as many slices demand: then only the average counts.
    With fewer than `needed` folds that is not held against the challenger either, and slices with fewer than two are left out.

    Args:
        challenger: Its scores by (column, value).
        opponent: Those of what it would replace.
        name: Of the opponent.
        margins: How much worse is allowed, by column.
        worst: How much worse is allowed on average in any slice.
        error_rate: Of all tests together.
        needed: Folds from which on an average counts.
    """
    found = []
    for key in sorted(challenger.keys() & opponent.keys()):
        mine, other = challenger[key], opponent[key]
        shared = sorted(fold for fold in mine.keys() & other.keys() if math.isfinite(mine[fold].loss) and math.isfinite(other[fold].loss))
        if len(shared) < _LEAST_FOLDS:
            continue
        losses, others = np.array([mine[fold].loss for fold in shared]), np.array([other[fold].loss for fold in shared])
        gains, margin = log_gains(losses, others), margins.get(key[0])
        found.append(
            SliceComparison(
                slice=key[0],
                value=key[1],
                opponent=name,
                loss=float(losses.mean()),
                opponent_loss=float(others.mean()),
                gain=-math.expm1(-float(gains.mean())),
                folds=len(shared),
                rows=sum(mine[fold].rows for fold in shared),
                margin=margin,
                worst=worst if len(shared) >= needed else None,
                chance=1.0 if margin is None else float(sign_flip(-gains - math.log1p(margin))),
                error_rate=error_rate,
            )
        )
    tested = [position for position, one in enumerate(found) if one.margin is not None]
    for position, chance in zip(tested, holm([found[position].chance for position in tested]), strict=True):
        found[position] = replace(found[position], chance=chance)
    return tuple(sorted(found, key=lambda one: (one.gain, one.slice, one.value)))


def holm(chances: Sequence[float]) -> list[float]:
    """Chances after Holm's correction: of those at most an error rate, any is wrong at no more than that rate."""
    adjusted, largest = [1.0] * len(chances), 0.0
    for rank, position in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        largest = max(largest, min(1.0, (len(chances) - rank) * chances[position]))
        adjusted[position] = largest
    return adjusted
