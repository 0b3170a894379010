"""How long profile and drift of a table take, against Evidently on the same metrics, and how much memory.

A baseline and a newer table of thirty columns each: floats, whole numbers, texts of few and of many values, Booleans, some with nulls. We
profile both and compare them with calibrated thresholds on top; the time is of the whole process, with reading. Evidently summarizes both
and computes the same drift metrics without thresholds; the time is of the report alone, its tables being in memory. It is installed apart,
so that its packages do not meet ours (`uv venv FOLDER; uv pip install --python FOLDER evidently`, then `--evidently FOLDER/bin/python`).
Where all rows would take it more than minutes, it gets fewer, `--peer-rows`, and half of them: its time grows with the rows, and the line
through both sizes tells that of all.
Run it with `python -m benchmarks.monitoring --evidently PYTHON`; it writes `benchmarks/results/monitoring.json`.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.measure import PROJECT, Measured, keep, measure

COLUMNS, LIMIT = 30, 50


def made(rows: int, shift: float, seed: int) -> pl.DataFrame:
    """A table; `shift` moves one column in each kind."""
    random = np.random.default_rng(seed)
    columns: dict[str, Any] = {f"float_{number}": random.normal(size=rows) for number in range(8)}
    columns |= {f"skewed_{number}": random.lognormal(sigma=1 + number / 4, size=rows) for number in range(4)}
    columns |= {f"zeros_{number}": np.where(random.random(rows) < 0.5, 0, random.exponential(size=rows)) for number in range(3)}
    columns |= {f"count_{number}": random.poisson(1 + 9 * number, rows) for number in range(5)}
    columns |= {f"text_{number}": pl.Series(random.integers(0, 3 * 4**number, rows)).cast(pl.String) for number in range(6)}
    columns |= {f"flag_{number}": random.random(rows) < 0.2 + number / 10 for number in range(4)}
    columns["float_0"] += shift
    return pl.DataFrame(columns).with_columns(
        pl.when(pl.Series(random.random(rows) > 0.05)).then(f"float_{number}").alias(f"float_{number}") for number in (1, 2)
    )


def ours(folder: Path) -> None:
    """Profile both tables of a folder and compare them; prints the seconds of each part and the columns that drifted."""
    from lakehouse_assets.platform.monitoring.drift_metrics import drift
    from lakehouse_assets.platform.monitoring.profile import TABLE, profile

    started = time.perf_counter()
    base = profile(pl.scan_parquet(folder / "base.parquet"))
    based = time.perf_counter()
    new = profile(pl.scan_parquet(folder / "new.parquet"), None, base.cells)
    profiled = time.perf_counter()
    found = drift(new, base, p_values=True)
    drifted = found.filter(pl.col("drifted"), pl.col("column_name") != TABLE)["column_name"].to_list()
    seconds = {"baseline": based - started, "profile": profiled - based, "drift": time.perf_counter() - profiled}
    print(json.dumps({"seconds": seconds, "drifted": drifted}))


def write(folder: Path, rows: int) -> None:
    folder.mkdir()
    made(rows, 0, 1).write_parquet(folder / "base.parquet")
    made(rows, 0.2, 2).write_parquet(folder / "new.parquet")


def megabytes_of(rows: int) -> float:
    """Of one table in memory."""
    return made(min(rows, 100_000), 0, 1).estimated_size("mb") * rows / min(rows, 100_000)


def measure_ours(folder: Path) -> tuple[Measured, dict[str, Any]]:
    done = measure([sys.executable, "-m", "benchmarks.monitoring", "--ours", str(folder)])
    return done, json.loads(done.output)


def measure_peer(folder: Path, python: str) -> tuple[Measured, dict[str, Any]]:
    done = measure([python, "-W", "ignore", str(PROJECT / "benchmarks" / "evidently_drift.py"), str(folder)])
    return done, json.loads(done.output.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--peer-rows", type=int, default=500_000)
    parser.add_argument("--evidently", metavar="PYTHON", help="the Python that has Evidently; without it there is no ratio")
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours is not None:
        ours(options.ours)
        return
    result: dict[str, Any] = {"rows": options.rows, "columns": COLUMNS, "limit": LIMIT, "threads": pl.thread_pool_size()}
    print(f"{options.rows:,} rows and {COLUMNS} columns in each of two tables, {pl.thread_pool_size()} threads\n")
    print(f"{'':<36} {'rows':>11} {'wall s':>8} {'CPU s':>8} {'peak MB':>8}")
    with tempfile.TemporaryDirectory() as name:
        for rows in (options.rows // 10, options.rows):
            folder = Path(name) / f"ours_{rows}"
            write(folder, rows)
            done, said = measure_ours(folder)
            shown("profile and drift", rows, done.seconds, done.cpu, done.megabytes)
            result[f"ours_{rows}"] = {"wall": done.seconds, "cpu": done.cpu, "megabytes": done.megabytes, **said}
            if said["drifted"] != ["float_0"]:
                raise SystemExit(f"what drifted should be float_0, and is {said['drifted']}")
        result["megabytes_of_a_table"] = megabytes_of(options.rows)
        if options.evidently:
            peer(options, Path(name), done.seconds, result)
    print(f"a table in memory has {result['megabytes_of_a_table']:,.0f} MB")
    keep("monitoring", result)
    sys.exit(result.get("ratio", LIMIT) < LIMIT)


def peer(options: argparse.Namespace, folder: Path, ours_seconds: float, result: dict[str, Any]) -> None:
    """Measure Evidently: on all rows, or on two sizes that tell how long all would take."""
    most = min(options.rows, options.peer_rows)
    sizes = [most] if most == options.rows else [most // 2, most]
    seconds = []
    for rows in sizes:
        place = folder / f"peer_{rows}"
        write(place, rows)
        done, said = measure_peer(place, options.evidently)
        seconds.append(said["seconds"])
        shown("Evidently", rows, said["seconds"], done.cpu, done.megabytes)
        result[f"evidently_{rows}"] = {"wall": said["seconds"], "cpu": done.cpu, "megabytes": done.megabytes, "metrics": said["metrics"]}
    whole = seconds[-1]
    if len(sizes) > 1:
        a_row = (seconds[1] - seconds[0]) / (sizes[1] - sizes[0])
        whole = seconds[1] + a_row * (options.rows - sizes[1])
        shown("Evidently, on the line through both", options.rows, whole)
    result |= {"evidently_seconds": whole, "extrapolated": len(sizes) > 1, "ratio": whole / ours_seconds}
    holds = "holds" if result["ratio"] >= LIMIT else "BROKEN"
    print(f"\nEvidently takes {result['ratio']:.0f} times as long, limit {LIMIT}: {holds}")


def shown(what: str, rows: int, seconds: float, cpu: float | None = None, megabytes: float | None = None) -> None:
    rest = "" if cpu is None or megabytes is None else f" {cpu:>8.1f} {megabytes:>8,.0f}"
    print(f"{what:<36} {rows:>11,} {seconds:>8.1f}{rest}", flush=True)


if __name__ == "__main__":
    main()
