"""Files become bronze rows exactly once, whatever their names, order, faults or the moment at which a run dies."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.ingestion.bronze import Ingestion
from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.ingestion.zone import LocalZone
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

FEED = Feed("orders", headers=(("id", "value"),), optional=("note",), new_columns="rescue")


@pytest.fixture
def way(tmp_path: Path) -> Ingestion:
    tables = Lakehouse(str(tmp_path / "tables"))
    zone = LocalZone(tmp_path / "landing" / "orders", tmp_path / "archive" / "orders")
    found = Ingestion(FEED, zone, tables.table(landing.LOG), tables.table("shop.bronze.orders"), 10_000_000)
    found.create("Orders.")
    zone.folder.mkdir(parents=True)
    return found


def ingest(way: Ingestion) -> list[tuple[str, int]]:
    return [(file.path, file.rows) for batch in way.ingest("run") for file in batch]


def ids(way: Ingestion) -> list[str]:
    return way.bronze.scan().sort("_sequence", "_row").collect()["id"].to_list()


def write(way: Ingestion, name: str, *rows: str, header: str = "id,value") -> Path:
    path = way.zone.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def outcome(way: Ingestion, path: str) -> tuple[str, str | None]:
    row = landing.latest(way.log).filter(pl.col("path") == path).row(0, named=True)
    return row["event"], row["reason"]


def test_each_file_is_read_once(way):
    write(way, "a.csv", "1,x", "2,y")
    assert ingest(way) == [("a.csv", 2)]
    assert ingest(way) == []
    write(way, "b.csv", "3,z")
    assert ingest(way) == [("b.csv", 1)]
    assert ids(way) == ["1", "2", "3"]


def test_rows_say_where_they_came_from(way):
    write(way, "deep/er/a.csv", "1,x", "2,y")
    ingest(way)
    rows = way.bronze.scan().collect()
    assert rows.select("_file", "_row").rows() == [("deep/er/a.csv", 1), ("deep/er/a.csv", 2)]
    assert rows["_run_id"].unique().to_list() == ["run"]
    assert rows["_ingested_at"].null_count() == 0


def test_the_same_content_under_another_name_is_not_read_again(way):
    write(way, "a.csv", "1,x")
    ingest(way)
    version = way.bronze.version()
    write(way, "copy.csv", "1,x")
    assert ingest(way) == []
    assert way.bronze.version() == version
    event, reason = outcome(way, "copy.csv")
    assert event == landing.DUPLICATE
    assert "a.csv" in reason


def test_two_equal_files_in_one_look_are_read_once(way):
    write(way, "a.csv", "1,x")
    write(way, "b.csv", "1,x")
    ingest(way)
    assert ids(way) == ["1"]


def test_a_copy_is_read_if_the_file_that_it_copies_vanished_before_it_was_read(way):
    first = write(way, "a.csv", "1,x")
    write(way, "b.csv", "1,x")
    way.discover("run")
    assert outcome(way, "b.csv")[0] == landing.DUPLICATE
    first.unlink()
    ingest(way)
    assert way.waiting() == 1
    ingest(way)
    assert ids(way) == ["1"]
    assert outcome(way, "b.csv") == (landing.READ, None)
    assert way.waiting() == 0


def test_a_copy_of_what_a_file_held_before_it_was_read_is_read(way):
    write(way, "a.csv", "1,x")
    way.discover("run")
    write(way, "a.csv", "2,y", "3,z")
    write(way, "b.csv", "1,x")
    ingest(way)
    ingest(way)
    assert sorted(ids(way)) == ["1", "2", "3"]
    assert way.waiting() == 0


def test_a_copy_of_a_file_that_cannot_be_read_is_refused_once_for_itself(way):
    for name in ("a.csv", "b.csv"):
        (way.zone.folder / name).write_bytes(b"id,value\n1,\xa320\n")
    ingest(way)
    ingest(way)
    assert outcome(way, "b.csv")[0] == landing.REFUSED
    assert way.waiting() == 0


def test_a_touched_file_is_not_read_again(way):
    path = write(way, "a.csv", "1,x")
    ingest(way)
    os.utime(path, (1, 1))
    assert ingest(way) == []
    assert way.waiting() == 0


def test_a_file_that_changed_after_it_was_read_is_refused_and_its_rows_stay(way):
    write(way, "a.csv", "1,x")
    ingest(way)
    write(way, "a.csv", "1,x", "2,y")
    assert ingest(way) == []
    assert ids(way) == ["1"]
    event, reason = outcome(way, "a.csv")
    assert event == landing.CHANGED
    assert "new name" in reason
    assert way.waiting() == 0, "a refused change is no reason to start runs for ever"


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
def test_a_file_that_cannot_be_read_is_refused_with_its_reason_and_the_others_go_on(way, content, said):
    (way.zone.folder / "bad.csv").write_bytes(content)
    write(way, "good.csv", "1,x")
    ingest(way)
    assert ids(way) == ["1"]
    event, reason = outcome(way, "bad.csv")
    assert event == landing.REFUSED
    assert "bad.csv" in reason
    assert said in reason


def test_a_header_without_rows_is_read(way):
    write(way, "a.csv")
    assert ingest(way) == [("a.csv", 0)]
    assert outcome(way, "a.csv") == (landing.READ, None)


def test_a_refused_file_is_tried_again_once_it_is_mended(way):
    (way.zone.folder / "a.csv").write_bytes(b"")
    ingest(way)
    assert ingest(way) == []
    write(way, "a.csv", "1,x")
    assert ingest(way) == [("a.csv", 1)]


def test_a_truncated_parquet_file_is_refused(way):
    frame = pl.DataFrame({"id": ["1"] * 1000, "value": ["x"] * 1000})
    frame.write_parquet(way.zone.folder / "whole.parquet")
    content = (way.zone.folder / "whole.parquet").read_bytes()
    (way.zone.folder / "cut.parquet").write_bytes(content[: len(content) // 2])
    ingest(way)
    assert way.bronze.count() == 1000
    assert outcome(way, "cut.parquet")[0] == landing.REFUSED


def test_unknown_columns_are_rescued(way):
    write(way, "a.csv", "1,x,blue", header="id,value,colour")
    ingest(way)
    assert json.loads(way.bronze.scan().collect()["_rescued"].item()) == {"colour": "blue"}


@pytest.mark.parametrize("name", [".a.csv", "_a.csv", "a.csv.part", "a.csv.tmp", "_temporary/a.csv", ".hidden/a.csv"])
def test_unfinished_and_hidden_files_are_not_seen(way, name):
    write(way, name, "1,x")
    assert way.waiting() == 0
    assert ingest(way) == []


def test_files_are_read_in_the_order_of_their_age(way):
    for age, name in enumerate(["c.csv", "a.csv", "b.csv"]):
        os.utime(write(way, name, f"{name[0]},x"), (1000 + age, 1000 + age))
    ingest(way)
    assert ids(way) == ["c", "a", "b"]


def test_a_batch_is_bounded_by_bytes(way):
    for number in range(5):
        write(way, f"{number}.csv", f"{number},{'x' * 100}")
    small = Ingestion(way.feed, way.zone, way.log, way.bronze, 250)
    assert [len(batch) for batch in small.ingest("run")] == [2, 2, 1]


class Killed(BaseException):
    """Stands for a process that ends at once; no handler of ours catches it."""


def _die_after(method: Callable[..., object]) -> Callable[..., object]:
    def dying(*args: object, **kwargs: object) -> None:
        method(*args, **kwargs)
        raise Killed

    return dying


def test_a_run_that_died_between_the_log_and_bronze_is_taken_up(way, monkeypatch):
    write(way, "a.csv", "1,x")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Ingestion, "_report", _die_after(Ingestion._report))
        ingest(way)
    assert way.bronze.count() == 0
    write(way, "b.csv", "2,y")
    assert way.waiting() == 2
    ingest(way)
    assert ids(way) == ["1", "2"]
    read = way.log.scan().filter(pl.col("event") == landing.READ).collect()
    assert sorted(read["path"]) == ["a.csv", "b.csv"]


def test_a_file_that_vanished_between_the_two_commits_is_said_to_be_lost(way, monkeypatch):
    path = write(way, "a.csv", "1,x")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Ingestion, "_report", _die_after(Ingestion._report))
        ingest(way)
    path.unlink()
    ingest(way)
    event, reason = outcome(way, "a.csv")
    assert event == landing.REFUSED
    assert "Land it again" in reason
    assert way.waiting() == 0


def test_a_refused_file_that_was_mended_after_a_run_died_is_read(way, monkeypatch):
    write(way, "a.csv").write_bytes(b"")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Ingestion, "_report", _die_after(Ingestion._report))
        ingest(way)
    write(way, "a.csv", "1,x")
    ingest(way)
    assert ids(way) == ["1"]
    assert way.waiting() == 0


def test_a_file_that_changed_before_it_was_read_is_read_as_it_is_then(way, monkeypatch):
    write(way, "a.csv", "1,x")
    way.discover("run")
    write(way, "a.csv", "1,x", "2,y")
    ingest(way)
    assert ids(way) == ["1", "2"]
