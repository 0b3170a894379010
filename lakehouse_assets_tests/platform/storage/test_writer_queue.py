"""Writers that lost a race retry one after the other, and new ones let them; nobody waits for a dead one, for another root, or for ever."""

import subprocess
import sys
import tempfile
import threading
import time
import uuid

import polars as pl
import pytest

from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.writer_queue import join_queue, lock_file, wait_for_queue

LONG = 60
HOLDER = """
import sys, time
from lakehouse_assets.platform.storage.writer_queue import join_queue
with join_queue(sys.argv[1], 9):
    print("mine", flush=True)
    time.sleep(99)
"""


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return str(tmp_path / "root/shop/silver" / uuid.uuid4().hex)


def test_queued_writers_retry_one_after_the_other(table):
    inside, most = 0, 0

    def take():
        nonlocal inside, most
        with join_queue(table, LONG):
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, inside) == (1, 0)


def test_a_new_writer_waits_for_the_one_that_retries(table):
    order = []

    def begin():
        wait_for_queue(table, LONG)
        order.append("begun")

    with join_queue(table, LONG):
        beginner = threading.Thread(target=begin)
        beginner.start()
        time.sleep(0.1)
        order.append("retried")
    beginner.join()
    assert order == ["retried", "begun"]


def test_a_place_in_the_queue_ends_with_its_process(monkeypatch, tmp_path, table):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", HOLDER, table], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "mine\n"
        with join_queue(table, 0.1):  # when the time is up, the block runs regardless
            assert holder.poll() is None
        holder.kill()
    start = time.monotonic()
    with join_queue(table, LONG):
        assert time.monotonic() - start < LONG / 2


def test_writers_of_different_tables_do_not_wait_for_each_other(table):
    with join_queue(table, LONG):
        start = time.monotonic()
        with join_queue(table + "x", LONG):
            wait_for_queue(table + "y", LONG)
        assert time.monotonic() - start < LONG / 2


def test_writers_of_one_table_name_under_two_roots_do_not_wait_for_each_other(monkeypatch, tmp_path):
    """The holder is a process that retries a write to a table of the same name under another root."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    one, other = (Lakehouse(str(tmp_path / root)).table("shop.silver.things") for root in ("one", "other"))
    for table in (one, other):
        table.create({"id": pl.Int64()})
    with subprocess.Popen([sys.executable, "-c", HOLDER, one.uri], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "mine\n"
        start = time.monotonic()
        other.append(pl.DataFrame({"id": [1]}))
        assert time.monotonic() - start < LONG / 6  # a new writer of the same table waits 20 seconds
        holder.kill()


def test_one_table_has_one_queue_by_whatever_path_it_is_reached(monkeypatch, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "root")
    monkeypatch.chdir(tmp_path)
    assert len({lock_file(path) for path in ("root/t", "./root/t", str(tmp_path / "root/t"), "link/t")}) == 1
    assert lock_file("s3://bucket/root/t") != lock_file("s3://bucket/other/t")


def test_where_nothing_can_be_written_there_is_no_queue(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    with join_queue("shop.silver.things", LONG):
        wait_for_queue("shop.silver.things", LONG)
    assert not (tmp_path / "not there").exists()
