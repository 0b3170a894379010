"""Runs the products on a root in a process of its own that kills itself at one commit: `python -m … ROOT NUMBER before|after`.

With NUMBER 0 it runs to its end and prints how many commits there were.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from deltalake import DeltaTable
from deltalake.table import TableMerger

from lakehouse_assets.platform.storage import table
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.pipeline import run_products

# Everything up to the feature set. How a model and its predictions survive is in `platform.assets.test_models`.
TABLES = ("sales", "revenue_forecast.features.daily_statistics")


class Commits:
    """Counts the commits of this process, and ends it at one of them."""

    def __init__(self, fatal: int, when: str) -> None:
        self.fatal, self.when, self.number = fatal, when, 0

    def around(self, commit: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.number += 1
            self._die("before")
            result = commit(*args, **kwargs)
            self._die("after")
            return result

        return counted

    def _die(self, when: str) -> None:
        if self.number == self.fatal and self.when == when:
            os.kill(os.getpid(), signal.SIGKILL)


def main(root: str, fatal: str, when: str) -> None:
    commits = Commits(int(fatal), when)
    table.write_deltalake = commits.around(table.write_deltalake)
    TableMerger.execute = commits.around(TableMerger.execute)  # type: ignore[method-assign]
    DeltaTable.create = commits.around(DeltaTable.create)  # type: ignore[method-assign]
    run_products(Settings.load({"LAKEHOUSE_ROOT": root}), TABLES)
    print(commits.number)


if __name__ == "__main__":
    main(*sys.argv[1:])
