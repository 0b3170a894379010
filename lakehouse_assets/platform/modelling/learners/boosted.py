"""What gradient boosting makes: boosters with their encoding and calibration, which predict from input columns as they are.

How they are trained is in `boosting`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.declarations.learning import CONTRIBUTIONS, Predictor
from lakehouse_assets.platform.modelling.boosting import check_types, load_lightgbm, model_text
from lakehouse_assets.platform.modelling.calibration import Isotonic
from lakehouse_assets.platform.modelling.contributions import largest
from lakehouse_assets.platform.modelling.encoding import Encoding
from lakehouse_assets.platform.modelling.learners.prepared import write_json
from lakehouse_assets.platform.modelling.targets import Target

if TYPE_CHECKING:
    import lightgbm

MEAN: Final = "mean"
_FILE: Final = "boosting.json"


@dataclass(frozen=True)
class Band:
    """A quantile that is predicted.

    Attributes:
        name: Its column.
        booster: The booster that it starts from.
        shift: What is added, so that it would have held on rows that were not learnt from.
    """

    name: str
    booster: str
    shift: float


@dataclass(frozen=True)
class Boosted(Predictor):
    """Boosters of a target.

    Attributes:
        encoding: How inputs become numbers.
        target: What is predicted.
        boosters: `prediction`, `probability` or `classes`; for quantiles one for each that was learnt, and `mean`.
        bands: The quantiles, ascending; none: a number alone.
        curves: From given to honest probabilities, one for each class; one of a binary target.
        threshold: The probability above which it is cheapest to hold a row; None without costs.
        losses: The learning curve.
    """

    encoding: Encoding
    target: Target
    boosters: Mapping[str, "lightgbm.Booster"]
    bands: tuple[Band, ...] = ()
    curves: tuple[Isotonic, ...] = ()
    threshold: float | None = None
    losses: pl.DataFrame | None = field(default=None, compare=False)

    word: ClassVar[str] = "boosting"
    packages: ClassVar[tuple[str, ...]] = ("polars", "numpy", "lightgbm", "pyarrow")

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Predictor.inputs`."""
        return self.encoding.inputs

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Predictor.predict`."""
        return self.finished(self.values(rows))

    def compiled(self) -> Predictor:
        """See `Predictor.compiled`."""
        from lakehouse_assets.platform.modelling.learners.compiled import CompiledBoosted

        return CompiledBoosted(self)

    def finished(self, values: Mapping[str, Any]) -> pl.DataFrame:
        """The prediction that what the boosters say makes."""
        if self.bands:
            quantiles = np.sort(np.column_stack([values[band.booster] + band.shift for band in self.bands]), axis=1)
            columns = {band.name: quantiles[:, number] for number, band in enumerate(self.bands)}
            return pl.DataFrame({**columns, MEAN: values[MEAN]}, schema=dict.fromkeys([*columns, MEAN], pl.Float64))
        (found,) = values.values()
        if not self.curves:
            return self.target.frame(found)
        if self.target.kind == "binary":
            return self.target.frame(self.curves[0].apply(found))
        honest = np.column_stack([curve.apply(found[:, number]) for number, curve in enumerate(self.curves)])
        return self.target.frame(honest / np.sum(honest, axis=1, keepdims=True))

    def values(self, rows: pl.DataFrame) -> dict[str, Any]:
        """What each booster says, before calibration."""
        encoded = self.encoding.encode(rows)
        check_types(encoded)
        width = len(self.target.classes) if self.target.kind == "classes" else 0
        if encoded.is_empty():
            return {name: np.zeros((0, width) if width else 0) for name in self.boosters}
        return {name: np.asarray(booster.predict(encoded)) for name, booster in self.boosters.items()}

    def contributions(self, rows: pl.DataFrame, top: int = 3, *, raising: bool = False) -> pl.DataFrame:
        """See `Predictor.contributions`: SHAP values of the trees."""
        if rows.is_empty():
            return pl.DataFrame(schema=CONTRIBUTIONS)
        return self.contributions_of(self.encoding.encode(rows), rows, top, raising=raising)

    def contributions_of(self, encoded: Any, rows: pl.DataFrame, top: int, *, raising: bool) -> pl.DataFrame:
        """See `contributions`; `encoded` are the inputs of the rows as numbers."""
        booster = self.boosters.get(MEAN) or next(iter(self.boosters.values()))
        found = np.asarray(booster.predict(encoded, pred_contrib=True))
        if self.target.kind == "classes":
            likely = np.argmax(np.asarray(booster.predict(encoded)), axis=1)
            found = found.reshape(len(rows), -1, len(self.inputs) + 1)[np.arange(len(rows)), likely]
        return largest(rows, self.inputs, found[:, :-1], top, raising=raising)

    def importance(self) -> pl.DataFrame:
        """See `Predictor.importance`: shares of the gain, the mean over the boosters."""
        shares = []
        for booster in self.boosters.values():
            gain = np.asarray(booster.feature_importance("gain"), dtype=np.float64)
            shares.append(gain / total if (total := float(np.sum(gain))) else np.full(len(gain), 1 / len(gain)))
        mean = np.sum(np.array(shares), axis=0) / len(shares)
        return pl.DataFrame({"input": self.inputs, "importance": mean}).sort("importance", "input", descending=[True, False])

    def learning_curve(self) -> pl.DataFrame | None:
        """See `Predictor.learning_curve`: the loss of rows that were not learnt from."""
        return self.losses

    def settings(self) -> Mapping[str, object]:
        """See `Predictor.settings`: rounds of each booster, and the threshold."""
        rounds = {f"rounds_{name}": booster.num_trees() // booster.num_model_per_iteration() for name, booster in self.boosters.items()}
        return {**rounds, **({"threshold": self.threshold} if self.threshold is not None else {})}

    def save(self, folder: Path) -> None:
        """See `Predictor.save`."""
        for name, booster in self.boosters.items():
            (folder / f"{name}.txt").write_text(model_text(booster), encoding="utf-8")
        parts = {
            "encoding": self.encoding.to_json(),
            "target": self.target.to_json(),
            "boosters": list(self.boosters),
            "bands": [[band.name, band.booster, band.shift] for band in self.bands],
            "curves": [curve.to_json() for curve in self.curves],
            "threshold": self.threshold,
        }
        write_json(folder / _FILE, parts)

    @classmethod
    def load(cls, folder: Path) -> "Boosted":
        """See `Predictor.load`."""
        parts = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        booster = load_lightgbm().Booster
        return cls(
            Encoding.from_json(parts["encoding"]),
            Target.from_json(parts["target"]),
            {name: booster(model_str=(folder / f"{name}.txt").read_text(encoding="utf-8")) for name in parts["boosters"]},
            tuple(Band(*band) for band in parts["bands"]),
            tuple(Isotonic.from_json(curve) for curve in parts["curves"]),
            parts["threshold"],
        )
