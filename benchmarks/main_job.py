"""The real files from landing to forecasts through Dagster, against the same job written by hand with no platform around it (`by_hand`).

Pairs of whole processes in turn, so that a machine whose speed drifts does not favour one. The limits: at most 2.5 times the wall time
and twice the peak memory. A second table says what a run costs before it does anything, by executor.
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import REAL_DATA, Measured, keep, measure

PAIRS = 3
MOST_TIME, MOST_MEMORY = 2.5, 2.0
PYTHON = sys.executable


def platform(root: Path) -> Measured:
    """Land the files in a fresh root (not counted: it is a copy), then run and train, which are two processes."""
    cli = [PYTHON, "-m", "lakehouse_assets.cli"]
    environment = {"LAKEHOUSE_ROOT": str(root)}
    measure([*cli, "land", "invoices", *(str(path) for path in sorted(REAL_DATA.glob("*.parquet")))], environment)
    refreshed = measure([*cli, "run", "--json"], environment)
    trained = measure([*cli, "train", "--json"], environment)
    tables = [table for done in (refreshed, trained) for table in json.loads(done.output)["tables"]]
    return Measured(
        refreshed.seconds + trained.seconds,
        refreshed.cpu + trained.cpu,
        max(refreshed.megabytes, trained.megabytes),
        json.dumps({"tables": tables}),
    )


def overhead(root: Path) -> dict[str, float]:
    """Seconds of a run in which every table is up to date, and of loading the code location."""
    code = "from lakehouse_assets.definitions import defs; defs().resolve_asset_graph()"
    found = {"load the code location": measure([PYTHON, "-c", code]).seconds}
    home = {"LAKEHOUSE_ROOT": str(root), "DAGSTER_HOME": str(root / "dagster")}
    job = [PYTHON, "-m", "dagster", "job", "execute", "-m", "lakehouse_assets.definitions", "-j", "refresh"]
    for executor in ("in_process", "multiprocess"):
        found[f"refresh, nothing new, {executor}"] = measure(job, home | {"LAKEHOUSE_EXECUTOR": executor}).seconds
    found["lakehouse run, nothing new"] = measure([PYTHON, "-m", "lakehouse_assets.cli", "run"], home).seconds
    return found


def main() -> None:
    if not list(REAL_DATA.glob("*.parquet")):
        sys.exit("the real invoices are not beside this checkout")
    hand, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(PAIRS):
            hand.append(measure([PYTHON, "-m", "benchmarks.by_hand", str(REAL_DATA)]))
            ours.append(platform(Path(folder) / str(number)))
        idle = overhead(Path(folder) / "0")
    time_ratio = statistics.median(o.seconds / h.seconds for o, h in zip(ours, hand, strict=True))
    memory_ratio = statistics.median(o.megabytes / h.megabytes for o, h in zip(ours, hand, strict=True))
    parts = [json.loads(h.output)["seconds"] for h in hand]
    tables = [{t["table"]: t["seconds"] for t in json.loads(o.output)["tables"]} for o in ours]

    def median(rows: list[dict[str, float]]) -> dict[str, float]:
        return {name: statistics.median(row[name] for row in rows) for name in rows[0]}

    result = {
        "by_hand": {name: statistics.median(getattr(h, name) for h in hand) for name in ("seconds", "cpu", "megabytes")},
        "platform": {name: statistics.median(getattr(o, name) for o in ours) for name in ("seconds", "cpu", "megabytes")},
        "time_ratio": time_ratio,
        "memory_ratio": memory_ratio,
        "by_hand_parts": median(parts),
        "platform_tables": median(tables),
        "overhead": idle,
    }
    keep("main_job", result)
    show(result)
    if time_ratio > MOST_TIME or memory_ratio > MOST_MEMORY:
        sys.exit("over the limit")


def show(result: dict[str, Any]) -> None:
    console = Console()
    grid = Table("", "by hand", "platform", "ratio", "limit", title=f"Main job on the real files, median of {PAIRS} pairs")
    hand, ours = result["by_hand"], result["platform"]
    grid.add_row("wall time, s", f"{hand['seconds']:.1f}", f"{ours['seconds']:.1f}", f"{result['time_ratio']:.2f}", f"{MOST_TIME}")
    grid.add_row("CPU time, s", f"{hand['cpu']:.1f}", f"{ours['cpu']:.1f}", f"{ours['cpu'] / hand['cpu']:.2f}", "")
    grid.add_row(
        "peak memory, MB", f"{hand['megabytes']:.0f}", f"{ours['megabytes']:.0f}", f"{result['memory_ratio']:.2f}", f"{MOST_MEMORY}"
    )
    console.print(grid)
    spent = Table("where the time goes", "s")
    for name, seconds in result["by_hand_parts"].items():
        spent.add_row(f"by hand: {name}", f"{seconds:.2f}")
    for name, seconds in result["platform_tables"].items():
        spent.add_row(f"platform: {name}", f"{seconds:.2f}")
    rest = ours["seconds"] - sum(result["platform_tables"].values())
    spent.add_row("platform: imports, Dagster's run and its log", f"{rest:.2f}")
    console.print(spent)
    cost = Table("a run that has nothing to do", "s")
    for name, seconds in result["overhead"].items():
        cost.add_row(name, f"{seconds:.2f}")
    console.print(cost)


if __name__ == "__main__":
    main()
