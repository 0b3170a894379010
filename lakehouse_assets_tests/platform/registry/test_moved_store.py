"""MLflow's data follows its folder: moved, copied or restored elsewhere, nothing is read from or written into the place where it was."""

import hashlib
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets_tests.platform.registry.example import FEATURES, MODEL, Linear, training


def texts_of(database: Path) -> dict[str, list[str]]:
    """Every value of every column of text, by table and column."""
    with closing(sqlite3.connect(database)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = [(table, row[1]) for table in tables for row in connection.execute(f"PRAGMA table_info({table})")]
        return {
            f"{table}.{column}": [str(value) for (value,) in connection.execute(f'SELECT "{column}" FROM {table}')]
            for table, column in columns
        }


def content_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def addresses_below(folder: Path, database: Path) -> list[str]:
    # A data set's `source` says where a table was when it was read; nobody opens it.
    return [where for where, values in texts_of(database).items() if any(str(folder) in value for value in values)]


@pytest.fixture
def original(new_registry):
    registry = new_registry("original")
    registry.log_training(training())
    return Path(registry.artifact_root).parent


@pytest.mark.parametrize("note_is_lost", [False, True])
@pytest.mark.parametrize("bring", [shutil.move, shutil.copytree])
def test_models_are_scored_and_trained_where_the_store_is_now(original, tmp_path, bring, note_is_lost):
    elsewhere, kept = tmp_path / "else where", original.with_name("kept")
    shutil.copytree(original, kept)
    bring(str(original), str(elsewhere))
    if note_is_lost:
        (elsewhere / "mlflow.db.lock").unlink()

    registry = Registry.under(elsewhere)
    (version,) = registry.versions("demo.daily_revenue")
    folder = registry.model_folder(version)
    assert folder.is_relative_to(elsewhere)
    assert Linear.load(folder).predict(FEATURES).equals(MODEL.predict(FEATURES))
    assert (registry.run_folder(version) / "plots" / "forecast.png").is_relative_to(elsewhere)
    new = registry.log_training(training(fingerprint="f2"))
    assert registry.model_folder(new).is_relative_to(elsewhere)

    assert addresses_below(original, elsewhere / "mlflow.db") == []
    if original.exists():
        assert content_of(original) == content_of(kept)
    else:
        assert not list(tmp_path.glob("original*"))


def test_addresses_elsewhere_and_of_longer_names_stay_as_they_are(original, tmp_path):
    places = [str(original / "artifacts-of-mine" / "x"), "s3://bucket/models/x", f"{original}/artifacts"]
    with closing(sqlite3.connect(original / "mlflow.db")) as connection, connection:
        columns = "name, artifact_location, lifecycle_stage, workspace"
        for number, place in enumerate(places):
            connection.execute(f"INSERT INTO experiments ({columns}) VALUES (?, ?, 'active', 'default')", (f"own {number}", place))
    shutil.move(original, tmp_path / "moved")
    Registry.under(tmp_path / "moved").prepare()
    found = texts_of(tmp_path / "moved" / "mlflow.db")["experiments.artifact_location"]
    assert found[-3:] == [*places[:2], str(tmp_path / "moved" / "artifacts")]


def test_any_number_may_open_a_copy_at_once(original, tmp_path):
    shutil.copytree(original, tmp_path / "copy")

    def open_copy(number: int) -> str:
        registry = Registry.under(tmp_path / "copy")
        return registry.log_training(training(fingerprint=f"of {number}")).source

    with ThreadPoolExecutor(4) as pool:
        assert all(Path(source).is_relative_to(tmp_path / "copy") for source in pool.map(open_copy, range(4)))
    assert addresses_below(original, tmp_path / "copy" / "mlflow.db") == []


def test_mlflow_itself_opens_a_model_that_was_moved(original, tmp_path, monkeypatch):
    """People who have MLflow alone read the addresses that are stored."""
    shutil.move(original, tmp_path / "moved")
    registry = Registry.under(tmp_path / "moved")
    registry.prepare()
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracking_uri)
    client = mlflow.MlflowClient(registry.tracking_uri, registry.tracking_uri)
    address = client.get_model_version_download_uri("demo.daily_revenue", "1")
    predicted = mlflow.pyfunc.load_model(address).predict(FEATURES.with_columns(pl.col("channel").cast(pl.String)).to_pandas())
    assert predicted["p50"].to_list() == MODEL.predict(FEATURES)["p50"].to_list()
