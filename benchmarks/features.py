"""What a point-in-time join costs, against Feast's offline join and against a plain `join_asof` of Polars, which is the limit.

A million labels, ten million feature rows of a hundred thousand customers. In the first data each key has one row, an hour late, and there
the plain join on `known_at` gives the same answer. In the second a tenth of the rows comes up to thirty days late, a twentieth is revised
and a fiftieth retracted; there the plain join is wrong, and is only measured. Four times the rows show whether memory is bounded. Each
join reads Parquet files, in a process of its own; Feast's needs a Python that has it (`--feast PYTHON`), with `feast[duckdb]`.
Run it with `python -m benchmarks.features`; it writes `benchmarks/results/features.json`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.measure import PROJECT, Measured, keep, measure
from lakehouse_assets.platform.features.point_in_time import FeatureRows, join_as_of

SIZE = {"entities": 100_000, "rows": 10_000_000, "labels": 1_000_000}
START, SPAN, HOUR = 1_600_000_000_000_000, 365 * 86_400_000_000, 3_600_000_000
MOST_TIMES_PLAIN, LEAST_TIMES_FEAST = 2.0, 5.0
MOST_TIMES_MEMORY = 1.5
IN_ORDER, REVISED, FOURFOLD = "in order", "late and revised", "four times the rows"
MOMENT = pl.Datetime("us", "UTC")


def rows_of(random: np.random.Generator, rows: int, entities: int) -> pl.DataFrame:
    """Feature rows in no order."""
    event = START + random.integers(0, SPAN, rows)
    times = {"event_time": pl.Series(event).cast(MOMENT), "known_at": pl.Series(event + HOUR).cast(MOMENT)}
    values = {f"v{number}": random.random(rows) for number in range(5)}
    return pl.DataFrame({"customer": random.integers(0, entities, rows), **times, **values})


def revised(random: np.random.Generator, rows: pl.DataFrame) -> pl.DataFrame:
    """The same rows, some late, some revised, some retracted."""
    drawn = pl.Series(random.random(rows.height))
    later = pl.Series(random.integers(HOUR, 30 * 24 * HOUR, rows.height)).cast(pl.Duration("us"))
    known = rows.with_columns(known_at=pl.when(drawn < 0.1).then(pl.col("known_at") + later).otherwise("known_at"), is_retracted=False)
    again = known.with_columns(known_at=pl.col("known_at") + later)
    changed = again.filter(drawn.is_between(0.4, 0.45)).with_columns(pl.col("v0") + 1)
    gone = again.filter(drawn.is_between(0.6, 0.62)).with_columns(is_retracted=True)
    return pl.concat([known.filter(drawn < 0.93), changed, gone]).sample(fraction=1, shuffle=True, seed=1)


def make(folder: Path, entities: int, rows: int, labels: int) -> None:
    """Write the data of all three cases."""
    random = np.random.default_rng(20_101_201)
    at = pl.Series(START + random.integers(0, SPAN, labels)).cast(MOMENT)
    asked = pl.DataFrame({"customer": random.integers(0, entities, labels), "at": at, "target": random.random(labels)})
    for case in (IN_ORDER, REVISED, FOURFOLD):
        (folder / case).mkdir(parents=True)
        asked.write_parquet(folder / case / "labels.parquet")
    first = rows_of(random, rows, entities)
    first.write_parquet(folder / IN_ORDER / "features.parquet")
    revised(random, first).write_parquet(folder / REVISED / "features.parquet")
    for part in range(4):
        rows_of(random, rows, entities).write_parquet(folder / FOURFOLD / f"features_{part}.parquet")


def ours(folder: Path) -> pl.DataFrame:
    features = FeatureRows("features", pl.scan_parquet(folder / "features*.parquet"), ("customer",), "event_time")
    return join_as_of(pl.scan_parquet(folder / "labels.parquet"), [features], at="at").rows


def plain(folder: Path) -> pl.DataFrame:
    features = pl.scan_parquet(folder / "features*.parquet").sort("known_at")
    labels = pl.scan_parquet(folder / "labels.parquet").sort("at")
    joined = labels.join_asof(features, left_on="at", right_on="known_at", by="customer", check_sortedness=False)
    return joined.collect(engine="streaming")


JOINS: dict[str, Callable[[Path], pl.DataFrame]] = {"ours": ours, "plain": plain}


def joined_in_this_process(name: str, folder: Path) -> None:
    """Print the seconds, and a number that equal answers share."""
    started = time.perf_counter()
    rows = JOINS[name](folder)
    seconds = time.perf_counter() - started
    digests = rows.select(pl.struct("customer", "at", "target", "v0", "v4").hash(1)).to_series()
    answer = int(np.bitwise_xor.reduce(digests.to_numpy()))  # whatever the order
    print(json.dumps({"seconds": seconds, "rows": rows.height, "answer": answer}))


def measured(commands: dict[str, list[str]], times: int) -> dict[str, dict[str, Any]]:
    """Median of the seconds, and the largest peak, of some processes each; they take turns, so that other load falls on all alike."""
    done: dict[str, list[Measured]] = {name: [] for name in commands}
    for _ in range(times):
        for name, command in commands.items():
            done[name].append(measure(command))
    return {name: summary(runs) for name, runs in done.items()}


def summary(runs: list[Measured]) -> dict[str, Any]:
    said = [json.loads(one.output.strip().splitlines()[-1]) for one in runs]
    return {
        "seconds": statistics.median(one["seconds"] for one in said),
        "cpu": statistics.median(one.cpu for one in runs),
        "megabytes": max(one.megabytes for one in runs),
        "rows": said[0]["rows"],
        "answer": said[0].get("answer"),
    }


def has_feast(python: str) -> bool:
    return subprocess.run([python, "-c", "import feast, ibis"], capture_output=True, check=False).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--feast", default=sys.executable, help="a Python that has feast[duckdb]")
    parser.add_argument("--store", default="duckdb", choices=["duckdb", "dask"], help="Feast's offline store")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the size, for a first try")
    parser.add_argument("--join", choices=list(JOINS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = {name: int(value * options.scale) for name, value in SIZE.items()}
    if options.join:
        joined_in_this_process(options.join, options.folder)
        return
    if options.make:
        make(options.make, **size)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "data"
        # In a process of its own: a child's peak memory is never less than what its parent has when it starts it.
        subprocess.run(
            [sys.executable, "-m", "benchmarks.features", "--scale", str(options.scale), "--make", str(folder)], check=True, cwd=PROJECT
        )
        result = measure_all(folder, options)
    show(result, size)
    keep("features", {"size": size, "threads": pl.thread_pool_size(), "store": options.store, **result})
    sys.exit(bool(result["broken"]))


def measure_all(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    this = [sys.executable, "-m", "benchmarks.features"]
    cases: dict[str, dict[str, Any]] = {}
    for case, names in ((IN_ORDER, ("ours", "plain")), (REVISED, ("ours", "plain")), (FOURFOLD, ("ours",))):
        commands = {name: [*this, "--join", name, "--folder", str(folder / case)] for name in names}
        cases[case] = measured(commands, 1 if case == FOURFOLD else options.repeats)
    first = cases[IN_ORDER]
    if first["ours"]["answer"] != first["plain"]["answer"]:
        raise SystemExit("the two joins disagree where both are right: one of them is wrong")
    if has_feast(options.feast):
        script = str(Path(__file__).with_name("feast_join.py"))
        first |= measured({"Feast": [options.feast, script, str(folder / IN_ORDER), options.store]}, 1)
    ratios = {f"times plain, {case}": cases[case]["ours"]["seconds"] / cases[case]["plain"]["seconds"] for case in (IN_ORDER, REVISED)}
    ratios["times memory, four times the rows"] = cases[FOURFOLD]["ours"]["megabytes"] / first["ours"]["megabytes"]
    broken = [name for name, ratio in ratios.items() if ratio > (MOST_TIMES_MEMORY if "memory" in name else MOST_TIMES_PLAIN)]
    if "Feast" in first:
        ratios["Feast times ours"] = first["Feast"]["seconds"] / first["ours"]["seconds"]
        broken += ["Feast times ours"] if ratios["Feast times ours"] < LEAST_TIMES_FEAST else []
    return {"cases": cases, "ratios": ratios, "broken": broken}


def show(result: dict[str, Any], size: dict[str, int]) -> None:
    console = Console()
    title = f"{size['labels']:,} labels, {size['rows']:,} feature rows, {size['entities']:,} customers"
    table = Table("data", "join", "seconds", "CPU s", "peak MB", "rows", title=title)
    for case, joins in result["cases"].items():
        for name, one in joins.items():
            table.add_row(case, name, f"{one['seconds']:.1f}", f"{one['cpu']:.1f}", f"{one['megabytes']:,.0f}", f"{one['rows']:,}")
    console.print(table)
    for name, ratio in result["ratios"].items():
        console.print(f"{name}: {ratio:.2f}{' BROKEN' if name in result['broken'] else ''}")
    if "Feast" not in result["cases"][IN_ORDER]:
        console.print("Feast was left out: name a Python that has feast[duckdb] by --feast")


if __name__ == "__main__":
    main()
