"""Whether a window of predictions is worse than it should be by more than chance. Pure functions of numbers and rows.

Each test is one-sided, at a stated rate of false alarms. What is worse is told by losses, so metrics may go either way.

- Against the evaluation of the gate: its rows are cut into windows as long as the one that is judged, and of no more rows. The loss of a
  new window lies below the upper end of the prediction interval that these make (Student's distribution, on square roots of losses, which
  are less skew than losses).
- Against a baseline: the difference of both losses on the same rows, with its standard error by the jackknife over stretches of the window.
- Against a floor: the loss itself, with its standard error by the jackknife.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.declarations.learning import ACTUAL, Metric
from lakehouse_assets.platform.monitoring.accuracy import scoring

LEAST_WINDOWS: Final = 6
"""With fewer windows in the evaluation nothing is judged by them."""
_TIME: Final = "__tested_about"


@dataclass(frozen=True)
class Judged:
    """What a test says.

    Attributes:
        passed: Whether the window is no worse than chance allows; None: not judged.
        threshold: The score from which on it is worse; None: not judged, or as good as usual where no score would be worse.
        usual: What it is compared with, as a score.
        why: Of one that is not judged.
    """

    passed: bool | None
    threshold: float | None = None
    usual: float | None = None
    why: str = ""


def reference_losses(evaluation: pl.DataFrame, about: pl.Expr, metric: Metric, days: int, rows: int) -> list[float]:
    """The losses of windows of an evaluation.

    Args:
        evaluation: Rows of one candidate.
        about: The time that each is about.
        metric: The metric.
        days: How long windows are. They follow each other from the first row on; the last one counts if it is whole.
        rows: Windows with more rows than this are drawn from, so that they are as much up to chance as one of so many.
    """
    timed = evaluation.filter(pl.col(ACTUAL).is_not_null()).with_columns(about.alias(_TIME)).sort(_TIME, maintain_order=True)
    if timed.is_empty():
        return []
    length = timedelta(days=days)
    first, last = timed.select(first=pl.col(_TIME).dt.truncate("1d").min(), last=pl.col(_TIME).max()).row(0)
    number = (pl.col(_TIME) - pl.lit(first)).dt.total_microseconds() // (length // timedelta(microseconds=1))
    whole = (last + timedelta(days=1) - first) // length
    losses = []
    for (position,), part in timed.with_columns(number.cast(pl.Int64).alias("__number")).group_by("__number", maintain_order=True):
        if int(str(position)) >= whole:
            continue
        some = part.sample(rows, seed=int(str(position))) if 0 < rows < part.height else part
        found = scoring.score(metric, some.drop(_TIME, "__number"))
        if found is not None:
            losses.append(metric.loss(found))
    return losses


def against_evaluation(metric: Metric, value: float, losses: Sequence[float], rate: float) -> Judged:
    """Whether a window's score is one that windows of the evaluation have.

    Args:
        metric: The metric.
        value: The score of the window.
        losses: Those of the windows of the evaluation.
        rate: Of false alarms.
    """
    if len(losses) < LEAST_WINDOWS:
        why = f"its evaluation has {len(losses)} windows of this length with a score, and {LEAST_WINDOWS} are needed"
        return Judged(None, why=why)
    roots = np.sqrt(np.asarray(losses))
    mean, spread = float(np.mean(roots)), float(np.std(roots, ddof=1))
    reach = spread * math.sqrt(1 + 1 / len(roots)) * scoring.student(1 - rate, len(roots) - 1)
    return _judged(metric, value, metric.loss(value), (mean + reach) ** 2, _score_of(metric, mean**2, value))


def against_baseline(metric: Metric, rows: pl.DataFrame, plain: pl.DataFrame, part: pl.Expr, rate: float) -> Judged:
    """Whether the model does worse than a baseline on the same rows.

    Args:
        metric: The metric.
        rows: Of the window.
        plain: The same rows with what the baseline says.
        part: The stretch of the window that a row lies in.
        rate: Of false alarms.
    """
    both = rows.with_row_index("__row")

    def difference(some: pl.DataFrame) -> float | None:
        mine, other = scoring.score(metric, some), scoring.score(metric, plain[some["__row"].to_list()])
        return None if mine is None or other is None else metric.loss(mine) - metric.loss(other)

    found, usual = difference(both), scoring.score(metric, plain)
    error = None if found is None else scoring.deviation(scoring.left_out(both, part, difference))
    value = scoring.score(metric, rows)
    if found is None or error is None or usual is None or value is None:
        return Judged(None, why="there are too few outcomes to tell chance by")
    reach = error[0] * scoring.student(1 - rate, error[1])
    return _judged(metric, value, found + metric.loss(usual), metric.loss(usual) + reach, usual)


def against_floor(metric: Metric, rows: pl.DataFrame, floor: float, part: pl.Expr, rate: float) -> Judged:
    """Whether the true score of a window may still be as good as a floor."""
    value = scoring.score(metric, rows)

    def loss(some: pl.DataFrame) -> float | None:
        found = scoring.score(metric, some)
        return None if found is None else metric.loss(found)

    error = scoring.deviation(scoring.left_out(rows, part, loss))
    if value is None or error is None:
        return Judged(None, why="there are too few outcomes to tell chance by")
    limit = metric.loss(floor) + error[0] * scoring.student(1 - rate, error[1])
    return _judged(metric, value, metric.loss(value), limit, floor)


def _judged(metric: Metric, value: float, loss: float, limit: float, usual: float) -> Judged:
    """What a limit says of a loss. If chance explains the worst score that there can be, only what is as good as usual passes."""
    if limit >= metric.worst_loss:
        if loss <= metric.loss(usual):
            return Judged(passed=True, usual=usual)
        return Judged(None, usual=usual, why="there are too few outcomes to tell: the worst score that there can be would be chance")
    return Judged(loss <= limit, _score_of(metric, limit, value), usual)


def _score_of(metric: Metric, loss: float, near: float) -> float:
    """A score with a loss; of several the one on the side of another score. A metric whose losses are something else keeps the loss."""
    best = metric.loss(0.0)
    candidates = [loss, -loss, 1 - loss, 1 + loss, best - loss, best + loss]
    fitting = [one for one in candidates if math.isclose(metric.loss(one), loss, rel_tol=1e-9, abs_tol=1e-12)]
    return min(fitting, key=lambda one: abs(one - near)) if fitting else loss
