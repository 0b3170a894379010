import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy

from lakehouse_assets.platform.registry.mlflow_store import ENVIRONMENT, load_mlflow, prepare_store, server_command
from lakehouse_assets.platform.registry.registry import Aliases, Registry
from lakehouse_assets.platform.storage.errors import StorageError
from lakehouse_assets_tests.platform.registry.example import training

MODEL = "demo.daily_revenue"


def journal_mode(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("PRAGMA journal_mode").fetchone()[0]


def versions_in(database: Path) -> list[int]:
    with closing(sqlite3.connect(database)) as connection:
        return [version for (version,) in connection.execute("SELECT version FROM model_versions ORDER BY version")]


def open_when_all_are_ready(folder: Path, barrier, outcomes) -> None:
    barrier.wait(timeout=120)
    try:
        registry = Registry.under(folder)
        registry.prepare()
        outcomes.put(registry.versions(MODEL))
    except Exception as error:  # noqa: BLE001 it is the outcome
        outcomes.put(repr(error))


def test_four_processes_may_open_a_fresh_root_at_the_same_moment(tmp_path, monkeypatch):
    """Even where an earlier process was killed while it made the database."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "mlflow.db.new").write_bytes(b"SQLite format 3\0 and then the power went off")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store"])
    barrier, outcomes = context.Barrier(4), context.Queue()
    processes = [context.Process(target=open_when_all_are_ready, args=(tmp_path, barrier, outcomes)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [outcomes.get(timeout=120) for _ in processes] == [[]] * 4
    for process in processes:
        process.join()

    assert journal_mode(tmp_path / "mlflow.db") == "wal"
    # It was made once: nobody found a database to upgrade, and nothing half made lies about.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


def test_each_new_root_of_one_process_is_empty_and_keeps_its_own_artifacts(tmp_path):
    """The migrations run once a process: what comes into one root is in none that is made later."""
    for name in ("first", "second", "third"):
        registry = Registry.under(tmp_path / name)
        registry.prepare()
        assert registry.versions(MODEL) == []
        assert registry.log_training(training()).version == 1
        with closing(sqlite3.connect(tmp_path / name / "mlflow.db")) as connection:
            (address,) = connection.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 0").fetchone()
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert address == f"{registry.artifact_root}/0"
        assert journal_mode(tmp_path / name / "mlflow.db") == "wal"


def test_an_older_database_is_copied_and_upgraded(registry):
    registry.log_training(training())
    folder = Path(registry.artifact_root).parent
    (folder / "mlflow.db.lock").write_text("3.0.0", encoding="utf-8")

    registry.prepare()

    (backup,) = folder.glob("mlflow.db.before-*")
    assert versions_in(backup) == [1]
    assert (folder / "mlflow.db.lock").read_text(encoding="utf-8").splitlines() == [load_mlflow().__version__, registry.artifact_root]
    assert len(registry.versions(MODEL)) == 1


def test_an_upgrade_that_was_killed_does_not_cost_the_copy_from_before_it(registry):
    registry.log_training(training())
    folder = Path(registry.artifact_root).parent
    for fingerprint in ("f2", "f3"):
        (folder / "mlflow.db.lock").write_text("3.0.0", encoding="utf-8")
        registry.log_training(training(fingerprint=fingerprint))
    (backup,) = folder.glob("mlflow.db.before-*")
    assert versions_in(backup) == [1]


def test_tables_of_the_first_mlflow_are_brought_up_to_date(tmp_path):
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/mlflow.db")
    load_mlflow("mlflow.store.tracking.dbmodels.initial_models").Base.metadata.create_all(engine)
    engine.dispose()
    assert Registry.under(tmp_path).log_training(training()).version == 1


def test_addresses_of_other_people_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare_store("postgresql+psycopg2://user:secret@database.example/mlflow", "s3://bucket/mlflow")
    prepare_store("http://mlflow.example", "s3://bucket/mlflow")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["100%", "what?", "#1"])
def test_a_folder_that_mlflow_would_misread_is_refused(tmp_path, name):
    with pytest.raises(StorageError, match="choose another folder"):
        Registry.under(tmp_path / name).prepare()


def test_importing_the_room_does_not_import_mlflow():
    script = """
import pkgutil, sys, importlib, lakehouse_assets.platform.registry as room
for module in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
    importlib.import_module(module.name)
print([name for name in ("mlflow", "lightgbm", "matplotlib", "dagster", "pandas", "scipy") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_the_web_server_shows_the_models(tmp_path, registry, unused_port):
    version = registry.log_training(training())
    registry.set_aliases(MODEL, Aliases(champion=version.version))
    arguments, environment = registry.server_command(unused_port)
    working_directory = tmp_path / "elsewhere"
    working_directory.mkdir()
    server = subprocess.Popen(
        arguments, env=os.environ | environment, cwd=working_directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        address = f"http://127.0.0.1:{unused_port}"
        wait_until_healthy(address, server)
        model = get_json(f"{address}/api/2.0/mlflow/registered-models/get?name={MODEL}")["registered_model"]
        files = get_json(f"{address}/api/2.0/mlflow/artifacts/list?run_id={version.run_id}&path=plots")["files"]
    finally:
        server.terminate()
        output, _ = server.communicate(timeout=60)

    assert model["aliases"] == [{"alias": "champion", "version": "1"}]
    assert [file["path"] for file in files] == ["plots/forecast.png"]
    assert "Traceback" not in output
    assert list(working_directory.iterdir()) == []
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{address}/health", timeout=5)


def test_a_password_is_not_among_the_arguments_of_the_server():
    arguments, environment = server_command("postgresql://user:secret@database.example/mlflow", "s3://bucket", 5000, "127.0.0.1")
    assert "secret" not in " ".join(arguments)
    assert "secret" in environment["MLFLOW_BACKEND_STORE_URI"]


def get_json(url: str):
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.load(response)


def wait_until_healthy(address: str, server: subprocess.Popen) -> None:
    for _ in range(2000):
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except OSError:
            assert server.poll() is None, server.communicate()[0]
            time.sleep(0.1)
    raise AssertionError("the server did not start")
