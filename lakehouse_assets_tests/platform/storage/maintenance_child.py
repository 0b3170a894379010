"""Maintenance of `shop.silver.things` in a process of its own that kills itself: `python -m … ROOT PLACE`, see `test_maintenance`."""

import os
import signal
import sys
from datetime import UTC, datetime, timedelta

from deltalake import DeltaTable

from lakehouse_assets.platform.storage import compaction, maintenance
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.maintenance import Keep

PLACES = {
    "compacted": (compaction, "_compact_once"),
    "sorted": (compaction, "_sort_once"),
    "announced": (DeltaTable, "create_write_transaction"),
    "checkpointed": (DeltaTable, "create_checkpoint"),
    "deleted one": (maintenance, "_delete"),
}


def dies_after(function, times):
    """It comes back all but the last time."""
    calls = []

    def die(*args, **kwargs):
        function(*args, **kwargs)
        calls.append(1)
        if len(calls) == times:
            os.kill(os.getpid(), signal.SIGKILL)

    return die


def main(root, place, times="1", days="10"):
    owner, name = PLACES[place]
    setattr(owner, name, dies_after(getattr(owner, name), int(times)))
    table = Lakehouse(root).table("shop.silver.things")
    later = datetime.now(UTC) + timedelta(days=int(days))
    maintenance.maintain(table, Keep(None, set(), timedelta(days=7), later), "maintenance")


if __name__ == "__main__":
    main(*sys.argv[1:])
