"""A log is cleaned up without a reader, a pin, a restore or time travel within the retention noticing, killed anywhere or not."""

import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.storage import inventory, maintenance, merge, restore
from lakehouse_assets.platform.storage.change_feed import change_feed
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.maintenance import CLEANED, COMPACTED, LOG_ENTRIES, VACUUMED, Keep, readable_from
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.storage.fresh import examples, fresh_table, rows_of

SCHEMA = {"id": pl.Int64(), "value": pl.Int64()}
WEEK, MONTH = timedelta(days=7), timedelta(days=30)


def maintain(table, *, days=40, keep_from=None, pinned=(), log_from=None):
    """As it would run in so many days."""
    keep = Keep(keep_from, set(pinned), WEEK, datetime.now(UTC) + timedelta(days=days), MONTH, log_from)
    return maintenance.maintain(table, keep, "maintenance")


def things(*rows):
    return pl.DataFrame(rows, SCHEMA, orient="row")


def append(table, times):
    at = table.cursor("source")
    for number in range(times):
        after = (-1 if at is None else at) + 1
        table.append(things((after, number)), Commit((Cursor("source", at, after),)))
        at = after


def log_of(table):
    return sorted(path.name for path in Path(table.uri, "_delta_log").iterdir())


def commits_of(table):
    return sorted(inventory.take(table).commits)


def aged(table, days, until):
    """The commits up to a version were written so long ago."""
    at = time.time() - timedelta(days=days).total_seconds()
    for version in range(until + 1):
        os.utime(Path(table.uri, inventory.commit_path(version)), (at, at))


@pytest.fixture
def table(table):
    table.create(SCHEMA)
    return table


@pytest.fixture
def grown(table, originals, tmp_path):
    """Brings a new table to a version as `append` does, at the cost of a copy."""

    def make(folder):
        long = Lakehouse(str(folder)).table(table.name)
        long.create(SCHEMA)
        append(long, 120)

    def grow(version):
        originals.copy("a log of 120 commits", make, tmp_path / "long")
        copied = Path(Lakehouse(str(tmp_path / "long")).table(table.name).uri)
        shutil.rmtree(table.uri)
        shutil.move(copied, table.uri)
        for path in Path(table.uri, "_delta_log").iterdir():
            if not path.name[:20].isdigit() or int(path.name[:20]) > version:
                path.unlink()
        for unknown in {str(path.relative_to(table.uri)) for path in Path(table.uri).glob("*.parquet")} - inventory.files_of(table.delta()):
            Path(table.uri, unknown).unlink()

    return grow


def test_delta_rs_cleans_a_log_up_by_the_age_of_its_files_alone(table, grown):
    """Why it is done here: a pinned version, or one that a reader needs, would be lost."""
    grown(25)
    table.delta().alter.set_table_properties({"delta.logRetentionDuration": "interval 0 seconds"})
    time.sleep(0.01)
    delta = DeltaTable(table.uri)
    delta.cleanup_metadata()
    with pytest.raises(NoSuchVersion):
        table.delta(12)


def test_a_log_of_many_commits_becomes_short(table, grown):
    grown(120)
    rows, cursor = rows_of(table), table.cursor("source")
    assert [maintain(table, days=29).done for _ in range(2)] == [(COMPACTED,), (VACUUMED,)]
    assert commits_of(table)[0] == 0
    done = maintain(table)
    assert CLEANED in done.done
    assert done.bytes_freed > 0
    assert len(log_of(table)) < LOG_ENTRIES
    assert (rows_of(table), table.cursor("source")) == (rows, cursor)
    assert table.version() == table.delta().version()
    append(table, 30)
    assert table.count() == 150
    assert CLEANED in maintain(table).done
    assert CLEANED not in maintain(table).done


def test_what_is_within_the_retention_stays(table, grown):
    grown(80)
    aged(table, 40, until=50)
    done = maintain(table, days=0)
    assert CLEANED in done.done
    begin = readable_from(table)
    assert 30 < begin <= 50
    assert commits_of(table) == list(range(begin, table.version() + 1))
    for version in (begin, 50, 51, 60, 80):
        assert table.count(version) == version
        assert table.scan(at=next(table.commits(version))["at"]).collect().height >= version
    assert table.changes(50, 80).collect().height == 30
    restore.restore(table, 60, "by hand")
    assert (table.count(), table.cursor("source")) == (60, 59)


def test_what_reads_the_log_gives_a_clear_answer_afterwards(table, grown):
    grown(50)
    maintain(table)
    begin, old = readable_from(table), commits_of(table)[0] - 1
    assert 0 < old < begin
    with pytest.raises(NoSuchVersion, match=f"has no version {old} "):
        table.scan(old)
    with pytest.raises(NoSuchVersion, match="has not all of the versions"):
        table.changes(10, 45).collect()
    with pytest.raises(NoSuchVersion, match=rf"version {old} .* not whole any more.* version {begin} is the oldest"):
        restore.restore(table, old, "by hand")
    with pytest.raises(NoSuchVersion, match=f"its log begins with version {commits_of(table)[0]} "):
        table.version_at(datetime(2000, 1, 1, tzinfo=UTC))
    assert [commit["version"] for commit in table.commits()][-1] == commits_of(table)[0]
    assert restore.runs_of(table) == {}
    assert maintenance.unlogged(table, datetime.now(UTC) + MONTH) == {}
    assert table.changed_at(table.version()) == table.version()


def test_a_reader_from_before_the_log_is_told_that_there_may_be_changes(table, grown):
    grown(30)
    for _ in range(60):
        table.append(things())  # commits without rows
    maintain(table)
    begin = commits_of(table)[0]
    assert begin > 60
    assert table.changed_at(10) == begin - 1
    assert table.changed_at(begin) == begin
    with pytest.raises(NoSuchVersion, match="read the whole table"):
        table.changes(10, begin).collect()


@pytest.mark.parametrize("cursor", [0, 25, 49])
def test_the_cursor_of_a_reader_is_respected(table, grown, cursor):
    grown(50)
    before = table.changes(cursor, 50).collect()
    maintain(table, keep_from=cursor)
    assert table.changes(cursor, 50).collect().equals(before)
    assert readable_from(table) <= cursor
    assert (CLEANED in maintain(table, keep_from=50).done) == (cursor < 49)


def test_commits_stay_that_are_not_in_the_statistics_yet(table, grown):
    grown(60)
    maintain(table, log_from=35)
    assert commits_of(table)[0] == 29
    assert CLEANED not in maintain(table, log_from=0).done


def test_pinned_versions_can_be_opened_and_their_neighbours_go(table, grown):
    grown(60)
    merge.merge(table, things((0, 100)), ["id"])
    append(table, 60)
    expected = {version: sorted(table.scan(version).collect().rows()) for version in (0, 7, 34, 61)}
    maintain(table, pinned=expected)
    for version, rows in expected.items():
        assert sorted(table.scan(version).collect().rows()) == rows
    assert len(commits_of(table)) < 40
    for version in (12, 45):
        with pytest.raises(NoSuchVersion):
            table.delta(version)
    assert maintenance.unlogged(table, datetime.now(UTC) + MONTH, pinned=expected) == {}
    maintain(table, pinned=[34])
    append(table, LOG_ENTRIES + 10)
    maintain(table, pinned=[34])
    assert sorted(table.scan(34).collect().rows()) == expected[34]
    with pytest.raises(NoSuchVersion):
        table.delta(7)


def test_a_checkpoint_that_cannot_be_read_is_not_relied_upon(table, grown):
    grown(70)
    Path(table.uri, inventory.take(table).checkpoints[59]).write_bytes(b"half")
    before = commits_of(table)
    with pytest.raises(NoSuchVersion, match="has no version 59 "):
        maintain(table, log_from=65)
    assert set(before) <= set(commits_of(table))


PLACES = [("announced", 1), ("checkpointed", 1), *(("deleted one", times) for times in range(1, 55, 6))]


@pytest.mark.parametrize(("place", "times"), sweeps.of([PLACES[0], PLACES[1], ("deleted one", 25)], PLACES))
def test_a_clean_up_that_is_killed_loses_nothing_and_is_finished_by_the_next(table, grown, lakehouse, place, times):
    grown(60)
    rows, cursor = rows_of(table), table.cursor("source")
    child = [sys.executable, "-m", "lakehouse_assets_tests.platform.storage.maintenance_child", lakehouse.root, place, str(times), "40"]
    assert subprocess.run(child).returncode == -signal.SIGKILL
    left = commits_of(table)
    assert left == list(range(left[0], table.version() + 1))
    assert (rows_of(table), table.cursor("source")) == (rows, cursor)
    for version in range(readable_from(table), table.version() + 1):
        assert table.scan(version).collect().height == min(version, 60)
    for version in range(readable_from(table)):
        try:
            assert table.scan(version).collect().height == version  # whole, or refused
        except (NoSuchVersion, FileNotFoundError):
            continue
    assert maintenance.unlogged(table, datetime.now(UTC)) == {}
    append(table, LOG_ENTRIES)
    assert CLEANED in maintain(table).done
    assert len(commits_of(table)) < LOG_ENTRIES
    assert table.count() == 60 + LOG_ENTRIES


def test_a_restore_finds_out_that_a_clean_up_has_begun(table, grown, monkeypatch):
    grown(60)
    real, seen = DeltaTable.restore, []

    def late(delta, *args, **kwargs):
        if not seen:
            seen.append(1)
            monkeypatch.setattr(maintenance, "_delete", lambda *_: None)  # they lie there still
            maintain(table)
        return real(delta, *args, **kwargs)

    monkeypatch.setattr(DeltaTable, "restore", late)
    with pytest.raises(NoSuchVersion, match="maintenance has deleted"):
        restore.restore(table, 10, "by hand")
    assert table.count() == 60


def test_a_log_in_a_bucket_is_cleaned_up_too(bucket):
    table = Lakehouse(f"{bucket}/a b").table("shop.silver.things")
    table.create(SCHEMA)
    append(table, 45)
    rows = rows_of(table)
    pinned = table.scan(12).collect().sort("id")
    assert CLEANED in maintain(table, pinned=[12]).done
    assert len(commits_of(table)) < LOG_ENTRIES
    assert rows_of(table) == rows
    assert table.scan(12).collect().sort("id").equals(pinned)
    with pytest.raises(NoSuchVersion, match="has no version 25 "):
        table.scan(25)


STEP = {
    "append": lambda table, _: append(table, 8),
    "merge": lambda table, number: merge.merge(table, things((-1, number), (-1000 - number, 0)), ["id"]),
    "replace": lambda table, number: table.replace(things((-2, number)), None),
    "compact": lambda table, _: table.delta().optimize.compact(),
    "checkpoint": lambda table, _: table.delta().create_checkpoint(),
    "restore": lambda table, _: restore.restore(table, max(table.version() - 3, readable_from(table)), "by hand"),
}
STEPS = st.lists(st.sampled_from([*STEP, "maintain"]), min_size=5, max_size=14)


@given(STEPS, st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
@examples(2)
def test_readers_and_pins_read_the_same_after_a_clean_up(steps, cursor, pin, log_from):
    """As for vacuum, with a log long enough to be cleaned."""
    with fresh_table(SCHEMA) as table:
        states = {0: []}
        for number, step in enumerate(steps):
            if step == "maintain":
                maintain(table, keep_from=min(cursor, table.version()), pinned=[pin], log_from=log_from)
            else:
                STEP[step](table, number)
            states[table.version()] = rows_of(table)
        cursor, newest = min(cursor, table.version()), table.version()
        changes = change_feed(table.delta(), cursor, newest, {}).collect()
        maintain(table, keep_from=cursor, pinned=[pin], log_from=log_from)
        assert rows_of(table) == states[newest]
        assert change_feed(table.delta(), cursor, newest, {}).collect().equals(changes)
        assert readable_from(table) <= cursor
        for version, rows in states.items():
            if version >= readable_from(table) or version == pin:
                assert sorted(table.scan(version).collect().rows(), key=repr) == rows
