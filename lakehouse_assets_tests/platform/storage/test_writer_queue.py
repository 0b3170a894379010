"""Writers that lost a race wait for a turn, and those who begin let them have it; nobody waits for a dead one, or for ever."""

import subprocess
import sys
import tempfile
import threading
import time
import uuid

import pytest

from lakehouse_assets.platform.storage.writer_queue import turn, wait_for_turns

LONG = 60
HOLDER = """
import sys, time
from lakehouse_assets.platform.storage.writer_queue import turn
with turn(sys.argv[1], 9):
    print("mine", flush=True)
    time.sleep(99)
"""


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return f"shop.silver.t{uuid.uuid4().hex}"


def test_turns_come_one_after_the_other(table):
    inside, most = 0, 0

    def take():
        nonlocal inside, most
        with turn(table, LONG):
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


def test_who_begins_waits_for_the_turn_of_another(table):
    order = []

    def begin():
        wait_for_turns(table, LONG)
        order.append("begun")

    with turn(table, LONG):
        beginner = threading.Thread(target=begin)
        beginner.start()
        time.sleep(0.1)
        order.append("turn over")
    beginner.join()
    assert order == ["turn over", "begun"]


def test_a_turn_ends_with_its_process(monkeypatch, tmp_path, table):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", HOLDER, table], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "mine\n"
        with turn(table, 0.1):  # not had: after the time one goes on regardless
            assert holder.poll() is None
        holder.kill()
    start = time.monotonic()
    with turn(table, LONG):
        assert time.monotonic() - start < LONG / 2


def test_turns_of_different_tables_do_not_wait_for_each_other(table):
    with turn(table, LONG):
        start = time.monotonic()
        with turn(table + "x", LONG):
            wait_for_turns(table + "y", LONG)
        assert time.monotonic() - start < LONG / 2


def test_where_nothing_can_be_written_there_is_no_queue(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    with turn("shop.silver.things", LONG):
        wait_for_turns("shop.silver.things", LONG)
    assert not (tmp_path / "not there").exists()
