"""Several processes do the same batches at once: each batch counts once. How they get on with other work is in `test_race`."""

from lakehouse_assets_tests.platform.storage import worker
from lakehouse_assets_tests.platform.storage.test_kill import assert_each_batch_counts_once


def test_processes_that_do_the_same_batches_at_once(lakehouse, start):
    until = 20
    workers = [start("consume", lakehouse.root, until) for _ in range(3)]
    assert [process.wait() for process in workers] == [0, 0, 0]
    assert_each_batch_counts_once(lakehouse, until)
    for name in worker.WRITES:
        assert lakehouse.table(f"shop.silver.{name}").version() == until + 1
