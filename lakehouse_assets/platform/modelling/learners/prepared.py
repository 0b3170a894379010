"""What learners share: the training rows with a known target, and how a part of them is held out to choose and to calibrate on."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lakehouse_assets.platform.declarations.learning import WEIGHT, NotEnoughData, TrainingRows
from lakehouse_assets.platform.modelling.metric_inputs import Vector
from lakehouse_assets.platform.modelling.targets import Kind, Target, target_of


@dataclass(frozen=True)
class Prepared:
    """Training rows in a fixed order, oldest first.

    Attributes:
        rows: Those whose target is known.
        inputs: Columns to learn from.
        target: What is learnt.
        codes: The target as numbers, in the order of the rows.
        weight: How much each row counts.
    """

    rows: pl.DataFrame
    inputs: tuple[str, ...]
    target: Target
    codes: Vector
    weight: Vector

    @property
    def weighted(self) -> bool:
        """Whether rows count differently."""
        return bool(len(self.weight)) and bool((self.weight != self.weight[0]).any())

    def part(self, kept: Any) -> "Prepared":
        """Some of the rows, by a mask or a slice."""
        positions = np.arange(len(self.rows))[kept]
        return Prepared(self.rows[positions], self.inputs, self.target, self.codes[positions], self.weight[positions])

    def tail(self, share: float, least: int) -> "tuple[Prepared, Prepared] | None":
        """The older rows and the newest `share` of them; None if one of them would have fewer rows than `least`, or lack a class."""
        cut = len(self.rows) - round(len(self.rows) * share)
        head, tail = self.part(slice(0, cut)), self.part(slice(cut, None))
        if min(len(head.rows), len(tail.rows)) < least:
            return None
        complete = set(range(len(self.target.classes)))
        return None if complete and not (complete <= set(head.codes) and complete <= set(tail.codes)) else (head, tail)


def prepare(training: TrainingRows, kind: Kind | Callable[[pl.Series], Kind], positive: str | None = None) -> Prepared:
    """The rows with a known target; NaN and infinity count as not known.

    Args:
        training: What to learn from.
        kind: What the target is, or how that is told from its values.
        positive: Of a binary target with texts, the value that counts.

    Raises:
        NotEnoughData: No row has a target, or a classifier has one class only.
        ValueError: The target does not fit the kind.
    """
    rows = training.collect()
    known = pl.col(training.target).is_not_null()
    if rows.schema[training.target].is_float():
        known &= pl.col(training.target).is_finite()
    if WEIGHT in rows.columns:
        known &= pl.col(WEIGHT) > 0
    if not rows.select(known.all(ignore_nulls=False)).item():
        rows = rows.filter(known)
    if rows.is_empty():
        raise NotEnoughData(f"no row can be learnt from: {training.target!r} is known in none of them")
    values = rows[training.target]
    target = target_of(values, kind(values) if callable(kind) else kind, positive)
    weight = rows[WEIGHT].cast(pl.Float64).to_numpy() if WEIGHT in rows.columns else np.ones(rows.height)
    return Prepared(rows, training.inputs, target, target.codes(rows[training.target]), weight)


def write_json(file: Path, parts: Any) -> None:
    """Write a part of a predictor, the same bytes for the same parts. Numbers are as many digits as they need to come back."""
    file.write_text(json.dumps(parts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
