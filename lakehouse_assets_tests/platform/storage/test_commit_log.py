"""Commits are read from the log by the names of their files, newest first, and only as far back as somebody asks."""

import json
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.storage.commit import Commit
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import HISTORY

SCHEMA = {"id": pl.Int64()}


def filled(table, commits):
    table.create(SCHEMA)
    for number in range(commits):
        table.append(pl.DataFrame({"id": [number]}), Commit((), lambda _, number=number: {"lakehouse.run_id": str(number)}))
    return table


def log_file(table, version):
    return Path(table.uri, "_delta_log", f"{version:020d}.json")


def versions(commits):
    return [commit["version"] for commit in commits]


def test_commits_are_read_back_from_any_version(table):
    filled(table, 12)
    assert versions(table.commits()) == list(range(12, -1, -1))
    assert versions(table.commits(5)) == [5, 4, 3, 2, 1, 0]
    assert next(table.commits(5))["info"] == {"run_id": "4"}


def test_history_shows_so_many_commits_unless_it_is_asked_for_more(table):
    filled(table, HISTORY + 5)
    assert versions(table.history()) == list(range(HISTORY + 5, 5, -1))
    assert len(table.history(HISTORY + 50)) == HISTORY + 6


def test_no_more_is_read_than_is_asked_for(table):
    filled(table, 5)
    log_file(table, 2).write_text("not to be read")
    assert versions(islice(table.commits(), 3)) == [5, 4, 3]
    with pytest.raises(json.JSONDecodeError):
        log_file(table, 2).write_text('{"commitInfo" ?')
        list(table.commits())


def test_commits_end_where_the_log_was_cleaned_up(table):
    filled(table, 25)
    for version in range(15):
        log_file(table, version).unlink()
    assert versions(table.commits()) == list(range(25, 14, -1))
    assert versions(table.commits(10)) == []
    with pytest.raises(NoSuchVersion, match="its log begins with version 15 of"):
        table.version_at(datetime(2000, 1, 1, tzinfo=UTC))


def test_delta_rs_numbers_the_history_of_an_older_version_wrongly(table):
    """Why the log is read by its files' names."""
    filled(table, 5)
    newest_of_2 = table.delta(2).history(1)[0]
    assert newest_of_2["lakehouse.run_id"] != next(table.commits(2))["info"]["run_id"]


def test_commits_of_a_bucket(bucket, s3):
    table = filled(Lakehouse(f"{bucket}/a b").table("shop.silver.things"), 20)
    assert versions(table.commits()) == list(range(20, -1, -1))
    table.version()
    s3.requests()
    assert versions(table.history(2)) == [20, 19]
    assert s3.requests() == {"LIST": 1, "GET": 2}


def test_a_moment_is_found_though_a_clock_stepped_back(table):
    """The newest version that says it was made by then, in the order of the commits."""
    filled(table, 4)
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    for version, hours in enumerate((0, 1, 5, 2, 3)):
        said = json.loads(log_file(table, version).read_text().splitlines()[0])
        said["commitInfo"]["timestamp"] = int((noon + timedelta(hours=hours)).timestamp() * 1000)
        rest = log_file(table, version).read_text().splitlines()[1:]
        log_file(table, version).write_text("\n".join([json.dumps(said, separators=(",", ":")), *rest]) + "\n")
    assert [table.version_at(noon + timedelta(hours=hours)) for hours in (0, 1, 2, 3, 5)] == [0, 1, 3, 4, 4]
