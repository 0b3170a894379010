"""What noticing costs when 10, 1,000 and 10,000 files have landed, all of them read and all still in the landing folder.

Each history is a lakehouse of its own, measured in a fresh process:

- `tick`: what the sensor asks, whether any feed has files pending, in this process and without Dagster;
- `tick through Dagster`: the sensor evaluated on an instance of its own, with its contexts and its look at the runs;
- `status`: what `lakehouse status` asks of the landing state: the pending files, and those that were refused or changed;
- `first tick of a process`: with nothing in memory, so that the folder is listed and the log is read;
- `one new file`: a run of the feed after one file of 5,000 lines has landed, from its discovery, which lists the folder, to bronze.

Times are medians, wall and CPU. The limit holds for the first three: with 10,000 files at most 1.3 times the CPU time with 10. The others
list every file, and are told and not judged; `benchmarks.incremental` judges the runs. Run it with `python -m benchmarks.landing`.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.lines import invoice_lines
from benchmarks.measure import keep, measure
from lakehouse_assets.settings import Settings

HISTORIES = (10, 1_000, 10_000)
TICKS, RUNS, LINES = 301, 11, 5_000
END = date(2024, 5, 10)
LONG_AGO = 1_600_000_000
MOST_RATIO = 1.3
JUDGED = ("tick", "tick through Dagster", "status")


def history(root: Path, count: int) -> None:
    """Land and read `count` small files of invoices."""
    settings = Settings.load({"LAKEHOUSE_ROOT": str(root)})
    folder = Path(settings.landing) / "invoices"
    folder.mkdir(parents=True)
    header = ",".join(invoice_lines(END, 20).columns)
    for number in range(count):
        path = folder / f"invoices_{number:05}.csv"
        path.write_text(f"{header}\n{number},1,BOX,1,2024-01-01 10:00:00,1.0,1,France\n")
        os.utime(path, (LONG_AGO + number, LONG_AGO + number))
    for way in _ingestions(settings):
        way.create("Measured.")
        for _ in way.ingest("benchmark"):
            pass
    os.utime(folder, (LONG_AGO, LONG_AGO))


def costs(root: Path) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds of each thing."""
    import dagster as dg

    from lakehouse_assets import products
    from lakehouse_assets.platform.ingestion import landing
    from lakehouse_assets.platform.orchestration.assets import ingestion
    from lakehouse_assets.platform.orchestration.autoload import load
    from lakehouse_assets.platform.orchestration.automation import landing_sensor
    from lakehouse_assets.platform.orchestration.resources import resources

    settings = Settings.load({"LAKEHOUSE_ROOT": str(root)})
    resource = resources(settings)["lakehouse"]
    log = resource.open().table(landing.LOG)

    feeds = load(products).feeds

    def tick() -> None:
        _expect_none(sum(ingestion(feed, resource).waiting() for feed in feeds))

    def status() -> None:
        tick()
        _expect_none(landing.latest(log, (landing.REFUSED, landing.CHANGED)).height)

    found = {"first tick of a process": median(tick, 1), "tick": median(tick, TICKS), "status": median(status, TICKS)}
    sensor = landing_sensor(feeds, 30)
    with dg.DagsterInstance.ephemeral() as instance:

        def dagster_tick() -> None:
            context = dg.build_sensor_context(instance=instance, resources={"lakehouse": resource})
            _expect_none(len(sensor.evaluate_tick(context).run_requests or ()))

        dagster_tick()
        found["tick through Dagster"] = median(dagster_tick, TICKS)
    return found | {"one new file": one_new_file(settings)}


def _expect_none(count: int) -> None:
    if count:
        sys.exit(f"{count} files are pending or wrong where all were read")


def one_new_file(settings: Settings) -> tuple[float, float]:
    """Wall and CPU seconds of a run that reads one file."""
    (way,) = (way for way in _ingestions(settings) if way.feed.name == "invoices")
    taken = []
    for number in range(RUNS + 1):
        invoice_lines(END + timedelta(days=number), LINES).write_csv(Path(settings.landing) / "invoices" / f"new_{number}.csv")
        taken.append(once(lambda: [None for _ in way.ingest("benchmark")]))
    return _median(taken[1:])


def median(work: Callable[[], object], times: int) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    return _median([once(work) for _ in range(times)])


def once(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def _median(taken: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(wall for wall, _ in taken), statistics.median(cpu for _, cpu in taken)


def _ingestions(settings: Settings) -> list[Any]:
    from lakehouse_assets import products
    from lakehouse_assets.platform.orchestration.assets import ingestion
    from lakehouse_assets.platform.orchestration.autoload import load
    from lakehouse_assets.platform.orchestration.resources import resources

    resource = resources(settings)["lakehouse"]
    return [ingestion(asset, resource) for asset in load(products).feeds]


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--child", nargs=2)
    child = arguments.parse_args().child
    if child:
        root, count = Path(child[0]), int(child[1])
        print(json.dumps(costs(root))) if count == 0 else history(root, count)
        return
    found: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in HISTORIES:
            command = [sys.executable, "-m", "benchmarks.landing", "--child", str(Path(folder) / str(count))]
            measure([*command, str(count)])
            found[count] = json.loads(measure([*command, "0"]).output)
    first, last = HISTORIES[0], HISTORIES[-1]
    result: dict[str, Any] = {
        "milliseconds": {
            what: {str(count): {"wall": found[count][what][0] * 1000, "cpu": found[count][what][1] * 1000} for count in HISTORIES}
            for what in found[first]
        },
        "ratios": {
            what: {kind: found[last][what][position] / found[first][what][position] for position, kind in enumerate(("wall", "cpu"))}
            for what in found[first]
        },
    }
    keep("landing", result)
    show(result)
    if over := [what for what in JUDGED if result["ratios"][what]["cpu"] > MOST_RATIO]:
        sys.exit(f"over the limit of {MOST_RATIO}: {', '.join(over)}")


def show(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    grid = Table("milliseconds, wall (CPU)", *(f"{count:,} files" for count in HISTORIES), "ratio")
    for what, taken in result["milliseconds"].items():
        ratio = result["ratios"][what]
        cells = [f"{taken[str(count)]['wall']:.2f} ({taken[str(count)]['cpu']:.2f})" for count in HISTORIES]
        grid.add_row(what, *cells, f"{ratio['wall']:.2f} ({ratio['cpu']:.2f})")
    Console().print(grid)


if __name__ == "__main__":
    main()
