"""A restore brings rows and cursors back together, as one new commit, while others write whatever they do."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from lakehouse_assets.platform.storage import maintenance, merge, restore
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved, NoSuchVersion
from lakehouse_assets.platform.storage.maintenance import Keep
from lakehouse_assets.platform.storage.source import Source
from lakehouse_assets_tests.platform.storage.fresh import files_of, rows_of

SCHEMA = {"id": pl.Int64(), "value": pl.Int64()}


def things(*rows):
    return pl.DataFrame(rows, SCHEMA, orient="row")


def commit(before, after, source="source", run="first"):
    return Commit((Cursor(source, before, after),), lambda _: {"lakehouse.run_id": run})


@pytest.fixture
def table(table):
    """Version 1: cursor 4; version 2: cursor 6 and first row merged; version 3: another source."""
    table.create(SCHEMA)
    table.append(things((1, 1), (2, 2)), commit(None, 4))
    merge.merge(table, things((1, 10), (3, 3)), ["id"], commit(4, 6, run="second"))
    table.append(things((4, 4)), commit(None, 0, "other", run="second"))
    return table


def test_rows_and_cursors_go_back_together(table):
    assert restore.restore(table, 1, "by hand") == 4
    assert rows_of(table) == [(1, 1), (2, 2)]
    assert (table.cursor("source"), table.cursor("other")) == (4, None)
    assert table.history(1)[0]["info"] == {"run_id": "by hand", "restored_to": "1"}
    assert table.history(1)[0]["operation"] == "RESTORE"
    # What came later comes again, once.
    merge.merge(table, things((1, 10), (3, 3)), ["id"], commit(4, 6))
    table.append(things((4, 4)), commit(None, 0, "other"))
    assert rows_of(table) == [(1, 10), (2, 2), (3, 3), (4, 4)]
    assert (table.cursor("source"), table.cursor("other")) == (6, 0)


def test_readers_are_told_what_went_and_what_came_back(table):
    restore.restore(table, 1, "by hand")
    assert Source(table, 3, 4).went().collect().height > 0
    assert sorted(table.changes(3, 4).collect().rows()) == [(1, 1), (2, 2)]


def test_a_plan_says_what_goes_and_what_is_read_again(table):
    plan = restore.plan(table, 1)
    assert (plan.version, plan.to, plan.rows, plan.rows_after, plan.done_at) == (3, 1, 4, 2, None)
    assert plan.cursors == {"source": 4, "other": None}
    assert table.version() == 3


def test_a_restore_that_was_done_is_not_done_again(table):
    assert restore.restore(table, 3, "by hand") == 3
    assert [restore.restore(table, 1, "by hand") for _ in range(2)] == [4, 4]
    table.delta().optimize.compact()
    assert restore.restore(table, 1, "by hand") == 4
    assert restore.plan(table, 1).done_at == 4
    table.append(things((9, 9)))
    assert restore.restore(table, 1, "by hand") == table.version() == 6
    assert rows_of(table) == [(1, 1), (2, 2)]


def test_a_restore_can_be_undone(table):
    before = rows_of(table)
    restore.restore(table, 1, "by hand")
    restore.restore(table, 3, "by hand")
    assert rows_of(table) == before
    assert (table.cursor("source"), table.cursor("other")) == (6, 0)


def test_a_batch_that_moved_cursors_without_rows_goes_back_too(table):
    table.append(things(), commit(6, 8))
    restore.restore(table, 3, "by hand")
    assert table.cursor("source") == 6


@pytest.mark.parametrize("to", [-1, 4])
def test_a_version_that_is_not_there_is_refused(table, to):
    with pytest.raises(NoSuchVersion, match=f"has no version {to}"):
        restore.restore(table, to, "by hand")


def test_a_version_whose_files_maintenance_deleted_is_refused(table):
    later = datetime.now(UTC) + timedelta(days=30)
    maintenance.maintain(table, Keep(2, (), timedelta(days=7), later), "maintenance")
    before = rows_of(table)
    with pytest.raises(NoSuchVersion, match="version 2 is the oldest to go back to"):
        restore.restore(table, 1, "by hand")
    assert rows_of(table) == before
    restore.restore(table, 2, "by hand")
    assert rows_of(table) == [(1, 10), (2, 2), (3, 3)]


def test_a_version_whose_files_somebody_else_deleted_is_refused(table):
    for path in files_of(table) - set(table.delta().file_uris()):
        Path(path).unlink()
    with pytest.raises(NoSuchVersion, match="cannot go back to version 1"):
        restore.restore(table, 1, "by hand")
    assert table.version() == 3


def test_a_version_before_a_change_of_columns_comes_back_with_its_columns(table):
    table.add_columns({"note": pl.String()})
    table.append(pl.DataFrame({"id": [9], "value": [9], "note": ["x"]}), commit(6, 7))
    restore.restore(table, 3, "by hand")
    assert dict(table.schema()) == SCHEMA
    assert rows_of(table) == [(1, 10), (2, 2), (3, 3), (4, 4)]
    table.add_columns({"note": pl.String()})
    table.append(pl.DataFrame({"id": [9], "value": [9], "note": ["x"]}), commit(6, 7))
    assert rows_of(table, "id", "note")[-1] == (9, "x")


@pytest.mark.parametrize("write", ["append", "merge", "restore"])
def test_a_writer_in_between_is_not_lost_sight_of(table, monkeypatch, write):
    """The restore looks again: what the other one wrote after that version goes as well, and so does its cursor."""
    real, others = DeltaTable.restore, []

    def late(delta, *args, **kwargs):
        if not others:
            others.append(write)
            match write:
                case "append":
                    table.append(things((50, 50)), commit(6, 7))
                case "merge":
                    merge.merge(table, things((1, 50)), ["id"], commit(None, 7, "third"))
                case "restore":
                    restore.restore(table, 2, "other")
        return real(delta, *args, **kwargs)

    monkeypatch.setattr(DeltaTable, "restore", late)
    restore.restore(table, 1, "by hand")
    assert rows_of(table) == [(1, 1), (2, 2)]
    assert [table.cursor(source) for source in ("source", "other", "third")] == [4, None, None]
    assert table.version() == 5


def test_a_batch_that_had_begun_before_a_restore_finds_its_cursor_moved(table):
    restore.restore(table, 1, "by hand")
    with pytest.raises(CursorMoved):
        table.append(things((5, 5)), commit(6, 8))


def test_a_restore_finds_out_that_a_vacuum_is_about_to_delete_its_files(table, monkeypatch):
    real, seen = DeltaTable.restore, []
    monkeypatch.setattr(maintenance, "_delete", lambda *_: None)  # they lie there still

    def late(delta, *args, **kwargs):
        if not seen:
            seen.append(1)
            later = datetime.now(UTC) + timedelta(days=30)
            maintenance.maintain(table, Keep(None, (), timedelta(days=7), later), "maintenance")
        return real(delta, *args, **kwargs)

    monkeypatch.setattr(DeltaTable, "restore", late)
    before = rows_of(table)
    with pytest.raises(NoSuchVersion, match="maintenance has deleted files"):
        restore.restore(table, 1, "by hand")
    assert rows_of(table) == before


def test_delta_rs_does_not_refuse_a_stale_restore_for_its_rows_alone(table):
    """Two restores at once on one version: the second is refused by the number that both carry."""
    early, late = table.delta(), table.delta()
    early.restore(1)
    with pytest.raises(CommitFailedError):
        late.restore(2)


def test_two_restores_at_once_are_as_one_after_the_other(table):
    threads = [Thread(target=restore.restore, args=(table, to, "by hand")) for to in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = table.history(1)[0]["info"]["restored_to"]
    assert (len(rows_of(table)), table.cursor("source")) == {"1": (2, 4), "2": (3, 6)}[last]


def test_the_runs_of_a_table_with_the_version_before_each(table):
    assert restore.runs_of(table) == {"first": 0, "second": 1}
    restore.restore(table, 1, "second")  # neither a restore nor maintenance is a run's own write
    assert restore.runs_of(table) == {"first": 0, "second": 1}


def test_versions_with_the_same_rows(table):
    table.delta().optimize.compact()
    assert restore.same_rows(table, 3, 4)
    assert restore.same_rows(table, 4, 3)
    assert not restore.same_rows(table, 2, 3)
