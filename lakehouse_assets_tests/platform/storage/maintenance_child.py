"""Upkeep of `shop.silver.things` in a process of its own that kills itself: `python -m … ROOT PLACE`, see `test_upkeep`."""

import os
import signal
import sys
from datetime import UTC, datetime, timedelta

from deltalake import DeltaTable

from lakehouse_assets.platform.storage import maintenance as upkeep
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

PLACES = {
    "compacted": (upkeep, "_compact_once"),
    "sorted": (upkeep, "_sort_once"),
    "announced": (DeltaTable, "create_write_transaction"),
    "deleted one": (upkeep, "_delete"),
}


def dies_after(function):
    def die(*args, **kwargs):
        function(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    return die


def main(root, place):
    owner, name = PLACES[place]
    setattr(owner, name, dies_after(getattr(owner, name)))
    table = Lakehouse(root).table("shop.silver.things")
    week, later = timedelta(days=7), datetime.now(UTC) + timedelta(days=10)
    upkeep.tend(table, keep_from=None, pinned=set(), retention=week, run_id="upkeep", now=later)


if __name__ == "__main__":
    main(*sys.argv[1:])
