"""What wrong decisions of a classifier cost, and the threshold that follows from it."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from lakehouse_assets.platform.modelling.metric_inputs import Vector


@dataclass(frozen=True)
class Costs:
    """What wrong decisions cost; right ones cost nothing.

    Attributes:
        missed: Cost of a positive row that is let pass: a number, or the column that has it.
        false_alarm: Cost of a negative row that is held.
    """

    missed: float | str
    false_alarm: float | str

    def of(self, rows: pl.DataFrame) -> tuple[Vector, Vector]:
        """Cost of missing and of holding each row.

        Raises:
            ValueError: A column is missing, or a cost is negative or null.
        """
        missed, false_alarm = (_cost(rows, cost) for cost in (self.missed, self.false_alarm))
        return missed, false_alarm


def _cost(rows: pl.DataFrame, cost: float | str) -> Vector:
    if not isinstance(cost, str):
        return np.full(rows.height, float(cost))
    if cost not in rows.columns:
        raise ValueError(f"there is no column {cost!r} with costs: add it to the slices of the model. There are {', '.join(rows.columns)}")
    values = rows[cost].cast(pl.Float64)
    if values.null_count() or (values < 0).any() or values.is_nan().any():
        raise ValueError(f"costs must be known and at least 0: column {cost!r} has null, NaN or negative ones. Fill them in")
    return values.to_numpy()


def cheapest_threshold(probability: Vector, positive: Vector, missed: Vector, false_alarm: Vector) -> float:
    """The probability above which rows are held so that the given rows cost least; between two neighbours, the middle.

    Args:
        probability: Of each row.
        positive: 1 where it should be held, 0 where not.
        missed: Cost of letting each row pass, if it is positive.
        false_alarm: Cost of holding it, if it is not.
    """
    order = np.argsort(-probability, kind="stable")
    descending = probability[order]
    # What it costs to hold the first rows, in descending order, and to let the others pass.
    change = np.where(positive[order] == 1, -missed[order], false_alarm[order])
    total = np.concatenate([[float(np.sum(np.where(positive == 1, missed, 0.0)))], change]).cumsum()
    edges = np.concatenate([[1.0], descending, [0.0]])
    # Rows of one probability are held together, and no threshold is below 0.
    cut = np.flatnonzero(edges[:-1] > np.maximum(edges[1:], 0.0))
    cut = np.union1d(cut, [0]) if len(cut) else np.zeros(1, dtype=np.int64)
    best = int(cut[np.argmin(total[cut])])
    return float((edges[best] + edges[best + 1]) / 2)
