"""Several learners, or predictors, as one: the weighted mean of what they predict."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import Learner, Predictor, TrainingRows
from lakehouse_assets.platform.modelling.contributions import largest
from lakehouse_assets.platform.modelling.learners.prepared import write_json
from lakehouse_assets.platform.modelling.predictors import load_predictor, packages_of, save_predictor

_FILE: Final = "blend.json"


@dataclass(frozen=True)
class Blend:
    """Several learners of one target, which predict together.

    Attributes:
        members: The learners.
        weights: How much each counts.
    """

    members: tuple[Learner, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.members) != len(self.weights) or not self.members or min(self.weights) <= 0:
            raise ValueError(f"a blend needs a weight above 0 for each of its members: {len(self.members)} members, {self.weights}")

    def fit(self, training: TrainingRows, *, seed: int, compute: Compute) -> "Blended":
        """See `Learner.fit`: each member learns from all rows."""
        total = sum(self.weights)
        names = [f"{type(member).__name__} {number}" for number, member in enumerate(self.members, start=1)]
        fitted = [member.fit(training, seed=seed, compute=compute) for member in self.members]
        return Blended(dict(zip(names, fitted, strict=True)), tuple(weight / total for weight in self.weights))


@dataclass(frozen=True)
class Blended(Predictor):
    """Predictors of one target.

    Attributes:
        members: By name, in a fixed order.
        weights: Of each member; they add up to 1.
    """

    members: Mapping[str, Predictor]
    weights: tuple[float, ...]

    word: ClassVar[str] = "blend"

    @property
    def packages(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `Predictor.packages`: those of all members."""
        return packages_of(self.members.values())

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Predictor.inputs`."""
        return tuple(dict.fromkeys(name for member in self.members.values() for name in member.inputs))

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Predictor.predict`."""
        return mean_of([member.predict(rows) for member in self.members.values()], self.weights)

    def contributions(self, rows: pl.DataFrame, top: int = 3, *, raising: bool = False) -> pl.DataFrame:
        """See `Predictor.contributions`: the weighted mean over the members."""
        found, column = np.zeros((len(rows), len(self.inputs))), {name: number for number, name in enumerate(self.inputs)}
        for member, weight in zip(self.members.values(), self.weights, strict=True):
            own = member.contributions(rows, len(member.inputs))
            which = own["input"].replace_strict(column, return_dtype=pl.Int64).to_numpy()
            np.add.at(found, (own["row"].to_numpy(), which), weight * own["contribution"].to_numpy())
        return largest(rows, self.inputs, found, top, raising=raising)

    def importance(self) -> pl.DataFrame | None:
        """See `Predictor.importance`: the weighted mean over the members that have one."""
        sums: dict[str, float] = {}
        for member, weight in zip(self.members.values(), self.weights, strict=True):
            found = member.importance()
            for name, share in found.iter_rows() if found is not None else ():
                sums[name] = sums.get(name, 0.0) + weight * share
        total = sum(sums.values())
        shares = {"input": list(sums), "importance": [value / total for value in sums.values()]}
        return pl.DataFrame(shares).sort("importance", "input", descending=[True, False]) if total else None

    def settings(self) -> Mapping[str, object]:
        """See `Predictor.settings`: the weights, and the settings of each member."""
        weights = {f"{name}.weight": weight for name, weight in zip(self.members, self.weights, strict=True)}
        return weights | {f"{name}.{key}": value for name, member in self.members.items() for key, value in member.settings().items()}

    def save(self, folder: Path) -> None:
        """See `Predictor.save`: a folder for each member."""
        for number, member in enumerate(self.members.values()):
            save_predictor(member, folder / str(number))
        write_json(folder / _FILE, {"members": list(self.members), "weights": list(self.weights)})

    @classmethod
    def load(cls, folder: Path) -> "Blended":
        """See `Predictor.load`."""
        parts: Mapping[str, Any] = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        members = {name: load_predictor(folder / str(number)) for number, name in enumerate(parts["members"])}
        return cls(members, tuple(parts["weights"]))


def mean_of(predictions: list[pl.DataFrame], weights: tuple[float, ...]) -> pl.DataFrame:
    """The weighted mean of predictions of the same rows and columns, added up in their order."""
    columns = predictions[0].columns
    total = np.zeros(predictions[0].shape)
    for prediction, weight in zip(predictions, weights, strict=True):
        total += weight * prediction.select(columns).to_numpy()
    return pl.DataFrame(total, schema=columns)
