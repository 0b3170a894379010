"""Several processes write one table at once: what each was told to be committed is there, and nothing else."""

import json

from lakehouse_assets_tests.platform.storage import worker
from lakehouse_assets_tests.platform.storage.fresh import rows_of
from lakehouse_assets_tests.platform.storage.test_kill import assert_each_batch_counts_once


def test_eight_writers_at_once(lakehouse, start):
    writers = {name: start("write", lakehouse.root, name, 3) for name in range(8)}
    for writer in writers.values():
        assert writer.stdout.readline() == "ready\n"
    for writer in writers.values():
        writer.stdin.write("go\n")
        writer.stdin.flush()
    said = {name: json.loads(writer.stdout.readline()) for name, writer in writers.items()}
    assert [writer.wait() for writer in writers.values()] == [0] * 8

    table = lakehouse.table("shop.silver.shared")
    assert rows_of(table) == sorted((tuple(row) for report in said.values() for row in report["held"]), key=repr)
    assert {name: table.cursor(f"shop.bronze.source_{name}") for name in said} == {name: report["cursor"] for name, report in said.items()}
    # Every commit is of one writer, who knows its version.
    assert sorted(version for report in said.values() for version in report["versions"]) == list(range(1, table.version() + 1))


def test_processes_that_do_the_same_batches_at_once(lakehouse, start):
    until = 20
    workers = [start("consume", lakehouse.root, until) for _ in range(3)]
    assert [process.wait() for process in workers] == [0, 0, 0]
    assert_each_batch_counts_once(lakehouse, until)
    for name in worker.WRITES:
        assert lakehouse.table(f"shop.silver.{name}").version() == until + 1
