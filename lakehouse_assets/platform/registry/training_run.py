"""One training as an MLflow run: what is recorded of it and how it is written. Nothing here decides or sets an alias.

Runs are written through a client with explicit ids. MLflow's fluent interface keeps the store and the active run in
global variables, so two roots in one process would mix.
"""

import hashlib
import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import polars as pl

from lakehouse_assets.platform.declarations.learning import MODEL, Predictor
from lakehouse_assets.platform.registry.mlflow_store import load_mlflow
from lakehouse_assets.platform.registry.model_card import NOTE, USER, version_text
from lakehouse_assets.platform.registry.model_package import save_model
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion

T = TypeVar("T")

# Tags of runs and versions. The first two say which training it is and what came out; a version that has both is never made twice.
FINGERPRINT: Final = "training_fingerprint"
DIGEST: Final = "model_digest"
RECIPE: Final = "recipe"
CANDIDATE: Final = "candidate"
CODE_VERSION: Final = "code_version"
SEED: Final = "seed"
TRAINED_BY: Final = "trained_by"
DECISION: Final = "decision"
ENVIRONMENT: Final = "environment"
TABLES: Final = "training_tables"
TABLE_DIGESTS: Final = "training_table_digests"
FEATURES: Final = "feature_versions"
REASON: Final = "training_reason"
_COMMIT, _PARENT, _SOURCE_NAME, _SOURCE_TYPE = "mlflow.source.git.commit", "mlflow.parentRunId", "mlflow.source.name", "mlflow.source.type"

_DIGEST_LENGTH: Final = 36
_EMPTY: Final = "_empty_"
_LONGEST_NAME: Final = 250
_BATCH: Final = 100  # what MLflow takes at once of parameters; it takes more metrics, but this is fast enough for both

# MLflow keeps a dataset once for all trainings of a model. Of two that add it at once the second is refused; tried again, it finds the
# first one's. It may lose once for each of its tables. A server passes on only the text of its database: SQLite, PostgreSQL, MySQL, SQL
# Server.
_RETRIES: Final = 5
_DATASET_EXISTS: Final = re.compile(
    r"UNIQUE constraint failed: datasets\.|unique constraint \"dataset_pk\"|Duplicate entry .* for key '(datasets\.)?PRIMARY'"
    r"|PRIMARY KEY constraint 'dataset_pk'"
)


@dataclass(frozen=True, kw_only=True)
class TrainingTable:
    """A table that the training set was made from, at one version.

    Attributes:
        name: Of the table, `product.layer.name`.
        version: Delta version; 0 is a version.
        uri: Where the table lies.
        digest: Says whether two datasets are the same data; at most 36 characters.
        rows: That were read.
        columns: Types of its columns, by name.
    """

    name: str
    version: int
    uri: str
    digest: str
    rows: int
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.digest) > _DIGEST_LENGTH:
            raise ValueError(f"the digest of {self.name} has {len(self.digest)} characters, MLflow keeps {_DIGEST_LENGTH}")


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """Everything that is recorded of one training.

    Attributes:
        model_name: Of the registered model and of the experiment, for example `revenue_forecast.models.daily_revenue`.
        predictor: The fitted model.
        input_example: A few rows of its inputs.
        candidate: `model`, or the name of the baseline that this is.
        fingerprint: Equal for two trainings that must give the same model: data, recipe, code, seed, environment.
        recipe: Equal for two trainings that differ in nothing but their data, and in the versions of packages.
        code_version: Of the functions and modules that trained.
        seed: Of every random choice.
        environment: Interpreter, processor and packages.
        commit: Git revision of the project that was trained from; empty if there is none.
        started_at: When the training started, with time zone.
        tables: What the training set was made from.
        features: The versions of its feature sets, by name.
        parameters: Of the training; values are kept as text.
        metrics: Scores of the whole model.
        breakdowns: Scores of parts of it, by name. In such a frame the float columns are scores, the text columns name
            the part, and an integer column, at most one, is the step, so that a score by horizon is drawn as a curve.
        trials: Of a search: see `Predictor.trials`; each row becomes a nested run.
        files: Contents by path: plots, manifests and what else is worth keeping.
        description: Of the model, for people.
        card: Markdown about this version, below what the platform says of every version.
        owner: Who answers for the model.
        user: Who trained it.
        asset: Name of the asset that trained it, `product.layer.name`.
        orchestrator_run: Id of the run of the orchestrator that trained it.
        reason: Why the training was asked for; empty: by schedule, or without a reason.
    """

    model_name: str
    predictor: Predictor
    input_example: pl.DataFrame
    candidate: str
    fingerprint: str
    recipe: str
    code_version: str
    seed: int
    environment: str
    commit: str = ""
    started_at: datetime
    tables: Sequence[TrainingTable]
    features: Mapping[str, FeatureVersion] = field(default_factory=dict)
    parameters: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    breakdowns: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    trials: pl.DataFrame | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    description: str = ""
    card: str = ""
    owner: str = ""
    user: str = ""
    asset: str = ""
    orchestrator_run: str = ""
    reason: str = ""

    def tags(self) -> dict[str, str]:
        """What the run and the version say about where they come from."""
        return {
            FINGERPRINT: self.fingerprint,
            RECIPE: self.recipe,
            CANDIDATE: self.candidate,
            CODE_VERSION: self.code_version,
            SEED: str(self.seed),
            ENVIRONMENT: self.environment,
            TABLES: json.dumps({table.name: table.version for table in self.tables}, sort_keys=True),
            TABLE_DIGESTS: json.dumps({table.name: table.digest for table in self.tables}, sort_keys=True),
            **({FEATURES: self._features} if self.features else {}),
            **({_COMMIT: self.commit} if self.commit else {}),
            **({TRAINED_BY: self.user} if self.user else {}),
            **({REASON: self.reason} if self.reason else {}),
        }

    @property
    def _features(self) -> str:
        return json.dumps({name: asdict(version) for name, version in self.features.items()}, sort_keys=True)

    @property
    def pictures(self) -> dict[str, bytes]:
        """The plots among the files, PNG, by name."""
        return {path.removesuffix(".png"): content for path, content in self.files.items() if path.endswith(".png")}

    @property
    def run_name(self) -> str:
        """Of the MLflow run."""
        what = "" if self.candidate == MODEL else f" {self.candidate}"
        return f"{self.model_name.rpartition('.')[2]}{what} {self.started_at:%Y-%m-%d %H:%M}"


def log_run(client: Any, experiment_id: str, training: TrainingRun) -> Any:
    """Write the run with everything in it, the model included.

    Returns:
        MLflow's logged model: its `source_run_id`, `model_id` and `artifact_location` are what a version needs.
    """
    started = int(training.started_at.timestamp() * 1000)
    source = {_SOURCE_NAME: training.asset, _SOURCE_TYPE: "JOB"} if training.asset else {}
    tags = training.tags() | source | {USER: training.user, NOTE: version_text(training)}
    run = client.create_run(experiment_id, start_time=started, tags=tags, run_name=training.run_name)
    run_id = run.info.run_id
    try:
        logged_model = _log_model(client, experiment_id, run_id, training)
        _log_values(client, run_id, logged_model.model_id, training)
        _log_datasets(client, run_id, training.tables)
        _log_files(client, run_id, training)
        if training.trials is not None:
            _log_trials(client, experiment_id, run_id, training.trials)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")
    return logged_model


def _log_model(client: Any, experiment_id: str, run_id: str, training: TrainingRun) -> Any:
    mlflow = load_mlflow()
    # A registered model may have dots in its name, a logged model may not.
    name = training.model_name.replace(".", "_")
    logged = client.create_logged_model(
        experiment_id, name=name, source_run_id=run_id, tags=training.tags(), model_type=training.predictor.word
    )
    description = mlflow.models.Model(
        artifact_path=logged.artifact_location, model_uuid=logged.model_id, run_id=run_id, model_id=logged.model_id
    )
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        save_model(folder, description, predictor=training.predictor, input_example=training.input_example)
        client.log_model_artifacts(logged.model_id, str(folder))
    client.log_outputs(run_id, [mlflow.entities.LoggedModelOutput(logged.model_id, step=0)])
    return client.finalize_logged_model(logged.model_id, "READY")


def _log_trials(client: Any, experiment_id: str, run_id: str, trials: pl.DataFrame) -> None:
    """Each trial of a search, and each baseline that it was compared with, as a run below that of the training."""
    entities = load_mlflow().entities
    for trial in trials.iter_rows(named=True):
        now = int(time.time() * 1000)
        name = trial["candidate"] if trial["trial"] is None else f"trial {trial['trial']}"
        child = client.create_run(experiment_id, start_time=now, tags={_PARENT: run_id}, run_name=name).info.run_id
        values = {"candidate": trial["candidate"], **json.loads(trial["parameters"])}
        known = trial["loss"] is not None and math.isfinite(trial["loss"])
        losses = [entities.Metric("loss", trial["loss"], now, 0)] if known else []
        client.log_batch(child, params=_parameters(values), metrics=losses)
        client.set_terminated(child, "KILLED" if trial["state"] == "pruned" else "FINISHED")


def _log_values(client: Any, run_id: str, model_id: str, training: TrainingRun) -> None:
    entities = load_mlflow().entities
    now = int(time.time() * 1000)
    scores = [(tuple(name.split("/")), value, 0) for name, value in training.metrics.items() if math.isfinite(value)]
    for breakdown, frame in training.breakdowns.items():
        scores.extend(_scores(breakdown, frame))
    names = _names(parts for parts, *_ in scores)
    metrics = [entities.Metric(names[parts], value, now, step, model_id=model_id) for parts, value, step in scores]
    for batch in _batches(metrics):
        client.log_batch(run_id, metrics=batch)
    for batch in _batches(_parameters(training.parameters)):
        client.log_batch(run_id, params=batch)


def _parameters(values: Mapping[str, object]) -> list[Any]:
    names = _names(tuple(name.split("/")) for name in values)
    return [load_mlflow().entities.Param(names[tuple(name.split("/"))], str(value)) for name, value in values.items()]


def _names(wanted: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """For each name, in its parts, one that MLflow takes for a metric or a parameter, none twice.

    MLflow reads names as paths, so no part is empty or made of dots alone.
    """
    found: dict[tuple[str, ...], str] = {}
    taken: set[str] = set()
    for parts in dict.fromkeys(wanted):
        safe = [re.sub(r"[^\w.\- ]", "_", part) or _EMPTY for part in parts]
        name = "/".join(part if part.strip(".") else "_" * len(part) for part in safe)
        if len(name) > _LONGEST_NAME or name in taken:
            digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
            name = f"{name[: _LONGEST_NAME - 17].rstrip('/')}_{digest}"
        taken.add(name)
        found[parts] = name
    return found


def _scores(breakdown: str, frame: pl.DataFrame) -> Iterator[tuple[tuple[str, ...], float, int]]:
    """The scores of a breakdown by the parts of their names, value and step: `group/wape/85` at step 7."""
    scores = [name for name, kind in frame.schema.items() if kind.is_float()]
    steps = [name for name, kind in frame.schema.items() if kind.is_integer()]
    parts = [name for name in frame.columns if name not in {*scores, *steps}]
    if len(steps) > 1:
        raise ValueError(f"the breakdown {breakdown!r} has the integer columns {steps}: one can be the step, make the others text")
    for row in frame.iter_rows(named=True):
        part = ["null" if row[name] is None else str(row[name]) for name in parts]
        for score in scores:
            # MLflow would store infinity, such as an error of a group without revenue as a share of it, as the largest double.
            if row[score] is not None and math.isfinite(row[score]):
                yield (breakdown, score, *part), row[score], row[steps[0]] if steps else 0


def _log_datasets(client: Any, run_id: str, tables: Sequence[TrainingTable]) -> None:
    # Written as entities, because MLflow's own Delta source drops version 0 and asks Spark about names.
    entities = load_mlflow().entities
    context = [entities.InputTag("mlflow.data.context", "training")]
    inputs = [
        entities.DatasetInput(
            entities.Dataset(
                name=table.name,
                digest=table.digest,
                source_type="delta_table",
                source=json.dumps({"path": table.uri, "delta_table_version": table.version}),
                schema=json.dumps({"mlflow_colspec": [{"type": kind, "name": name} for name, kind in table.columns.items()]}),
                profile=json.dumps({"num_rows": table.rows, "delta_table_version": table.version}),
            ),
            context,
        )
        for table in tables
    ]
    for _ in range(_RETRIES):
        try:
            client.log_inputs(run_id, datasets=inputs)
        except load_mlflow().exceptions.MlflowException as error:
            if not (error.error_code == "BAD_REQUEST" and _DATASET_EXISTS.search(error.message)):
                raise
        else:
            return
    client.log_inputs(run_id, datasets=inputs)


def _log_files(client: Any, run_id: str, training: TrainingRun) -> None:
    tables = {f"breakdowns/{name}.csv": frame.write_csv().encode() for name, frame in training.breakdowns.items()}
    with TemporaryDirectory() as temporary:
        for path, content in {**tables, **training.files}.items():
            file = Path(temporary) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        client.log_artifacts(run_id, temporary)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
