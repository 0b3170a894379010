"""Whether the newest rows are of another kind than the others: a classifier that tries to tell them apart, and by which columns it does.

Rows are compared within one training set; drift of what is served against it belongs to monitoring.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.features.one_column_rules import auc, numbers, ranks
from lakehouse_assets.platform.modelling.boosting import REPRODUCIBLE, make_dataset, predict

if TYPE_CHECKING:
    import lightgbm

_ROUNDS = 40
_MOST_ROWS = 20_000
_PARAMETERS = {"objective": "binary", "num_leaves": 15, "learning_rate": 0.1, "min_data_in_leaf": 20, "feature_fraction": 0.8}
_IS_NEW, _WEIGHT = "__is_new", "__weight"


def drift(
    rows: pl.DataFrame, inputs: Sequence[str], at: str, share: float, held_out: npt.NDArray[np.bool_], *, seed: int, compute: Compute
) -> tuple[float, dict[str, float]]:
    """How well the newest rows are told from the others.

    Args:
        rows: In a fixed order that has nothing to do with their values.
        inputs: The columns to tell them by.
        at: Column with their time.
        share: How many are the newest.
        held_out: The rows that count; the classifier learns from the others.
        seed: Of the classifier.
        compute: Where it is trained.

    Returns:
        AUC on the held-out rows (0.5: not at all), and each column's share in it, largest first; nothing if there are too few rows.
    """
    rows, held_out = rows.head(_MOST_ROWS), held_out[:_MOST_ROWS]
    times = ranks(rows[at])
    edge = np.quantile(times, 1 - share, method="higher") if len(times) else 0
    is_new = times >= edge
    seen = ~held_out
    counts = [int(is_new[part].sum()) for part in (seen, held_out)] + [int((~is_new[part]).sum()) for part in (seen, held_out)]
    if not inputs or min(counts) < 20:
        return 0.5, {}
    new, weight = pl.Series(_IS_NEW, is_new.astype(np.int8)), pl.Series(_WEIGHT, np.ones(rows.height))
    encoded = pl.DataFrame({name: _encoded(rows[name]) for name in inputs}).with_columns(new, weight)
    learnt = encoded.filter(seen)

    def dataset(part: int, parts: int) -> "lightgbm.Dataset":
        return make_dataset(learnt.gather_every(parts, part), inputs, _IS_NEW, weight=_WEIGHT, seed=seed)

    # Of so few rows one thread makes the same trees, and sooner.
    booster = compute.fit(dataset, {**_PARAMETERS, **REPRODUCIBLE, "num_threads": 1, "seed": seed}, _ROUNDS)
    area = auc(is_new[held_out], predict(booster, inputs, encoded.filter(held_out)).to_numpy())
    gains = np.asarray(booster.feature_importance("gain"), dtype=np.float64)
    total = float(gains.sum())
    shares = {name: float(gain) / total if total else 0.0 for name, gain in zip(inputs, gains, strict=True)}
    return area, dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def _encoded(values: pl.Series) -> npt.NDArray[np.float64]:
    """Numbers as they are, texts as the place of their frequency, so that common values lie together."""
    as_numbers = numbers(values)
    if as_numbers is not None:
        return as_numbers
    codes = ranks(values)
    frequency = np.bincount(codes)
    order = np.lexsort((np.arange(len(frequency)), -frequency))
    place = np.empty(len(order))
    place[order] = np.arange(len(order))
    return place[codes]
