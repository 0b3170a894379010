"""A process that logs predictions and says which, until it is killed: `python -m … ROOT FROM DIES`.

It prints the id of each request after it was logged. `DIES` is a place at which it kills itself: `before-commit`, `after-commit` (before
the segments are deleted), or `never`.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lakehouse_assets.platform.serving.inference_log import drain
from lakehouse_assets.platform.serving.inference_log.log import InferenceLog, drainer
from lakehouse_assets.platform.serving.inference_log.records import InferenceRecord
from lakehouse_assets.platform.serving.inference_log.spool import Bounds
from lakehouse_assets.platform.serving.inference_log.table import LoggedEndpoint
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table

ENDPOINT = LoggedEndpoint("shop", "orders")
THREADS = 3


def record(name: str, row: int = 0) -> InferenceRecord:
    features = {f"feature {number}": number / 7 for number in range(20)}
    return InferenceRecord(request_id=name, row=row, endpoint="orders", received_at=datetime.now(UTC), features=features)


def open_log(root: Path, bounds: Bounds | None = None) -> InferenceLog:
    lakehouse = Lakehouse(str(root / "tables"))
    return InferenceLog(root / "home" / "serving" / "spool", lambda: lakehouse, [ENDPOINT], bounds)


def ended(log: InferenceLog) -> bool:
    """Bring all into the tables and end, as a process does that ends well; whether all is there."""
    is_flushed = log.flush()
    return log.release() and is_flushed


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_instead_of(step: Callable[..., Any], table: str) -> Callable[..., Any]:
    def instead(self: Table, *given: Any, **named: Any) -> Any:
        return die() if self.name == table else step(self, *given, **named)

    return instead


def main(root: Path, start: int, dies: str) -> None:
    if dies == "before-commit":
        Table.append = dies_instead_of(Table.append, ENDPOINT.table)  # type: ignore[method-assign]
    if dies == "after-commit":
        drain._delete = die  # type: ignore[attr-defined]
    log = open_log(root, Bounds(segment_bytes=20_000, segment_seconds=0.3))
    own = drainer(log._spool.folder, lambda: log.writer, lambda: Lakehouse(str(root / "tables")), [ENDPOINT])

    def ask(thread: int) -> None:
        number = start
        while True:
            name = f"{thread}-{number}"
            log.append([record(name), record(name, 1)])
            os.write(1, f"{name}\n".encode())
            number += 1
            time.sleep(0.002)

    def drain_regularly() -> None:
        while True:
            own.once()
            time.sleep(0.1)

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(THREADS)]
    threads.append(threading.Thread(target=drain_regularly))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()  # an interpreter that shuts down commits nothing


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
