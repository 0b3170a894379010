"""The model registry: versions and their aliases. Who becomes champion is decided in `gate`, and recorded with `ledger`.

Aliases are the truth about what is in use: `champion` serves, `challenger` was made later and did not pass the gate,
`previous` was champion before and can be called back.
"""

import atexit
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from lakehouse_assets.platform.registry.mlflow_store import load_mlflow, prepare_artifacts, prepare_store, server_command
from lakehouse_assets.platform.registry.model_package import MODEL_FOLDER
from lakehouse_assets.platform.registry.training_run import CODE_VERSION, FINGERPRINT, TABLES, TrainingRun, log_run

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
PREVIOUS: Final = "previous"


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A registered version, as it was when it was asked for.

    Attributes:
        model_name: Of the registered model.
        version: Counts from 1.
        run_id: Of the MLflow run that made it.
        created_at: In UTC.
        source: Where MLflow keeps its artifacts.
        aliases: That it has, in alphabetical order.
        tags: What the training said about itself: see `TrainingRun.tags`.
    """

    model_name: str
    version: int
    run_id: str
    created_at: datetime
    source: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]

    @property
    def tables(self) -> dict[str, int]:
        """The tables that it was trained on, with their Delta versions."""
        tables: dict[str, int] = json.loads(self.tags[TABLES])
        return tables


@dataclass(frozen=True, kw_only=True)
class AliasChange:
    """Which version is champion after a change, and which was before it (None: there was none)."""

    model_name: str
    champion: int
    champion_before: int | None


@dataclass(frozen=True)
class Registry:
    """The models of one root. Making one costs nothing; the first call imports MLflow and prepares the database.

    Attributes:
        tracking_uri: `sqlite:///<absolute path>`, another database, or the address of an MLflow server.
        artifact_root: Folder or bucket for the files of runs and models.
    """

    tracking_uri: str
    artifact_root: str

    @classmethod
    def under(cls, folder: Path) -> "Registry":
        """A registry that keeps everything in one folder."""
        folder = folder.absolute()
        return cls(f"sqlite:///{folder / 'mlflow.db'}", str(folder / "artifacts"))

    def prepare(self) -> None:
        """Create or upgrade the database now rather than on the first call: see `prepare_store`."""
        prepare_artifacts(self.artifact_root)
        prepare_store(self.tracking_uri, self.artifact_root)

    def server_command(self, port: int, host: str = "127.0.0.1") -> tuple[list[str], dict[str, str]]:
        """How to start the MLflow web server over this registry, once it is prepared: see `mlflow_store.server_command`."""
        return server_command(self.tracking_uri, self.artifact_root, port, host)

    def log_training(self, training: TrainingRun) -> ModelVersion:
        """Write the run, keep the model and register it as a version without an alias.

        A training that was registered before, by its fingerprint and code version, is found and not written again, so
        a run that crashed after this step can be repeated.
        """
        found = self.find_version(training.model_name, {name: training.tags()[name] for name in (FINGERPRINT, CODE_VERSION)})
        if found is not None:
            return found
        client = self._client()
        logged = log_run(client, self._experiment(client, training.model_name), training)
        with _allowing("RESOURCE_ALREADY_EXISTS"):
            client.create_registered_model(training.model_name)
        # The source is the location and not models:/<id>: MLflow would look that up in the process's global store.
        registered = client.create_model_version(
            training.model_name,
            source=logged.artifact_location,
            run_id=logged.source_run_id,
            tags=training.tags(),
            model_id=logged.model_id,
        )
        # As MLflow's own register_model does, so that its web pages lead from the run to the version.
        versions = [{"name": registered.name, "version": registered.version}]
        client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": json.dumps(versions)})
        return _model_version(registered, registered.aliases)

    def find_version(self, model_name: str, tags: Mapping[str, str]) -> ModelVersion | None:
        """The newest version that has all of these tags."""
        conditions = [f"name = '{model_name}'", *(f"tags.`{name}` = '{value}'" for name, value in tags.items())]
        found = self._versions(" and ".join(conditions))
        return found[0] if found else None

    def versions(self, model_name: str) -> list[ModelVersion]:
        """All versions of a model, newest first."""
        return self._versions(f"name = '{model_name}'")

    def with_alias(self, model_name: str, alias: str) -> ModelVersion | None:
        """The version that has an alias, or None. It takes milliseconds and can be polled."""
        client, found = self._client(), None
        # Two errors of MLflow: there is no such model, and the model has no such alias.
        with _allowing("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            found = client.get_model_version_by_alias(model_name, alias)
        return None if found is None else _model_version(found, found.aliases)

    def champion(self, model_name: str) -> ModelVersion | None:
        """The version in use, or None if no version has passed the gate yet."""
        return self.with_alias(model_name, CHAMPION)

    def model_folder(self, version: ModelVersion) -> Path:
        """The folder that the model was saved in: on the local disk as it is, else a copy of it."""
        return self._local(artifact_uri=f"{version.source}/{MODEL_FOLDER}")

    def run_folder(self, version: ModelVersion) -> Path:
        """The folder with the plots, breakdowns and other files of the run: on the local disk as it is, else a copy."""
        return self._local(run_id=version.run_id, artifact_path="")

    def metrics(self, version: ModelVersion) -> dict[str, float]:
        """The scores of the run; of a curve, the last point."""
        return dict(self._client().get_run(version.run_id).data.metrics)

    def challenge(self, version: ModelVersion) -> None:
        """Make a version the challenger."""
        self._client().set_registered_model_alias(version.model_name, CHALLENGER, str(version.version))

    def promote(self, version: ModelVersion) -> AliasChange:
        """Make a version the champion and the champion so far the previous one. Done twice, it changes nothing more.

        The order of the steps is such that a crash between them leaves a valid champion, and repeating ends well.
        """
        client, name, number = self._client(), version.model_name, version.version
        aliases = _aliases(client, name)
        before = aliases.get(CHAMPION)
        if before == number:
            before = aliases.get(PREVIOUS)
        else:
            if before is not None:
                client.set_registered_model_alias(name, PREVIOUS, str(before))
            client.set_registered_model_alias(name, CHAMPION, str(number))
        if aliases.get(CHALLENGER) == number:
            client.delete_registered_model_alias(name, CHALLENGER)
        return AliasChange(model_name=name, champion=number, champion_before=before)

    def _client(self) -> Any:
        self.prepare()
        return load_mlflow().MlflowClient(self.tracking_uri, self.tracking_uri)

    def _experiment(self, client: Any, name: str) -> str:
        with _allowing("RESOURCE_ALREADY_EXISTS"):
            # The location is given, else MLflow would write to ./mlruns.
            client.create_experiment(name, artifact_location=f"{self.artifact_root.rstrip('/')}/{name}")
        return str(client.get_experiment_by_name(name).experiment_id)

    def _versions(self, condition: str) -> list[ModelVersion]:
        client = self._client()
        found = client.search_model_versions(condition, order_by=["version_number DESC"])
        aliases = _aliases(client, found[0].name) if found else {}
        return [
            _model_version(version, [alias for alias, number in aliases.items() if number == int(version.version)]) for version in found
        ]

    def _local(self, **location: str) -> Path:
        folder = _copies() if "://" in self.artifact_root else None
        return _downloaded(self.tracking_uri, folder, tuple(location.items()))


@cache
def _downloaded(tracking_uri: str, folder: Path | None, location: tuple[tuple[str, str], ...]) -> Path:
    """Artifacts on this disk. They never change, so a process copies them out of a bucket once."""
    target = None if folder is None else mkdtemp(dir=folder)
    return Path(load_mlflow().artifacts.download_artifacts(tracking_uri=tracking_uri, dst_path=target, **dict(location)))


@cache
def _copies() -> Path:
    """This process's folder for copies, deleted at its end."""
    folder = mkdtemp(prefix="lakehouse-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@contextmanager
def _allowing(*error_codes: str) -> Iterator[None]:
    """Let some kinds of MLflow's errors pass; the others go on."""
    try:
        yield
    except load_mlflow().exceptions.MlflowException as error:
        if error.error_code not in error_codes:
            raise


def _aliases(client: Any, name: str) -> dict[str, int]:
    aliases: dict[str, Any] = {}
    with _allowing("RESOURCE_DOES_NOT_EXIST"):
        aliases = client.get_registered_model(name).aliases
    return {alias: int(version) for alias, version in aliases.items()}


def _model_version(version: Any, aliases: Iterable[str]) -> ModelVersion:
    return ModelVersion(
        model_name=version.name,
        version=int(version.version),
        run_id=version.run_id,
        created_at=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
        source=version.source,
        aliases=tuple(sorted(aliases)),
        tags=dict(version.tags),
    )
