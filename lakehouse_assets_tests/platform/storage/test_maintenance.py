"""Maintenance changes no row, frees what nobody needs, and leaves alone what a reader, a pin or a write under way needs."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from lakehouse_assets.platform.storage import inventory, maintenance, merge, restore
from lakehouse_assets.platform.storage.change_feed import change_feed
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.maintenance import (
    CHECKPOINTED,
    COMPACTED,
    LOG_ENTRIES,
    SMALL_FILES_A_PARTITION,
    VACUUMED,
    Keep,
    readable_from,
)
from lakehouse_assets.platform.storage.source import Source
from lakehouse_assets_tests.platform.storage.fresh import examples, files_of, fresh_table, rows_of

SCHEMA = {"part": pl.String(), "id": pl.Int64(), "value": pl.Int64(), "text": pl.String()}
WEEK, MONTH = timedelta(days=7), timedelta(days=30)


def things(*rows):
    return pl.DataFrame([(*row, "text") for row in rows], SCHEMA, orient="row")


def keep(*, keep_from=None, pinned=(), days=10, retention=WEEK, log_retention=MONTH, log_from=None):
    """What maintenance keeps, as it would run in `days`."""
    return Keep(keep_from, set(pinned), retention, datetime.now(UTC) + timedelta(days=days), log_retention, log_from)


def maintain(table, **how):
    return maintenance.maintain(table, keep(**how), "maintenance")


def append_often(table, times=SMALL_FILES_A_PARTITION, part="a"):
    for number in range(times):
        table.append(things((part, number, number)))


@pytest.fixture
def table(table):
    table.create(SCHEMA, ("part",))
    return table


# --- compaction


def test_many_small_files_of_a_partition_become_one(table):
    append_often(table)
    append_often(table, 2, "b")
    append_often(table, 8, None)
    before = rows_of(table)
    assert maintenance.state(table, keep()).due == (COMPACTED,)
    maintained = maintain(table, days=0)
    assert (maintained.done, maintained.files_before, maintained.files_after, maintained.why_not) == ((COMPACTED,), 18, 4, "")
    assert rows_of(table) == before
    assert table.history(1)[0]["info"] == {"run_id": "maintenance", "maintenance": "compact"}


def test_a_table_that_needs_nothing_gets_no_commit(table):
    append_often(table, SMALL_FILES_A_PARTITION - 1)
    for _ in range(2):
        assert maintain(table, days=0).done == ()
    assert table.version() == SMALL_FILES_A_PARTITION - 1


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        ({"part": pl.String()}, ["it's b/c =%?", "a b", None]),
        ({"part": pl.Date()}, [date(2024, 1, 1), None]),
        ({"part": pl.Int64()}, [-1, None]),
        ({"part": pl.Boolean()}, [True, False, None]),
        ({"part": pl.String(), "day": pl.Date()}, [("a", date(2024, 1, 1)), ("a", None), (None, date(2024, 1, 1)), (None, None)]),
    ],
)
def test_partitions_of_all_kinds_are_compacted_one_by_one(schema, values):
    with fresh_table({**schema, "id": pl.Int64()}, tuple(schema)) as table:
        for value in values:
            row = value if isinstance(value, tuple) else (value,)
            for number in range(SMALL_FILES_A_PARTITION):
                table.append(pl.DataFrame([(*row, number)], {**schema, "id": pl.Int64()}, orient="row"))
        before = rows_of(table)
        assert maintain(table, days=0).files_after == len(values)
        assert rows_of(table) == before


def test_what_a_merge_left_as_string_views_is_rewritten(table):
    append_often(table, 3)
    table.append(things(("b", 1, 1)))
    for part in ("a", "b"):  # one partition with more files, one with a single one
        merge.merge(table, things((part, 1, 9)), ["part", "id"])
    before = rows_of(table)
    state = maintenance.state(table, keep())
    assert set(state.views) == {(("part", "a"),), (("part", "b"),)}
    assert maintain(table, days=0).done == (COMPACTED,)
    types = {str(parquet.read_schema(path).field("text").type) for path in table.delta().file_uris()}
    assert types <= {"string", "large_string"}
    assert rows_of(table) == before
    assert maintain(table, days=0).done == ()


def test_the_only_file_of_a_table_is_rewritten_for_its_strings(table):
    table.append(things(("a", 1, 1)))
    merge.merge(table, things(("a", 1, 2)), ["part", "id"])
    assert maintain(table, days=0).done == (COMPACTED,)
    assert maintenance.state(table, keep(days=0)).due == ()
    assert rows_of(table) == [("a", 1, 2, "text")]


def test_a_merge_writes_string_views(table):
    """What delta-rs does; when it no longer does, the rewriting in `compaction` can go."""
    table.append(things(("a", 1, 1)))
    merge.merge(table, things(("a", 1, 2)), ["part", "id"])
    assert [str(parquet.read_schema(path).field("text").type) for path in table.delta().file_uris()] == ["string_view"]


def test_maintenance_is_no_change_to_a_reader(table):
    append_often(table, 30)
    merge.merge(table, things(("a", 1, 9)), ["part", "id"])
    at = table.version()
    assert maintain(table).done == (COMPACTED, VACUUMED)
    assert table.version() > at
    assert table.changed_at(at) == at
    assert table.changes(at, table.version()).collect().is_empty()
    assert not (Source(table, at, table.version()).went().collect().height > 0)
    delta = table.delta()
    assert change_feed(delta, at, table.version(), {}).collect().is_empty()


def test_a_long_log_gets_a_checkpoint(table):
    table.delta().alter.set_table_properties({"delta.checkpointInterval": "1000"})
    append_often(table, LOG_ENTRIES)
    assert CHECKPOINTED in maintenance.state(table, keep()).due
    version = table.version()
    assert CHECKPOINTED in maintain(table, days=0).done
    assert inventory.take(table).checkpoint >= version
    assert maintenance.state(table, keep()).log_entries == 0


# --- vacuum


def test_delta_rs_takes_change_files_away_under_readers(table):
    """Why vacuum is our own: `full` deletes change files whatever versions are kept, and without it they are never deleted."""
    table.append(things(("a", 1, 1), ("a", 2, 2)))
    merge.merge(table, things(("a", 1, 9)), ["part", "id"])
    versions = list(range(table.version() + 1))
    how = {"retention_hours": 0, "enforce_retention_duration": False, "dry_run": True, "keep_versions": versions}
    assert [path.split("/")[0] for path in table.delta().vacuum(full=True, **how)] == ["_change_data"]
    assert table.delta().vacuum(**how) == []
    assert table.delta().vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=True) != []


def test_delta_rs_forgets_removed_files_with_a_checkpoint(table):
    """Why vacuum goes by the folder and not by what the log says was removed."""
    table.delta().alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 0 seconds"})
    table.append(things(("a", 1, 1)))
    table.replace(things(("a", 1, 2)), None)
    how = {"retention_hours": 0, "enforce_retention_duration": False, "dry_run": True}
    assert len(table.delta().vacuum(**how)) == 1
    time.sleep(0.01)
    table.delta().create_checkpoint()
    assert table.delta().vacuum(**how) == []
    assert maintain(table).done == (VACUUMED,)
    assert len(files_of(table)) == 1


def test_what_was_replaced_is_freed_after_the_retention(table):
    table.append(things(("a", 1, 1)))
    table.replace(things(("a", 1, 2)), None)
    merge.merge(table, things(("a", 1, 3)), ["part", "id"])
    before = rows_of(table)
    for days in (0, 6):
        assert VACUUMED not in maintain(table, days=days).done
    assert readable_from(table) == 0
    version = table.version()
    maintained = maintain(table)
    assert maintained.done == (VACUUMED,)
    assert maintained.bytes_freed > 0
    assert files_of(table) == set(table.delta().file_uris())
    assert readable_from(table) == version
    assert rows_of(table) == before
    assert maintain(table).done == ()


def test_a_version_is_kept_for_as_long_as_it_stood_within_the_retention(table):
    table.append(things(("a", 1, 1)))
    log = Path(table.uri, "_delta_log")
    table.replace(things(("a", 1, 2)), None)
    table.replace(things(("a", 1, 3)), None)
    for version, days in ((0, 20), (1, 15), (2, 5)):
        at = time.time() - timedelta(days=days).total_seconds()
        os.utime(log / f"{version:020d}.json", (at, at))
    for path in files_of(table):
        os.utime(path, (at, at))
    # Seven days ago version 1 stood, so it and all later ones stay; the file of no earlier one exists.
    assert maintain(table, days=0).done == ()
    assert maintain(table, days=0, retention=timedelta(days=4)).done == (VACUUMED,)
    assert readable_from(table) == 2
    assert table.scan(2).collect()["value"].to_list() == [2]
    with pytest.raises(FileNotFoundError):
        table.scan(1).collect()


def test_leftovers_of_a_killed_write_go_when_no_write_can_need_them(table):
    append_often(table, 2)
    folder = Path(table.uri)
    for name in ("part=a/part-0-left.zstd.parquet", "part=a/part-1-left.zstd.parquet#1", "_change_data/part=a/cdc-left.parquet"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"half")
    assert maintain(table, days=0.9, retention=timedelta(0)).done == ()
    assert maintenance.state(table, keep(days=1.1, retention=timedelta(0))).unneeded == 3
    assert maintain(table, days=1.1, retention=timedelta(0)).bytes_freed == 12
    assert files_of(table) == set(table.delta().file_uris())


def test_a_log_that_lost_entries_is_not_vacuumed(table):
    table.append(things(("a", 1, 1)))
    table.replace(things(("a", 1, 2)), None)
    table.delta().create_checkpoint()
    Path(table.uri, "_delta_log", f"{1:020d}.json").unlink()
    maintained = maintain(table, keep_from=0)
    assert VACUUMED not in maintained.done
    assert "not all versions from 1 to 2" in maintained.why_not


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["append", "merge", "replace", "delete"]), st.sampled_from(["a", "it's b"]), st.integers(0, 3)),
        st.tuples(st.just("compact")),
        st.tuples(st.just("maintain")),
        st.tuples(st.just("checkpoint")),
        st.tuples(st.just("restore"), st.integers(0, 5)),
    ),
    min_size=3,
    max_size=8,
)


def take(table, number, step):
    match step:
        case "append", part, _:
            table.append(things((part, 100 + number, number)))
        case "merge", part, id_:
            merge.merge(table, things((part, id_, number), (part, 10 + number, number)), ["part", "id"])
        case "replace", part, id_:
            table.replace(things((part, id_, number)), {"part": [part]})
        case "delete", part, id_:
            table.delta().delete(f"part = '{part.replace(chr(39), chr(39) * 2)}' AND id = {id_}")
        case ("compact",):
            table.delta().optimize.compact()
        case ("checkpoint",):
            table.delta().create_checkpoint()
        case "restore", to if to < table.version():
            table.delta().restore(to)


@given(STEPS, st.integers(0, 8), st.integers(0, 8))
@examples(5)
def test_readers_and_pins_read_the_same_after_maintenance(steps, cursor, pin):
    with fresh_table(SCHEMA, ("part",)) as table:
        states = {0: []}
        for number, step in enumerate(steps):
            if step == ("maintain",):
                maintain(table, keep_from=min(cursor, table.version()), pinned=[pin])
            else:
                take(table, number, step)
            states[table.version()] = rows_of(table)
        cursor, newest = min(cursor, table.version()), table.version()
        changes = change_feed(table.delta(), cursor, newest, {}).collect()
        maintain(table, keep_from=cursor, pinned=[pin])
        assert rows_of(table) == states[newest]
        assert change_feed(table.delta(), cursor, newest, {}).collect().equals(changes)
        assert readable_from(table) <= cursor
        for version, rows in states.items():
            if version >= readable_from(table) or version == pin:
                assert sorted(table.scan(version).collect().rows(), key=repr) == rows
        again = maintain(table, keep_from=cursor, pinned=[pin])
        assert (again.done, again.bytes_freed) == ((), 0)


def test_a_pin_of_another_life_of_the_table_is_no_hindrance(table):
    table.append(things(("a", 1, 1)))
    table.replace(things(("a", 1, 2)), None)
    assert maintain(table, pinned=[17]).done == (VACUUMED,)


def test_a_new_reader_may_not_start_before_what_is_whole(table):
    table.append(things(("a", 1, 1)))
    table.replace(things(("a", 1, 2)), None)
    maintain(table)
    table.delta().restore(2)  # a restore takes properties back, but not this
    assert readable_from(table) == 2
    with pytest.raises(NoSuchVersion):
        table.delta(99)


# --- deaths and other writers


@pytest.mark.parametrize("place", ["compacted", "announced", "deleted one", "sorted"])
def test_maintenance_that_is_killed_leaves_the_same_rows_and_is_finished_by_the_next(table, place, lakehouse):
    append_often(table)
    table.append(things(("b", 1, 1)))
    for value in (8, 9):
        merge.merge(table, things(("a", 1, value), ("b", 1, value)), ["part", "id"])
    table.append(things(("a", 50, 1)), Commit((Cursor("source", None, 3),)))
    before, cursor = rows_of(table), table.cursor("source")
    child = [sys.executable, "-m", "lakehouse_assets_tests.platform.storage.maintenance_child", lakehouse.root, place]
    assert subprocess.run(child).returncode == -signal.SIGKILL
    assert (rows_of(table), table.cursor("source")) == (before, cursor)
    for version in range(readable_from(table), table.version() + 1):
        table.scan(version).collect()
    maintain(table, days=30)
    maintain(table, days=60)
    assert rows_of(table) == before
    assert files_of(table) == set(table.delta().file_uris())


def test_maintenance_beside_writers_loses_nothing(lakehouse, start):
    """A table with a past that can be vacuumed, while processes append, merge and replace."""
    table = lakehouse.table("shop.silver.shared")
    table.create({"part": pl.Int64(), "id": pl.Int64(), "batch": pl.Int64()}, ("part",))
    for number in range(6):
        table.replace(pl.DataFrame({"part": [99], "id": [number], "batch": [number]}), {"part": [99]})
    at = time.time() - timedelta(days=20).total_seconds()
    old = {str(path) for path in Path(table.uri).rglob("*.*") if path.is_file()}
    for path in old:
        os.utime(path, (at, at))
    crowd = [(98, number, number) for number in range(SMALL_FILES_A_PARTITION)]
    for row in crowd:
        table.append(pl.DataFrame([row], schema={"part": pl.Int64(), "id": pl.Int64(), "batch": pl.Int64()}, orient="row"))
    writers = {name: start("write", lakehouse.root, name, 4) for name in range(3)}
    for writer in writers.values():
        assert writer.stdout.readline() == "ready\n"
    for writer in writers.values():
        writer.stdin.write("go\n")
        writer.stdin.flush()
    done = set()
    while any(writer.poll() is None for writer in writers.values()):
        done |= set(maintain(table, days=0).done)
    said = {name: json.loads(writer.stdout.readline()) for name, writer in writers.items()}
    assert [writer.wait() for writer in writers.values()] == [0] * 3
    assert {COMPACTED, VACUUMED} <= done
    assert len([path for path in old if path.endswith(".parquet") and Path(path).exists()]) == 1
    held = [tuple(row) for report in said.values() for row in report["held"]] + [(99, 5, 5), *crowd]
    assert rows_of(table) == sorted(held, key=repr)
    assert {name: table.cursor(f"shop.bronze.source_{name}") for name in said} == {name: report["cursor"] for name, report in said.items()}


def test_maintenance_and_restore_do_the_same_in_a_bucket(bucket):
    table = Lakehouse(bucket).table("shop.silver.things")
    table.create(SCHEMA, ("part",))
    append_often(table, part="it's b/c =%?")
    for value in (0, 1):
        merge.merge(table, things(("b", 1, value)), ["part", "id"])
    merge.merge(table, things(("b", 1, 2)), ["part", "id"], Commit((Cursor("source", None, 3),)))
    before, last = rows_of(table), table.version()
    assert maintain(table, days=0).done == (COMPACTED,)
    assert maintain(table, days=30, keep_from=last - 1).done == (VACUUMED,)
    assert len(inventory.take(table).data) > len(table.delta().file_uris())
    assert table.changes(last - 1, last).collect()["value"].to_list() == [2]
    assert maintain(table, days=30).done == (VACUUMED,)
    assert set(inventory.take(table).data) == inventory.files_of(table.delta())
    assert rows_of(table) == before
    at = readable_from(table)
    table.replace(things(("b", 2, 3)), {"part": ["b"]}, Commit((Cursor("source", 3, 4),)))
    restore.restore(table, at, "by hand")
    assert (rows_of(table), table.cursor("source")) == (before, 3)
