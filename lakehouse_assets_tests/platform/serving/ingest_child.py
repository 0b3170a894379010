"""A process that pushes rows into a feed and says which were accepted, until it is killed: `python -m … ROOT IDS DIES`.

It sends the ids given as `FROM-UNTIL`, each with others at once, and prints each id once it is accepted. `DIES` is a place at which it
kills itself: `before-put` (a file is decided upon), `after-put` (it is landed and not marked), or `never`.
"""

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.ingestion.zone import LocalZone
from lakehouse_assets.platform.serving.ingest import Ingest
from lakehouse_assets.platform.serving.outbox import OutboxBounds

FEED = Feed("payments", headers=(("invoice", "amount"),), row_id="invoice", format="jsonl")


def open_ingest(root: Path) -> Ingest:
    zone = LocalZone(root / "landing" / FEED.name, root / "archive" / FEED.name)
    return Ingest(root / "home", FEED, lambda: zone, OutboxBounds(rows=7))


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(root: Path, ids: range, dies: str) -> None:
    put = LocalZone.put

    def dying(self: LocalZone, source: Path, path: str, **how: Any) -> bool:
        if dies == "after-put":
            put(self, source, path, **how)
        die()
        return True

    if dies != "never":
        LocalZone.put = dying  # type: ignore[method-assign]
    ingest = open_ingest(root)

    def push(number: int) -> None:
        ingest.take(f'[{{"invoice": "{number}", "amount": {number}.10}}]'.encode())
        os.write(1, f"{number}\n".encode())

    def land_regularly() -> None:
        while True:
            ingest.land()
            time.sleep(0.05)

    threading.Thread(target=land_regularly, daemon=True).start()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(push, ids))
    sys.exit(0 if ingest.land() and ingest.close() else 1)


if __name__ == "__main__":
    first, last = map(int, sys.argv[2].split("-"))
    main(Path(sys.argv[1]), range(first, last), sys.argv[3])
