"""A domain classifier: trained to tell rows of one kind from those of another, by all their columns together.

Here are how columns become numbers and how well rows are told apart. Which rows are compared, and what that means, is said by who asks:
`drift` within a training set, `monitoring` between a window and its baseline.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.features.one_column_rules import auc, numbers
from lakehouse_assets.platform.modelling.boosting import REPRODUCIBLE, make_dataset, predict

if TYPE_CHECKING:
    import lightgbm

LEAST_ROWS = 20
"""Rows of each kind that have to be learnt from, and of each kind that are held out."""
_ROUNDS = 40
_PARAMETERS = {"objective": "binary", "num_leaves": 15, "learning_rate": 0.1, "min_data_in_leaf": 20, "feature_fraction": 0.8}
_IS_NEW, _WEIGHT = "__is_new", "__weight"
_PLACE, _COUNT = "__place", "__count"


@dataclass(frozen=True)
class Encoding:
    """How a column becomes numbers: numbers as they are, all else as the place of its frequency, so that common values lie together.

    Attributes:
        places: Of each value; None: they are numbers.
    """

    places: pl.DataFrame | None

    @classmethod
    def of(cls, values: pl.Series) -> "Encoding":
        """The encoding by the values of some rows."""
        if numbers(values.head(0)) is not None:
            return cls(None)
        counted = _plain(values).to_frame("value").group_by("value").len(_COUNT).sort([_COUNT, "value"], descending=[True, False])
        return cls(counted.select("value", pl.int_range(pl.len()).cast(pl.Float64).alias(_PLACE)))

    def numbers(self, values: pl.Series) -> npt.NDArray[np.float64]:
        """Values as numbers; those that the encoding does not know come last."""
        if self.places is None:
            return np.asarray(numbers(values), dtype=np.float64)
        rows = _plain(values).to_frame("value").join(self.places, on="value", how="left", nulls_equal=True, maintain_order="left")
        return rows[_PLACE].fill_null(float(self.places.height)).to_numpy()


def encodings(rows: pl.DataFrame, inputs: Sequence[str]) -> dict[str, Encoding]:
    """The encoding of each column, by some rows."""
    return {name: Encoding.of(rows[name]) for name in inputs}


def encoded(rows: pl.DataFrame, by: dict[str, Encoding]) -> pl.DataFrame:
    """Rows as the classifier takes them."""
    return pl.DataFrame({name: encoding.numbers(rows[name]) for name, encoding in by.items()})


def tell_apart(
    rows: pl.DataFrame, is_new: npt.NDArray[np.bool_], held_out: npt.NDArray[np.bool_], *, seed: int, compute: Compute
) -> tuple[float, dict[str, float]] | None:
    """How well new rows are told from others.

    Args:
        rows: As `encoded` makes them.
        is_new: Which rows are new.
        held_out: The rows that count; the classifier learns from the others.
        seed: Of the classifier.
        compute: Where it is trained.

    Returns:
        AUC on the held-out rows (0.5: not at all), and each column's share in it, largest first; None if there are too few rows.
    """
    seen, inputs = ~held_out, rows.columns
    counts = [int((kind & part).sum()) for kind in (is_new, ~is_new) for part in (seen, held_out)]
    if not inputs or min(counts) < LEAST_ROWS:
        return None
    new, weight = pl.Series(_IS_NEW, is_new.astype(np.int8)), pl.Series(_WEIGHT, np.ones(rows.height))
    labelled = rows.with_columns(new, weight)
    learnt = labelled.filter(seen)

    def dataset(part: int, parts: int) -> "lightgbm.Dataset":
        return make_dataset(learnt.gather_every(parts, part), inputs, _IS_NEW, weight=_WEIGHT, seed=seed)

    # Of so few rows one thread makes the same trees, and sooner.
    booster = compute.fit(dataset, {**_PARAMETERS, **REPRODUCIBLE, "num_threads": 1, "seed": seed}, _ROUNDS)
    area = auc(is_new[held_out], predict(booster, inputs, labelled.filter(held_out)).to_numpy())
    gains = np.asarray(booster.feature_importance("gain"), dtype=np.float64)
    total = float(gains.sum())
    shares = {name: float(gain) / total if total else 0.0 for name, gain in zip(inputs, gains, strict=True)}
    return area, dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def _plain(values: pl.Series) -> pl.Series:
    """Values that can be counted and sorted."""
    if values.dtype.is_nested():
        return pl.Series([repr(value) for value in values.to_list()], dtype=pl.String)
    return values.cast(pl.String) if isinstance(values.dtype, pl.Enum | pl.Categorical) else values
