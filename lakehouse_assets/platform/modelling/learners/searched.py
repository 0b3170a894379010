"""What a search found: the predictor, and the leaderboard of all that was tried."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import polars as pl

from lakehouse_assets.platform.declarations.learning import Predictor
from lakehouse_assets.platform.modelling.learners.prepared import write_json
from lakehouse_assets.platform.modelling.predictors import load_predictor, save_predictor

_FILE: Final = "search.json"


@dataclass(frozen=True)
class Searched(Predictor):
    """The best of a search.

    Attributes:
        best: Predicts.
        chosen: The parameters of the best trial, and how many trials there were.
        board: See `trials`; None of a predictor that was read from a folder.
    """

    best: Predictor
    chosen: Mapping[str, object]
    board: pl.DataFrame | None = field(default=None, compare=False)

    word: ClassVar[str] = "search"

    @property
    def packages(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `Predictor.packages`: those of the best one. The search itself is not needed to predict."""
        return self.best.packages

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Predictor.inputs`."""
        return self.best.inputs

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Predictor.predict`."""
        return self.best.predict(rows)

    def compiled(self) -> Predictor:
        """See `Predictor.compiled`."""
        return self.best.compiled()

    def trials(self) -> pl.DataFrame | None:
        """The leaderboard, best first: `rank`, `trial`, `candidate`, `state`, `loss`, `parameters` (JSON) and `weight` in the predictor.

        The state is `complete`, `pruned` (given up before all tests, so its loss does not compare), `baseline`, or `blend`
        (of the trials with a weight). None after loading.
        """
        return self.board

    def contributions(self, rows: pl.DataFrame, top: int = 3, *, raising: bool = False) -> pl.DataFrame:
        """See `Predictor.contributions`."""
        return self.best.contributions(rows, top, raising=raising)

    def importance(self) -> pl.DataFrame | None:
        """See `Predictor.importance`."""
        return self.best.importance()

    def learning_curve(self) -> pl.DataFrame | None:
        """See `Predictor.learning_curve`."""
        return self.best.learning_curve()

    def settings(self) -> Mapping[str, object]:
        """See `Predictor.settings`."""
        return {**self.best.settings(), **self.chosen}

    def save(self, folder: Path) -> None:
        """See `Predictor.save`."""
        save_predictor(self.best, folder / "best")
        write_json(folder / _FILE, dict(self.chosen))

    @classmethod
    def load(cls, folder: Path) -> "Searched":
        """See `Predictor.load`."""
        chosen: Mapping[str, Any] = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return cls(load_predictor(folder / "best"), chosen)
