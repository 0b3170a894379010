"""The Dagster half of a root in a bucket: what the web UI may show, and assets that return frames."""

import dagster as dg
import polars as pl
import pytest
from dagster_deltalake import LocalConfig, S3Config
from dagster_deltalake.config import ClientConfig

from lakehouse_assets.platform.ingestion.bucket_zone import BucketZone
from lakehouse_assets.platform.ingestion.zone import LocalZone
from lakehouse_assets.platform.orchestration.io_manager import LakehouseIOManager
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.platform.storage.errors import BucketRefused
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.s3 import SECRET


@dg.asset(
    partitions_def=dg.StaticPartitionsDefinition(["a b", "c"]),
    metadata={"partition_expr": "part"},
    io_manager_key="io_manager",
    key=["shop", "visits"],
)
def visits(context: dg.AssetExecutionContext) -> pl.DataFrame:
    return pl.DataFrame({"part": [context.partition_key], "run": [context.run.run_id]})


def test_resources_of_a_bucket_hold_no_secret(bucket):
    found = resources(Settings.load({"LAKEHOUSE_ROOT": bucket, "LAKEHOUSE_MLFLOW_URI": f"postgresql://user:{SECRET}@host/mlflow"}))
    for resource in found.values():
        assert SECRET not in repr(resource.model_dump() if isinstance(resource, dg.ConfigurableResource) else resource.description)
        assert SECRET not in repr(resource)


def test_the_address_of_mlflow_with_a_password_is_read_when_it_is_opened(monkeypatch, bucket):
    monkeypatch.setenv("LAKEHOUSE_ROOT", bucket)
    monkeypatch.setenv("LAKEHOUSE_MLFLOW_URI", f"postgresql://user:{SECRET}@host/mlflow")
    assert resources(Settings.load())["mlflow"].open().tracking_uri == f"postgresql://user:{SECRET}@host/mlflow"


def test_the_landing_location_chooses_the_zone(bucket, settings):
    assert isinstance(resources(settings)["lakehouse"].zone("invoices"), LocalZone)
    in_bucket = resources(Settings.load({"LAKEHOUSE_ROOT": bucket}))["lakehouse"]
    assert in_bucket.zone("invoices") == BucketZone(f"{bucket}/landing/invoices", f"{bucket}/archive/invoices")


@pytest.mark.parametrize("explicit", [False, True])
def test_an_asset_that_returns_a_frame_is_stored_in_a_bucket(bucket, s3, monkeypatch, explicit):
    if explicit:
        for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        manager = LakehouseIOManager(
            root_uri=bucket,
            storage_options=S3Config(endpoint=s3.endpoint, access_key_id="loopback", secret_access_key=SECRET, region="us-east-1"),
            client_options=ClientConfig(allow_http=True),
        )
    else:
        manager = LakehouseIOManager(root_uri=bucket, storage_options=LocalConfig())
    for partition in ("a b", "c", "a b"):
        result = dg.materialize([visits], partition_key=partition, resources={"io_manager": manager})
        assert result.success
        last = result.run_id
    monkeypatch.undo()
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    rows = dict(Lakehouse(bucket).table("shop.assets.visits").scan().select("part", "run").collect().rows())
    assert rows["a b"] == last
    assert set(rows) == {"a b", "c"}


def test_an_io_manager_with_an_unsafe_setting_is_refused(bucket):
    manager = LakehouseIOManager(root_uri=bucket, storage_options=S3Config(allow_unsafe_rename=True))
    with pytest.raises(BucketRefused, match="allow_unsafe_rename"):
        manager.create_io_manager(dg.build_init_resource_context())
