"""The handle of a table: making it, reading it at a version or a moment, its history."""

import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from lakehouse_assets.platform.storage import table_cache as opened
from lakehouse_assets.platform.storage.errors import NoSuchTable, NoSuchVersion, SchemaMismatch
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.platform.storage.fresh import rows_of

SCHEMA = {"id": pl.Int64(), "part": pl.String()}


def row(number):
    return pl.DataFrame({"id": [number], "part": ["a"]})


@pytest.fixture
def three(table):
    """A table with one more row in each version."""
    table.create(SCHEMA, ("part",), "Things of the shop.")
    for number in (1, 2, 3):
        table.append(row(number))
        time.sleep(0.005)  # the times of commits have milliseconds
    return table


def test_a_new_table_is_empty_and_says_what_it_is(table):
    assert not table.exists()
    table.create(SCHEMA, ("part",), "Things of the shop.")
    assert table.exists()
    assert (table.version(), table.count(), table.schema()) == (0, 0, pl.Schema(SCHEMA))
    about = table.delta().metadata()
    assert (about.name, about.description, about.partition_columns) == ("shop.silver.things", "Things of the shop.", ["part"])


def test_creating_a_table_again_keeps_it(three):
    three.create({"other": pl.String()})
    assert three.version() == 3
    assert three.schema() == pl.Schema(SCHEMA)


def test_a_table_that_does_not_exist_is_a_clear_error(table):
    for read in (table.version, table.schema, table.count, table.history, table.scan, lambda: table.append(row(1)), table.delta):
        with pytest.raises(NoSuchTable, match=r"shop\.silver\.things does not exist yet: `lakehouse run"):
            read()


def test_reading_at_a_version(three):
    assert [three.scan(version).select(pl.len()).collect().item() for version in range(4)] == [0, 1, 2, 3]
    assert [three.count(version) for version in range(4)] == [0, 1, 2, 3]


def test_a_frame_stays_on_its_version(three):
    before = three.scan()
    three.replace(row(9), {"part": ["a"]})
    assert sorted(before.collect()["id"]) == [1, 2, 3]
    assert three.scan().collect()["id"].to_list() == [9]


@pytest.mark.parametrize("version", [4, -1, 10**6])
def test_a_version_that_does_not_exist_is_a_clear_error(three, version):
    for read in (three.scan, three.count, three.delta):
        with pytest.raises(NoSuchVersion, match=rf"shop\.silver\.things has no version {version} .*lakehouse history"):
            read(version)


def test_reading_at_a_moment(three):
    commits = {commit["version"]: commit["at"] for commit in three.history()}
    for version, at in commits.items():
        assert three.scan(at=at).select(pl.len()).collect().item() == version
        assert three.scan(at=at + timedelta(microseconds=999)).select(pl.len()).collect().item() == version
        if version:
            assert three.scan(at=at - timedelta(milliseconds=1)).select(pl.len()).collect().item() == version - 1
    assert three.scan(at=datetime.now(UTC)).select(pl.len()).collect().item() == 3
    assert three.scan(at=commits[2].replace(tzinfo=None)).select(pl.len()).collect().item() == 2


def test_before_the_first_commit_there_is_no_version(three):
    created = three.history()[-1]["at"]
    with pytest.raises(NoSuchVersion, match=r"shop\.silver\.things has no version of .* or before"):
        three.scan(at=created - timedelta(milliseconds=1))


def test_moments_are_those_of_the_commits_also_in_a_copy(three):
    """A copy of a table has files of its own time."""
    commits = {commit["version"]: commit["at"] for commit in three.history()}
    copy = Lakehouse(str(Path(three.uri).parents[2] / "copy")).table(three.name)
    shutil.copytree(three.uri, copy.uri)
    for path in Path(copy.uri, "_delta_log").iterdir():
        os.utime(path, (0, 0))
    assert [copy.scan(at=commits[version]).select(pl.len()).collect().item() for version in range(4)] == [0, 1, 2, 3]


def test_history_is_newest_first_and_can_be_cut(three):
    history = three.history()
    assert [(commit["version"], commit["operation"]) for commit in history] == [
        (3, "WRITE"),
        (2, "WRITE"),
        (1, "WRITE"),
        (0, "CREATE TABLE"),
    ]
    assert history[0]["metrics"]["num_added_rows"] == 1
    assert all(commit["at"].tzinfo is UTC for commit in history)
    assert [commit["version"] for commit in three.history(2)] == [3, 2]


def test_rows_are_counted_also_in_files_that_do_not_say_how_many_they_have(three):
    """As other programs write them."""
    log = Path(three.uri, "_delta_log", f"{3:020d}.json")
    log.write_text(log.read_text().replace(r"\"numRecords\":1", r"\"other\":1"))
    assert three.count() == 3


def test_commits_come_with_a_checkpoint_now_and_then(table):
    table.create(SCHEMA)
    for number in range(20):
        table.append(row(number))
    assert list(Path(table.uri, "_delta_log").glob("*.checkpoint.parquet"))
    assert table.count() == 20
    assert len(table.history()) == 21


def test_a_table_with_column_mapping_is_refused(three):
    """Readers through Arrow would return nulls."""
    log = Path(three.uri, "_delta_log", f"{0:020d}.json")
    log.write_text(log.read_text().replace('"configuration":{', '"configuration":{"delta.columnMapping.mode":"name",'))
    opened.clear()
    for read in (three.scan, three.version, lambda: three.append(row(4))):
        with pytest.raises(SchemaMismatch, match=r"shop\.silver\.things uses column mapping"):
            read()


def test_tables_can_be_read_by_everyone(three):
    """Reader 1 and writer at most 4, whatever was done to the table."""
    three.replace(row(9), {"part": ["a"]})
    three.delta().optimize.compact()
    protocol = three.delta().protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version <= 4) == (1, True)
    assert (protocol.reader_features, protocol.writer_features) == (None, None)


def test_the_log_keeps_every_version(three):
    assert three.delta().metadata().configuration == {
        "delta.enableChangeDataFeed": "true",
        "delta.enableExpiredLogCleanup": "false",
        "delta.checkpointInterval": "10",
    }


def test_a_commit_of_another_program_is_one_like_any(three):
    write_deltalake(
        DeltaTable(three.uri), row(4).to_arrow(), mode="append", commit_properties=CommitProperties(custom_metadata={"who": "x"})
    )
    assert three.history()[0]["info"] == {}
    assert rows_of(three, "id") == [(1,), (2,), (3,), (4,)]


def test_a_cached_table_of_a_relative_path_is_that_of_the_working_directory(tmp_path, monkeypatch):
    """Two roots of one relative path in one process."""
    for number, folder in enumerate(("one", "other"), start=1):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        table = Lakehouse("tables").table("shop.silver.things")
        table.create(SCHEMA)
        for _ in range(number):
            table.append(row(number))
    for number, folder in enumerate(("one", "other"), start=1):
        monkeypatch.chdir(tmp_path / folder)
        assert Lakehouse("tables").table("shop.silver.things").count() == number
