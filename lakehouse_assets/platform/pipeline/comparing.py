"""Two registered versions of a model on the rows that both were tested on, as the gate compares them. Nothing is decided."""

from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations.learning import ACTUAL, FOLD
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.modelling.evaluation import LOSS, ROWS, SCORE, SLICE, Evaluation, row_of
from lakehouse_assets.platform.modelling.gate.comparison import Folds, FoldScore, compare
from lakehouse_assets.platform.pipeline.compared_version import ComparedVersion
from lakehouse_assets.platform.registry.registry import Registry


def compare_versions(asset: ModelDeclaration, registry: Registry, one: int, other: int) -> dict[str, Any]:
    """Two versions on the rows that both predicted in their tests, with the outcomes that the first one knew.

    Returns:
        `model`, `metric`, `one`, `other`, `gain` (how much lower the loss of `one` is, as a share), `low` and `high` of its interval,
        `chance`, `text`, and `folds`, each with `fold`, `score`, `other_score` and `rows`.

    Raises:
        NoSuchModelVersion: MLflow does not have one of them.
        ValueError: They are the same, one of them was not tested, or they share no row.
    """
    if one == other:
        raise ValueError(f"{one} and {other} are the same version of {asset.name}: name two; `lakehouse models` lists them")
    first, second = (_rows(asset, registry, number) for number in (one, other))
    row = row_of(asset.examples)
    shared = first.join(second, on=row, how="semi"), second.drop(ACTUAL).join(first.select(*row, ACTUAL), on=row)
    if shared[0].is_empty():
        raise ValueError(f"versions {one} and {other} of {asset.name} were tested on none of the same rows: train the older one again")
    compared = compare(
        _folds(asset, shared[0]),
        _folds(asset, shared[1]),
        kind="champion",
        name=f"version {other}",
        metric=asset.metric.name,
        test="superiority",
        error_rate=asset.gate.error_rate,
        needed=asset.gate.folds,
    )
    folds = [{"fold": fold.fold, "score": fold.score, "other_score": fold.opponent_score, "rows": fold.rows} for fold in compared.by_fold]
    return {
        "model": asset.name,
        "metric": asset.metric.name,
        "one": one,
        "other": other,
        "gain": compared.gain,
        "low": compared.low,
        "high": compared.high,
        "chance": compared.chance,
        "text": f"Version {one}: {str(compared).replace('the champion version', 'version')}",
        "folds": folds,
    }


def _rows(asset: ModelDeclaration, registry: Registry, number: int) -> pl.DataFrame:
    evaluation = ComparedVersion(registry.version(asset.name, number), registry).evaluation
    if evaluation is None:
        raise ValueError(f"version {number} of {asset.name} was not tested, so it cannot be compared")
    return evaluation.rows


def _folds(asset: ModelDeclaration, rows: pl.DataFrame) -> Folds:
    losses = Evaluation(rows).losses(asset.metric).filter(pl.col(SLICE).is_null())
    return {row[FOLD]: FoldScore(row[SCORE], row[LOSS], row[ROWS]) for row in losses.iter_rows(named=True)}
