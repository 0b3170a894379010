"""Numbers about rows of predictions: scores with intervals, estimates before outcomes are known, coverage by age. Pure functions.

Rows have the columns of a prediction, `actual` (null: not known) and `__about`. Metrics are those of the model.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.declarations.actual_outcomes import ABOUT, REPORTED_AT
from lakehouse_assets.platform.declarations.learning import ACTUAL, LABEL_KNOWN_AT, Metric
from lakehouse_assets.platform.modelling.metric_inputs import Vector
from lakehouse_assets.platform.modelling.targets import PROBABILITY

AGES: Final = (1, 7, 14, 28, 70)
"""Days after which the share of predictions with an outcome is told."""
CONFIDENCE: Final = 0.95
"""Of the intervals."""
DRAWS: Final = 15
"""So many times outcomes are drawn from the probabilities for an estimate."""
_LEAST_PARTS: Final = 3


@dataclass(frozen=True)
class Scored:
    """A number with its interval; None: there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None


def score(metric: Metric, rows: pl.DataFrame) -> float | None:
    """The score of the rows that have an outcome; None if they do not allow one."""
    known = rows.filter(pl.col(ACTUAL).is_not_null())
    if known.is_empty():
        return None
    value = float(metric.score(known))
    return value if math.isfinite(value) else None


def left_out(rows: pl.DataFrame, part: pl.Expr, scored: Callable[[pl.DataFrame], float | None]) -> list[float]:
    """The scores of the rows without each part in turn, those that there are."""
    parts = rows.select(part.alias("part"))["part"]
    values = [scored(rows.filter(parts != one)) for one in parts.unique().sort()]
    return [value for value in values if value is not None]


def deviation(replicates: Sequence[float]) -> tuple[float, int] | None:
    """The standard error of a number by the jackknife, with its degrees of freedom; None of too few parts.

    Args:
        replicates: What the number is without each part of the rows in turn: parts, as days, may depend on each other far less than the
            rows within them do (Quenouille 1956, Tukey 1958).
    """
    count = len(replicates)
    if count < _LEAST_PARTS:
        return None
    return math.sqrt((count - 1) / count * float(np.sum((np.asarray(replicates) - np.mean(replicates)) ** 2))), count - 1


def student(share: float, freedom: int) -> float:
    """The quantile of Student's distribution."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    return float(stdtrit(freedom, share))


def measure(metric: Metric, rows: pl.DataFrame, part: pl.Expr) -> Scored:
    """The score of rows, and the interval that the true one lies in at `CONFIDENCE`: the jackknife over parts, with Student's quantile."""
    value = score(metric, rows)
    if value is None:
        return Scored(None)
    found = deviation(left_out(rows, part, lambda some: score(metric, some)))
    if found is None:
        return Scored(value)
    reach = found[0] * student((1 + CONFIDENCE) / 2, found[1])
    return _within(metric, value, reach)


def _within(metric: Metric, value: float, reach: float) -> Scored:
    """A number with its interval, which ends where scores do."""
    low, high = value - reach, value + reach
    if metric.loss(1.0) == 0 and metric.loss(0.0) == 1:  # a share
        return Scored(value, max(low, 0.0), min(high, 1.0))
    is_loss = metric.loss(0.0) == 0 and metric.loss(-1.0) == -1.0
    return Scored(value, max(low, 0.0) if is_loss else low, high)


# --- before outcomes are known


def has_probabilities(rows: pl.DataFrame) -> bool:
    """Whether outcomes can be estimated."""
    return any(name == PROBABILITY or name.startswith(f"{PROBABILITY}_") for name in rows.columns)


def estimate(metric: Metric, rows: pl.DataFrame, seed: int) -> Scored:
    """What the score will be if the probabilities are right: the mean over outcomes that are drawn from them, and the interval of one draw.

    Every metric can be estimated so, as the expected confusion matrix is for what is added up by row. Probabilities that are not
    calibrated, or that a change of the world has made wrong, give a wrong estimate: the difference from what came true says how far.

    Args:
        metric: The metric.
        rows: All rows, whether or not their outcomes are known.
        seed: Of the draws.
    """
    chance = np.random.default_rng(seed)
    draw = _drawing(rows)
    blind = rows.drop(ACTUAL, strict=False)
    scores = [score(metric, blind.with_columns(draw(chance))) for _ in range(DRAWS)]
    values = np.array([value for value in scores if value is not None])
    # Where many draws have no score, as of one class, those that have one are not what is to be expected.
    if len(values) <= DRAWS // 2:
        return Scored(None)
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    reach = spread * math.sqrt(1 + 1 / len(values)) * student((1 + CONFIDENCE) / 2, len(values) - 1)
    return _within(metric, mean, reach)


def _drawing(rows: pl.DataFrame) -> Callable[[np.random.Generator], pl.Series]:
    if PROBABILITY in rows.columns:
        probability = rows[PROBABILITY].cast(pl.Float64).fill_null(0.0).to_numpy()
        return lambda chance: pl.Series(ACTUAL, chance.random(rows.height) < probability)
    names = [name for name in rows.columns if name.startswith(f"{PROBABILITY}_")]
    reached = np.cumsum(rows.select(pl.col(names).cast(pl.Float64).fill_null(0.0)).to_numpy(), axis=1)
    classes = np.array([name.removeprefix(f"{PROBABILITY}_") for name in names])

    def drawn(chance: np.random.Generator) -> pl.Series:
        place = (chance.random(rows.height)[:, None] * reached[:, -1:] > reached).sum(axis=1)
        return pl.Series(ACTUAL, classes[np.minimum(place, len(classes) - 1)])

    return drawn


# --- right and wrong decisions


CONFUSION: Final = ("true positives", "false positives", "false negatives", "true negatives")
"""Metrics that are counts of rows, where the model gives the probability of one class."""


def confusion(rows: pl.DataFrame, positive: pl.Expr) -> dict[str, Scored]:
    """How many rows were rightly and wrongly decided as positive and as negative; none where none has an outcome."""
    known = rows.filter(pl.col(ACTUAL).is_not_null())
    if known.is_empty() or not (known.schema[ACTUAL] == pl.Boolean or known.schema[ACTUAL].is_numeric()):
        return {}
    came = known[ACTUAL].cast(pl.Float64).to_numpy() > 0
    is_positive = known.select(positive.fill_null(value=False)).to_series().to_numpy()
    counts = [came & is_positive, ~came & is_positive, came & ~is_positive, ~came & ~is_positive]
    return {name: Scored(float(np.sum(one))) for name, one in zip(CONFUSION, counts, strict=True)}


def expected_confusion(rows: pl.DataFrame, positive: pl.Expr) -> dict[str, Scored]:
    """The same, as the probabilities say: sums of them, with the interval of sums of independent rows."""
    p = rows[PROBABILITY].cast(pl.Float64).fill_null(0.0).to_numpy()
    is_positive = rows.select(positive.fill_null(value=False)).to_series().to_numpy()
    reach = student((1 + CONFIDENCE) / 2, 1_000_000)

    def summed(chance: Vector, some: Any) -> Scored:
        mean, spread = float(np.sum(chance[some])), math.sqrt(float(np.sum((p * (1 - p))[some])))
        return Scored(mean, max(mean - reach * spread, 0.0), mean + reach * spread)

    found = (summed(p, is_positive), summed(1 - p, is_positive), summed(p, ~is_positive), summed(1 - p, ~is_positive))
    return dict(zip(CONFUSION, found, strict=True))


# --- coverage


def coverage_by_age(rows: pl.DataFrame, end: datetime, now: datetime, usual: Any) -> Iterator[tuple[str, float]]:
    """By the age of predictions the share that had an outcome by then, as `labelled after 7 days`.

    Where an outcome is the usual one if nothing was said until it is settled, also the share of the others that had been said by then, of
    those that were said at all, as `reported after 7 days`.

    Args:
        rows: Of a window, with `label_known_at` and `reported_at`.
        end: Of the window: an age is told once all of it has reached it.
        now: The moment.
        usual: See `Outcomes.usual`.
    """
    for days in AGES:
        age = timedelta(days=days)
        if end + age > now:
            return
        by_then = pl.col(ABOUT) + age
        yield f"labelled after {days} days", rows.select((pl.col(LABEL_KNOWN_AT) <= by_then).fill_null(value=False).mean()).item()
        said = rows.filter(pl.col(ACTUAL).is_not_null(), pl.col(REPORTED_AT).is_not_null()) if usual is not None else rows.clear()
        if said.height:
            yield f"reported after {days} days", said.select((pl.col(REPORTED_AT) <= by_then).mean()).item()
