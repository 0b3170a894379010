"""A model of quantiles: one LightGBM booster for each, calibrated on rows that it was not trained on.

Its quantiles never cross, and about a tenth of unseen outcomes lies below a P10. What the rows mean, and in which unit, is for
the caller to know.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.modelling.boosting import REPRODUCIBLE, load_lightgbm, make_dataset, model_text, predict

if TYPE_CHECKING:
    import lightgbm

MEDIAN = 0.5


def quantile_name(quantile: float) -> str:
    """The column of a quantile: `p10` for 0.1, `p97.5` for 0.975."""
    return f"p{100 * quantile:g}"


@dataclass(frozen=True)
class QuantileModel:
    """One booster for each quantile.

    Attributes:
        features: The columns that `predict` reads, in the order in which the boosters know them.
        quantiles: Share of outcomes below each forecast, ascending and symmetric around the median.
        boosters: In the order of the quantiles, all with the same features.
        stretch: The result of `calibrate`: for each quantile the factor on its distance from the median.
    """

    features: tuple[str, ...]
    quantiles: tuple[float, ...]
    boosters: tuple["lightgbm.Booster", ...]
    stretch: tuple[float, ...]

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Quantiles as columns (`p10`, `p50`, …), one row for each of `rows`, in the unit of the label and ascending in every row.

        Raises:
            TypeError: A feature is neither a number nor Boolean.
        """
        values = np.sort(np.column_stack([predict(booster, self.features, rows) for booster in self.boosters]), axis=1)
        median = values[:, [self.quantiles.index(MEDIAN)]]
        values = np.sort(median + np.array(self.stretch) * (values - median), axis=1)
        return pl.DataFrame(values, schema=[quantile_name(quantile) for quantile in self.quantiles])

    def save(self, folder: Path) -> None:
        """Write the model as text files; equal models make equal bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        for quantile, booster in zip(self.quantiles, self.boosters, strict=True):
            (folder / f"{quantile_name(quantile)}.txt").write_text(model_text(booster), encoding="utf-8")
        parts = {"features": self.features, "quantiles": self.quantiles, "stretch": self.stretch}
        (folder / "model.json").write_text(json.dumps(parts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_quantile_model(folder: Path) -> QuantileModel:
    """Read what `QuantileModel.save` wrote."""
    parts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    texts = [(folder / f"{quantile_name(quantile)}.txt").read_text(encoding="utf-8") for quantile in parts["quantiles"]]
    boosters = tuple(load_lightgbm().Booster(model_str=text) for text in texts)
    return QuantileModel(tuple(parts["features"]), tuple(parts["quantiles"]), boosters, tuple(parts["stretch"]))


def fit_quantiles(
    rows: pl.DataFrame,
    features: Sequence[str],
    label: str,
    *,
    weight: str,
    quantiles: Sequence[float],
    parameters: Mapping[str, Any],
    rounds: int,
    seed: int,
    compute: Compute,
    categorical: Sequence[str] = (),
) -> QuantileModel:
    """Train one booster for each quantile on the same binned rows, not yet calibrated.

    Args:
        rows: Columns `features`, `label` and `weight`, numbers or Booleans all. Their order matters to the bytes of the model.
        features: Columns that the model sees.
        label: Column that it forecasts.
        weight: Column with the weight of each row.
        quantiles: Ascending and symmetric, with 0.5 in the middle.
        parameters: Of LightGBM, beyond objective, seed and what makes it reproducible.
        rounds: Trees in each booster.
        seed: The same seed and rows give the same model.
        compute: Where to train.
        categorical: Features that are codes of categories.

    Raises:
        TypeError: A column is neither a number nor Boolean.
        ValueError: The quantiles are not as described.
    """
    opposite = [1 - quantile for quantile in reversed(quantiles)]
    if MEDIAN not in quantiles or list(quantiles) != sorted(set(quantiles)) or not np.allclose(quantiles, opposite):
        raise ValueError(f"quantiles must ascend symmetrically around the median, 0.5: {list(quantiles)}")

    @cache
    def dataset(part: int, parts: int) -> "lightgbm.Dataset":
        return make_dataset(rows.gather_every(parts, part), features, label, weight=weight, categorical=categorical, seed=seed)

    boosters = tuple(
        compute.fit(dataset, {**parameters, **REPRODUCIBLE, "seed": seed, "objective": "quantile", "alpha": quantile}, rounds)
        for quantile in quantiles
    )
    return QuantileModel(tuple(features), tuple(quantiles), boosters, (1.0,) * len(boosters))


def calibrate(model: QuantileModel, rows: pl.DataFrame, label: str) -> QuantileModel:
    """The model with each band between two opposite quantiles stretched so that it would have covered its share of `rows`.

    Conformalized quantile regression (Romano, Patterson and Candès 2019), with errors in units of the quantile's distance from the median
    (CQR-m of Sesia and Candès 2020), so that a band stays narrow where the model is sure. Rows without a band say nothing about its
    width. The median stays as it is.

    Args:
        model: Trained on none of the rows.
        rows: Outcomes that were unseen: for honest bands, those right after the training period.
        label: Column of the outcome.
    """
    forecast = replace(model, stretch=(1.0,) * len(model.quantiles)).predict(rows)
    outcome, median = rows[label].to_numpy(), forecast[quantile_name(MEDIAN)].to_numpy()
    stretch = np.ones(len(model.quantiles))
    for lower in range(model.quantiles.index(MEDIAN)):
        upper = len(stretch) - 1 - lower
        below, above = median - forecast[:, lower].to_numpy(), forecast[:, upper].to_numpy() - median
        band = (below > 0) & (above > 0)
        if band.any():
            needed = np.sort(np.maximum((median - outcome)[band] / below[band], (outcome - median)[band] / above[band]))
            share = model.quantiles[upper] - model.quantiles[lower]
            rank = min(math.ceil((len(needed) + 1) * share), len(needed))
            # Less than nothing would turn the band round.
            stretch[[lower, upper]] = max(needed[rank - 1], 0.0)
    return replace(model, stretch=tuple(stretch.tolist()))
