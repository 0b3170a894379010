"""The frame of losses that the gate is given, checked, and as scores by candidate, slice and fold."""

import math
from dataclasses import dataclass
from typing import Final

import polars as pl

from lakehouse_assets.platform.modelling.gate.comparison import Folds, FoldScore

COLUMNS: Final = ("fold", "slice", "value", "candidate", "score", "loss", "rows")
_KEY: Final = COLUMNS[:4]


@dataclass(frozen=True)
class Losses:
    """Scores by candidate, by slice (None: all rows of a fold) and by fold."""

    by_candidate: dict[str, dict[tuple[str, str] | None, dict[str, FoldScore]]]

    @classmethod
    def of(cls, frame: pl.DataFrame) -> "Losses":
        """Read a long frame. A candidate that is not in it has a loss in no fold, as where its metric has no score anywhere.

        Raises:
            ValueError: It lacks a column, names a row twice, or has a loss that is negative or infinite.
        """
        if missing := [name for name in COLUMNS if name not in frame.columns]:
            raise ValueError(f"the losses lack the columns {', '.join(missing)}: the gate needs {', '.join(COLUMNS)}")
        frame = frame.select(
            *(pl.col(name).cast(pl.String) for name in _KEY), pl.col("score", "loss").cast(pl.Float64), pl.col("rows").cast(pl.Int64)
        )
        if not (twice := frame.filter(frame.select(_KEY).is_duplicated())).is_empty():
            raise ValueError(f"the losses have two rows for {dict(zip(_KEY, twice.row(0)[:4], strict=True))}: give one for each")
        wrong = frame.filter((pl.col("loss") < 0) | pl.col("loss").is_infinite())
        if not wrong.is_empty():
            row = wrong.row(0, named=True)
            raise ValueError(
                f"{row['candidate']!r} has a loss of {row['loss']} in fold {row['fold']}: losses are numbers from 0 on, lower is better; "
                "where a fold does not allow one, give null"
            )
        found: dict[str, dict[tuple[str, str] | None, dict[str, FoldScore]]] = {}
        for fold, name, value, candidate, score, loss, rows in frame.rows():
            scores = found.setdefault(candidate, {}).setdefault(None if name is None else (name, str(value)), {})
            scores[fold] = FoldScore(_number(score), _number(loss), rows or 0)
        return cls(found)

    def overall(self, candidate: str) -> Folds:
        """The scores of all rows of a fold."""
        return self.by_candidate.get(candidate, {}).get(None, {})

    def slices(self, candidate: str) -> dict[tuple[str, str], Folds]:
        """The scores by column and value."""
        return {key: folds for key, folds in self.by_candidate.get(candidate, {}).items() if key is not None}

    def scored(self, candidate: str) -> set[str]:
        """The folds in which it has a loss."""
        return {fold for fold, score in self.overall(candidate).items() if math.isfinite(score.loss)}


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
