"""Tables in a bucket behave as those in a folder, and a bucket on which commits are not safe is refused before anything is written."""

import base64
import socket
import sys

import obstore
import polars as pl
import pytest

from lakehouse_assets.platform.storage import bucket as buckets
from lakehouse_assets.platform.storage import inventory
from lakehouse_assets.platform.storage.errors import BucketRefused, NoSuchTable, NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.merge import merge
from lakehouse_assets.platform.storage.source import Source
from lakehouse_assets_tests.platform.storage import worker
from lakehouse_assets_tests.platform.storage.fresh import rows_of
from lakehouse_assets_tests.platform.storage.test_kill import assert_each_batch_counts_once
from lakehouse_assets_tests.s3 import BUCKET, SECRET, s3_server

SCHEMA = {"part": pl.String(), "value": pl.Int64()}
PARTS = ["a b", "c", "x/y", "100%", "Ü日本", "a=b&c+d", "it's"]


@pytest.fixture(autouse=True)
def _as_in_a_new_process():
    buckets.forget_stores()


def objects_in(address):
    prefix = buckets.split_address(address)[1]
    return [entry["path"].removeprefix(f"{prefix}/") for entry in buckets.open_store(address).list(prefix).collect()]


@pytest.mark.parametrize("prefix", ["tables", "My Projects/Übung 日本"])
def test_a_table_in_a_bucket(bucket, prefix):
    table = Lakehouse(f"{bucket}/{prefix}").table("shop.silver.things")
    assert not table.exists()
    with pytest.raises(NoSuchTable, match="does not exist yet"):
        table.delta()
    table.create(SCHEMA, ("part",))
    table.create(SCHEMA, ("part",))
    table.append(pl.DataFrame({"part": PARTS, "value": range(len(PARTS))}))
    merge(table, pl.DataFrame({"part": ["a b", "new"], "value": [10, 11]}), ["part"])
    table.replace(pl.DataFrame({"part": ["c"], "value": [12]}), {"part": ["c"]})

    expected = dict(zip(PARTS, range(len(PARTS)), strict=True)) | {"a b": 10, "new": 11, "c": 12}
    assert rows_of(table) == sorted(expected.items(), key=repr)
    assert table.scan().filter(pl.col("part") == "100%").collect().rows() == [("100%", 3)]
    assert sorted(table.changes(1, 3).collect().rows()) == [("a b", 10), ("c", 12), ("new", 11)]
    assert Source(table, 2, 3).touched(("part",))["part"].to_list() == ["c"]
    assert table.count() == len(expected)
    assert table.count(1) == len(PARTS)
    assert [entry["version"] for entry in table.history()] == [3, 2, 1, 0]
    with pytest.raises(NoSuchVersion, match="has no version 9"):
        table.scan(9)


def test_changes_of_versions_whose_log_is_gone(bucket):
    table = Lakehouse(bucket).table("shop.silver.things")
    table.create(SCHEMA)
    for value in range(3):
        table.append(pl.DataFrame({"part": ["a"], "value": [value]}))
    table.delta().create_checkpoint()
    store, prefix = buckets.open_store(bucket), buckets.split_address(table.uri)[1]
    store.delete(f"{prefix}/_delta_log/{1:020d}.json")
    assert table.changes(1, 3).collect()["value"].to_list() == [1, 2]
    with pytest.raises(NoSuchVersion, match="read the whole table"):
        table.changes(0, 3)


def test_what_lies_below_a_table_is_listed_in_one_request_by_the_names_of_the_log(bucket, s3):
    table = Lakehouse(f"{bucket}/a root").table("shop.silver.things")
    table.create(SCHEMA, ("part",))
    table.append(pl.DataFrame({"part": PARTS, "value": range(len(PARTS))}))
    s3.requests()
    stock = inventory.take(table)
    assert s3.requests() == {"LIST": 1}
    assert set(stock.data) == inventory.files_of(table.delta())
    assert len(stock.data) == len(PARTS)
    assert sorted(stock.commits) == [0, 1]
    read = inventory.file_system(table)
    assert all(read.get_file_info(path).size == stored.size for path, stored in stock.data.items())


def test_the_tables_of_a_bucket_are_listed_by_name(bucket):
    lakehouse = Lakehouse(f"{bucket}/a root")
    assert list(lakehouse.tables()) == []
    for name in ("shop.silver.b", "shop.bronze.z", "shop.silver.a"):
        lakehouse.table(name).create({"id": pl.Int64()})
    Lakehouse(f"{bucket}/a root 2").table("shop.silver.other").create({"id": pl.Int64()})
    store, prefix = buckets.open_store(bucket), buckets.split_address(bucket)[1]
    for place in (
        "notes.txt",
        "shop/notes.txt",
        "shop/silver/begun/part.parquet",
        "Shop/silver/upper/_delta_log/0.json",
        "shop/silver/a/x/y/z",
    ):
        store.put(f"{prefix}/a root/{place}", b"x")
    assert [table.name for table in lakehouse.tables()] == ["shop.bronze.z", "shop.silver.a", "shop.silver.b"]


def test_a_whole_bucket_can_be_the_root(s3, bucket):
    things = Lakehouse(f"s3://{BUCKET}").table("whole.bucket.things")
    things.create({"id": pl.Int64()})
    assert "whole.bucket.things" in [table.name for table in Lakehouse(f"s3://{BUCKET}").tables()]


def test_processes_that_do_the_same_batches_at_once_in_a_bucket(bucket, start):
    until = 4
    workers = [start("consume", bucket, until) for _ in range(2)]
    assert [process.wait() for process in workers] == [0, 0]
    assert_each_batch_counts_once(Lakehouse(bucket), until)
    for name in worker.WRITES:
        assert Lakehouse(bucket).table(f"shop.silver.{name}").version() == until + 1


def test_a_handle_costs_no_request(s3, bucket):
    s3.requests()
    Lakehouse(bucket).table("shop.silver.things")
    assert not s3.requests()


# --- what is safe


def test_a_safe_store_is_asked_twice_once_and_then_once_a_process(s3, bucket):
    s3.requests()
    buckets.ready(bucket)
    buckets.ready(bucket)
    assert s3.requests() == {"PUT": 2}
    buckets.forget_stores()  # as in the next process
    buckets.ready(bucket)
    assert s3.requests() == {"PUT": 1}
    assert objects_in(bucket) == [buckets.PROBE]


def test_a_store_that_forgets_conditions_is_refused(monkeypatch):
    with s3_server(careless=True) as careless:
        for name, value in careless.environment().items():
            monkeypatch.setenv(name, value)
        for _ in range(2):
            with pytest.raises(BucketRefused, match="let one object be created twice"):
                buckets.ready(f"s3://{BUCKET}/root")
        assert objects_in(f"s3://{BUCKET}/root") == [buckets.PROBE]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_S3_ALLOW_UNSAFE_RENAME", "true"),
        ("AWS_S3_ALLOW_UNSAFE_RENAME", "1"),
        ("MOUNT_ALLOW_UNSAFE_RENAME", "yes"),
        ("AWS_CONDITIONAL_PUT", "disabled"),
        ("AWS_CONDITIONAL_PUT", "dynamo:locks"),
        ("AWS_COPY_IF_NOT_EXISTS", "header: x-if: *"),
        ("AWS_S3_LOCKING_PROVIDER", "none"),
    ],
)
def test_settings_that_take_the_safety_away_are_refused_by_name(s3, bucket, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    s3.requests()
    with pytest.raises(BucketRefused, match=f"variable {name}="):
        buckets.ready(bucket)
    assert not s3.requests()
    buckets.ready("/a/folder")


@pytest.mark.parametrize(
    ("name", "value"), [("allow_unsafe_rename", "True"), ("copy_if_not_exists", "header: x: *"), ("aws_conditional_put", "off")]
)
def test_options_that_take_the_safety_away_are_refused_by_name(bucket, name, value):
    with pytest.raises(BucketRefused, match=f"option {name}="):
        buckets.ready(bucket, {name: value})


@pytest.mark.parametrize(("name", "value"), [("AWS_S3_ALLOW_UNSAFE_RENAME", "false"), ("AWS_CONDITIONAL_PUT", "etag")])
def test_settings_that_change_nothing_are_taken(bucket, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    buckets.ready(bucket)


# --- what is said


def test_a_bucket_that_does_not_exist(bucket):
    with pytest.raises(BucketRefused, match="create the bucket"):
        buckets.ready("s3://no-such-bucket/root")


def test_a_store_that_is_not_up(bucket, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(BucketRefused, match="Is the store up") as refused:
            buckets.ready(bucket)
    assert SECRET not in repr(refused.getrepr(chain=True, showlocals=False))
    assert "\n" not in str(refused.value)


def test_without_the_extra_it_is_named(bucket, monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(BucketRefused, match=r"pip install 'lakehouse-assets\[bucket\]'"):
        buckets.ready(bucket)


@pytest.mark.parametrize(("name", "hint"), [("AWS_PROFILE", "export-credentials"), ("AWS_ENDPOINT", "AWS_ENDPOINT_URL")])
def test_variables_that_not_every_library_reads_are_refused(bucket, monkeypatch, name, hint):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv(name, "team")
    with pytest.raises(BucketRefused, match=hint):
        buckets.ready(bucket)


def test_polars_reads_no_profile_of_a_table_that_delta_rs_opened(s3, bucket, monkeypatch, tmp_path):
    """What the refusal of AWS_PROFILE rests on: it goes on to the metadata service of a machine in the cloud."""
    s3.make_bucket("another")  # of its own, because Polars keeps the stores that it opened
    table = Lakehouse("s3://another").table("shop.silver.things")
    table.create(SCHEMA)
    table.append(pl.DataFrame({"part": ["a"], "value": [1]}))
    delta = table.delta()
    (tmp_path / "credentials").write_text(f"[team]\naws_access_key_id = loopback\naws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "team")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9"):
        pl.scan_delta(delta, storage_options={"max_retries": 0}).collect()


def test_options_hold_no_secret_and_folders_have_none(bucket, s3):
    options = buckets.storage_options(bucket)
    assert options == {"aws_endpoint_url": s3.endpoint, "aws_allow_http": "true"}
    assert buckets.storage_options("/a/folder") == buckets.storage_options("gs://a/b") == {}
    assert buckets.storage_options("s3://a/b", {"AWS_ENDPOINT_URL": "https://store.example"}) == {
        "aws_endpoint_url": "https://store.example",
        "aws_region": "us-east-1",
    }
    assert SECRET not in repr(Lakehouse(bucket).table("a.b.c"))


# --- Azure and Google, as far as it goes without an account


@pytest.mark.parametrize(
    ("address", "bucket_address", "prefix", "store"),
    [
        ("az://container/a root/tables", "az://container", "a root/tables", "AzureStore"),
        ("abfss://container@account.dfs.core.windows.net/root", "abfss://container@account.dfs.core.windows.net", "root", "AzureStore"),
        ("gs://bucket/root", "gs://bucket", "root", "GCSStore"),
    ],
)
def test_stores_of_azure_and_google_are_opened_from_their_variables(monkeypatch, address, bucket_address, prefix, store):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(SECRET.encode()).decode())
    assert buckets.split_address(address) == (bucket_address, prefix)
    opened = buckets.open_store(address)
    assert type(opened).__name__ == store
    assert "account" in repr(opened.config) or store == "GCSStore"
    assert Lakehouse(address).table("shop.silver.things").uri == f"{address}/shop/silver/things"


def test_azure_without_its_account_says_so(monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(BucketRefused, match="Account must be specified"):
        buckets.open_store("az://container/root")


@pytest.mark.parametrize("address", ["az://container/root", "gs://bucket/root"])
def test_unsafe_settings_are_refused_for_every_kind_of_bucket(monkeypatch, address):
    monkeypatch.setenv("MOUNT_ALLOW_UNSAFE_RENAME", "1")
    with pytest.raises(BucketRefused, match="MOUNT_ALLOW_UNSAFE_RENAME"):
        buckets.ready(address)


def test_obstore_puts_once_by_the_condition_of_the_protocol(bucket):
    """What `ready` rests on."""
    store = buckets.open_store(bucket)
    store.put(f"{bucket[5:]}/once", b"1", mode="create")
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        store.put(f"{bucket[5:]}/once", b"2", mode="create")
    assert bytes(store.get(f"{bucket[5:]}/once").bytes()) == b"1"
