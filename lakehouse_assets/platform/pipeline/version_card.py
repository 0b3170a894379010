"""What a model card says of a version besides what made it: how good it is, where it is weak, and what it is not for.

The registry puts it below what the platform says of every version; what the gate decided stands at the end.
"""

from collections.abc import Iterator
from typing import Final

import polars as pl

from lakehouse_assets.platform.declarations.learning import CANDIDATE, FOLD, MODEL, Predictor
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.features.examined import Examined
from lakehouse_assets.platform.modelling.evaluation import LOSS, ROWS, SCORE, SLICE, VALUE, Evaluation
from lakehouse_assets.platform.wording import counted, listed

_MOST_SLICES: Final = 10
_MOST_INPUTS: Final = 5


def card(
    evaluation: Evaluation | None, asset: ModelDeclaration, candidate: str, predictor: Predictor, examined: Examined | None = None
) -> str:
    """Markdown: the test against the baselines, the weakest slices, the training set, the inputs that matter, and limits."""
    parts = [_test(evaluation, asset, candidate), _slices(evaluation, asset, candidate), _rows(examined)]
    return "\n".join([*(line for part in parts for line in part), *_limits(evaluation, asset, predictor)])


def _test(evaluation: Evaluation | None, asset: ModelDeclaration, candidate: str) -> Iterator[str]:
    if evaluation is None:
        yield "### Test\n\nIt was not tested: there was too little history."
        return
    metrics = (asset.metric, *asset.metrics)
    scores = evaluation.scores(metrics).sort(asset.metric.name, descending=not asset.metric.lower_is_better, nulls_last=True)
    folds = evaluation.folds
    yield f"### Test\n\nMeans over {counted(len(folds), 'fold')} of unseen rows, {folds[0]} to {folds[-1]}.\n"
    yield "| candidate | " + " | ".join(metric.name for metric in metrics) + " |"
    yield "| --- |" + " --: |" * len(metrics)
    for row in scores.iter_rows(named=True):
        name = f"**{row[CANDIDATE]}**" if row[CANDIDATE] == candidate else row[CANDIDATE]
        yield f"| {name} | " + " | ".join(f"{row[metric.name]:.4g}" for metric in metrics) + " |"


def _slices(evaluation: Evaluation | None, asset: ModelDeclaration, candidate: str) -> Iterator[str]:
    if evaluation is None or not evaluation.slices:
        return
    losses = evaluation.losses(asset.metric).filter(pl.col(CANDIDATE) == candidate, pl.col(SLICE).is_not_null())
    worst = (
        losses.group_by(SLICE, VALUE)
        .agg(pl.col(SCORE).sort().mean(), pl.col(LOSS).sort().mean(), pl.col(ROWS).sum(), pl.col(FOLD).n_unique())
        .sort(LOSS, SLICE, VALUE, descending=[True, False, False])
        .head(_MOST_SLICES)
    )
    yield f"\n### Weakest slices\n\n| slice | {asset.metric.name} | rows |\n| --- | --: | --: |"
    for row in worst.iter_rows(named=True):
        yield f"| {row[SLICE]}: {row[VALUE]} | {row[SCORE]:.4g} | {row[ROWS]:,} |"


def _rows(examined: Examined | None) -> Iterator[str]:
    if examined is None:
        return
    manifest = examined.manifest
    yield f"\n### Training set\n\n- {counted(manifest.rows, 'row')}, digest {manifest.digest[:12]}; training_set.json has all of it."
    yield from (f"- {one.sentence}." for one in manifest.features)
    yield from (f"- {sentence}." for sentence in examined.leakage.sentences("warn" if examined.leakage.level != "note" else "note"))


def _limits(evaluation: Evaluation | None, asset: ModelDeclaration, predictor: Predictor) -> Iterator[str]:
    yield "\n### Use and limits\n"
    yield f"- It predicts {asset.examples.target} from {counted(len(predictor.inputs), 'input')}; what they mean stands at their tables."
    importance = predictor.importance()
    if importance is not None and not importance.is_empty():
        yield f"- What matters most: {listed(importance['input'].to_list(), _MOST_INPUTS)}."
    if evaluation is not None:
        since = evaluation.folds[0]
        yield f"- Nothing is known of it on rows unlike those since {since}. The gate looks at the newest rows when it is trained again."
    if asset.baselines:
        yield f"- While no {MODEL} passes the gate, a baseline predicts: the candidate says which."
