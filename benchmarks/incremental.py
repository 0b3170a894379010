"""What one new day costs after ten days, a hundred and a thousand (law 9), table by table.

Each history is a lakehouse of its own that ends on the same day, so that the new days lie alike in their month. It is built ten days a run,
with maintenance after each run as a schedule would have it. Then new days come one by one, each with 5,000 invoice lines, changes of twenty
customers and a snapshot of the catalogue, and every table is brought up to date by itself, without Dagster, whose cost is the same for
all. What counts is the median of the new days. The limit: after a thousand days at most 1.3 times the seconds after ten.

Predictions and the model are left out: after ten days there is no champion yet. Run it with `python -m benchmarks.incremental`.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.lines import days_before, land_catalogue, land_day
from benchmarks.measure import keep, measure
from lakehouse_assets.settings import Settings

HISTORIES = (10, 100, 1_000)
LINES, NEW_DAYS, DAYS_A_RUN = 5_000, 5, 10
END = date(2024, 5, 10)
MOST_RATIO = 1.3
TABLES = ("sales", "revenue_forecast.features.daily_revenue")


def history(root: Path, count: int) -> None:
    """Build a lakehouse of `count` days."""
    settings = Settings.load({"LAKEHOUSE_ROOT": str(root)})
    landing = Path(settings.landing)
    days = days_before(END, count)
    land_catalogue(landing, days[0])
    for start in range(0, count, DAYS_A_RUN):
        for day in days[start : start + DAYS_A_RUN]:
            land_day(landing, day, LINES)
        up_to_date(settings)
        maintain(settings)


def new_days(root: Path) -> dict[str, list[float]]:
    """Seconds by table of each of the new days; the first one, which warms the process up, is left out."""
    settings = Settings.load({"LAKEHOUSE_ROOT": str(root)})
    landing = Path(settings.landing)
    taken: dict[str, list[float]] = {}
    for number in range(NEW_DAYS + 1):
        day = END + timedelta(days=number + 1)
        land_day(landing, day, LINES)
        land_catalogue(landing, day)
        seconds = up_to_date(settings)
        for table, value in seconds.items() if number else ():
            taken.setdefault(table, []).append(value)
    return taken


def up_to_date(settings: Settings) -> dict[str, float]:
    """Bring every table up to date, in the order of the graph; the seconds of each."""
    from lakehouse_assets import products
    from lakehouse_assets.platform.orchestration.autoload import load
    from lakehouse_assets_tests.running import runner

    running = runner(settings, load(products))
    seconds = {}
    for declaration in running.catalog.in_order:
        if {declaration.name, declaration.product} & set(TABLES):
            started = time.perf_counter()
            running.step(declaration, "benchmark", False)  # noqa: FBT003 dispatched by its first argument
            seconds[declaration.name] = time.perf_counter() - started
    return seconds


def maintain(settings: Settings) -> None:
    """Compact and checkpoint by need, as the nightly schedule does."""
    from lakehouse_assets import products
    from lakehouse_assets.platform.operations.maintenance import Maintenance
    from lakehouse_assets.platform.orchestration.autoload import load
    from lakehouse_assets.platform.orchestration.resources import resources

    found = resources(settings)
    declared = load(products).declarations
    for _ in Maintenance(found["lakehouse"].open(), declared, found["mlflow"].open, timedelta(days=7)).run("benchmark"):
        pass


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--child", nargs=2)
    child = arguments.parse_args().child
    if child:
        root, count = Path(child[0]), int(child[1])
        if count:
            history(root, count)
        else:
            taken = new_days(root)
            print(json.dumps({"seconds": taken, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
        return
    found: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in HISTORIES:
            place = str(Path(folder) / str(count))
            command = [sys.executable, "-m", "benchmarks.incremental", "--child", place]
            built = measure([*command, str(count)])
            found[count] = json.loads(measure([*command, "0"]).output) | {"built_in": built.seconds}
    result = {
        "seconds": {
            table: {str(count): statistics.median(found[count]["seconds"][table]) for count in HISTORIES}
            for table in found[HISTORIES[0]]["seconds"]
        },
        "megabytes": {str(count): found[count]["megabytes"] for count in HISTORIES},
        "seconds_to_build": {str(count): found[count]["built_in"] for count in HISTORIES},
    }
    first, last = str(HISTORIES[0]), str(HISTORIES[-1])
    result["ratios"] = {table: seconds[last] / seconds[first] for table, seconds in result["seconds"].items()}
    keep("incremental", result)
    show(result)
    if over := [table for table, ratio in result["ratios"].items() if ratio > MOST_RATIO]:
        sys.exit(f"over the limit of {MOST_RATIO}: {', '.join(over)}")


def show(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    grid = Table("milliseconds of one new day", *(f"after {count:,} days" for count in HISTORIES), "ratio")
    for table, seconds in result["seconds"].items():
        grid.add_row(table, *(f"{seconds[str(count)] * 1000:.0f}" for count in HISTORIES), f"{result['ratios'][table]:.2f}")
    grid.add_row("peak memory, MB", *(f"{result['megabytes'][str(count)]:.0f}" for count in HISTORIES), "")
    Console().print(grid)


if __name__ == "__main__":
    main()
