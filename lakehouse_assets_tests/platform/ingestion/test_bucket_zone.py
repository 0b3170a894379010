"""A landing prefix in a bucket is what a landing folder is."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse_assets.platform.ingestion import bucket_zone
from lakehouse_assets.platform.ingestion.bucket_zone import BucketZone
from lakehouse_assets.platform.ingestion.zone import LandedFile, NotLanded
from lakehouse_assets.platform.storage.bucket import open_store, split_address
from lakehouse_assets.platform.storage.errors import BucketRefused

NAMES = ["a.csv", "two words.csv", "Übung 日本.csv", "100%.csv", "%41.csv", "a+b&c=d.csv", "what?#1.csv", "2024/01/x.csv", "it's (1).csv"]


@pytest.fixture
def zone(bucket):
    return BucketZone(f"{bucket}/landing/invoices", f"{bucket}/archive/invoices")


@pytest.fixture
def file(tmp_path):
    def write(content: bytes, name: str = "file.csv"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def put_object(address, content):
    open_store(address).put(split_address(address)[1], content)


def content_of(zone, path):
    with zone.open(path) as content:
        return content.read()


def test_a_file_lands_whatever_its_name(zone, file):
    for name in NAMES:
        assert zone.put(file(name.encode()), name)
    assert sorted(landed.path for landed in zone.files()) == sorted(NAMES)
    for landed in zone.files():
        content = landed.path.encode()
        assert landed.size == len(content)
        assert zone.stat(landed.path) == landed
        with zone.open(landed.path) as opened:
            assert hashlib.file_digest(opened, "sha256").digest() == hashlib.sha256(content).digest()
        with zone.local(landed.path) as path:
            assert path.name == landed.path.rsplit("/", 1)[-1]
            assert path.read_bytes() == content
        assert not path.exists()


@pytest.mark.parametrize("one_request", [True, False])
def test_a_file_lands_once_and_never_over_another(zone, file, monkeypatch, one_request):
    monkeypatch.setattr(bucket_zone, "_IN_ONE_REQUEST", 1000 if one_request else 1)
    assert zone.put(file(b"first"), "a.csv")
    assert not zone.put(file(b"first"), "a.csv")
    with pytest.raises(NotLanded, match="under a new name"):
        zone.put(file(b"other"), "a.csv")
    assert content_of(zone, "a.csv") == b"first"
    assert zone.put(file(b"other"), "a.csv", replace=True)
    assert content_of(zone, "a.csv") == b"other"
    store, prefix = open_store(zone.address), split_address(zone.address)[1]
    assert [entry["path"] for entry in store.list(prefix).collect()] == [f"{prefix}/a.csv"]


@pytest.mark.parametrize("one_request", [True, False])
def test_of_two_that_land_one_name_at_once_one_is_told(zone, file, monkeypatch, one_request):
    monkeypatch.setattr(bucket_zone, "_IN_ONE_REQUEST", 1000 if one_request else 1)
    sources = [file(f"content {number}".encode(), f"{number}.csv") for number in range(4)]

    def land(source):
        try:
            return zone.put(source, "a.csv")
        except NotLanded:
            return False

    with ThreadPoolExecutor(4) as pool:
        landed = list(pool.map(land, sources))
    assert landed.count(True) == 1
    assert content_of(zone, "a.csv") == sources[landed.index(True)].read_bytes()


def test_who_died_while_it_landed_a_large_file_keeps_a_name_for_an_hour_and_no_longer(zone, file, monkeypatch):
    monkeypatch.setattr(bucket_zone, "_IN_ONE_REQUEST", 1)
    put_object(f"{zone.address}/.a.csv.lock", b"")
    for _ in range(2):
        with pytest.raises(NotLanded, match="another process lands a file under this name"):
            zone.put(file(b"content"), "a.csv")
    monkeypatch.setattr(bucket_zone, "_LOCKED_FOR", timedelta(0))
    with pytest.raises(NotLanded, match="try again"):
        zone.put(file(b"content"), "a.csv")
    assert zone.put(file(b"content"), "a.csv")
    assert content_of(zone, "a.csv") == b"content"
    store, prefix = open_store(zone.address), split_address(zone.address)[1]
    assert [entry["path"] for entry in store.list(prefix).collect()] == [f"{prefix}/a.csv"]


def test_a_large_file_is_read_in_parts(zone, file, monkeypatch):
    monkeypatch.setattr(bucket_zone, "_CHUNK", 64 * 1024)
    content = bytes(range(256)) * 4 * 1024
    zone.put(file(content), "a.parquet")
    assert content_of(zone, "a.parquet") == content
    with zone.local("a.parquet") as path:
        assert path.read_bytes() == content


def test_unfinished_hidden_and_other_feeds_files_are_not_seen(zone, file):
    for name in (".hidden.csv", "_temporary/a.csv", "a.csv.part", "a.tmp", "sub/.a.csv"):
        put_object(f"{zone.address}/{name}", b"x")
    put_object(f"{zone.address}2/b.csv", b"x")
    for folder in ("", "/2024"):  # as web consoles make them
        put_object(f"{zone.address}{folder}", b"")
    put_object(f"{zone.address}/2024/c.csv", b"")
    assert [landed.path for landed in zone.files()] == ["2024/c.csv"]


def test_files_come_oldest_first(zone, monkeypatch):
    entries = [("b.csv", 3, 900_000), ("c.csv", 2, 0), ("a.csv", 3, 100_000)]
    listed = [
        {"path": f"{split_address(zone.address)[1]}/{name}", "size": 1, "last_modified": datetime(2024, 1, 1, 0, 0, second, micro, UTC)}
        for name, second, micro in entries
    ]

    class Store:
        def list(self, _prefix):
            return iter([listed[:1], listed[1:]])

    monkeypatch.setitem(zone.__dict__, "_store", Store())
    # Parts of a second are not compared: a listing has them, the object itself does not.
    assert zone.files() == [
        LandedFile(name, 1, datetime(2024, 1, 1, 0, 0, second, tzinfo=UTC)) for name, second in (("c.csv", 2), ("a.csv", 3), ("b.csv", 3))
    ]


def test_a_file_that_is_gone_says_so(zone):
    for look in (zone.stat, zone.open, lambda path: zone.local(path).__enter__()):
        with pytest.raises(FileNotFoundError) as gone:
            look("nothing.csv")
        assert gone.value.strerror == "No such file or directory"


def test_a_file_that_cannot_be_landed_says_why(zone, tmp_path, monkeypatch):
    with pytest.raises(NotLanded, match="not a file"):
        zone.put(tmp_path / "nothing.csv", "a.csv")
    (tmp_path / "a.csv").write_bytes(b"x")
    with pytest.raises(NotLanded, match="no object can have this name"):
        zone.put(tmp_path / "a.csv", "../a.csv")
    gone = BucketZone("s3://no-such-bucket/landing/invoices", "s3://no-such-bucket/archive/invoices")
    with pytest.raises(NotLanded, match="Nothing is there half written"):
        gone.put(tmp_path / "a.csv", "a.csv")


def test_an_object_with_a_name_that_nobody_can_ask_for_is_named(zone, s3):
    import boto3

    key = f"{split_address(zone.address)[1]}/tab\t.csv"
    client = boto3.client("s3", endpoint_url=s3.endpoint)
    client.put_object(Bucket="lake", Key=key, Body=b"x")
    client.close()
    with pytest.raises(BucketRefused, match="rename or delete that object"):
        zone.files()


# --- archive


def test_a_file_moves_to_the_archive(zone, file):
    zone.put(file(b"content"), "2024/a b.csv")
    zone.archive("2024/a b.csv", "2024/a b.csv")
    assert zone.files() == []
    archived = BucketZone(zone.archive_address, zone.address)
    assert content_of(archived, "2024/a b.csv") == b"content"
    zone.archive("2024/a b.csv", "2024/a b.csv")  # a run that died after it had moved it
    zone.put(file(b"content"), "2024/a b.csv")  # and one that died between the copy and the deletion
    zone.archive("2024/a b.csv", "2024/a b.csv")
    assert zone.files() == []
    assert [landed.path for landed in archived.files()] == ["2024/a b.csv"]


def test_the_archive_keeps_what_it_has(zone, file):
    zone.put(file(b"first"), "a.csv")
    zone.archive("a.csv", "a.csv")
    zone.put(file(b"second"), "a.csv")
    with pytest.raises(FileExistsError):
        zone.archive("a.csv", "a.csv")
    assert content_of(zone, "a.csv") == b"second"
    assert content_of(BucketZone(zone.archive_address, zone.address), "a.csv") == b"first"
