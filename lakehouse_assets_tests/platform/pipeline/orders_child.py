"""Replays or refreshes the table of `orders` in processes that may kill themselves before or after one of their commits.

`python -m lakehouse_assets_tests.platform.pipeline.orders_child` takes orders as `crash_child` does: `root`, `kind`, `fatal` (the number of
the commit; 0: none), `when` (before, after), `job` (replay, refresh). A replay gives how many rows it released.
"""

import os
import signal
from typing import Any

from lakehouse_assets.platform.pipeline import refresh, replay, selection  # noqa: F401 once, for all forks
from lakehouse_assets.platform.quality import conform  # noqa: F401
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.crash_child import serve


def carry_out(order: dict[str, Any]) -> int:
    """Carry out an order; how many rows were released."""
    from lakehouse_assets_tests.platform.pipeline import orders  # in the fork: see `crash_child.serve`

    lakehouse, declaration = Lakehouse(order["root"]), orders.KINDS[order["kind"]]
    with orders.dying(order["fatal"], order["when"], lambda: os.kill(os.getpid(), signal.SIGKILL)):
        if order["job"] == "refresh":
            orders.refresh(lakehouse, declaration)
            return 0
        return orders.replays(lakehouse, declaration).run(orders.FIX).released


if __name__ == "__main__":
    serve(carry_out)
