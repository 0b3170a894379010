"""Regularised linear and logistic regression, stored as numbers.

They extrapolate where trees do not, need few rows, and are a check on anything larger.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import Predictor, TrainingRows
from lakehouse_assets.platform.modelling.contributions import largest
from lakehouse_assets.platform.modelling.encoding import Encoding, encoding_of, matrix
from lakehouse_assets.platform.modelling.learners.estimators import one_thread, quiet
from lakehouse_assets.platform.modelling.learners.prepared import Prepared, prepare, write_json
from lakehouse_assets.platform.modelling.targets import KINDS, Target, Task

_FILE: Final = "linear.json"
_FARTHEST: Final = 20.0
"""Values beyond so many standard deviations count as so many."""


@dataclass(frozen=True)
class Linear:
    """A weighted sum of the inputs (ridge regression), or the log odds of it (logistic regression).

    Attributes:
        objective: `regression`, `binary` or `multiclass`.
        positive: Of a binary target with texts, the value that counts.
        strength: How much coefficients are drawn towards 0; inputs are standardised before.
    """

    objective: Task = "regression"
    positive: str | None = None
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.objective not in KINDS or self.strength <= 0:
            raise ValueError(f"objective must be one of {', '.join(KINDS)} and strength more than 0: {self}")

    def fit(self, training: TrainingRows, *, seed: int, compute: Compute) -> "LinearPredictor":  # noqa: ARG002
        """See `Learner.fit`. It depends on no seed."""
        prepared = prepare(training, KINDS[self.objective], self.positive)
        encoding = encoding_of(prepared.rows, prepared.inputs)
        scaling, values = scaled(matrix(encoding, prepared.rows), prepared.weight)
        with one_thread(), quiet():
            coefficients, intercepts = self._solve(prepared, values)
        return LinearPredictor(encoding, prepared.target, scaling, _nested(coefficients), tuple(map(float, intercepts)))

    def _solve(self, prepared: Prepared, values: Any) -> tuple[Any, Any]:
        from sklearn.linear_model import LogisticRegression, Ridge

        if prepared.target.kind != "number":
            fitted = LogisticRegression(C=1 / self.strength, max_iter=1000).fit(values, prepared.codes, sample_weight=prepared.weight)
            return fitted.coef_, fitted.intercept_
        ridge = Ridge(alpha=self.strength, solver="cholesky").fit(values, prepared.codes, sample_weight=prepared.weight)
        return np.atleast_2d(ridge.coef_), np.atleast_1d(ridge.intercept_)


@dataclass(frozen=True)
class Scaling:
    """How columns of numbers are standardised: missing ones become the mean, which is 0 afterwards.

    Attributes:
        mean: Of each column.
        deviation: Of each column; 1 where all rows are alike.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def apply(self, values: Any) -> Any:
        """The standardised columns."""
        standard = (values - np.array(self.mean)) / np.array(self.deviation)
        return np.clip(np.nan_to_num(standard, nan=0.0), -_FARTHEST, _FARTHEST)


def scaled(values: Any, weight: Any) -> tuple[Scaling, Any]:
    """The scaling that training rows make, and these rows scaled."""
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    counted = np.maximum(np.sum(known * weight[:, None], axis=0), np.finfo(float).tiny)
    mean = np.sum(filled * weight[:, None], axis=0) / counted
    variance = np.sum(np.where(known, filled - mean, 0.0) ** 2 * weight[:, None], axis=0) / counted
    # Rounding makes a constant column vary a little.
    varies = np.sqrt(variance) > 1e-12 * (1 + np.abs(mean))
    scaling = Scaling(tuple(map(float, mean)), tuple(float(value) for value in np.where(varies, np.sqrt(variance), 1.0)))
    return scaling, scaling.apply(values)


@dataclass(frozen=True)
class LinearPredictor(Predictor):
    """A fitted `Linear`.

    Attributes:
        encoding: How inputs become numbers.
        target: What is predicted.
        scaling: How those are standardised.
        coefficients: For each output one number for each column; of a binary target there is one output.
        intercepts: One for each output.
    """

    encoding: Encoding
    target: Target
    scaling: Scaling
    coefficients: tuple[tuple[float, ...], ...]
    intercepts: tuple[float, ...]

    word: ClassVar[str] = "linear"
    packages: ClassVar[tuple[str, ...]] = ("polars", "numpy")

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Predictor.inputs`."""
        return self.encoding.inputs

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Predictor.predict`."""
        outputs = self._outputs(self.scaling.apply(matrix(self.encoding, rows)))
        if self.target.kind == "binary":
            outputs = 1 / (1 + np.exp(-np.clip(outputs, -500, 500)))
        elif self.target.kind == "classes":
            if outputs.shape[1] == 1:
                outputs = np.column_stack([np.zeros(len(outputs)), outputs[:, 0]])
            odds = np.exp(outputs - np.max(outputs, axis=1, keepdims=True, initial=-np.inf))
            outputs = odds / np.sum(odds, axis=1, keepdims=True)
        return self.target.frame(outputs)

    def _outputs(self, values: Any) -> Any:
        # A sum by row, so that a row's prediction does not depend on the others in the batch.
        return np.column_stack(
            [np.sum(values * np.array(row), axis=1) + intercept for row, intercept in zip(self.coefficients, self.intercepts, strict=True)]
        )

    def contributions(self, rows: pl.DataFrame, top: int = 3, *, raising: bool = False) -> pl.DataFrame:
        """See `Predictor.contributions`: by how much an input differs from its mean, times its coefficient."""
        values, coefficients = self.scaling.apply(matrix(self.encoding, rows)), np.array(self.coefficients)
        which = np.zeros(len(values), dtype=np.int64)
        if self.target.kind == "classes":
            outputs = self._outputs(values)
            which = np.argmax(outputs, axis=1) if outputs.shape[1] > 1 else which
        parts = np.cumsum([0, *(column.width for column in self.encoding.columns)])[:-1]
        return largest(rows, self.inputs, np.add.reduceat(values * coefficients[which], parts, axis=1), top, raising=raising)

    def importance(self) -> pl.DataFrame:
        """See `Predictor.importance`: shares of the standardised coefficients' size."""
        size = np.sum(np.abs(np.array(self.coefficients)), axis=0)
        widths = [column.width for column in self.encoding.columns]
        sums = np.array([float(np.sum(part)) for part in np.split(size, np.cumsum(widths)[:-1])])
        total = float(np.sum(sums))
        shares = sums / total if total else np.full(len(sums), 1 / len(sums))
        return pl.DataFrame({"input": self.inputs, "importance": shares}).sort("importance", "input", descending=[True, False])

    def save(self, folder: Path) -> None:
        """See `Predictor.save`."""
        write_json(
            folder / _FILE,
            {
                "encoding": self.encoding.to_json(),
                "target": self.target.to_json(),
                "mean": list(self.scaling.mean),
                "deviation": list(self.scaling.deviation),
                "coefficients": [list(row) for row in self.coefficients],
                "intercepts": list(self.intercepts),
            },
        )

    @classmethod
    def load(cls, folder: Path) -> "LinearPredictor":
        """See `Predictor.load`."""
        parts: Mapping[str, Any] = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return cls(
            Encoding.from_json(parts["encoding"]),
            Target.from_json(parts["target"]),
            Scaling(tuple(parts["mean"]), tuple(parts["deviation"])),
            _nested(parts["coefficients"]),
            tuple(parts["intercepts"]),
        )


def _nested(values: Any) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in values)
