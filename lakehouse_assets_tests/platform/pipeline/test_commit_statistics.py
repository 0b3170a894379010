"""Statistics of commits: equal to the log whatever was recorded when, filled again when lost, and cheap however many commits there are."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.monitoring.kinds.volume import usual_volume
from lakehouse_assets.platform.pipeline import commit_statistics
from lakehouse_assets.platform.pipeline.commit_statistics import TABLE, UNRECORDED, commits_since, record, recorded_until
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.storage.commit import Commit
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

SCHEMA = {"id": pl.Int64()}
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture
def lakehouse(tmp_path):
    return Lakehouse(str(tmp_path / "tables"))


def account(rows, **marks):
    return Commit((), lambda _: {"lakehouse.run_id": "run", "lakehouse.account": RowAccount(rows, rows).to_json(), **marks})


def made(lakehouse, name="shop.silver.things", commits=3):
    table = lakehouse.table(name)
    table.create(SCHEMA)
    for number in range(commits):
        table.append(pl.DataFrame({"id": [number]}), account(number + 1))
    return table


def logged(table, moments, rows):
    """Commits as a writer leaves them at given moments, each with so many rows, as real files in the table's log."""
    log = Path(table.uri, "_delta_log")
    line = json.loads((log / f"{table.version():020d}.json").read_text().splitlines()[0])["commitInfo"]
    for number, moment in enumerate(moments, start=table.version() + 1):
        said = line | {"timestamp": int(moment.timestamp() * 1000), "lakehouse.account": RowAccount(rows, rows).to_json()}
        (log / f"{number:020d}.json").write_text(json.dumps({"commitInfo": said}) + "\n")


def test_rows_are_those_of_the_log(lakehouse):
    table = made(lakehouse)
    table.append(pl.DataFrame({"id": [9]}), account(1, **{"lakehouse.rebuild": "true"}))
    record(lakehouse, [table])
    rows = lakehouse.table(TABLE).scan().sort("version").collect()
    assert rows["rows_in"].to_list() == [None, 1, 2, 3, 1]
    assert rows["repeated"].to_list() == [False, False, False, False, True]
    assert rows["at"].to_list() == [commit["at"] for commit in reversed(table.history())]
    assert recorded_until(lakehouse, table) == 4


def test_what_is_recorded_twice_counts_once(lakehouse):
    table, other = made(lakehouse), made(lakehouse, "shop.silver.others", 2)
    record(lakehouse, [table])
    table.append(pl.DataFrame({"id": [9]}), account(7))
    for _ in range(2):
        record(lakehouse, [table, other, lakehouse.table(TABLE)])
    counted = lakehouse.table(TABLE).scan().group_by("table").agg(pl.col("rows_in").sum()).collect()
    assert dict(counted.iter_rows()) == {table.name: 13, other.name: 3}
    version = lakehouse.table(TABLE).version()
    record(lakehouse, [table, other])
    assert lakehouse.table(TABLE).version() == version


@pytest.mark.parametrize("recorded_after", [(), (0,), (2, 5), (7,)])
def test_commits_are_the_same_whatever_was_recorded_before(lakehouse, recorded_after):
    table = made(lakehouse, commits=0)
    for number in range(8):
        table.append(pl.DataFrame({"id": [number]}), account(number))
        if number in recorded_after:
            record(lakehouse, [table])
    found = commits_since(lakehouse, table, LONG_AGO)
    assert found.rows["version"].to_list() == list(range(9))
    assert found.rows["rows_in"].to_list() == [None, *range(8)]
    assert found.missing is None


def test_statistics_that_are_lost_are_filled_from_the_log(lakehouse):
    table = made(lakehouse)
    record(lakehouse, [table])
    before = commits_since(lakehouse, table, LONG_AGO)
    shutil.rmtree(lakehouse.table(TABLE).uri)
    assert commits_since(lakehouse, table, LONG_AGO).rows.equals(before.rows)


def test_a_table_that_was_created_again_has_statistics_of_its_own(lakehouse):
    table = made(lakehouse)
    record(lakehouse, [table])
    shutil.rmtree(table.uri)
    again = made(lakehouse, commits=1)
    assert recorded_until(lakehouse, again) is None
    assert commits_since(lakehouse, again, LONG_AGO).rows["rows_in"].to_list() == [None, 1]
    record(lakehouse, [again])
    assert commits_since(lakehouse, again, LONG_AGO).rows["rows_in"].to_list() == [None, 1]


def test_the_volume_of_a_table_with_many_commits_a_day_is_judged(lakehouse):
    """Sixty a day, nine weeks long."""
    table = made(lakehouse, commits=1)
    begin = NOW - timedelta(days=63)
    logged(table, [begin + timedelta(minutes=24 * number) for number in range(63 * 60 + 1)], rows=10)
    found = usual_volume(table, lakehouse, NOW)
    assert found.passed
    assert found.numbers["usual"] == 600
    assert found.numbers["rows_today"] == 310
    later = usual_volume(table, lakehouse, NOW + timedelta(hours=34))
    assert not later.passed
    assert "fewer than usual" in later.text
    for weeks, passed in ((5, False), (7, False), (10, None)):  # days of an outage do not become usual ones
        assert usual_volume(table, lakehouse, NOW + timedelta(weeks=weeks, hours=34)).passed is passed, weeks


def test_a_monitor_reads_no_more_of_the_log_than_is_not_recorded(lakehouse):
    table = made(lakehouse, commits=1)
    logged(table, [NOW - timedelta(minutes=number) for number in range(1000, 0, -1)], rows=10)
    usual_volume(table, lakehouse, NOW)
    assert recorded_until(lakehouse, table) == table.version()
    log = Path(table.uri, "_delta_log")
    for version in range(1, table.version() - UNRECORDED):  # what is not there cannot be read
        (log / f"{version:020d}.json").rename(log / f"{version}.moved")
    assert commits_since(lakehouse, table, LONG_AGO).rows.height == 1002


def test_commits_that_nobody_knows_any_more_are_named(lakehouse):
    table = made(lakehouse, commits=30)
    log = Path(table.uri, "_delta_log")
    for version in range(19):
        (log / f"{version:020d}.json").unlink()
    found = commits_since(lakehouse, table, LONG_AGO)
    assert (found.rows["version"][0], found.missing) == (19, 18)
    verdict = usual_volume(table, lakehouse, datetime.now(UTC))
    assert verdict.text.startswith("Not evaluated: 0 earlier")
    assert "the commits of shop.silver.things up to version 18 are in neither its log nor the statistics" in verdict.text
    record(lakehouse, [table])
    assert commits_since(lakehouse, table, LONG_AGO).missing == 18


def test_the_names_of_the_table_are_those_that_people_are_told(lakehouse):
    table = made(lakehouse)
    commit_statistics.record(lakehouse, [table])
    assert [found.name for found in lakehouse.tables()] == [TABLE, table.name]
