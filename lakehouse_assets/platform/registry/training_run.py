"""One training as an MLflow run: what is recorded of it and how it is written. Nothing here decides or sets an alias.

Runs are written through a client with explicit ids. MLflow's fluent interface keeps the store and the active run in
global variables, so two roots in one process would mix.
"""

import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import polars as pl

from lakehouse_assets.platform.registry.mlflow_store import load_mlflow
from lakehouse_assets.platform.registry.model_card import NOTE, USER, version_text
from lakehouse_assets.platform.registry.model_package import SavedModel, save_model

T = TypeVar("T")

# Tags of runs and versions. The first two say which training it is; a version that has both is never made twice.
FINGERPRINT: Final = "training_fingerprint"
CODE_VERSION: Final = "code_version"
SEED: Final = "seed"
ENVIRONMENT: Final = "environment"
TABLES: Final = "training_tables"

_DIGEST_LENGTH: Final = 36
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
    """

    name: str
    version: int
    uri: str
    digest: str
    rows: int

    def __post_init__(self) -> None:
        if len(self.digest) > _DIGEST_LENGTH:
            raise ValueError(f"the digest of {self.name} has {len(self.digest)} characters, MLflow keeps {_DIGEST_LENGTH}")


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """Everything that is recorded of one training.

    Attributes:
        model_name: Of the registered model and of the experiment, for example `revenue_forecast.models.daily_revenue`.
        model: The fitted model.
        loader: Names the function that reads what `model.save` wrote: see `model_package.save_model`.
        packages: Names of the packages that the loader needs.
        input_example: A few rows of features.
        fingerprint: Equal for two trainings that must give the same model with the same code: data, parameters, seed.
        code_version: Of the code that trained.
        seed: Of every random choice.
        environment: Fingerprint of the interpreter and the packages.
        started_at: When the training started, with time zone.
        tables: What the training set was made from.
        parameters: Of the training; values are kept as text.
        metrics: Scores of the whole model.
        breakdowns: Scores of parts of it, by name. In such a frame the float columns are scores, the text columns name
            the part, and an integer column, at most one, is the step, so that a score by horizon is drawn as a curve.
        files: Contents by path: plots, manifests and what else is worth keeping.
        description: Of the model, for people.
        owner: Who answers for the model.
        user: Who trained it.
        asset: Name of the asset that trained it, `product.layer.name`.
        orchestrator_run: Id of the run of the orchestrator that trained it.
    """

    model_name: str
    model: SavedModel
    loader: str
    packages: Sequence[str]
    input_example: pl.DataFrame
    fingerprint: str
    code_version: str
    seed: int
    environment: str
    started_at: datetime
    tables: Sequence[TrainingTable]
    parameters: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    breakdowns: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    description: str = ""
    owner: str = ""
    user: str = ""
    asset: str = ""
    orchestrator_run: str = ""

    def tags(self) -> dict[str, str]:
        """What the run and the version say about where they come from."""
        return {
            FINGERPRINT: self.fingerprint,
            CODE_VERSION: self.code_version,
            SEED: str(self.seed),
            ENVIRONMENT: self.environment,
            TABLES: json.dumps({table.name: table.version for table in self.tables}, sort_keys=True),
        }


def log_run(client: Any, experiment_id: str, training: TrainingRun) -> Any:
    """Write the run with everything in it, the model included.

    Returns:
        MLflow's logged model: its `source_run_id`, `model_id` and `artifact_location` are what a version needs.
    """
    started = int(training.started_at.timestamp() * 1000)
    tags = training.tags() | {USER: training.user, NOTE: version_text(training)}
    run_name = f"{training.model_name.rpartition('.')[2]} {training.started_at:%Y-%m-%d %H:%M}"
    run = client.create_run(experiment_id, start_time=started, tags=tags, run_name=run_name)
    run_id = run.info.run_id
    try:
        logged_model = _log_model(client, experiment_id, run_id, training)
        _log_values(client, run_id, logged_model.model_id, training)
        _log_datasets(client, run_id, training.tables)
        _log_files(client, run_id, training)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")
    return logged_model


def _log_model(client: Any, experiment_id: str, run_id: str, training: TrainingRun) -> Any:
    mlflow = load_mlflow()
    # A registered model may have dots in its name, a logged model may not.
    name = training.model_name.replace(".", "_")
    logged = client.create_logged_model(experiment_id, name=name, source_run_id=run_id, tags=training.tags())
    description = mlflow.models.Model(
        artifact_path=logged.artifact_location, model_uuid=logged.model_id, run_id=run_id, model_id=logged.model_id
    )
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        save_model(
            folder,
            description,
            model=training.model,
            loader=training.loader,
            input_example=training.input_example,
            packages=training.packages,
        )
        client.log_model_artifacts(logged.model_id, str(folder))
    client.log_outputs(run_id, [mlflow.entities.LoggedModelOutput(logged.model_id, step=0)])
    return client.finalize_logged_model(logged.model_id, "READY")


def _log_values(client: Any, run_id: str, model_id: str, training: TrainingRun) -> None:
    entities = load_mlflow().entities
    now = int(time.time() * 1000)
    scores = [(name, value, 0) for name, value in training.metrics.items() if math.isfinite(value)]
    for name, frame in training.breakdowns.items():
        scores.extend(_scores(name, frame))
    metrics = [entities.Metric(name, value, now, step, model_id=model_id) for name, value, step in scores]
    for batch in _batches(metrics):
        client.log_batch(run_id, metrics=batch)
    for batch in _batches(entities.Param(name, str(value)) for name, value in training.parameters.items()):
        client.log_batch(run_id, params=batch)


def _scores(breakdown: str, frame: pl.DataFrame) -> Iterator[tuple[str, float, int]]:
    """The scores of a breakdown as MLflow's name, value and step: `group/wape/85` at step 7."""
    scores = [name for name, kind in frame.schema.items() if kind.is_float()]
    steps = [name for name, kind in frame.schema.items() if kind.is_integer()]
    parts = [name for name in frame.columns if name not in {*scores, *steps}]
    if len(steps) > 1:
        raise ValueError(f"the breakdown {breakdown!r} has the integer columns {steps}: one can be the step, make the others text")
    for row in frame.iter_rows(named=True):
        part = [re.sub(r"[^\w.\- ]", "_", str(row[name])) for name in parts]
        for score in scores:
            # MLflow would store infinity, such as an error of a group without revenue as a share of it, as the largest double.
            if row[score] is not None and math.isfinite(row[score]):
                yield "/".join([breakdown, score, *part]), row[score], row[steps[0]] if steps else 0


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
