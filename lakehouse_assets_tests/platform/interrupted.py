"""A process whose Polars hears SIGINT, as it does where nobody keeps it from that; started by `test_interrupted`.

`polars FILE [kept] [ignored]`: reads a CSV file in batches, again and again, while signals come; prints the numbers of rows that came.
`ingest ROOT`: ingests the files of `orders`, and a signal comes while they are read into bronze; what it interrupts is run again.
`widen ROOT`: widens a column of a table under the root while signals come, until that ends without an error; prints how often it did not.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

# Polars calls it, and hears the signal itself.
signal.signal(signal.SIGINT, signal.SIG_IGN if "ignored" in sys.argv else lambda *_: None)

import polars as pl  # noqa: E402 after the handler

from lakehouse_assets.platform.compute.signals import keep_polars_from_signals  # noqa: E402
from lakehouse_assets.platform.storage import evolution  # noqa: E402
from lakehouse_assets.platform.storage.errors import CutShort  # noqa: E402
from lakehouse_assets.platform.storage.lakehouse import Lakehouse  # noqa: E402
from lakehouse_assets_tests.platform.ingestion.orders import Orders  # noqa: E402


def signals(every: float) -> threading.Event:
    """Send signals to this process from a thread, until the event is set."""
    enough = threading.Event()

    def send() -> None:
        while not enough.wait(every):
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send, daemon=True).start()
    return enough


def read(file: str) -> None:
    signals(0.02)
    for _ in range(30):
        query = pl.scan_csv(file).with_columns(pl.col("id").cast(pl.String).str.len_bytes().alias("length"))
        print(sum(part.height for part in query.collect_batches(chunk_size=1_000, lazy=True)))


def ingest(root: Path) -> None:
    orders = Orders.under(root)
    before = orders.ingestion.log.version()

    def send() -> None:
        while orders.ingestion.log.version() < before + 2:  # the file has been counted, and is read into bronze
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send, daemon=True).start()
    try:
        orders.run()
    except KeyboardInterrupt:  # Polars ends a query that is collected at once with this error, as that of a single literal
        orders.run()


def widen(root: Path) -> None:
    table = Lakehouse(str(root)).table("shop.silver.numbers")
    enough = signals(0.005)
    failed = 0
    while True:
        try:
            evolution.evolve(table, {"id": pl.Int64()})
            break
        except (CutShort, KeyboardInterrupt):
            failed += 1
            if failed == 3:
                enough.set()
    print(failed)


if __name__ == "__main__":
    what, where, *how = sys.argv[1:]
    if "kept" in how:
        keep_polars_from_signals()
    {"polars": read, "ingest": lambda path: ingest(Path(path)), "widen": lambda path: widen(Path(path))}[what](where)
