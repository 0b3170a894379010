"""One predictor for each segment of the rows, and one of all rows for segments that are too small or new."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import Learner, NotEnoughData, Predictor, TrainingRows
from lakehouse_assets.platform.modelling.learners.prepared import write_json
from lakehouse_assets.platform.modelling.predictors import load_predictor, packages_of, save_predictor

_FILE: Final = "segments.json"
_ALL: Final = "all"
_SEGMENT, _ROW = "_segment", "_row"


@dataclass(frozen=True)
class PerSegment:
    """A learner that is fitted to each segment alone.

    Attributes:
        learner: What is fitted.
        by: The inputs that tell segments apart.
        least: Rows with a known target that a segment needs. One with fewer, or with a single class, is predicted by a predictor of all
            rows, and so is a segment that training did not have.
    """

    learner: Learner
    by: tuple[str, ...]
    least: int = 200

    def fit(self, training: TrainingRows, *, seed: int, compute: Compute) -> "Segmented":
        """See `Learner.fit`. The segments are fitted where `compute` says."""
        lacking = [name for name in self.by if name not in training.inputs]
        if lacking or not self.by:
            raise ValueError(
                f"segments are told apart by inputs, and {', '.join(lacking) or 'nothing'} is none of {', '.join(training.inputs)}"
            )
        whole = self.learner.fit(training, seed=seed, compute=compute)
        rows = training.collect().with_columns(_segment(self.by).alias(_SEGMENT))
        known = rows.filter(pl.col(training.target).is_not_null())
        large = known[_SEGMENT].value_counts().filter(pl.col("count") >= self.least)[_SEGMENT].sort().to_list()

        parts = [replace(training, rows=rows.lazy().filter(pl.col(_SEGMENT) == segment).drop(_SEGMENT)) for segment in large]
        found = dict(zip(large, compute.map(partial(_fitted, self.learner, seed, compute), parts), strict=True))
        return Segmented(self.by, whole, {segment: predictor for segment, predictor in found.items() if predictor is not None})


@dataclass(frozen=True)
class Segmented(Predictor):
    """Fitted `PerSegment`.

    Attributes:
        by: The columns that tell segments apart.
        whole: For all other rows.
        segments: By the values of `by` as a JSON list of texts.
    """

    by: tuple[str, ...]
    whole: Predictor
    segments: Mapping[str, Predictor]

    word: ClassVar[str] = "segments"

    @property
    def packages(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `Predictor.packages`: those of all predictors."""
        return packages_of([self.whole, *self.segments.values()])

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Predictor.inputs`."""
        return tuple(dict.fromkeys(name for part in [self.whole, *self.segments.values()] for name in [*self.by, *part.inputs]))

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Predictor.predict`. A class that a segment did not have in training has the probability 0 there."""
        empty = self.whole.predict(rows.clear())
        numbered = rows.with_columns(_segment(self.by).alias(_SEGMENT)).with_row_index(_ROW)
        parts = [empty.with_columns(pl.lit(None, dtype=pl.UInt32).alias(_ROW))]
        for (segment,), part in numbered.partition_by(_SEGMENT, as_dict=True).items():
            predictor = self.segments.get(str(segment), self.whole)
            parts.append(predictor.predict(part.drop(_SEGMENT, _ROW)).with_columns(part[_ROW]))
        return pl.concat(parts, how="diagonal").sort(_ROW).select(pl.col(empty.columns).fill_null(0.0))

    def contributions(self, rows: pl.DataFrame, top: int = 3, *, raising: bool = False) -> pl.DataFrame:
        """See `Predictor.contributions`: those of the predictor of the row's segment."""
        parts = [self.whole.contributions(rows.clear(), top, raising=raising)]
        numbered = rows.with_columns(_segment(self.by).alias(_SEGMENT)).with_row_index(_ROW)
        for (segment,), part in numbered.partition_by(_SEGMENT, as_dict=True).items():
            found = self.segments.get(str(segment), self.whole).contributions(part.drop(_SEGMENT, _ROW), top, raising=raising)
            parts.append(found.with_columns(row=part[_ROW].cast(pl.Int64).gather(found["row"])))
        return pl.concat(parts).sort("row", "rank")

    def importance(self) -> pl.DataFrame | None:
        """See `Predictor.importance`: that of the predictor of all rows."""
        return self.whole.importance()

    def learning_curve(self) -> pl.DataFrame | None:
        """See `Predictor.learning_curve`: that of the predictor of all rows."""
        return self.whole.learning_curve()

    def settings(self) -> Mapping[str, object]:
        """See `Predictor.settings`: of all rows, and how many segments have a predictor of their own."""
        return {**self.whole.settings(), "segments": len(self.segments)}

    def save(self, folder: Path) -> None:
        """See `Predictor.save`: a folder for each predictor."""
        save_predictor(self.whole, folder / _ALL)
        for number, predictor in enumerate(self.segments.values()):
            save_predictor(predictor, folder / str(number))
        write_json(folder / _FILE, {"by": list(self.by), "segments": list(self.segments)})

    @classmethod
    def load(cls, folder: Path) -> "Segmented":
        """See `Predictor.load`."""
        parts: Mapping[str, Any] = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        segments = {segment: load_predictor(folder / str(number)) for number, segment in enumerate(parts["segments"])}
        return cls(tuple(parts["by"]), load_predictor(folder / _ALL), segments)


def _fitted(learner: Learner, seed: int, compute: Compute, part: TrainingRows) -> Predictor | None:
    """The predictor of one segment; None if its rows do not suffice."""
    try:
        return learner.fit(part, seed=seed, compute=compute)
    except NotEnoughData:
        return None


def _segment(by: tuple[str, ...]) -> pl.Expr:
    return pl.struct(pl.col(name).cast(pl.String).alias(f"{number}") for number, name in enumerate(by)).struct.json_encode()
