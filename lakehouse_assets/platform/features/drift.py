"""Whether the newest rows are of another kind than the others: a classifier that tries to tell them apart, and by which columns it does.

Rows are compared within one training set; drift of what is served against it belongs to monitoring.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.features.domain_classifier import encoded, encodings, tell_apart
from lakehouse_assets.platform.features.one_column_rules import ranks

_MOST_ROWS = 20_000


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
    found = tell_apart(encoded(rows, encodings(rows, inputs)), times >= edge, held_out, seed=seed, compute=compute)
    return (0.5, {}) if found is None else found
