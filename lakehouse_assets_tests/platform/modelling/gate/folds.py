"""Frames of losses as the gate takes them, for the tests of this folder."""

import numpy as np
import polars as pl

SCHEMA = {
    "fold": pl.String,
    "slice": pl.String,
    "value": pl.String,
    "candidate": pl.String,
    "score": pl.Float64,
    "loss": pl.Float64,
    "rows": pl.Int64,
}


def frame(slices=None, **candidates) -> pl.DataFrame:
    """Losses by candidate (a list, one for each fold), and by slice: `{("country", "GB"): {"challenger": [...]}}`."""
    parts = {(None, None): candidates, **(slices or {})}
    rows = [
        (f"{number:02}", name, value, candidate, loss, loss, 100)
        for (name, value), losses in parts.items()
        for candidate, values in losses.items()
        for number, loss in enumerate(values)
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def noisy(level: float, folds: int = 13, *, seed: int, spread: float = 0.05) -> list[float]:
    """Losses around a level, on folds whose difficulty is the same for every candidate."""
    hard = np.random.default_rng(0).lognormal(sigma=0.3, size=folds)
    return (level * hard * np.random.default_rng(seed).lognormal(sigma=spread, size=folds)).tolist()
