"""The rule of a gate, which a product writes next to its model: what a challenger has to pass to become champion.

Only the words and their limits are here. How challengers are judged by them is in `modelling.gate`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Final, Literal, get_args

from lakehouse_assets.platform.declarations.base import DeclarationError

Mode = Literal["off", "dry run", "on"]
Limits = tuple[float | None, float | None]
"""The smallest and the largest value that passes; None: there is no limit on that side."""

_MOST_ERROR_RATE: Final = 0.2
LEAKAGE: Final = "leakage"
"""How the names of guards begin that a leakage report gives."""
DIFFERS: Final = f"{LEAKAGE}: drift"
"""How the name of the guard begins that says that the newest rows differ from the others, which by itself is no leak."""


@dataclass(frozen=True, kw_only=True)
class NewestLimits:
    """Limits for the newest rows, on which neither backtests nor champion have been tried.

    A model is trained without the newest `days`; it and the new model both predict. A challenger whose newest training data are wrong has
    the backtest losses of a good one, because these were measured before the fault: it is caught here.

    Attributes:
        days: Length of the newest window.
        against_usual: How many times its usual loss (the median over folds) the model without the window may lose in it.
        against_baseline: How many times the loss of the best baseline in the window.
        against_champion: How many times the loss of the champion in the window.
        sums: The sum of the new model's newest predictions, as a multiple of the champion's and of that of the model without the window.
        band: The width of the new model's band, as a multiple of that of the model without the window.
        history: By which share the means of the newest targets and predictions may lie outside of the range that earlier windows of the
            same length had. 0.5: up to half below the lowest and half above the highest.
        inputs: Which share of the inputs may lie outside of such a range.
    """

    days: int = 28
    against_usual: float = 2.0
    against_baseline: float = 1.25
    against_champion: float = 1.25
    sums: Limits = (0.67, 1.5)
    band: Limits = (0.5, 1.5)
    history: float = 0.5
    inputs: float = 0.3

    def __post_init__(self) -> None:
        if self.days < 1:
            raise DeclarationError(f"NewestLimits: days={self.days} is no window: write the number of days, as in days=28")
        for name in ("sums", "band"):
            _require_limits(f"NewestLimits: {name}", getattr(self, name))
        for name in ("against_usual", "against_baseline", "against_champion", "history", "inputs"):
            if not getattr(self, name) >= 0:
                raise DeclarationError(f"NewestLimits: {name}={getattr(self, name)} is below 0: write a number from 0 on")


@dataclass(frozen=True, kw_only=True)
class LeakageLimits:
    """From which number on a finding about a training set warns, and from which it refuses a model. Infinity: never.

    Attributes:
        determines: How much of the target a column alone predicts on held-out rows, from 0 to 1 (R², 2·AUC - 1, or accuracy beyond the
            commonest class).
        beyond: And how many times less it leaves unexplained than the best of the other columns, those left out that are perfect too.
        equals: Share of rows in which a column equals the target.
        clock: Rank correlation of a column with the time of the prediction.
        identifier: Share of rows with a value of their own, of texts and whole numbers.
        drift: AUC by which test rows are told from training rows.
        assumed: Share of rows with times that are only assumed.
        early: Share of rows whose target was known before the prediction is made.
        known: Inputs that are known when a prediction is made, whatever they look like, as a forecast of the weather: none of them is an
            answer, a clock or the name of a row, and rows are not told apart by them. The month, week, weekday or hour of the prediction's
            time need not be named.
    """

    determines: tuple[float, float] = (0.95, 0.99)
    beyond: float = 5.0
    equals: tuple[float, float] = (0.99, 0.999)
    clock: tuple[float, float] = (0.99, math.inf)
    identifier: tuple[float, float] = (0.9, math.inf)
    drift: tuple[float, float] = (0.8, math.inf)
    assumed: tuple[float, float] = (math.inf, math.inf)
    early: tuple[float, float] = (1e-9, 0.01)
    known: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a challenger has to pass to become champion.

    Example:
        `Gate(slices={"country": 0.1}, guards={"coverage": (0.72, 0.88), "latency_ms": (None, 50)}, approval=True)`

    Attributes:
        mode: `on` judges and promotes. `dry run` judges and writes the result down, and no alias moves, except that a baseline becomes
            champion where there is none, so that there are predictions. `off` promotes every new version without a test.
        error_rate: How often a challenger that is only equally good may pass a comparison by chance; for a refresh, one that is worse by
            the whole margin.
        folds: The fewest folds on which a challenger can be compared. With fewer the answer is "not enough history", and a person decides.
        least_gain: By how much the loss of a change, or of a first model, has to be lower, as a share: less is not worth another model, and
            twins with other seeds differ by as much.
        margin: How much worse than the champion a refresh (same recipe, newer data) may be: 0.05 is 5 % of the champion's loss.
        slices: How much worse than what it replaces a challenger may be in any value of these columns; the test is for all values together
            (Holm). 0.1 is 10 %.
        worst_slice: How much worse it may be, on average over the folds, in the worst value of any slice column, named or not. None: any.
        guards: Limits of values that are measured with the challenger, by name: `calibration_error`, `coverage`, `bias`, `latency_ms`,
            `size_mb` and whatever else is measured. A guard without a value does not pass.
        newest: Limits for the newest rows. None: they are not looked at, and a refresh is judged by its folds alone.
        leakage: Limits for what gives the target away in the training set. None: it is not looked for.
        approval: Whether a named person has to approve what passed before it becomes champion.
        shadow: How long the old champion goes on in the shadow, where its losses can call it back. Zero: not at all. At an error rate of
            5 % that takes at least seven periods of live losses, so a shadow of seven days or weeks.
    """

    mode: Mode = "on"
    error_rate: float = 0.05
    folds: int = 5
    least_gain: float = 0.01
    margin: float = 0.05
    slices: Mapping[str, float] = field(default_factory=dict)
    worst_slice: float | None = 0.5
    guards: Mapping[str, Limits] = field(default_factory=dict)
    newest: NewestLimits | None = field(default_factory=NewestLimits)
    leakage: LeakageLimits | None = field(default_factory=LeakageLimits)
    approval: bool = False
    shadow: timedelta = timedelta(days=56)

    def __post_init__(self) -> None:
        object.__setattr__(self, "slices", MappingProxyType(dict(self.slices)))
        object.__setattr__(self, "guards", MappingProxyType(dict(self.guards)))
        if self.mode not in get_args(Mode):
            raise DeclarationError(f"Gate: mode={self.mode!r} is unknown: write one of {', '.join(map(repr, get_args(Mode)))}")
        if not 0 < self.error_rate <= _MOST_ERROR_RATE:
            raise DeclarationError(
                f"Gate: error_rate={self.error_rate} is not above 0 and up to {_MOST_ERROR_RATE}: write a share, as in 0.05 for 5 %"
            )
        if self.folds < self.fewest_folds:
            raise DeclarationError(
                f"Gate: folds={self.folds} are too few to tell anything from chance at error_rate={self.error_rate}: write at least "
                f"folds={self.fewest_folds}"
            )
        for name, margin in {
            "least_gain": self.least_gain,
            "margin": self.margin,
            "worst_slice": self.worst_slice or 0.0,
            **self.slices,
        }.items():
            if not 0 <= margin < math.inf:
                raise DeclarationError(f"Gate: {name}={margin} is no share of a loss: write a number from 0 on, as in 0.05 for 5 %")
        for name, limits in self.guards.items():
            _require_limits(f"Gate: guard {name!r}", limits)
        if self.shadow < timedelta(0):
            raise DeclarationError(f"Gate: shadow={self.shadow} is negative: write timedelta(0) for none")

    @property
    def fewest_folds(self) -> int:
        """With fewer folds a model that is better in every one of them may still be so by chance, at this error rate."""
        return math.ceil(math.log2(1 / self.error_rate) - 1e-9)


def _require_limits(where: str, limits: Limits) -> None:
    if not isinstance(limits, tuple) or len(limits) != 2:
        raise DeclarationError(f"{where}: {limits!r} is no pair of limits: write (low, high), with None for no limit, as in (None, 0.02)")
    low, high = limits
    if (low is None and high is None) or not (-math.inf if low is None else low) <= (math.inf if high is None else high):
        raise DeclarationError(f"{where}: nothing lies in {limits!r}, or everything: write (low, high) with low up to high")
