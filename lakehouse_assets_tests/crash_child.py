"""Runs tables on a root in processes that die at one place: before a commit or a file move, after it, or in the middle of a file of it.

`python -m lakehouse_assets_tests.crash_child` reads orders from its input, one JSON object a line: `root`, `tables`, `fatal` (the number of
the place; 0: none), `when` (before, during, after). Each is carried out by a fork, because a fresh process would take longer to import
than to run; nothing runs before the fork. The answer is a line of JSON: `signal` and, of a run that came to its end, its `places`.
"""

import json
import os
import random
import resource
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from deltalake import DeltaTable
from deltalake.table import TableAlterer, TableMerger

from lakehouse_assets import products
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.ingestion.bucket_zone import BucketZone
from lakehouse_assets.platform.ingestion.zone import LocalZone
from lakehouse_assets.platform.orchestration.autoload import Products, load
from lakehouse_assets.platform.storage import data_files, table
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import run_declared

# Everything up to the feature set. How a model and its predictions survive is in `platform.pipeline.test_model_step`.
TABLES = ("sales", "revenue_forecast.features.daily_revenue")
_BYTES_OF_A_FILE = 700
_SECONDS_INTO_A_REQUEST = 0.004


def archiving(declared: Products) -> Products:
    """The same products with feeds whose files are moved once they are read."""
    declarations = (
        replace(asset, feed=replace(asset.feed, archive=True)) if isinstance(asset, FeedDeclaration) else asset
        for asset in declared.declarations
    )
    return replace(declared, catalog=replace(declared.catalog, declarations=tuple(declarations)))


class Places:
    """Counts the places of this process, and ends it at one of them."""

    def __init__(self, fatal: int, when: str, *, in_bucket: bool) -> None:
        self.fatal, self.when, self.in_bucket = fatal, when, in_bucket
        self.names: list[str] = []
        if when == "during":
            # Only the main thread may set what a signal does, and a place may be in another one.
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)

    def around(self, step: Callable[..., Any], name: str) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.names.append(name)
            self._die("before")
            if self._is("during"):
                self._die_soon()
            result = step(*args, **kwargs)
            self._die("after")
            return result

        return counted

    def _is(self, when: str) -> bool:
        return len(self.names) == self.fatal and self.when == when

    def _die(self, when: str) -> None:
        if self._is(when):
            os.kill(os.getpid(), signal.SIGKILL)

    def _die_soon(self) -> None:
        """The first file that grows beyond a few bytes is the end; a bucket has no files, so there it is a moment in an upload."""
        if self.in_bucket:
            threading.Timer(_SECONDS_INTO_A_REQUEST, os.kill, (os.getpid(), signal.SIGKILL)).start()
            return
        resource.setrlimit(resource.RLIMIT_FSIZE, (_BYTES_OF_A_FILE, _BYTES_OF_A_FILE))


def some_of(names: Sequence[str], step: int, all_below: int = 0) -> list[int]:
    """The numbers of every `step`-th place of each name, and of all of a name that has fewer than `all_below`.

    They are counted by name, because places come in turns, as an append and its publish: every second of all would be one kind only. Where
    the count begins is drawn, another for each day, so that over time all places are tried; whoever fails says at which.
    """
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(names, start=1):
        numbers.setdefault(name, []).append(number)
    drawn = random.Random(datetime.now(UTC).date().toordinal())
    chosen = (
        of_name if len(of_name) < all_below else of_name[drawn.randrange(min(step, len(of_name))) :: step] for of_name in numbers.values()
    )
    return sorted(chain.from_iterable(chosen))


def watch(places: Places) -> None:
    """Count what this process commits, and the files that it moves."""
    table.write_deltalake = places.around(table.write_deltalake, "write")
    data_files.append = places.around(data_files.append, "append")
    DeltaTable.create_write_transaction = places.around(DeltaTable.create_write_transaction, "publish")  # type: ignore[method-assign]
    TableMerger.execute = places.around(TableMerger.execute, "merge")  # type: ignore[method-assign]
    TableAlterer.add_columns = places.around(TableAlterer.add_columns, "add columns")  # type: ignore[method-assign]
    DeltaTable.create = places.around(DeltaTable.create, "create")  # type: ignore[method-assign]
    LocalZone.archive = places.around(LocalZone.archive, "move")  # type: ignore[method-assign]
    BucketZone.archive = places.around(BucketZone.archive, "move")  # type: ignore[method-assign]


def run(declared: Products, order: dict[str, Any]) -> list[str]:
    """Carry out an order; the names of the places, if there is an end."""
    places = Places(order["fatal"], order["when"], in_bucket="://" in order["root"])
    watch(places)
    run_declared(Settings.load({"LAKEHOUSE_ROOT": order["root"]}), declared, order["tables"])
    return places.names


def serve(carry_out: Callable[[dict[str, Any]], list[str]], answers: int = 1) -> None:
    """Carry out the orders of the input, each in a fork of its own, and write what became of it to a descriptor.

    Whatever declares tables is imported in the fork: that starts threads of Polars, which a fork of them would lack and wait for.
    """
    for line in sys.stdin:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            os.write(writer, json.dumps(carry_out(json.loads(line))).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as names:
            places = names.read()
        _, status = os.waitpid(pid, 0)
        answer = {"signal": -os.waitstatus_to_exitcode(status), "places": json.loads(places or "null")}
        os.write(answers, (json.dumps(answer) + "\n").encode())


if __name__ == "__main__":
    serve(lambda order: run(archiving(load(products)), order))
