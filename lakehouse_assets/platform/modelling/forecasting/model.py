"""The fitted forecast: quantiles and mean in the unit of the value, from the input columns alone, kept as text files.

How it is fitted is in `direct`, and what calibrates its quantiles in `bands`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.declarations.learning import Predictor
from lakehouse_assets.platform.modelling.boosting import load_lightgbm, model_text, predict
from lakehouse_assets.platform.modelling.forecasting.bands import Bands, Numbers
from lakehouse_assets.platform.modelling.forecasting.series import REFERENCE, SEASON
from lakehouse_assets.platform.modelling.quantile import MEDIAN, quantile_name

if TYPE_CHECKING:
    import lightgbm

MEAN: Final = "mean"
_FILE: Final = "forecast.json"


def ratios(features: Sequence[str], boosters: Sequence["lightgbm.Booster"], rows: pl.DataFrame) -> Numbers:
    """What some boosters of quantiles forecast, ascending in every row, in units of the reference."""
    found: Numbers = np.sort(np.column_stack([predict(booster, features, rows) for booster in boosters]), axis=1)
    return found


@dataclass(frozen=True)
class ForecastModel(Predictor):
    """One booster for each quantile and one for the mean, all of ratios to the reference, and the bands that were calibrated.

    Attributes:
        features: The columns that the boosters know, in their order.
        boosters: By the columns that they make: `p10`, `p50`, `p90`, `mean`.
        bands: How far quantiles are moved.
    """

    word: ClassVar[str] = "forecast"
    packages: ClassVar[tuple[str, ...]] = ("lightgbm", "numpy", "polars")

    features: tuple[str, ...]
    boosters: Mapping[str, "lightgbm.Booster"]
    bands: Bands

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Predictor.inputs`."""
        return (*self.features, SEASON, REFERENCE)

    @property
    def _names(self) -> list[str]:
        return [quantile_name(quantile) for quantile in self.bands.quantiles]

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Quantiles, ascending in every row, and `mean`, in the unit of the value. Sums of forecasts are sums of means.

        Raises:
            TypeError: An input is neither a number nor Boolean.
            ValueError: An input is missing.
        """
        if rows.is_empty():
            return pl.DataFrame(schema=dict.fromkeys([*self._names, MEAN], pl.Float64))
        raw = ratios(self.features, [self.boosters[name] for name in self._names], rows)
        horizon, season = (rows[name].cast(pl.Float64).fill_null(1).to_numpy() for name in ("horizon", SEASON))
        reference = rows[REFERENCE].cast(pl.Float64).fill_null(0)
        quantiles = self.bands.apply(raw, horizon, season)
        mean = predict(self.boosters[MEAN], self.features, rows)
        found = pl.DataFrame(quantiles, schema=self._names).with_columns(mean.alias(MEAN))
        return found.select(pl.all() * reference)

    def save(self, folder: Path) -> None:
        """Write the model as text files; equal models write equal bytes."""
        for name, booster in self.boosters.items():
            (folder / f"{name}.txt").write_text(model_text(booster), encoding="utf-8")
        parts = {"features": list(self.features), "bands": self.bands.to_json()}
        (folder / _FILE).write_text(json.dumps(parts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "ForecastModel":
        """Read what `save` wrote."""
        parts = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        bands = Bands.from_json(parts["bands"])
        names = [*(quantile_name(quantile) for quantile in bands.quantiles), MEAN]
        boosters = {name: load_lightgbm().Booster(model_str=(folder / f"{name}.txt").read_text(encoding="utf-8")) for name in names}
        return cls(tuple(parts["features"]), boosters, bands)

    def importance(self) -> pl.DataFrame:
        """See `Predictor.importance`: by the gain of the median's trees."""
        gain = self.boosters[quantile_name(MEDIAN)].feature_importance("gain")
        share = gain / max(gain.sum(), 1e-12)
        found = pl.DataFrame({"input": self.features, "importance": share}, schema={"input": pl.String, "importance": pl.Float64})
        return found.sort("importance", "input", descending=[True, False])

    def settings(self) -> Mapping[str, object]:
        """See `Predictor.settings`: how the bands were calibrated."""
        widest = {
            f"stretch_{name}": [part[place] for part in self.bands.stretch]
            for place, name in enumerate(self._names)
            if name != quantile_name(MEDIAN)
        }
        return {**widest, "season_doubt": self.bands.doubt}
