"""What a training hands over.

The model, and what the gate, MLflow and people need to know of it. How it was trained is the product's business.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl


class HistoryTooShort(ValueError):
    """There is not enough data yet to train and to test on unseen rows. It says how much is needed."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """A trained model and its test on unseen rows.

    Attributes:
        model: Has `save(folder)`.
        loader: `package.module:function` that reads what `save` wrote.
        packages: Names of the packages that the loader needs.
        input_example: A few rows as the loaded model's `predict` takes them.
        backtest: One row a forecast value that no compared model had seen: the columns of `row`, `actual`, `model` and one for each
            baseline.
        row: The columns that identify a row of the backtest; the first is the forecast origin.
        baselines: Names of the naive baselines' columns.
        parameters: Of the training.
        metrics: Scores of the whole model.
        breakdowns: Scores of its parts, as `registry.training_run` takes them.
        plots: PNG pictures by name.
    """

    model: Any
    loader: str
    packages: tuple[str, ...]
    input_example: pl.DataFrame
    backtest: pl.DataFrame
    row: tuple[str, ...]
    baselines: tuple[str, ...]
    parameters: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    breakdowns: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    plots: Mapping[str, bytes] = field(default_factory=dict)
