"""Files become bronze rows exactly once, whatever their names, order, faults or the moment at which a run dies."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.ingestion.bronze import Ingestion
from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.ingestion.zone import LocalZone
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

FEED = Feed("orders", headers=(("id", "value"),), optional=("note",), new_columns="rescue")


@pytest.fixture
def ingestion(tmp_path: Path) -> Ingestion:
    tables = Lakehouse(str(tmp_path / "tables"))
    zone = LocalZone(tmp_path / "landing" / "orders", tmp_path / "archive" / "orders")
    found = Ingestion(FEED, zone, tables.table(landing.LOG), tables.table("shop.bronze.orders"), 10_000_000)
    found.create("Orders.")
    zone.folder.mkdir(parents=True)
    return found


def ingest(ingestion: Ingestion) -> list[tuple[str, int]]:
    return [(file.path, file.rows) for batch in ingestion.ingest("run") for file in batch]


def ids(ingestion: Ingestion) -> list[str]:
    return ingestion.bronze.scan().sort("_sequence", "_row").collect()["id"].to_list()


def write(ingestion: Ingestion, name: str, *rows: str, header: str = "id,value") -> Path:
    path = ingestion.zone.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def outcome(ingestion: Ingestion, path: str) -> tuple[str, str | None]:
    row = landing.latest(ingestion.log).filter(pl.col("path") == path).row(0, named=True)
    return row["event"], row["reason"]


def test_each_file_is_read_once(ingestion):
    write(ingestion, "a.csv", "1,x", "2,y")
    assert ingest(ingestion) == [("a.csv", 2)]
    assert ingest(ingestion) == []
    write(ingestion, "b.csv", "3,z")
    assert ingest(ingestion) == [("b.csv", 1)]
    assert ids(ingestion) == ["1", "2", "3"]


def test_without_the_log_that_numbered_its_files_nothing_is_read_and_nothing_numbered(ingestion):
    """New files would get numbers that bronze has passed: they would count as read, for good."""
    for name in ("a.csv", "b.csv"):
        write(ingestion, name, f"{name},x")
    ingest(ingestion)
    shutil.rmtree(ingestion.log.uri)
    ingestion.create("Orders.")
    for path in ingestion.zone.folder.iterdir():
        path.unlink()
    write(ingestion, "new.csv", "3,z")
    said = r"read the files of feed orders up to number 2, but .* has given 0: it was deleted.*doctor"
    for how in (ingestion.discover, lambda _: ingest(ingestion), ingestion.discover):  # in Dagster files are numbered by a step of its own
        with pytest.raises(NoSuchVersion, match=said):
            how("run")
    assert landing.latest(ingestion.log).height == 0
    shutil.rmtree(ingestion.bronze.uri)
    ingestion.create("Orders.")
    assert ingest(ingestion) == [("new.csv", 1)]


def test_rows_say_where_they_came_from(ingestion):
    write(ingestion, "deep/er/a.csv", "1,x", "2,y")
    ingest(ingestion)
    rows = ingestion.bronze.scan().collect()
    assert rows.select("_file", "_row").rows() == [("deep/er/a.csv", 1), ("deep/er/a.csv", 2)]
    assert rows["_run_id"].unique().to_list() == ["run"]
    assert rows["_ingested_at"].null_count() == 0


def test_the_same_content_under_another_name_is_not_read_again(ingestion):
    write(ingestion, "a.csv", "1,x")
    ingest(ingestion)
    version = ingestion.bronze.version()
    write(ingestion, "copy.csv", "1,x")
    assert ingest(ingestion) == []
    assert ingestion.bronze.version() == version
    event, reason = outcome(ingestion, "copy.csv")
    assert event == landing.DUPLICATE
    assert "a.csv" in reason


def test_two_equal_files_in_one_look_are_read_once(ingestion):
    write(ingestion, "a.csv", "1,x")
    write(ingestion, "b.csv", "1,x")
    ingest(ingestion)
    assert ids(ingestion) == ["1"]


def test_a_copy_is_read_if_the_file_that_it_copies_vanished_before_it_was_read(ingestion):
    first = write(ingestion, "a.csv", "1,x")
    write(ingestion, "b.csv", "1,x")
    ingestion.discover("run")
    assert outcome(ingestion, "b.csv")[0] == landing.DUPLICATE
    first.unlink()
    ingest(ingestion)
    assert ingestion.waiting() == 1
    ingest(ingestion)
    assert ids(ingestion) == ["1"]
    assert outcome(ingestion, "b.csv") == (landing.READ, None)
    assert ingestion.waiting() == 0


def test_a_copy_of_what_a_file_held_before_it_was_read_is_read(ingestion):
    write(ingestion, "a.csv", "1,x")
    ingestion.discover("run")
    write(ingestion, "a.csv", "2,y", "3,z")
    write(ingestion, "b.csv", "1,x")
    ingest(ingestion)
    ingest(ingestion)
    assert sorted(ids(ingestion)) == ["1", "2", "3"]
    assert ingestion.waiting() == 0


def test_a_copy_of_a_file_that_cannot_be_read_is_refused_once_for_itself(ingestion):
    for name in ("a.csv", "b.csv"):
        (ingestion.zone.folder / name).write_bytes(b"id,value\n1,\xa320\n")
    ingest(ingestion)
    ingest(ingestion)
    assert outcome(ingestion, "b.csv")[0] == landing.REFUSED
    assert ingestion.waiting() == 0


def test_a_touched_file_is_not_read_again(ingestion):
    path = write(ingestion, "a.csv", "1,x")
    ingest(ingestion)
    os.utime(path, (1, 1))
    assert ingest(ingestion) == []
    assert ingestion.waiting() == 0


def test_a_file_that_changed_after_it_was_read_is_refused_and_its_rows_stay(ingestion):
    write(ingestion, "a.csv", "1,x")
    ingest(ingestion)
    write(ingestion, "a.csv", "1,x", "2,y")
    assert ingest(ingestion) == []
    assert ids(ingestion) == ["1"]
    event, reason = outcome(ingestion, "a.csv")
    assert event == landing.CHANGED
    assert "new name" in reason
    assert ingestion.waiting() == 0, "a refused change is no reason to start runs for ever"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"id,value\n1,\xa320\n", "line 2"),
        (b"id,price\n1,2\n", "value"),
        (b"id,id,value\n1,1,2\n", "id"),
        (b"\x00\x00\x00\x00", ""),
    ],
    ids=["empty", "wrong encoding", "missing column", "header twice", "not text"],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_reason_and_the_others_go_on(ingestion, content, said):
    (ingestion.zone.folder / "bad.csv").write_bytes(content)
    write(ingestion, "good.csv", "1,x")
    ingest(ingestion)
    assert ids(ingestion) == ["1"]
    event, reason = outcome(ingestion, "bad.csv")
    assert event == landing.REFUSED
    assert "bad.csv" in reason
    assert said in reason


def test_a_header_without_rows_is_read(ingestion):
    write(ingestion, "a.csv")
    assert ingest(ingestion) == [("a.csv", 0)]
    assert outcome(ingestion, "a.csv") == (landing.READ, None)


def test_a_refused_file_is_tried_again_once_it_is_mended(ingestion):
    (ingestion.zone.folder / "a.csv").write_bytes(b"")
    ingest(ingestion)
    assert ingest(ingestion) == []
    write(ingestion, "a.csv", "1,x")
    assert ingest(ingestion) == [("a.csv", 1)]


def test_a_truncated_parquet_file_is_refused(ingestion):
    frame = pl.DataFrame({"id": ["1"] * 1000, "value": ["x"] * 1000})
    frame.write_parquet(ingestion.zone.folder / "whole.parquet")
    content = (ingestion.zone.folder / "whole.parquet").read_bytes()
    (ingestion.zone.folder / "cut.parquet").write_bytes(content[: len(content) // 2])
    ingest(ingestion)
    assert ingestion.bronze.count() == 1000
    assert outcome(ingestion, "cut.parquet")[0] == landing.REFUSED


def test_unknown_columns_are_rescued(ingestion):
    write(ingestion, "a.csv", "1,x,blue", header="id,value,colour")
    ingest(ingestion)
    assert json.loads(ingestion.bronze.scan().collect()["_rescued"].item()) == {"_columns": {"colour": "blue"}}


@pytest.mark.parametrize("name", [".a.csv", "_a.csv", "a.csv.part", "a.csv.tmp", "_temporary/a.csv", ".hidden/a.csv"])
def test_unfinished_and_hidden_files_are_not_seen(ingestion, name):
    write(ingestion, name, "1,x")
    assert ingestion.waiting() == 0
    assert ingest(ingestion) == []


def test_files_are_read_in_the_order_of_their_age(ingestion):
    for age, name in enumerate(["c.csv", "a.csv", "b.csv"]):
        os.utime(write(ingestion, name, f"{name[0]},x"), (1000 + age, 1000 + age))
    ingest(ingestion)
    assert ids(ingestion) == ["c", "a", "b"]


def test_a_batch_is_bounded_by_bytes(ingestion):
    for number in range(5):
        write(ingestion, f"{number}.csv", f"{number},{'x' * 100}")
    small = Ingestion(ingestion.feed, ingestion.zone, ingestion.log, ingestion.bronze, 250)
    assert [len(batch) for batch in small.ingest("run")] == [2, 2, 1]


class Killed(BaseException):
    """Stands for a process that ends at once; no handler of ours catches it."""


def _die_after(method: Callable[..., object]) -> Callable[..., object]:
    def dying(*args: object, **kwargs: object) -> None:
        method(*args, **kwargs)
        raise Killed

    return dying


def test_a_run_that_died_between_the_log_and_bronze_is_taken_up(ingestion, monkeypatch):
    write(ingestion, "a.csv", "1,x")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Ingestion, "_report", _die_after(Ingestion._report))
        ingest(ingestion)
    assert ingestion.bronze.count() == 0
    write(ingestion, "b.csv", "2,y")
    assert ingestion.waiting() == 2
    ingest(ingestion)
    assert ids(ingestion) == ["1", "2"]
    read = ingestion.log.scan().filter(pl.col("event") == landing.READ).collect()
    assert sorted(read["path"]) == ["a.csv", "b.csv"]


def test_a_file_that_vanished_between_the_two_commits_is_said_to_be_lost(ingestion, monkeypatch):
    path = write(ingestion, "a.csv", "1,x")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Ingestion, "_report", _die_after(Ingestion._report))
        ingest(ingestion)
    path.unlink()
    ingest(ingestion)
    event, reason = outcome(ingestion, "a.csv")
    assert event == landing.REFUSED
    assert "Land it again" in reason
    assert ingestion.waiting() == 0


def test_a_refused_file_that_was_mended_after_a_run_died_is_read(ingestion, monkeypatch):
    write(ingestion, "a.csv").write_bytes(b"")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Ingestion, "_report", _die_after(Ingestion._report))
        ingest(ingestion)
    write(ingestion, "a.csv", "1,x")
    ingest(ingestion)
    assert ids(ingestion) == ["1"]
    assert ingestion.waiting() == 0


def test_a_file_that_changed_before_it_was_read_is_read_as_it_is_then(ingestion, monkeypatch):
    write(ingestion, "a.csv", "1,x")
    ingestion.discover("run")
    write(ingestion, "a.csv", "1,x", "2,y")
    ingest(ingestion)
    assert ids(ingestion) == ["1", "2"]
