"""The model registry in MLflow: it logs training runs, registers versions, and reads and sets aliases.

Which version has which alias is decided elsewhere: `decisions` commits it to the model's ledger, and the aliases follow the ledger.
"""

import atexit
import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from lakehouse_assets.platform.registry.mlflow_database import SQLITE, MlflowDatabase
from lakehouse_assets.platform.registry.mlflow_store import load_mlflow, prepare_artifacts, prepare_store, server_command
from lakehouse_assets.platform.registry.model_card import NOTE, version_text, with_decision
from lakehouse_assets.platform.registry.model_package import MODEL_FOLDER, predictor_digest
from lakehouse_assets.platform.registry.training_run import (
    DECISION,
    DIGEST,
    FEATURES,
    FINGERPRINT,
    TABLE_DIGESTS,
    TABLES,
    TrainingRun,
    log_run,
)
from lakehouse_assets.platform.storage.disk import reason
from lakehouse_assets.platform.storage.errors import DatabaseUnavailable
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion

_DEFAULT_EXPERIMENT: Final = "0"
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
PREVIOUS: Final = "previous"


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A registered version, as it was when it was read.

    Attributes:
        model_name: Of the registered model.
        version: Counts from 1.
        run_id: Of the MLflow run that made it.
        created_at: In UTC.
        source: Where MLflow keeps its artifacts.
        aliases: That it has, in alphabetical order.
        tags: What the training recorded about itself: see `TrainingRun.tags`.
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
        """The tables that it was trained on, with their Delta versions; empty for a version that somebody else registered."""
        tables: dict[str, int] = json.loads(self.tags.get(TABLES, "{}"))
        return tables

    @property
    def table_digests(self) -> dict[str, str]:
        """What tells these versions from those of a table of the same name that was created again; of trainings that said it."""
        digests: dict[str, str] = json.loads(self.tags.get(TABLE_DIGESTS, "{}"))
        return digests

    @property
    def features(self) -> dict[str, FeatureVersion]:
        """The versions of the feature sets that it was trained on, by name."""
        return features_of(self.tags.get(FEATURES))


def features_of(text: str | None) -> dict[str, FeatureVersion]:
    """The versions of feature sets, as a training has written them down; none if it has not."""
    return {name: FeatureVersion(**version) for name, version in json.loads(text or "{}").items()}


@dataclass(frozen=True, kw_only=True)
class Aliases:
    """Which version of a model has which alias; None: no version has it.

    Attributes:
        champion: The version that scores.
        previous: The champion before it, which a rollback makes champion again.
        challenger: The newest version that did not pass the gate.
    """

    champion: int | None = None
    previous: int | None = None
    challenger: int | None = None

    def promote(self, version: int) -> "Aliases":
        """The aliases after `version` became champion; the same if it is champion already."""
        if version == self.champion:
            return self
        before = self.previous if self.champion is None else self.champion
        return Aliases(champion=version, previous=_unless(version, before), challenger=_unless(version, self.challenger))

    @property
    def by_name(self) -> dict[str, int | None]:
        """The version of each alias."""
        return {CHAMPION: self.champion, PREVIOUS: self.previous, CHALLENGER: self.challenger}

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions that have an alias, each once."""
        return tuple(dict.fromkeys(number for number in self.by_name.values() if number is not None))

    def challenge(self, version: int) -> "Aliases":
        """The aliases after `version` did not pass the gate; the same if it is the champion."""
        return self if version == self.champion else replace(self, challenger=version)

    def without(self, version: int) -> "Aliases":
        """The aliases after `version` was rejected: it is no challenger, and no rollback or call-back leads to it."""
        return replace(self, previous=_unless(version, self.previous), challenger=_unless(version, self.challenger))

    def retire(self) -> "Aliases":
        """The aliases after the champion was withdrawn. It becomes the previous champion, so a rollback undoes this."""
        return self if self.champion is None else Aliases(previous=self.champion, challenger=self.challenger)


class NoSuchModelVersion(LookupError):
    """A model has no such version in MLflow. It lists the versions that there are."""


def nothing_known(model_name: str, number: int) -> str:
    """What is said where MLflow has no version of a model at all, and one is needed."""
    return (
        f"MLflow has no version of {model_name} at all, and version {number} is needed: its database is not there, it is another one, or "
        f"nothing was trained. Bring the database back; if there is none, `lakehouse train {model_name} --force` starts over"
    )


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
        """A registry with everything in one folder."""
        folder = folder.absolute()
        return cls(f"{SQLITE}{folder / 'mlflow.db'}", str(folder / "artifacts"))

    def prepare(self) -> None:
        """Create or upgrade the database now rather than on the first call: see `prepare_store`.

        Raises:
            DatabaseUnavailable: It cannot be opened: the disk is full or can only be read, or the file is damaged.
        """
        prepare_artifacts(self.artifact_root)
        try:
            prepare_store(self.tracking_uri, self.artifact_root)
        except (sqlite3.Error, SQLAlchemyError, OSError) as error:
            why = (reason(error, self._database.path.parent) if self._database else None) or str(error).splitlines()[0]
            raise DatabaseUnavailable(f"MLflow's database cannot be used: {why}") from error

    def server_command(self, port: int, host: str = "127.0.0.1") -> tuple[list[str], dict[str, str]]:
        """How to start the MLflow web server over this registry, once it is prepared: see `mlflow_store.server_command`."""
        return server_command(self.tracking_uri, self.artifact_root, port, host)

    def model_names(self) -> list[str]:
        """The registered models."""
        return [model.name for model in self._client().search_registered_models()]

    def log_training(self, training: TrainingRun) -> ModelVersion:
        """Log the run and the model, and register the model as a version without an alias.

        It is idempotent: a training that is registered already, by its fingerprint and the bytes of its predictor, is returned and not
        logged again.
        """
        digest = predictor_digest(training.predictor)
        existing = self.find_version(training.model_name, {FINGERPRINT: training.fingerprint, DIGEST: digest})
        if existing is not None:
            return existing
        client = self._client()
        logged = log_run(client, self._experiment(client, training.model_name), training)
        with _allowing("RESOURCE_ALREADY_EXISTS"):
            client.create_registered_model(training.model_name, tags={"owner": training.owner}, description=training.description)
        # The source is the location and not models:/<id>: MLflow would look that up in the process's global store.
        registered = client.create_model_version(
            training.model_name,
            source=logged.artifact_location,
            run_id=logged.source_run_id,
            tags=training.tags() | {DIGEST: digest},
            description=version_text(training),
            model_id=logged.model_id,
        )
        # As MLflow's own register_model does, so that its web pages lead from the run to the version.
        versions = [{"name": registered.name, "version": registered.version}]
        client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": json.dumps(versions)})
        return _model_version(registered, registered.aliases)

    def find_version(self, model_name: str, tags: Mapping[str, str]) -> ModelVersion | None:
        """The newest version that has all of these tags."""
        conditions = [f"name = '{model_name}'", *(f"tags.`{name}` = '{value}'" for name, value in tags.items())]
        versions = self._versions(" and ".join(conditions))
        return versions[0] if versions else None

    def versions(self, model_name: str) -> list[ModelVersion]:
        """All versions of a model, newest first."""
        if (database := self._database) is None:
            return self._versions(f"name = '{model_name}'")
        if not database.exists():
            return []
        self.prepare()  # a database of an older MLflow is upgraded first
        tags, aliases = database.tags(model_name), database.aliases(model_name)
        return [
            ModelVersion(
                model_name=model_name,
                version=row["version"],
                run_id=row["run_id"],
                created_at=datetime.fromtimestamp(row["created_at"] / 1000, UTC),
                source=row["source"],
                aliases=tuple(sorted(alias for alias, number in aliases.items() if number == row["version"])),
                tags=tags.get(row["version"], {}),
            )
            for row in database.versions(model_name)
        ]

    def version(self, model_name: str, number: int) -> ModelVersion:
        """One version of a model.

        Raises:
            NoSuchModelVersion: MLflow does not have it (any more).
        """
        versions = {version.version: version for version in self.versions(model_name)}
        if not versions:
            raise NoSuchModelVersion(nothing_known(model_name, number))
        if number not in versions:
            existing = ", ".join(map(str, sorted(versions)))
            raise NoSuchModelVersion(f"MLflow has no version {number} of {model_name}. There are: {existing}. See `lakehouse models`")
        return versions[number]

    def aliases(self, model_name: str) -> Aliases:
        """The aliases as they are in MLflow now. It takes milliseconds and can be polled."""
        current = self._current(model_name)
        return Aliases(champion=current.get(CHAMPION), previous=current.get(PREVIOUS), challenger=current.get(CHALLENGER))

    def set_aliases(self, model_name: str, wanted: Aliases) -> bool:
        """Set and delete aliases until they are as wanted, and return whether anything changed.

        It is idempotent, and the previous champion is set first, so a crash between two calls leaves a valid champion. Another alias
        than champion whose version was deleted from MLflow is left out.

        Raises:
            NoSuchModelVersion: MLflow does not have the version that is to be champion. No alias was changed.
        """
        current, changed = self._current(model_name), False
        if wanted.champion is not None and wanted.champion != current.get(CHAMPION):
            self.version(model_name, wanted.champion)
        for alias, number in ((PREVIOUS, wanted.previous), (CHAMPION, wanted.champion), (CHALLENGER, wanted.challenger)):
            if number == current.get(alias):
                continue
            if number is not None and self._exists(model_name, number):
                self._client().set_registered_model_alias(model_name, alias, str(number))
                changed = True
            elif alias in current:
                self._client().delete_registered_model_alias(model_name, alias)
                changed = True
        return changed

    def describe(self, version: ModelVersion, decision: str, reasons: Sequence[str], table: str = "") -> None:
        """Write what was decided about a version, and why, on its page and into its tag `decision`. It is idempotent, and only for people.

        Args:
            version: The version.
            decision: What was decided.
            reasons: Sentences.
            table: What the gate compared, as Markdown.
        """
        client = self._client()
        text = client.get_model_version(version.model_name, str(version.version)).description or ""
        client.update_model_version(version.model_name, str(version.version), with_decision(text, decision, reasons, table))
        client.set_model_version_tag(version.model_name, str(version.version), DECISION, decision)

    def card(self, model_name: str, version: int) -> str:
        """What people read of a version, as Markdown; empty where MLflow does not know it."""
        if (database := self._database) is not None:
            return database.description(model_name, version) if database.exists() else ""
        return next(
            (one.description or "" for one in self._client().search_model_versions(f"name='{model_name}'") if int(one.version) == version),
            "",
        )

    def model_folder(self, version: ModelVersion) -> Path:
        """The folder that the model was saved in: on the local disk itself, from a bucket a copy.

        Raises:
            FileNotFoundError: The version was registered by other means, or its artifacts are gone.
        """
        return self._local(artifact_uri=f"{version.source}/{MODEL_FOLDER}")

    def run_folder(self, version: ModelVersion) -> Path:
        """The folder with the plots, breakdowns and other files of the run: on the local disk itself, from a bucket a copy."""
        return self._local(run_id=version.run_id, artifact_path="")

    def metrics(self, version: ModelVersion) -> dict[str, float]:
        """The scores of the run; of a curve, the last point."""
        if (database := self._database) is not None:
            return database.metrics(version.run_id)
        return dict(self._client().get_run(version.run_id).data.metrics)

    def table_digests(self, version: ModelVersion) -> dict[str, str]:
        """What tells the tables that a version was trained on from others of the same name, by table: see `TrainingTable`."""
        if version.table_digests:
            return version.table_digests
        inputs = self._client().get_run(version.run_id).inputs.dataset_inputs  # a training of an earlier release
        return {one.dataset.name: one.dataset.digest for one in inputs}

    @property
    def _database(self) -> MlflowDatabase | None:
        return MlflowDatabase.of(self.tracking_uri)

    def _current(self, model_name: str) -> dict[str, int]:
        """The version of each alias."""
        if (database := self._database) is None:
            return _aliases(self._client(), model_name)
        if not database.exists():
            return {}
        self.prepare()
        return database.aliases(model_name)

    def _client(self) -> Any:
        self.prepare()
        return load_mlflow().MlflowClient(self.tracking_uri, self.tracking_uri)

    def _exists(self, model_name: str, number: int) -> bool:
        try:
            self.version(model_name, number)
        except NoSuchModelVersion:
            return False
        return True

    def _experiment(self, client: Any, name: str) -> str:
        with _allowing("RESOURCE_ALREADY_EXISTS"):
            # The location is given, else MLflow would write to ./mlruns.
            tags = {"mlflow.experimentKind": "custom_model_development", NOTE: f"Trainings of the model {name}, one run each."}
            client.create_experiment(name, artifact_location=f"{self.artifact_root.rstrip('/')}/{name}", tags=tags)
            # What is in the way of the others: it has no runs, unless somebody logs one without naming an experiment.
            client.set_experiment_tag(_DEFAULT_EXPERIMENT, NOTE, "Runs that name no experiment. Models have experiments of their own.")
        return str(client.get_experiment_by_name(name).experiment_id)

    def _versions(self, condition: str) -> list[ModelVersion]:
        client = self._client()
        versions = client.search_model_versions(condition, order_by=["version_number DESC"])
        aliases = _aliases(client, versions[0].name) if versions else {}
        return [
            _model_version(version, [alias for alias, number in aliases.items() if number == int(version.version)]) for version in versions
        ]

    def _local(self, **location: str) -> Path:
        folder = _copies() if "://" in self.artifact_root else None
        return _downloaded(self.tracking_uri, folder, tuple(location.items()))


@cache
def _downloaded(tracking_uri: str, folder: Path | None, location: tuple[tuple[str, str], ...]) -> Path:
    """Artifacts on this disk. They never change, so a process copies them out of a bucket once."""
    target, mlflow = None if folder is None else mkdtemp(dir=folder), load_mlflow()
    try:
        return Path(mlflow.artifacts.download_artifacts(tracking_uri=tracking_uri, dst_path=target, **dict(location)))
    except mlflow.exceptions.MlflowException as error:
        raise FileNotFoundError(f"MLflow has no artifacts of {location[0][1]}: {error}") from error


@cache
def _copies() -> Path:
    """This process's folder for copies, deleted at its end."""
    folder = mkdtemp(prefix="lakehouse-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@contextmanager
def _allowing(*error_codes: str) -> Iterator[None]:
    """Suppress MLflow's errors with these codes; others are raised."""
    try:
        yield
    except load_mlflow().exceptions.MlflowException as error:
        if error.error_code not in error_codes:
            raise


def _unless(version: int, other: int | None) -> int | None:
    return None if other == version else other


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
