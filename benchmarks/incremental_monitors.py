"""What monitors read for one new day after ten days, a hundred and a thousand (law 9): megabytes, and seconds for orientation.

Each history is a lakehouse of its own, written in one process and measured in another. Of a table with as many days, all of which are its
baseline too, a monitor of drift judges a new day; states of monitors and alerts are read after days of four verdicts and one alert
each. What counts is megabytes, which chance does not move. The limit: after a thousand days at most six times those after ten, as the
logs of tables name more files, which are not compacted here, and after ten days there is no checkpoint yet.

Run it with `python -m benchmarks.incremental_monitors`.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.measure import keep, measure
from lakehouse_assets import Drift, Freshness, monitor
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.monitors import Verdict
from lakehouse_assets.platform.monitoring import judgements, verdicts
from lakehouse_assets.platform.monitoring.alerts.log import AlertLog
from lakehouse_assets.platform.monitoring.alerts.signals import Reading, Signal
from lakehouse_assets.platform.monitoring.alerts.take import take
from lakehouse_assets.platform.monitoring.evaluation import Evaluation
from lakehouse_assets.platform.monitoring.judgements import Judgement
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.types import TIMESTAMP

HISTORIES = (10, 100, 1_000)
ROWS_A_DAY, EVALUATIONS, MOST_RATIO = 2_000, 4, 6.0
START, DAY = datetime(2021, 1, 1, tzinfo=UTC), timedelta(days=1)
ORDERS = "shop.silver.orders"
WATCHED = monitor("shop.monitors.moved", of=ORDERS, kind=Drift("at", slices=("till",), against=f"{ORDERS}@1"))
STALE = [monitor(f"shop.monitors.fresh{number}", of=ORDERS, kind=Freshness("at", DAY)) for number in range(EVALUATIONS)]


def orders(day: int) -> pl.DataFrame:
    """The orders of a day."""
    random = np.random.default_rng(day + 100)
    at = [START + day * DAY + timedelta(seconds=40 * number) for number in range(ROWS_A_DAY)]
    till = pl.Series(random.integers(0, 3, ROWS_A_DAY)).cast(pl.String)
    frame = pl.DataFrame({"at": at, "amount": random.lognormal(size=ROWS_A_DAY), "till": till}, schema_overrides={"at": TIMESTAMP})
    return frame.with_columns(day=pl.col("at").dt.date())


def judge(lake: Lakehouse, day: int) -> None:
    """Judge the days that are over after a day."""
    catalog = Catalog((), frozenset({ORDERS}))
    Evaluation(lake, catalog, lambda: None, START + (day + 1) * DAY, "benchmark", lambda _: None).run([WATCHED])


def say(lake: Lakehouse, day: int) -> None:
    """What monitors say on a day, and the alert of it."""
    at = START + day * DAY
    said = [Verdict(day % 7 > 0, f"what is said of day {day}")]
    judgements.add(lake, [Judgement(one, "id", day, at, "run", said) for one in STALE])
    tick(lake, day, [Signal(f"step:{day % 20}", is_bad=day % 3 > 0, at=at, text=f"day {day}")])


def tick(lake: Lakehouse, day: int, signals: list[Signal]) -> None:
    """A tick of alerts."""

    class Given:
        name = "benchmark"

        def read(self, watermark: Any, now: datetime) -> Reading:  # noqa: ARG002 a source
            return Reading(signals)

    take(AlertLog(lake), [Given()], START + day * DAY, logging.getLogger("benchmark"))


def history(root: str, days: int) -> None:
    """A lakehouse of so many days."""
    lake = Lakehouse(root)
    table = lake.table(ORDERS)
    table.create(orders(0).schema, ("day",))
    table.append(pl.concat([orders(day) for day in range(days)]))
    judge(lake, days - 1)
    for day in range(days):
        say(lake, day)


def new_day(root: str, days: int) -> dict[str, dict[str, float]]:
    """What a new day costs after so many, but for the first, which warms the process up."""
    lake, found = Lakehouse(root), {}
    for day in (days, days + 1):
        lake.table(ORDERS).append(orders(day))
        say(lake, day)
        well = [Signal("step:0", is_bad=False, at=START + day * DAY, text="well")]
        steps: dict[str, Callable[[], object]] = {
            "drift of a new day": partial(judge, lake, day),
            "states of monitors": partial(verdicts.latest, lake, STALE),
            "a tick of alerts": partial(tick, lake, day, well),
        }
        found = {name: cost(step) for name, step in steps.items()}
    return found


def cost(step: Callable[[], object]) -> dict[str, float]:
    """Seconds, and megabytes that this process read, as the operating system counts them."""
    before, started = _read(), time.perf_counter()
    step()
    return {"seconds": time.perf_counter() - started, "megabytes": (_read() - before) / 1e6}


def _read() -> int:
    return int(next(line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar")).split()[1])


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--child", nargs=3)
    if child := arguments.parse_args().child:
        what, root, days = child
        if what == "history":
            history(root, int(days))
        else:
            print(json.dumps(new_day(root, int(days))))
        return
    found: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for days in HISTORIES:
            root = str(Path(folder) / str(days))
            command = [sys.executable, "-m", "benchmarks.incremental_monitors", "--child"]
            measure([*command, "history", root, str(days)])
            found[str(days)] = json.loads(measure([*command, "new day", root, str(days)]).output)
    first, last = str(HISTORIES[0]), str(HISTORIES[-1])
    ratios = {name: found[last][name]["megabytes"] / found[first][name]["megabytes"] for name in found[first]}
    keep("incremental_monitors", {"costs": found, "ratios": ratios})
    show(found, ratios)
    if over := [name for name, ratio in ratios.items() if ratio > MOST_RATIO]:
        sys.exit(f"over the limit of {MOST_RATIO}: {', '.join(over)}")


def show(found: dict[str, dict[str, dict[str, float]]], ratios: dict[str, float]) -> None:
    """Print the result as a table."""
    grid = Table("one new day: megabytes read (milliseconds)", *(f"after {days} days" for days in found), "ratio")
    for name, ratio in ratios.items():
        costs = [found[days][name] for days in found]
        grid.add_row(name, *(f"{one['megabytes']:.2f} ({one['seconds'] * 1000:.0f})" for one in costs), f"{ratio:.2f}")
    Console().print(grid)


if __name__ == "__main__":
    main()
