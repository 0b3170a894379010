"""How good predictions are: numbers, quantiles and probabilities against what came.

Each metric takes the rows of one candidate: `actual`, the columns of a prediction and perhaps `weight`. Rows without an outcome do not
count.
What score is good enough is for a gate to decide.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.declarations.learning import ACTUAL
from lakehouse_assets.platform.modelling.costs import Costs
from lakehouse_assets.platform.modelling.metric_inputs import (
    MEANS,
    MEDIANS,
    NAN,
    Vector,
    classes,
    first_of,
    numbers,
    over_classes,
    weighted_mean,
)
from lakehouse_assets.platform.modelling.quantile import quantile_name

_LEAST_PROBABILITY: Final = 1e-15


@dataclass(frozen=True)
class _Metric:
    """What most metrics share: the class's name, and a score that is a loss itself."""

    @property
    def name(self) -> str:
        """See `Metric.name`."""
        return type(self).__name__

    @property
    def lower_is_better(self) -> bool:
        """See `Metric.lower_is_better`."""
        return True

    def loss(self, score: float) -> float:
        """See `Metric.loss`."""
        return score

    @property
    def worst_loss(self) -> float:
        """See `Metric.worst_loss`."""
        return math.inf


@dataclass(frozen=True)
class _Share(_Metric):
    """A score between 0 and 1, of which 1 is perfect."""

    @property
    def lower_is_better(self) -> bool:
        """See `Metric.lower_is_better`."""
        return False

    def loss(self, score: float) -> float:
        """See `Metric.loss`."""
        return 1 - score

    @property
    def worst_loss(self) -> float:
        """See `Metric.worst_loss`."""
        return 1.0


@dataclass(frozen=True)
class Wape(_Metric):
    """Weighted absolute percentage error: the sum of absolute errors over the sum of absolute outcomes (0.1 is 10 %).

    Attributes:
        column: The prediction; None: `p50`, `prediction` or `mean`, the first that there is.
    """

    column: str | None = None

    @property
    def name(self) -> str:
        """See `Metric.name`."""
        return "WAPE"

    def score(self, rows: pl.DataFrame) -> float:
        """See `Metric.score`; NaN if all outcomes are 0."""
        actual, predicted, weight = numbers(rows, self.column or first_of(rows, MEDIANS))
        total = float(np.sum(weight * np.abs(actual)))
        return float(np.sum(weight * np.abs(actual - predicted))) / total if total else NAN


@dataclass(frozen=True)
class MeanAbsoluteError(_Metric):
    """Mean of absolute errors, in the unit of the outcome; least for the median.

    Attributes:
        column: The prediction; None: `p50`, `prediction` or `mean`, the first that there is.
    """

    column: str | None = None

    def score(self, rows: pl.DataFrame) -> float:
        """See `Metric.score`."""
        actual, predicted, weight = numbers(rows, self.column or first_of(rows, MEDIANS))
        return weighted_mean(np.abs(actual - predicted), weight)


@dataclass(frozen=True)
class RootMeanSquaredError(_Metric):
    """Root of the mean of squared errors, in the unit of the outcome; least for the mean.

    Attributes:
        column: The prediction; None: `mean`, `prediction` or `p50`, the first that there is.
    """

    column: str | None = None

    def score(self, rows: pl.DataFrame) -> float:
        """See `Metric.score`."""
        actual, predicted, weight = numbers(rows, self.column or first_of(rows, MEANS))
        return float(np.sqrt(weighted_mean((actual - predicted) ** 2, weight)))


@dataclass(frozen=True)
class Bias(_Metric):
    """How far the sum of predictions is from the sum of outcomes, as a share of it: 0.05 is 5 % too much, -0.05 too little.

    Attributes:
        column: The prediction; None: `mean`, `prediction` or `p50`, the first that there is. Sums are sums of means.
    """

    column: str | None = None

    def score(self, rows: pl.DataFrame) -> float:
        """See `Metric.score`; NaN if the outcomes add up to 0."""
        actual, predicted, weight = numbers(rows, self.column or first_of(rows, MEANS))
        total = float(np.sum(weight * actual))
        return float(np.sum(weight * predicted) - total) / abs(total) if total else NAN

    def loss(self, score: float) -> float:
        """See `Metric.loss`: too little is as bad as too much."""
        return abs(score)


@dataclass(frozen=True)
class Pinball(_Metric):
    """Mean pinball loss of predicted quantiles, in the unit of the outcome; least for the true quantiles.

    Attributes:
        quantiles: The ones that count, alike; None: all that are predicted.
    """

    quantiles: tuple[float, ...] | None = None

    def score(self, rows: pl.DataFrame) -> float:
        """See `Metric.score`."""
        quantiles = self.quantiles or tuple(
            sorted(float(name[1:]) / 100 for name in rows.columns if name[:1] == "p" and name[1:].replace(".", "", 1).isdecimal())
        )
        if not quantiles:
            raise ValueError(f"there is no quantile such as p50 among {', '.join(rows.columns)}: a pinball loss needs quantiles")
        losses = []
        for quantile in quantiles:
            actual, predicted, weight = numbers(rows, quantile_name(quantile))
            error = actual - predicted
            losses.append(weighted_mean(np.maximum(quantile * error, (quantile - 1) * error), weight))
        return sum(losses) / len(losses)


@dataclass(frozen=True)
class Coverage(_Metric):
    """The share of outcomes within a band, its edges included; a guard next to a metric, as a band of any width could have it.

    Attributes:
        lower: Column of the lower edge.
        upper: Column of the upper edge.
    """

    lower: str = "p10"
    upper: str = "p90"

    @property
    def lower_is_better(self) -> bool:
        """See `Metric.lower_is_better`."""
        return False

    def score(self, rows: pl.DataFrame) -> float:
        """See `Metric.score`."""
        actual, lower, weight = numbers(rows, self.lower)
        upper = numbers(rows, self.upper)[1]
        return weighted_mean(np.where(np.isnan(lower + upper), NAN, (lower <= actual) & (actual <= upper)), weight)

    def loss(self, score: float) -> float:
        """See `Metric.loss`: too wide is as bad as too narrow."""
        return abs(score - self._nominal)

    @property
    def worst_loss(self) -> float:
        """See `Metric.worst_loss`."""
        return max(self._nominal, 1 - self._nominal)

    @property
    def _nominal(self) -> float:
        return (float(self.upper[1:]) - float(self.lower[1:])) / 100


@dataclass(frozen=True)
class _ByClass:
    """What metrics of probabilities share. Rows whose outcomes are all of one class have no score: whoever names that class is perfect.

    Attributes:
        positive: The outcome that `probability` is about, where outcomes are texts. Of Booleans it is true, of numbers 1.
    """

    positive: str | None = None

    def _classes(self, rows: pl.DataFrame) -> tuple[Any, Any, Vector] | None:
        """See `metric_inputs.classes`; None if the rows have one class."""
        came, probability, weight = classes(rows, self.positive)
        counted = came[weight > 0]
        others = not counted.any(axis=1).all()  # outcomes that no probability is for
        return (came, probability, weight) if counted.any(axis=0).sum() + others > 1 else None


@dataclass(frozen=True)
class LogLoss(_ByClass, _Metric):
    """Mean of the negative logarithm of the probability that was given to what came; least for the true probabilities."""

    def score(self, rows: pl.DataFrame) -> float:
        """See `Metric.score`; NaN if the rows have one class."""
        if (known := self._classes(rows)) is None:
            return NAN
        came, probability, weight = known
        total = np.sum(probability, axis=1)
        given = np.divide(np.sum(probability * came, axis=1), total, out=np.zeros(len(came)), where=total != 0)
        # An outcome of a class without a probability had none.
        return weighted_mean(-np.log(np.clip(given, _LEAST_PROBABILITY, 1.0)), weight)


@dataclass(frozen=True)
class Brier(_ByClass, _Metric):
    """Mean squared distance of probabilities from what came (0 or 1); for several classes the sum over them, halved."""

    @property
    def worst_loss(self) -> float:
        """See `Metric.worst_loss`."""
        return 1.0

    def score(self, rows: pl.DataFrame) -> float:
        """See `Metric.score`; NaN if the rows have one class."""
        if (known := self._classes(rows)) is None:
            return NAN
        came, probability, weight = known
        return weighted_mean(np.sum((probability - came) ** 2, axis=1) / 2, weight)


@dataclass(frozen=True)
class Auc(_ByClass, _Share):
    """Area under the ROC curve: the chance that a positive row has a higher probability than a negative one; for classes their mean."""

    @property
    def name(self) -> str:
        """See `Metric.name`."""
        return "AUC"

    def score(self, rows: pl.DataFrame) -> float:
        """See `Metric.score`; NaN if the rows have one class."""
        from sklearn.metrics import roc_auc_score

        return over_classes(rows, self.positive, roc_auc_score)


@dataclass(frozen=True)
class AveragePrecision(_ByClass, _Share):
    """Mean of the precision over all recalls, for a positive class that is rare; for classes their mean."""

    @property
    def name(self) -> str:
        """See `Metric.name`."""
        return "average precision"

    def score(self, rows: pl.DataFrame) -> float:
        """See `Metric.score`; NaN if the rows have one class."""
        from sklearn.metrics import average_precision_score

        return over_classes(rows, self.positive, average_precision_score)


@dataclass(frozen=True)
class Accuracy(_ByClass, _Share):
    """Share of rows whose most probable class is what came. It says little where one class is rare."""

    def score(self, rows: pl.DataFrame) -> float:
        """See `Metric.score`; NaN if the rows have one class."""
        if (known := self._classes(rows)) is None:
            return NAN
        came, probability, weight = known
        hit = came[np.arange(len(came)), np.argmax(probability, axis=1)]
        return weighted_mean(np.where(np.isnan(probability).any(axis=1), NAN, hit), weight)


@dataclass(frozen=True)
class MacroF1(_ByClass, _Share):
    """Mean over the classes of the harmonic mean of precision and recall, of the most probable class."""

    @property
    def name(self) -> str:
        """See `Metric.name`."""
        return "macro F1"

    def score(self, rows: pl.DataFrame) -> float:
        """See `Metric.score`; NaN if the rows have one class."""
        from sklearn.metrics import f1_score

        if (known := self._classes(rows)) is None:
            return NAN
        came, probability, weight = known
        if np.isnan(probability).any():
            return NAN
        # Rows of a class that no probability is for were missed: a number of their own.
        actual = np.where(came.any(axis=1), np.argmax(came, axis=1), came.shape[1])
        return float(f1_score(actual, np.argmax(probability, axis=1), average="macro", sample_weight=weight, zero_division=0.0))


@dataclass(frozen=True)
class CalibrationError(_ByClass, _Metric):
    """How far probabilities are from the shares that came: the mean distance over bins of equally many rows; for classes their mean.

    Attributes:
        bins: Their number. Distances of small bins are chance: it takes some hundred rows a bin.
    """

    bins: int = 10

    @property
    def name(self) -> str:
        """See `Metric.name`."""
        return "calibration error"

    @property
    def worst_loss(self) -> float:
        """See `Metric.worst_loss`."""
        return 1.0

    def score(self, rows: pl.DataFrame) -> float:
        """See `Metric.score`; NaN if the rows have one class."""
        if (known := self._classes(rows)) is None:
            return NAN
        came, probability, weight = known
        if np.isnan(probability).any():
            return NAN
        columns = range(came.shape[1]) if came.shape[1] > 2 else (came.shape[1] - 1,)
        distances = []
        for column in columns:
            order = np.argsort(probability[:, column], kind="stable")
            parts = [part for part in np.array_split(order, self.bins) if len(part)]
            gaps = [abs(float(np.sum(weight[part] * (probability[part, column] - came[part, column])))) for part in parts]
            distances.append(sum(gaps) / float(np.sum(weight)))
        return sum(distances) / len(distances)


@dataclass(frozen=True)
class Cost(_ByClass, _Metric):
    """Mean cost of a row if rows are held above a threshold.

    Attributes:
        costs: What wrong decisions cost.
        threshold: The probability above which a row is held; None: where holding it costs less than letting it pass, row by row.
    """

    costs: Costs = Costs(missed=1.0, false_alarm=1.0)
    threshold: float | None = None

    def score(self, rows: pl.DataFrame) -> float:
        """See `Metric.score`; NaN if the rows have one class."""
        rows = rows.filter(pl.col(ACTUAL).is_not_null())
        came, probability, weight = classes(rows, self.positive)
        if came.shape[1] != 2:
            raise ValueError("costs of missed rows and false alarms need a target of two classes")
        if self._classes(rows) is None:
            return NAN
        missed, false_alarm = self.costs.of(rows)
        p = probability[:, 1]
        held = p > self.threshold if self.threshold is not None else p * missed > (1 - p) * false_alarm
        cost = np.where(came[:, 1] == 1, np.where(held, 0.0, missed), np.where(held, false_alarm, 0.0))
        return weighted_mean(np.where(np.isnan(p), NAN, cost), weight)
