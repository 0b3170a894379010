"""Where MLflow keeps its data and how it starts: environment variables, database, web server.

Everything that has to be right before the first call to MLflow is here. What is written into the store, and what it
means, belongs to the other modules of this room; they get MLflow from `load_mlflow` and never import it themselves.
"""

import fcntl
import os
import sqlite3
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TextIO

from lakehouse_assets.platform.compute.packages import version
from lakehouse_assets.platform.registry.mlflow_database import SQLITE, MlflowDatabase
from lakehouse_assets.platform.storage.paths import check_root

# What a process sets wins over these. MLflow reads most of them when it is imported.
ENVIRONMENT: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",  # else uv.lock and pyproject.toml of the working directory go into every model
}
_NOWHERE: Final = "/artifacts"
# By release of MLflow: its database before anything is in it. A process that opens several new roots runs the migrations once.
_EMPTY: Final[dict[str, bytes]] = {}
# Where MLflow stores addresses of artifacts. Trace tags are in no module of MLflow that could be asked: a test holds this list.
_ADDRESSES: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
# By the scheme of the artifact root: the module that MLflow reaches that store with, and how it is installed.
_ARTIFACT_STORES: Final = {
    "s3": ("boto3", "'lakehouse-assets[bucket]'"),
    "gs": ("google.cloud.storage", "google-cloud-storage"),
    "abfss": ("azure.storage.filedatalake", "azure-storage-file-datalake azure-identity"),
}


@cache
def load_mlflow(module: str = "mlflow") -> Any:
    """MLflow, or one of its modules, imported on first use: it takes more than a second, and most processes never need it."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        # While they are imported, these warn about their own type hints and their own use of SQLAlchemy.
        warnings.simplefilter("ignore")
        for noisy in ("mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store"):
            import_module(noisy)
    return import_module(module)


def prepare_store(tracking_uri: str, artifact_root: str) -> None:
    """Create the SQLite database of `tracking_uri`, upgrade it to the installed MLflow, and bring it along to another place, exactly once.

    MLflow stores absolute addresses of artifacts. When the artifact root is another one than last time, because the folder was moved,
    copied or restored elsewhere, all addresses below the old one are rewritten, so that a copy never writes into its original.

    Any number of processes may call this at the same moment; it costs less than a millisecond when there is nothing to
    do. A new database appears under its name only when it is whole, so a killed process leaves nothing half made. An
    existing one is backed up in the same folder before it is upgraded.

    Other addresses (PostgreSQL, an MLflow server) are left alone: who runs a shared database also decides when
    `mlflow db upgrade` runs on it.

    Raises:
        StorageError: The path of the database holds characters that MLflow would decode to another path.
    """
    found = MlflowDatabase.of(tracking_uri)
    if found is None:
        return
    database = found.path
    check_root(str(database))
    database.parent.mkdir(parents=True, exist_ok=True)
    prepared = [release := _installed_release(), artifact_root]
    with _locked(database.with_name(f"{database.name}.lock")) as note:
        if database.exists():
            before = note.read().splitlines()
            if before == prepared:
                return
            if before[:1] != [release]:
                _upgrade(tracking_uri, database, backup=database.with_name(f"{database.name}.before-{release}"))
            _relocate(database, before[1] if len(before) > 1 else None, artifact_root)
        else:
            _create(database, artifact_root)
        note.seek(0)
        note.truncate()
        note.write("\n".join(prepared))


@contextmanager
def noted(database: Path) -> Iterator[str]:
    """What `prepare_store` noted about a database, while nobody prepares it: a copy of the database goes with this note."""
    with _locked(database.with_name(f"{database.name}.lock")) as note:
        yield note.read()


def note_again(database: Path, note: str) -> None:
    """Put the note of a database that is about to be copied here: `prepare_store` sees by it where the database was, and follows."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with _locked(database.with_name(f"{database.name}.lock")) as file:
        file.truncate(0)
        file.write(note)


def artifact_address(address: str, environment: Mapping[str, str] | None = None) -> str:
    """An artifact root as MLflow spells it: it knows Azure's storage only by `abfss://container@account.dfs.core.windows.net/prefix`."""
    scheme, separator, place = address.partition("://")
    if not separator or scheme not in {"az", "abfs"}:
        return address
    container, _, prefix = place.partition("/")
    account = (os.environ if environment is None else environment).get("AZURE_STORAGE_ACCOUNT_NAME", "")
    return f"abfss://{container if '@' in container else f'{container}@{account}.dfs.core.windows.net'}/{prefix}"


@cache
def prepare_artifacts(artifact_root: str) -> None:
    """Make sure that MLflow can reach an artifact root in a bucket, before a model has been trained for nothing.

    Raises:
        ValueError: A Python package is missing.
    """
    scheme, separator, _ = artifact_root.partition("://")
    if not separator or scheme not in _ARTIFACT_STORES:
        return
    module, package = _ARTIFACT_STORES[scheme]
    if not _is_installed(module):
        raise ValueError(f"MLflow needs the Python package {module} for models under {artifact_root}: pip install {package}")


def server_command(tracking_uri: str, artifact_root: str, port: int, host: str) -> tuple[list[str], dict[str, str]]:
    """How to start MLflow's web server over a prepared store.

    One worker and no job runner: two processes with half a gigabyte instead of fifteen with five times that. SIGTERM
    or SIGINT to the started process ends both. `/health` answers when it is ready. Beyond this machine and its private
    network, MLflow also wants the names that it is reached by in MLFLOW_SERVER_ALLOWED_HOSTS.

    Returns:
        The arguments, and the environment variables to add. The addresses are among the latter, because they may hold
        a password and arguments can be read by every user of the machine.
    """
    arguments = ["-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    options = ["--no-serve-artifacts", "--uvicorn-opts", "--log-level warning --no-access-log"]
    environment = ENVIRONMENT | {
        "MLFLOW_BACKEND_STORE_URI": tracking_uri,
        "MLFLOW_REGISTRY_STORE_URI": tracking_uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": artifact_root,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONWARNINGS": "ignore",  # deprecations inside MLflow's server concern its developers
    }
    return [sys.executable, *arguments, *options], environment


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False  # not even the package around it


@cache
def _installed_release() -> str:
    return version("mlflow")


@contextmanager
def _locked(path: Path) -> Iterator[TextIO]:
    """The file, locked for this process. The lock is released with the file handle, also when the process is killed."""
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file


def _create(database: Path, artifact_root: str) -> None:
    unfinished = database.with_name(f"{database.name}.new")
    for leftover in database.parent.glob(f"{unfinished.name}*"):
        leftover.unlink()
    if (release := _installed_release()) in _EMPTY:
        unfinished.write_bytes(_EMPTY[release])
    else:
        _EMPTY[release] = _make_empty(unfinished)
    _relocate(unfinished, _NOWHERE, artifact_root)  # its commit waits until the whole file is on the disk
    with closing(sqlite3.connect(unfinished)) as connection:
        # Readers and a writer at once, and half the time a write; the mode stays with the file.
        connection.execute("PRAGMA journal_mode = WAL")
    unfinished.rename(database)


def _make_empty(database: Path) -> bytes:
    """Make the database of a new MLflow and return it. The migrations commit some hundred times, and none of them waits for the disk."""
    stores, sqlalchemy = load_mlflow("mlflow.store.tracking.sqlalchemy_store"), import_module("sqlalchemy")
    engine = stores.SqlAlchemyStore._get_or_create_engine(f"{SQLITE}{database}")  # noqa: SLF001 MLflow takes no engine
    sqlalchemy.event.listen(engine, "connect", _do_not_wait_for_the_disk)
    engine.dispose()  # those that were opened before
    # The first one to open the store writes the default experiment, and spells its address into SQL: a quote would end the text.
    stores.SqlAlchemyStore(f"{SQLITE}{database}", _NOWHERE)
    engine.dispose()
    return database.read_bytes()


def _do_not_wait_for_the_disk(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA journal_mode = MEMORY")


def _relocate(database: Path, old: str | None, new: str) -> None:
    """Rewrite the addresses below one artifact root to another, all or none."""
    with closing(sqlite3.connect(database)) as connection, connection:
        if old is None:  # the note was lost; the default experiment has always been directly below the root
            found = connection.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 0").fetchone()
            old = new if found is None else found[0].rpartition("/")[0]
        if old == new:
            return
        for table, column in _ADDRESSES:
            statement = f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "  # noqa: S608 names of our own
            connection.execute(
                statement + f"WHERE {column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'", {"old": old, "new": new}
            )


def _upgrade(tracking_uri: str, database: Path, *, backup: Path) -> None:
    if not backup.exists():  # else an upgrade was killed, and the copy is from before it
        unfinished = backup.with_name(f"{backup.name}.new")
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(unfinished)) as target:
            source.backup(target)
        unfinished.rename(backup)
    load_mlflow("mlflow.db").upgrade.callback(tracking_uri)  # what `mlflow db upgrade` does
