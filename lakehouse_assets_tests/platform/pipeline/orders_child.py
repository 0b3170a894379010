"""Replays or refreshes the table of `orders` in a fork that may kill itself before or after one of its commits.

An order has `root`, `kind`, `fatal` (the number of the commit; 0: none), `when` (before, after) and `job` (replay, refresh). A replay gives
how many rows it released.
"""

import os
import signal
from typing import Any

from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.platform.pipeline.orders import FIX, KINDS, dying, refresh, replays


def carry_out(order: dict[str, Any]) -> int:
    """Carry out an order; how many rows were released."""
    lakehouse, declaration = Lakehouse(order["root"]), KINDS[order["kind"]]
    with dying(order["fatal"], order["when"], lambda: os.kill(os.getpid(), signal.SIGKILL)):
        if order["job"] == "refresh":
            refresh(lakehouse, declaration)
            return 0
        return replays(lakehouse, declaration).run(FIX).released
