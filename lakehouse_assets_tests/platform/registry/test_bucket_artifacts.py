"""Models and plots in a bucket; the database stays on this machine."""

import importlib.util

import pytest

from lakehouse_assets.platform.registry.mlflow_store import artifact_address, prepare_artifacts
from lakehouse_assets.platform.registry.registry import Aliases, Registry
from lakehouse_assets_tests.platform.registry.example import MODEL, Linear, training
from lakehouse_assets_tests.s3 import SECRET


def test_a_model_is_kept_in_a_bucket_and_read_back(bucket, new_registry, tmp_path):
    artifacts = f"{bucket}/my root/mlflow/artifacts"
    registry = Registry(new_registry().tracking_uri, artifacts)
    version = registry.log_training(training())
    assert version.source.startswith(f"{artifacts}/{version.model_name}/")
    assert registry.log_training(training()).version == version.version

    folder = registry.model_folder(version)
    assert Linear.load(folder) == MODEL
    assert registry.model_folder(version) == folder, "a process copies what never changes once"
    assert (registry.run_folder(version) / "plots" / "forecast.png").read_bytes() == b"\x89PNG"

    second = registry.log_training(training(fingerprint="f2"))
    registry.set_aliases(version.model_name, Aliases(champion=second.version, previous=version.version))
    assert registry.aliases(version.model_name).champion == second.version
    assert registry.model_folder(second) != folder
    assert not (tmp_path / "mlruns").exists()
    assert not any(SECRET.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("address", "spelled"),
    [
        ("/a/folder", "/a/folder"),
        ("s3://lake/x", "s3://lake/x"),
        ("gs://lake/x", "gs://lake/x"),
        ("az://lake/x/y", "abfss://lake@account.dfs.core.windows.net/x/y"),
        ("abfs://lake@other.dfs.core.windows.net/x", "abfss://lake@other.dfs.core.windows.net/x"),
        ("abfss://lake@other.dfs.core.windows.net/x", "abfss://lake@other.dfs.core.windows.net/x"),
    ],
)
def test_artifacts_are_spelled_as_mlflow_knows_them(address, spelled):
    assert artifact_address(address, {"AZURE_STORAGE_ACCOUNT_NAME": "account"}) == spelled


@pytest.mark.parametrize(("address", "package"), [("gs://lake/x", "google-cloud-storage"), ("abfss://lake@a.b/x", "azure-identity")])
def test_a_missing_package_is_named_before_a_model_is_trained(tmp_path, address, package):
    module = {"gs": "google.cloud.storage", "abfss": "azure.storage.filedatalake"}[address.split("://")[0]]
    try:
        installed = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        installed = False
    if installed:
        pytest.skip(f"{module} is installed here")
    with pytest.raises(ValueError, match=f"pip install .*{package}"):
        Registry(f"sqlite:///{tmp_path}/mlflow.db", address).prepare()
    assert not any(tmp_path.iterdir())


def test_folders_and_s3_need_no_more_packages(tmp_path):
    for address in (str(tmp_path), "s3://lake/x"):
        prepare_artifacts(address)
    assert not any(tmp_path.iterdir())
