"""One training of a declared model: its candidates on unseen rows, the fitted predictors, and what MLflow keeps of them.

It reads tables at the versions that it is given and writes nothing. What is decided about the result is in `model_step`.
"""

import getpass
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.gates import LEAKAGE
from lakehouse_assets.platform.declarations.learning import CANDIDATE, FOLD, MODEL, Examples, Learner, NotEnoughData, Predictor
from lakehouse_assets.platform.declarations.models import ONE_LINE_RULE, ModelDeclaration
from lakehouse_assets.platform.features.examined import Examined, examine
from lakehouse_assets.platform.features.leakage import Leakage
from lakehouse_assets.platform.features.manifest import pin
from lakehouse_assets.platform.features.training_set import once
from lakehouse_assets.platform.modelling import evaluation_plots as plots
from lakehouse_assets.platform.modelling.evaluation import LOSS, SCORE, SLICE, VALUE, Candidates, Evaluation
from lakehouse_assets.platform.pipeline import model_parts, version_card
from lakehouse_assets.platform.pipeline.model_identity import code_of, environment_of, git_revision, hashed, recipe_of
from lakehouse_assets.platform.pipeline.model_parts import ModelParts
from lakehouse_assets.platform.pipeline.refresh import reads_of
from lakehouse_assets.platform.registry.training_run import TrainingRun, TrainingTable
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets.platform.storage.known_at import of_version
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table

EVALUATION: Final = "evaluation.parquet"
ABOUT: Final = "evaluation.json"
_EXAMPLE_ROWS: Final = 5


@dataclass(frozen=True)
class ModelTraining:
    """A training of a model on pinned versions of its tables.

    Attributes:
        asset: The model.
        lakehouse: Has its tables.
        versions: Of each table that its examples are made of.
        seed: Of every random choice.
        compute: Where work runs.
        run_id: Of the orchestrator's run.
        started_at: With time zone.
        reason: Why it was asked for; empty: by schedule, or without a reason.
    """

    asset: ModelDeclaration
    lakehouse: Lakehouse
    versions: Mapping[str, int]
    seed: int
    compute: Compute
    run_id: str
    started_at: datetime
    reason: str = ""

    def read(self, name: str) -> pl.LazyFrame:
        """The rows of a table, at its Delta version; of a feature set those of the version that was the newest then."""
        return of_version(self.lakehouse.table(name).scan(self.versions[name]))

    @cached_property
    def features(self) -> dict[str, FeatureVersion]:
        """The versions of the feature sets that the examples are made of, by name: those that were the newest then."""
        found = {name: FeatureVersion.of(self.lakehouse.table(name), version) for name, version in self.versions.items()}
        return {name: version for name, version in found.items() if version is not None}

    @cached_property
    def learners(self) -> dict[str, Learner]:
        """The candidates by name, the model first."""
        rule: dict[str, Learner] = {ONE_LINE_RULE: _rule(self.asset.learner)} if self.asset.one_line_rule else {}
        return {MODEL: self.asset.learner, **self.asset.baselines, **rule}

    @property
    def baselines(self) -> tuple[str, ...]:
        """The names of the candidates that the model has to beat."""
        return tuple(name for name in self.learners if name != MODEL)

    @cached_property
    def _examples(self) -> Examples:
        return once(self.asset.examples)

    @cached_property
    def candidates(self) -> Candidates:
        """All candidates on the same examples."""
        return Candidates(self.learners, self._examples, self.read, self.seed, self.compute)

    @cached_property
    def examined(self) -> Examined | None:
        """What is told of the rows: manifest and leakage report; None if the gate is not to look for leaks."""
        limits = self.asset.gate.leakage
        if limits is None:
            return None
        pinned = pin(self.lakehouse, tuple(self.versions), self.versions)
        return examine(self._examples, pinned, Leakage(limits), seed=self.seed, compute=self.compute)

    def challenger(self, also: Sequence[str] = ()) -> "Challenger":
        """The model, tested with its baselines on unseen rows and then fitted to all: see `Candidates.evaluate`.

        Raises:
            NotEnoughData: There is too little to test or to fit it.
        """
        evaluation, metric = self.candidates.evaluate(self.asset.split, also), self.asset.metric
        if evaluation.own.losses(metric).is_empty():
            raise NotEnoughData(
                f"{metric.name} has no score in any of the {len(evaluation.folds)} tested folds, up to {evaluation.folds[-1]}: "
                f"{self.asset.examples.target} has no outcomes there that it can be worked out of, as if all are 0, or of one class. "
                "More rows are needed"
            )
        return Challenger(self, evaluation, self.candidates.fit(MODEL))

    def best_baseline(self, losses: pl.DataFrame) -> str | None:
        """The baseline with the least mean loss over the folds; None if there is no baseline."""
        overall = losses.filter(pl.col(SLICE).is_null(), pl.col(CANDIDATE).is_in(self.baselines))
        means = overall.group_by(CANDIDATE).agg(pl.col(LOSS).sort().mean()).sort(LOSS, CANDIDATE)
        return None if means.is_empty() else str(means[CANDIDATE][0])

    def recipe(self, candidate: str = MODEL) -> str:
        """See `recipe_of`."""
        return recipe_of(self.asset.examples, self.learners[candidate])

    def run(self, predictor: Predictor, candidate: str, evaluation: Evaluation | None) -> TrainingRun:
        """What MLflow keeps of a fitted candidate.

        Args:
            predictor: Fitted on all examples.
            candidate: Its name.
            evaluation: Of all candidates; None where there was too little history for a test.
        """
        asset, examples = self.asset, self.asset.examples
        learner, tables = self.learners[candidate], self.tables
        recipe, code, environment = self.recipe(candidate), code_of(examples, learner), environment_of([predictor])
        identity = [asset.name, str(self.seed), recipe, code, environment, *(f"{table.name}@{table.digest}" for table in tables)]
        kept = {} if evaluation is None else _of_evaluation(evaluation, asset, candidate)
        evaluation = None if evaluation is None else evaluation.own
        examined = None if evaluation is None else self.examined
        return TrainingRun(
            model_name=asset.name,
            predictor=predictor,
            input_example=self.candidates.training_rows().rows.select(predictor.inputs).head(_EXAMPLE_ROWS).collect(),
            candidate=candidate,
            fingerprint=hashed("\n".join(identity)),
            recipe=recipe,
            code_version=code,
            seed=self.seed,
            environment=environment,
            commit=git_revision(Path(asset.written_at[0]).parent),
            started_at=self.started_at,
            tables=tables,
            features=self.features,
            parameters={"learner": type(learner).__name__, **parameters_of(learner), **predictor.settings()},
            metrics=({} if evaluation is None else scores_of(evaluation, asset, candidate)) | _leaks(examined),
            breakdowns=_breakdowns(evaluation, asset, candidate, predictor),
            trials=predictor.trials(),
            files={
                model_parts.FILE: ModelParts.of(examples, learner).to_json(),
                **kept,
                **_of_examples(examined),
                **_pictures(evaluation, asset, candidate, predictor),
            },
            description=asset.description,
            card=version_card.card(evaluation, asset, candidate, predictor, examined),
            owner=asset.owner,
            user=_user(),
            asset=asset.name,
            orchestrator_run=self.run_id,
            reason=self.reason,
        )

    @cached_property
    def tables(self) -> list[TrainingTable]:
        """The tables that the examples are made of, and what these were computed from, down to the landing log, by their commits."""
        found: dict[str, TrainingTable] = {}
        waiting = [(self.lakehouse.table(name), version) for name, version in self.versions.items()]
        while waiting:
            table, version = waiting.pop()
            if table.name in found or not table.exists():
                continue
            found[table.name] = _training_table(table, version)
            waiting.extend((self.lakehouse.table(name), number) for name, number in reads_of(table, version).items())
        return list(found.values())


@dataclass(frozen=True)
class Challenger:
    """A model that asks for promotion.

    Attributes:
        training: That made it.
        evaluation: Of it and its baselines on unseen rows.
        predictor: Fitted to all examples.
    """

    training: ModelTraining
    evaluation: Evaluation
    predictor: Predictor


def scores_of(evaluation: Evaluation, asset: ModelDeclaration, candidate: str) -> dict[str, float]:
    """The scores of a candidate, means over folds, by the name of the metric, and those of the others as `metric/candidate`."""
    metrics = (asset.metric, *asset.metrics)
    rows = evaluation.scores(metrics).rows_by_key(CANDIDATE, named=True, unique=True)
    scores = {metric.name: rows[candidate][metric.name] for metric in metrics}
    others = {f"{asset.metric.name}/{name}": row[asset.metric.name] for name, row in rows.items() if name != candidate}
    return scores | others


def parameters_of(learner: Any, prefix: str = "") -> dict[str, object]:
    """The fields of a learner, those of learners within it with a prefix, as MLflow keeps parameters."""
    found: dict[str, object] = {}
    for field in fields(learner) if is_dataclass(learner) else ():
        value: Any = getattr(learner, field.name)
        nested = is_dataclass(value) and hasattr(value, "fit")
        found |= parameters_of(value, f"{prefix}{field.name}.") if nested else {prefix + field.name: value}
    return found


def _of_evaluation(evaluation: Evaluation, asset: ModelDeclaration, candidate: str) -> dict[str, bytes]:
    """The rows of the test, which the next challenger is compared on, and the leaderboard."""
    rows = io.BytesIO()
    evaluation.rows.write_parquet(rows)
    scores = evaluation.own.scores((asset.metric, *asset.metrics)).sort(asset.metric.name, descending=not asset.metric.lower_is_better)
    about = {"candidate": candidate, "folds": evaluation.own.folds, "slices": evaluation.slices, "metric": asset.metric.name}
    return {EVALUATION: rows.getvalue(), "leaderboard.csv": scores.write_csv().encode(), ABOUT: json.dumps(about).encode()}


def _of_examples(examined: Examined | None) -> dict[str, bytes]:
    """What the rows are made of, and what each input tells of the target alone."""
    if examined is None:
        return {}
    sentences = "".join(f"- {sentence}.\n" for sentence in examined.leakage.sentences("note"))
    return {
        "training_set.json": examined.manifest.to_json().encode(),
        "leakage.md": sentences.encode(),
        "leakage.csv": examined.leakage.inputs.write_csv().encode(),
    }


def _leaks(examined: Examined | None) -> dict[str, float]:
    return {} if examined is None else {f"{LEAKAGE}/{name}": number for name, number in examined.leakage.numbers.items()}


def _breakdowns(evaluation: Evaluation | None, asset: ModelDeclaration, candidate: str, predictor: Predictor) -> dict[str, pl.DataFrame]:
    parts: dict[str, pl.DataFrame] = {}
    if evaluation is not None:
        losses = evaluation.losses(asset.metric).filter(pl.col(CANDIDATE) == candidate)
        name = asset.metric.name
        parts["by_fold"] = losses.filter(pl.col(SLICE).is_null()).select(FOLD, pl.col(SCORE).alias(name))
        for column in evaluation.slices:
            of = losses.filter(pl.col(SLICE) == column).group_by(VALUE).agg(pl.col(SCORE).sort().mean().alias(name)).sort(VALUE)
            parts[f"by_{column}"] = of.select(pl.col(VALUE).fill_null("null").alias(column), name)
    if (curve := predictor.learning_curve()) is not None:
        parts["learning_curve"] = curve
    return parts


def _pictures(evaluation: Evaluation | None, asset: ModelDeclaration, candidate: str, predictor: Predictor) -> dict[str, bytes]:
    found = {} if evaluation is None else plots.of_evaluation(evaluation, asset.metric, candidate)
    return {f"{name}.png": png for name, png in (found | plots.of_predictor(predictor)).items()}


def digest_of(table: Table, version: int) -> str:
    """What tells a version of a table from others: two roots have tables of one name and version, so the table's own id counts too."""
    return hashed(f"{table.delta().metadata().id}@{version}")


def _training_table(table: Table, version: int) -> TrainingTable:
    columns = {name: str(dtype) for name, dtype in table.scan(version).collect_schema().items()}
    return TrainingTable(
        name=table.name, version=version, uri=table.uri, digest=digest_of(table, version), rows=table.count(version), columns=columns
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        return ""


def _rule(learner: Learner) -> Learner:
    """The best rule of one column for what a learner predicts; where the learner does not say it, for what the target is."""
    from lakehouse_assets.platform.modelling.learners.rule import BestRule
    from lakehouse_assets.platform.modelling.targets import KINDS

    says = next((one for one in _within(learner) if hasattr(one, "objective")), None)
    if says is None:
        return BestRule(None)
    return BestRule(says.objective if says.objective in KINDS else "regression", getattr(says, "positive", None))


def _within(part: Any) -> Iterator[Any]:
    """A learner and the learners within it, as those of segments, trials and blends."""
    if isinstance(part, Mapping):
        part = tuple(part.values())
    if isinstance(part, tuple):
        for one in part:
            yield from _within(one)
    elif is_dataclass(part) and hasattr(part, "fit"):
        yield part
        for field in fields(part):
            yield from _within(getattr(part, field.name))
