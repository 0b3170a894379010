"""The best rule in one line, such as `amount > 500`, found by trying every column alone.

A model that is no better than that is not worth its keep, and a rule that is perfect shows a leak.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import Predictor, TrainingRows
from lakehouse_assets.platform.modelling.contributions import largest, log_odds
from lakehouse_assets.platform.modelling.encoding import FIRST, MISSING, Encoding, encoding_of
from lakehouse_assets.platform.modelling.learners.prepared import Prepared, prepare, write_json
from lakehouse_assets.platform.modelling.targets import KINDS, Kind, Target, Task, is_text, suggested_kind

_FILE: Final = "rule.json"
_DAYS: Final = "days since 1970"
_MOST_TRIED: Final = 50_000
"""Rows that conditions are tried on. More of them hardly move the best threshold, and cost as much as a model."""


@dataclass(frozen=True)
class BestRule:
    """One condition on one column; rows that meet it get one prediction, the others another.

    A number is above a threshold, a text is a certain one, a value is missing. It is the condition that leaves the least log loss, or
    squared error of a number; of two that are alike, that of the earlier input. Of very many rows, conditions are tried on a sample, always
    the same one, that has the rare classes whole.

    Attributes:
        objective: `regression`, `binary` or `multiclass`; None: what the target's values look like.
        positive: Of a binary target with texts, the value that counts.
    """

    objective: Task | None = "binary"
    positive: str | None = None

    def fit(self, training: TrainingRows, *, seed: int, compute: Compute) -> "Rule":  # noqa: ARG002
        """See `Learner.fit`. It depends on no seed."""
        prepared = prepare(training, self._kind if self.objective is None else KINDS[self.objective], self.positive)
        sample = _sample(prepared)
        encoding = encoding_of(sample.rows, sample.inputs)
        encoded = encoding.encode(sample.rows)
        sums = _sums(sample)
        best = (float(_loss(sums.sum(axis=0), sample.target)), 0, "always", 0.0)
        for number, column in enumerate(encoding.columns):
            values = encoded[column.name].fill_null(float("nan")).to_numpy()
            for word, operand, loss in _tried(values, sums, sample, text=column.kind == "text"):
                # Rounding must not decide between two conditions that are alike.
                if loss < best[0] - 1e-9 * (1 + abs(best[0])):
                    best = (loss, number, word, operand)
        _, number, word, operand = best
        own = Encoding((encoding.columns[number],))
        meets, sums = _meets(own.encode(prepared.rows).to_series(), word, operand), _sums(prepared)
        yes, no = (_prediction(sums[mask].sum(axis=0), sums.sum(axis=0), prepared.target) for mask in (meets, ~meets))
        return Rule(own, prepared.target, word, operand, yes, no)

    def _kind(self, values: pl.Series) -> Kind:
        """What the target is, by its values. Of two texts none counts more unless it is said which."""
        kind = suggested_kind(values)
        return "classes" if kind == "binary" and is_text(values.dtype) and self.positive is None else kind


@dataclass(frozen=True)
class Rule(Predictor):
    """A fitted `BestRule`; its text is the condition.

    Attributes:
        encoding: How the column becomes a number.
        target: What is predicted.
        condition: `above`, `is`, `missing` or `always`.
        operand: What it is compared with, as a number.
        met: The prediction where the condition is met, one number for each column.
        unmet: Where it is not.
    """

    encoding: Encoding
    target: Target
    condition: str
    operand: float
    met: tuple[float, ...]
    unmet: tuple[float, ...]

    word: ClassVar[str] = "rule"
    packages: ClassVar[tuple[str, ...]] = ("polars", "numpy")

    def __str__(self) -> str:
        column = self.encoding.columns[0]
        if self.condition == "above":
            return f"{column.name}{f' ({_DAYS})' if column.kind == 'time' else ''} > {self.operand:.15g}"
        if self.condition == "is" and self.operand != MISSING:
            return f"{column.name} is {column.categories[int(self.operand) - FIRST]!r}"
        return "always the same" if self.condition == "always" else f"{column.name} is missing"

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Predictor.inputs`."""
        return self.encoding.inputs

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Predictor.predict`."""
        meets = _meets(self.encoding.encode(rows).to_series(), self.condition, self.operand)
        return self.target.frame(np.where(meets[:, None], np.array(self.met), np.array(self.unmet)))

    def contributions(self, rows: pl.DataFrame, top: int = 3, *, raising: bool = False) -> pl.DataFrame:
        """See `Predictor.contributions`: how far the prediction is from that on the other side of the condition."""
        if self.condition == "always":
            return super().contributions(rows, top, raising=raising)
        meets = _meets(self.encoding.encode(rows).to_series(), self.condition, self.operand)
        met, unmet = np.array(self.met), np.array(self.unmet)
        if self.target.kind != "number":
            met, unmet = log_odds(met), log_odds(unmet)
        likely = np.where(meets, int(np.argmax(met)), int(np.argmax(unmet)))
        return largest(rows, self.inputs, np.where(meets, (met - unmet)[likely], (unmet - met)[likely])[:, None], top, raising=raising)

    def importance(self) -> pl.DataFrame:
        """See `Predictor.importance`."""
        return pl.DataFrame({"input": self.inputs, "importance": [1.0]})

    def settings(self) -> Mapping[str, object]:
        """See `Predictor.settings`: the rule."""
        return {"rule": str(self)}

    def save(self, folder: Path) -> None:
        """See `Predictor.save`."""
        write_json(
            folder / _FILE,
            {
                "encoding": self.encoding.to_json(),
                "target": self.target.to_json(),
                "condition": self.condition,
                "operand": self.operand,
                "met": list(self.met),
                "unmet": list(self.unmet),
            },
        )

    @classmethod
    def load(cls, folder: Path) -> "Rule":
        """See `Predictor.load`."""
        parts: Mapping[str, Any] = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return cls(
            Encoding.from_json(parts["encoding"]),
            Target.from_json(parts["target"]),
            parts["condition"],
            parts["operand"],
            tuple(parts["met"]),
            tuple(parts["unmet"]),
        )


def _sample(prepared: Prepared) -> Prepared:
    """The rows to try conditions on. Of a class with too many rows some are drawn, and stand for all by their weight."""
    if len(prepared.rows) <= _MOST_TRIED:
        return prepared
    draw, weight, kept = np.random.default_rng(0), prepared.weight.copy(), []
    groups = [np.flatnonzero(prepared.codes == code) for code in range(len(prepared.target.classes))] or [np.arange(len(prepared.rows))]
    for group in groups:
        some = draw.choice(group, min(len(group), _MOST_TRIED // len(groups)), replace=False)
        weight[some] *= len(group) / max(len(some), 1)
        kept.append(some)
    return replace(prepared, weight=weight).part(np.sort(np.concatenate(kept)))


def _sums(prepared: Prepared) -> Any:
    """For each row what adds up to a prediction and its loss: weight, weighted target and its square; or the weight of each class."""
    weight, codes = prepared.weight, prepared.codes
    if prepared.target.kind == "number":
        # Around the mean, so that squares of large numbers do not drown the differences.
        centred = codes - np.average(codes, weights=weight)
        return np.column_stack([weight, weight * centred, weight * centred**2, weight * codes])
    return np.column_stack([weight * (codes == code) for code in range(len(prepared.target.classes))])


def _loss(sums: Any, target: Target) -> Any:
    """Loss of the best constant for groups of rows, from the sums over each."""
    if target.kind == "number":
        weight = np.maximum(sums[..., 0], np.finfo(float).tiny)
        return np.maximum(sums[..., 2] - sums[..., 1] ** 2 / weight, 0.0)
    share = sums / np.maximum(np.sum(sums, axis=-1, keepdims=True), np.finfo(float).tiny)
    return -np.sum(sums * np.log(np.maximum(share, np.finfo(float).tiny)), axis=-1)


def _prediction(sums: Any, whole: Any, target: Target) -> tuple[float, ...]:
    """The constant for a group; a class that it lacks has one row's worth of its share in all rows."""
    if target.kind == "number":
        return (float(sums[3] / sums[0]) if sums[0] else float(whole[3] / whole[0]),)
    share = whole / np.sum(whole)
    smoothed = (sums + share) / (np.sum(sums) + 1)
    return tuple(map(float, smoothed[1:] if target.kind == "binary" else smoothed))


def _tried(values: Any, sums: Any, prepared: Prepared, *, text: bool) -> Iterator[tuple[str, float, float]]:
    """Conditions on a column, each with what it leaves of loss."""
    whole = sums.sum(axis=0)
    missing = values == MISSING if text else np.isnan(values)
    if missing.any() and not missing.all():
        left = _loss(sums[missing].sum(axis=0), prepared.target) + _loss(sums[~missing].sum(axis=0), prepared.target)
        yield ("is", float(MISSING), float(left)) if text else ("missing", 0.0, float(left))
    if text:
        for code in np.unique(values[values >= FIRST]):
            own = sums[values == code].sum(axis=0)
            yield "is", float(code), float(_loss(own, prepared.target) + _loss(whole - own, prepared.target))
        return
    order = np.argsort(values[~missing], kind="stable")
    ordered, below = values[~missing][order], np.cumsum(sums[~missing][order], axis=0)
    cuts = np.flatnonzero(ordered[1:] > ordered[:-1])
    if len(cuts):
        above = below[-1] - below[cuts]
        losses = _loss(above, prepared.target) + _loss(whole - above, prepared.target)
        best = cuts[int(np.argmin(losses))]
        yield "above", _round_between(float(ordered[best]), float(ordered[best + 1])), float(np.min(losses))


def _round_between(low: float, high: float) -> float:
    """The roundest number from `low` to just below `high`: people remember `amount > 500`."""
    middle = low + (high - low) / 2
    for digits in range(1, 17):
        rounded = float(f"{middle:.{digits - 1}e}")
        if low <= rounded < high:
            return rounded
    return low


def _meets(values: pl.Series, condition: str, operand: float) -> Any:
    numbers = values.fill_null(float("nan")).to_numpy()
    if condition == "above":
        return numbers > operand
    if condition == "is":
        return numbers == operand
    return np.isnan(numbers) if condition == "missing" else np.zeros(len(numbers), dtype=bool)
