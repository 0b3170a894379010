"""Law 1 against `kill -9`: whatever moment a process dies at, the next one goes on; no row twice, none lost."""

import random
import signal
import time

import pytest

from lakehouse_assets_tests.platform.storage import worker
from lakehouse_assets_tests.platform.storage.fresh import rows_of


def assert_each_batch_counts_once(lakehouse, until):
    for name, rows in worker.after_all_batches(until).items():
        table = lakehouse.table(f"shop.silver.{name}")
        assert table.cursor(worker.SOURCE) == until
        assert rows_of(table) == sorted(rows, key=repr)


@pytest.mark.parametrize("die", ["before", "after"])
def test_a_process_dies_next_to_a_commit(lakehouse, start, die):
    dead = start("consume", lakehouse.root, 4, die)
    assert dead.wait() == -signal.SIGKILL
    assert start("consume", lakehouse.root, 4).wait() == 0
    assert_each_batch_counts_once(lakehouse, 4)


def test_processes_die_at_any_moment(lakehouse, start):
    until = 40
    for kill in range(5):
        process = start("consume", lakehouse.root, until)
        assert process.stdout.readline() == "ready\n"
        # The first dies while it creates the tables, the others while they write.
        time.sleep(random.uniform(0, 0.02 if kill == 0 else 0.3))
        process.kill()
        process.wait()
    assert start("consume", lakehouse.root, until).wait() == 0
    assert_each_batch_counts_once(lakehouse, until)
