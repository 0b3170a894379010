"""How well each column alone predicts the target, on rows that its rule has not seen: the search for inputs that give the answer away.

A rule is a table from a column's values, or ranges of them, to the mean of the target, or a straight line. What a score means for a
training set is decided in `leakage`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

Floats: TypeAlias = npt.NDArray[np.float64]
Codes: TypeAlias = npt.NDArray[np.int64]
Task = Literal["regression", "binary", "classes"]

_RANGES = 64
_MOST_CLASSES = 20
# A mean of few rows is drawn to that of all: so many rows of the average row are added.
_PRIOR = 5.0
MEASURES: dict[Task, str] = {"regression": "R²", "binary": "AUC", "classes": "accuracy"}


@dataclass(frozen=True)
class Rule:
    """The best rule of one column.

    Attributes:
        input: The column.
        score: R², AUC or accuracy on held-out rows.
        strength: The score from 0, as good as a constant, to 1, perfect.
        equal: Share of rows in which the column equals the target; 0 if it cannot be compared.
    """

    input: str
    score: float
    strength: float
    equal: float


@dataclass(frozen=True)
class Target:
    """A target as numbers: values, or the numbers of classes."""

    task: Task
    values: Floats

    @classmethod
    def of(cls, target: pl.Series) -> "Target":
        """Numbers with many values are a regression; all else is classes."""
        numeric = target.dtype.is_numeric()
        classes = target.n_unique()
        if numeric and (classes > _MOST_CLASSES or (target.dtype.is_float() and classes > 2)):
            return cls("regression", target.cast(pl.Float64).to_numpy())
        codes = ranks(target).astype(np.float64)
        return cls("binary" if classes <= 2 else "classes", codes)

    @property
    def is_constant(self) -> bool:
        """Whether there is nothing to predict."""
        return bool(len(self.values) == 0 or (self.values == self.values[0]).all())


def search(rows: pl.DataFrame, inputs: Sequence[str], target: str, held_out: npt.NDArray[np.bool_]) -> tuple[Task, list[Rule]]:
    """The best rule of each column, strongest first.

    Args:
        rows: Inputs and target, without nulls in the target.
        inputs: The columns to try.
        target: What they shall predict.
        held_out: The rows that rules are scored on; they are found on the others.
    """
    wanted = Target.of(rows[target])
    if wanted.is_constant or not held_out.any() or held_out.all():
        return wanted.task, []
    found = [_best(rows[name], rows[target], wanted, held_out) for name in inputs]
    return wanted.task, sorted(found, key=lambda rule: (-rule.strength, rule.input))


def ranks(values: pl.Series) -> Codes:
    """The place of each value among the distinct ones, from 0 on; null comes first."""
    if values.dtype.is_nested():
        values = pl.Series([repr(value) for value in values.to_list()], dtype=pl.String)
    elif isinstance(values.dtype, pl.Enum | pl.Categorical):
        values = values.cast(pl.String)
    dense = values.rank("dense").cast(pl.Int64)
    return dense.fill_null(0).to_numpy() - (0 if values.null_count() else 1)


def numbers(values: pl.Series) -> Floats | None:
    """Numbers, times and Booleans as floats, null as NaN; None for all else."""
    dtype = values.dtype
    if dtype.is_temporal():
        values = values.to_physical()
    elif not (dtype.is_numeric() or dtype == pl.Boolean):
        return None
    return values.cast(pl.Float64).to_numpy()


def _best(values: pl.Series, given: pl.Series, target: Target, held_out: npt.NDArray[np.bool_]) -> Rule:
    tried = [_by_code(codes, target, held_out) for codes in _divisions(values, ~held_out)]
    as_numbers = numbers(values)
    if target.task == "regression" and as_numbers is not None:
        tried.append(_by_line(as_numbers, target, held_out))
    score, strength = max(tried, key=lambda one: one[1])
    return Rule(values.name, score, max(strength, 0.0), _equal(values, given))


def _divisions(values: pl.Series, seen: npt.NDArray[np.bool_]) -> list[Codes]:
    """Ways to divide the rows by a column: by its values, and by ranges where there are many."""
    by_value = ranks(values)
    as_numbers = numbers(values)
    if as_numbers is None or by_value.max(initial=0) < _RANGES:
        return [by_value]
    known = as_numbers[seen & ~np.isnan(as_numbers)]
    edges = _edges(known) if len(known) else np.array([])
    by_range = np.where(np.isnan(as_numbers), len(edges) + 1, np.searchsorted(edges, as_numbers, side="right"))
    return [by_range] if values.dtype.is_float() else [by_range, by_value]


def _edges(known: Floats) -> Floats:
    """Where ranges begin. A value that fills a whole range, such as 0 where nothing was refunded, is apart from those just above it."""
    edges, count = np.unique(np.quantile(known, np.linspace(0, 1, _RANGES + 1)[1:-1]), return_counts=True)
    return np.unique(np.concatenate([edges, np.nextafter(edges[count > 1], np.inf)]))


def _by_code(codes: Codes, target: Target, held_out: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Each group predicts what the target was in it."""
    seen, groups = ~held_out, int(codes.max(initial=0)) + 1
    count = np.bincount(codes[seen], minlength=groups).astype(np.float64)
    if target.task == "classes":
        classes = target.values.astype(np.int64)
        kinds = int(classes.max()) + 1
        table = np.bincount(codes[seen] * kinds + classes[seen], minlength=groups * kinds).reshape(groups, kinds)
        overall = np.bincount(classes[seen], minlength=kinds)
        predicted = (table + 1e-6 * overall / overall.sum()).argmax(axis=1)[codes[held_out]]
        return _accuracy(predicted, classes[held_out])
    mean = target.values[seen].mean()
    total = np.bincount(codes[seen], weights=target.values[seen], minlength=groups)
    prior = _PRIOR if target.task == "regression" else 1.0
    predicted = ((total + prior * mean) / (count + prior))[codes[held_out]]
    return _score(predicted, target, held_out)


def _by_line(values: Floats, target: Target, held_out: npt.NDArray[np.bool_]) -> tuple[float, float]:
    filled = np.where(np.isfinite(values), values, np.nan)
    usable = ~held_out & ~np.isnan(filled)
    mean = float(target.values[~held_out].mean())
    if usable.sum() < 3 or np.ptp(filled[usable]) == 0:
        return 0.0, 0.0
    x, y = filled[usable], target.values[usable]
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    predicted = np.where(np.isnan(filled), mean, y.mean() + slope * (filled - x.mean()))
    return _score(predicted[held_out], target, held_out)


def _score(predicted: Floats, target: Target, held_out: npt.NDArray[np.bool_]) -> tuple[float, float]:
    actual = target.values[held_out]
    if target.task == "binary":
        area = auc(actual > actual.min(initial=0.0), predicted) if np.ptp(actual) else 0.5
        return area, 2 * area - 1
    spread = float(((actual - actual.mean()) ** 2).sum())
    explained = 1 - float(((actual - predicted) ** 2).sum()) / spread if spread else 0.0
    return explained, explained


def _accuracy(predicted: Codes, actual: Codes) -> tuple[float, float]:
    right = float((predicted == actual).mean())
    commonest = float(np.bincount(actual).max() / len(actual))
    return right, (right - commonest) / (1 - commonest) if commonest < 1 else 0.0


def places(values: Floats) -> Floats:
    """The place of each value in their order, from 1 on; equal values share the mean of theirs."""
    return pl.Series(values).rank("average").to_numpy()


def auc(actual: npt.NDArray[np.bool_], predicted: Floats) -> float:
    """The area under the ROC curve; 0.5 if there is one class alone."""
    positive, negative = int(actual.sum()), int((~actual).sum())
    if not positive or not negative:
        return 0.5
    return float((places(predicted)[actual].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _equal(values: pl.Series, given: pl.Series) -> float:
    both: tuple[Any, Any] = numbers(values), numbers(given)
    if both[0] is not None and both[1] is not None:
        return float((both[0] == both[1]).mean())
    if both[0] is None and both[1] is None and not values.dtype.is_nested() and not given.dtype.is_nested():
        return int((values.cast(pl.String) == given.cast(pl.String)).sum()) / len(values)
    return 0.0
