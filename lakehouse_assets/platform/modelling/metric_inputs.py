"""What metrics read: outcomes, predictions and weights of the rows of one candidate, as NumPy arrays in the order of the rows.

Sums are NumPy's, over rows in their order, so a score is the same on any number of threads. The metrics themselves are in `metrics`.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.declarations.learning import ACTUAL, WEIGHT
from lakehouse_assets.platform.modelling.targets import PROBABILITY, class_name

Vector = np.ndarray[tuple[int], np.dtype[np.float64]]
NAN: Final = float("nan")
MEDIANS: Final = ("p50", "prediction", "mean")
MEANS: Final = ("mean", "prediction", "p50")


def first_of(rows: pl.DataFrame, names: tuple[str, ...]) -> str:
    """The first of some columns that there is."""
    for name in names:
        if name in rows.columns:
            return name
    raise ValueError(f"there is none of {', '.join(names)} among the columns {', '.join(rows.columns)}: name the metric's column")


def weighted_mean(values: Any, weight: Vector) -> float:
    """The mean by weight; NaN without weight."""
    total = float(np.sum(weight))
    return float(np.sum(weight * values)) / total if total else NAN


def _weight(rows: pl.DataFrame) -> Vector:
    return rows[WEIGHT].cast(pl.Float64).to_numpy() if WEIGHT in rows.columns else np.ones(rows.height)


def numbers(rows: pl.DataFrame, column: str) -> tuple[Vector, Vector, Vector]:
    """Outcomes, predictions and weights of the rows that have an outcome; a prediction that is missing is NaN."""
    if column not in rows.columns:
        raise ValueError(f"there is no column {column!r} among the predictions: {', '.join(rows.columns)}")
    known = rows.filter(pl.col(ACTUAL).is_not_null())
    return known[ACTUAL].cast(pl.Float64).to_numpy(), known[column].cast(pl.Float64).fill_null(NAN).to_numpy(), _weight(known)


def classes(rows: pl.DataFrame, positive: str | None) -> tuple[Any, Any, Vector]:
    """For each row with an outcome and each class 1 if it came, and its probability; with two columns, no and yes, if there is one."""
    known = rows.filter(pl.col(ACTUAL).is_not_null())
    weight = _weight(known)
    if PROBABILITY in rows.columns:
        actual = known[ACTUAL]
        if actual.dtype.is_numeric() or actual.dtype in {pl.Boolean, pl.Null}:
            yes = actual.cast(pl.Float64).to_numpy() > 0
        elif positive is not None:
            yes = (actual.cast(pl.String) == positive).to_numpy()
        else:
            raise ValueError(f"outcomes are of type {actual.dtype}: say which one the probability is about, as positive='…' of the metric")
        probability = known[PROBABILITY].cast(pl.Float64).fill_null(NAN).to_numpy()
        return np.column_stack([~yes, yes]).astype(float), np.column_stack([1 - probability, probability]), weight
    names = [name for name in rows.columns if name.startswith(f"{PROBABILITY}_")]
    if not names:
        raise ValueError(f"there are no probabilities among the columns {', '.join(rows.columns)}: the metric is for classifiers")
    if positive is not None and len(names) == 2 and names[0] == f"{PROBABILITY}_{positive}":
        names.reverse()
    actual = known.select(class_name(pl.col(ACTUAL), rows.schema[ACTUAL]))[ACTUAL]
    came = np.column_stack([(actual == name.removeprefix(f"{PROBABILITY}_")).to_numpy() for name in names]).astype(float)
    return came, known.select(pl.col(names).cast(pl.Float64).fill_null(NAN)).to_numpy(), weight


def over_classes(rows: pl.DataFrame, positive: str | None, area: Callable[..., float]) -> float:
    """The mean over classes of an area under a curve, of the positive class if there are two; NaN if the rows have one class."""
    came, probability, weight = classes(rows, positive)
    if not came.size or np.isnan(probability).any():
        return NAN
    columns = range(came.shape[1]) if came.shape[1] > 2 else (1,)
    areas = [
        float(area(came[:, column], probability[:, column], sample_weight=weight))
        for column in columns
        if 0 < float(np.sum(came[:, column] * weight)) < float(np.sum(weight))
    ]
    return sum(areas) / len(areas) if areas else NAN
