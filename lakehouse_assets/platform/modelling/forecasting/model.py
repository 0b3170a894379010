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
from lakehouse_assets.platform.modelling.forecasting.series import LEVEL, REFERENCE, SEASON
from lakehouse_assets.platform.modelling.quantile import MEDIAN, quantile_name

if TYPE_CHECKING:
    import lightgbm

MEAN: Final = "mean"
_FILE: Final = "forecast.json"
_LEVEL_FILE: Final = "level_"


@dataclass(frozen=True)
class InTwoUnits:
    """Boosters of quantiles in two units, mixed: two views of the same days err less than one.

    The reference knows a season that was seen once; what is learnt in units of the level depends on no such formula.

    Attributes:
        by_reference: Of ratios to the reference, by the columns that they make.
        by_level: Of ratios to the level, likewise; empty while `share` is zero.
        share: How much the second ones count.
    """

    by_reference: Mapping[str, "lightgbm.Booster"]
    by_level: Mapping[str, "lightgbm.Booster"]
    share: float

    def predict(self, features: Sequence[str], rows: pl.DataFrame) -> Numbers:
        """Quantiles in the unit of the value, one column each, ascending in every row. A series without a level has its reference alone."""
        found = _ascending(self.by_reference, features, rows, _money(rows, REFERENCE))
        if not self.by_level:
            return found
        level = _money(rows, LEVEL)
        share = np.where(level > 0, self.share, 0.0)[:, None]
        mixed: Numbers = (1 - share) * found + share * _ascending(self.by_level, features, rows, level)
        return mixed


def _ascending(boosters: Mapping[str, "lightgbm.Booster"], features: Sequence[str], rows: pl.DataFrame, unit: Numbers) -> Numbers:
    found: Numbers = np.sort(np.column_stack([predict(booster, features, rows) for booster in boosters.values()]), axis=1)
    return found * unit[:, None]


def _money(rows: pl.DataFrame, name: str) -> Numbers:
    found: Numbers = rows[name].cast(pl.Float64).fill_null(0).to_numpy()
    return found


@dataclass(frozen=True)
class ForecastModel(Predictor):
    """Boosters of the quantiles and of the mean, and the bands that were calibrated.

    Attributes:
        features: The columns that the boosters know, in their order.
        quantiles: The boosters of `p10`, `p50`, `p90`.
        mean: That of the mean, of ratios to the reference.
        bands: How far quantiles are moved.
    """

    word: ClassVar[str] = "forecast"
    packages: ClassVar[tuple[str, ...]] = ("lightgbm", "numpy", "polars")

    features: tuple[str, ...]
    quantiles: InTwoUnits
    mean: "lightgbm.Booster"
    bands: Bands

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Predictor.inputs`."""
        return (*self.features, SEASON, REFERENCE, LEVEL)

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
        horizon, season = (rows[name].cast(pl.Float64).fill_null(1).to_numpy() for name in ("horizon", SEASON))
        quantiles = self.bands.apply(self.quantiles.predict(self.features, rows), horizon, season)
        mean = predict(self.mean, self.features, rows) * _money(rows, REFERENCE)
        return pl.DataFrame(quantiles, schema=self._names).with_columns(mean.alias(MEAN))

    def save(self, folder: Path) -> None:
        """Write the model as text files; equal models write equal bytes."""
        by_level = {_LEVEL_FILE + name: booster for name, booster in self.quantiles.by_level.items()}
        for name, booster in {**self.quantiles.by_reference, **by_level, MEAN: self.mean}.items():
            (folder / f"{name}.txt").write_text(model_text(booster), encoding="utf-8")
        parts = {"features": list(self.features), "level_share": self.quantiles.share, "bands": self.bands.to_json()}
        (folder / _FILE).write_text(json.dumps(parts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "ForecastModel":
        """Read what `save` wrote."""
        parts = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        bands = Bands.from_json(parts["bands"])
        names = [quantile_name(quantile) for quantile in bands.quantiles]

        def booster(name: str) -> "lightgbm.Booster":
            found: lightgbm.Booster = load_lightgbm().Booster(model_str=(folder / f"{name}.txt").read_text(encoding="utf-8"))
            return found

        by_level = {name: booster(_LEVEL_FILE + name) for name in names if parts["level_share"]}
        quantiles = InTwoUnits({name: booster(name) for name in names}, by_level, parts["level_share"])
        return cls(tuple(parts["features"]), quantiles, booster(MEAN), bands)

    def importance(self) -> pl.DataFrame:
        """See `Predictor.importance`: by the gain of the median's trees."""
        gain = self.quantiles.by_reference[quantile_name(MEDIAN)].feature_importance("gain")
        share = gain / max(gain.sum(), 1e-12)
        found = pl.DataFrame({"input": self.features, "importance": share}, schema={"input": pl.String, "importance": pl.Float64})
        return found.sort("importance", "input", descending=[True, False])

    def settings(self) -> Mapping[str, object]:
        """See `Predictor.settings`: how the bands were calibrated, and how much the boosters by level count."""
        widest = {
            f"stretch_{name}": [part[place] for part in self.bands.stretch]
            for place, name in enumerate(self._names)
            if name != quantile_name(MEDIAN)
        }
        return {**widest, "season_doubt": self.bands.doubt, "level_share": self.quantiles.share}
