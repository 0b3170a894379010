"""A bucket that answers nothing stops who waits for it, and no other thread of the process.

delta-rs keeps the lock of the interpreter in some of its calls (`is_deltatable`, `load_cdf`, `history`, `restore`): what a service does in
the background must use none of them, or its answers stand still.
"""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import polars as pl
import pytest

from lakehouse_assets.platform.storage import table_cache
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets_tests.s3 import BUCKET, S3, s3_server

ROWS = pl.DataFrame({"id": [1, 2], "value": [0.5, 1.5]})

OPERATIONS: dict[str, Callable[[Table], object]] = {
    "exists": lambda table: table.exists(),
    "version": lambda table: table.version(),
    "open": lambda table: table.delta(),
    "open a version": lambda table: table.delta(0),
    "scan": lambda table: table.scan().collect(),
    "count": lambda table: table.count(),
    "history": lambda table: table.history(2),
    "changes": lambda table: table.change_feed(0, table.version()).collect(),
    "cursor": lambda table: table.cursor("source"),
    "append": lambda table: table.append(ROWS, Commit((Cursor("source", None, 7),))),
    "add columns": lambda table: table.add_columns({**ROWS.schema, "more": pl.String()}),
    "feature version": FeatureVersion.of,
}


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
def table(s3, monkeypatch) -> Table:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    lakehouse = Lakehouse(f"s3://{BUCKET}/{uuid4().hex}")
    made = lakehouse.table("a.b.c")
    made.create(ROWS.schema)
    made.append(ROWS)
    return made


@pytest.mark.timeout(60)
@pytest.mark.parametrize("operation", [*OPERATIONS, "create"])
def test_others_go_on_while_a_bucket_answers_nothing(table, s3, operation):
    table_cache.clear()
    other = Table("a.b.new", table.uri + "_new", table.storage_options)
    do = OPERATIONS.get(operation, lambda _: other.create(ROWS.schema))
    done: list[object] = []
    waiting = threading.Thread(target=lambda: done.append(do(table)), daemon=True)
    # Should this process stand still, another one wakes the server up.
    alarm = subprocess.Popen(["sh", "-c", f"sleep 5; kill -CONT {s3.process.pid}"])
    s3.process.send_signal(signal.SIGSTOP)
    try:
        waiting.start()
        time.sleep(0.3)
        is_waiting, stood_still = waiting.is_alive(), alarm.poll() is not None
    finally:
        s3.process.send_signal(signal.SIGCONT)
        alarm.kill()
        alarm.wait()
    waiting.join(30)
    assert done, "it failed"
    assert is_waiting, "it did not wait for the bucket, or all stood still until it was done"
    assert not stood_still
