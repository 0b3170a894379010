"""What a model has to beat, as learners: the mean, the median, the share of each class, or a column of the inputs as it is.

Seasonal baselines of forecasts are columns of their inputs; see `forecasting`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import NotEnoughData, Predictor, TrainingRows
from lakehouse_assets.platform.modelling.contributions import largest
from lakehouse_assets.platform.modelling.learners.prepared import Prepared, prepare, write_json
from lakehouse_assets.platform.modelling.targets import KINDS, PREDICTION, Kind, Target, Task

_FILE: Final = "constant.json"


@dataclass(frozen=True)
class Mean:
    """The mean of the target, for every row."""

    def fit(self, training: TrainingRows, *, seed: int, compute: Compute) -> "Constant":  # noqa: ARG002
        """See `Learner.fit`."""
        return _constant(training, "number", None, lambda rows: (float(np.average(rows.codes, weights=rows.weight)),))


@dataclass(frozen=True)
class Median:
    """The median of the target, for every row; weights count."""

    def fit(self, training: TrainingRows, *, seed: int, compute: Compute) -> "Constant":  # noqa: ARG002
        """See `Learner.fit`."""
        return _constant(training, "number", None, lambda rows: (_median(rows),))


@dataclass(frozen=True)
class ClassPrior:
    """The share of each class, for every row.

    Attributes:
        objective: `binary` or `multiclass`.
        positive: Of a binary target with texts, the value that counts.
    """

    objective: Task = "binary"
    positive: str | None = None

    def fit(self, training: TrainingRows, *, seed: int, compute: Compute) -> "Constant":  # noqa: ARG002
        """See `Learner.fit`."""

        def shares(rows: Prepared) -> tuple[float, ...]:
            counts = [float(np.sum(rows.weight[rows.codes == code])) for code in range(len(rows.target.classes))]
            found = tuple(count / sum(counts) for count in counts)
            return found[1:] if rows.target.kind == "binary" else found

        return _constant(training, KINDS[self.objective], self.positive, shares)


@dataclass(frozen=True)
class InputColumn:
    """A column of the inputs, as it is.

    Attributes:
        name: The column.
        default: What null becomes; None: the mean of the target.
        output: The column of the prediction: `prediction`, `p50`, `probability` …
    """

    name: str
    default: float | None = None
    output: str = PREDICTION

    def fit(self, training: TrainingRows, *, seed: int, compute: Compute) -> "ColumnPredictor":
        """See `Learner.fit`. A column that is no input: ValueError."""
        if self.name not in training.inputs:
            raise ValueError(f"there is no input {self.name!r} to predict with; there are {', '.join(training.inputs)}")
        default = self.default if self.default is not None else Mean().fit(training, seed=seed, compute=compute).values[0]
        return ColumnPredictor(self.name, default, self.output)


@dataclass(frozen=True)
class Constant(Predictor):
    """The same prediction for every row.

    Attributes:
        target: What is predicted.
        values: One for each column of the prediction.
        counted: The input that is read to count the rows.
    """

    target: Target
    values: tuple[float, ...]
    counted: str

    word: ClassVar[str] = "constant"

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Predictor.inputs`."""
        return (self.counted,)

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Predictor.predict`."""
        return self.target.frame(np.tile(np.array(self.values), (rows.height, 1)))

    def settings(self) -> Mapping[str, object]:
        """See `Predictor.settings`."""
        return dict(zip(self.target.columns, self.values, strict=True))

    def save(self, folder: Path) -> None:
        """See `Predictor.save`."""
        write_json(folder / _FILE, {"target": self.target.to_json(), "values": list(self.values), "counted": self.counted})

    @classmethod
    def load(cls, folder: Path) -> "Constant":
        """See `Predictor.load`."""
        parts: Mapping[str, Any] = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return cls(Target.from_json(parts["target"]), tuple(parts["values"]), parts["counted"])


@dataclass(frozen=True)
class ColumnPredictor(Predictor):
    """A fitted `InputColumn`.

    Attributes:
        name: See `InputColumn`; so is `output`.
        default: What null and NaN become.
        output: The column of the prediction.
    """

    name: str
    default: float
    output: str

    word: ClassVar[str] = "column"

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Predictor.inputs`."""
        return (self.name,)

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Predictor.predict`."""
        return rows.select(pl.col(self.name).cast(pl.Float64).fill_nan(None).fill_null(self.default).alias(self.output))

    def contributions(self, rows: pl.DataFrame, top: int = 3, *, raising: bool = False) -> pl.DataFrame:
        """See `Predictor.contributions`: how far the column is from what stands for a missing one."""
        found = self.predict(rows)[self.output].to_numpy() - self.default
        return largest(rows, self.inputs, found[:, None], top, raising=raising)

    def save(self, folder: Path) -> None:
        """See `Predictor.save`."""
        write_json(folder / _FILE, {"name": self.name, "default": self.default, "output": self.output})

    @classmethod
    def load(cls, folder: Path) -> "ColumnPredictor":
        """See `Predictor.load`."""
        parts: Mapping[str, Any] = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return cls(parts["name"], parts["default"], parts["output"])


def _constant(training: TrainingRows, kind: Kind, positive: str | None, values: Callable[[Prepared], tuple[float, ...]]) -> Constant:
    if not training.inputs:
        raise NotEnoughData("there is no input: a prediction is made from at least one column")
    rows = prepare(training, kind, positive)
    return Constant(rows.target, values(rows), training.inputs[0])


def _median(rows: Prepared) -> float:
    if not rows.weighted:
        return float(np.median(rows.codes))
    order = np.argsort(rows.codes, kind="stable")
    reached = np.cumsum(rows.weight[order])
    return float(rows.codes[order][np.searchsorted(reached, reached[-1] / 2)])
