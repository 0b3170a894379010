"""How long profile and drift of a table take, against Evidently on the same metrics, and how much memory.

A baseline and a newer table of thirty columns each: floats, whole numbers, texts of few and of many values, Booleans, some with nulls. We
profile both and compare them with calibrated thresholds on top; the time is of the whole process, with reading. Once all rows are compared
at a time, and once by windows of a day, thirty of them, each with the baseline and with the day before. Evidently summarizes both and
computes the same drift metrics without thresholds and windows; the time is of the report alone, its tables being in memory. Wall time, CPU
time and the peak of the process's memory are shown of both; on a machine that does other things too CPU time is the fairer one.

Evidently is installed apart, so that its packages do not meet ours (`uv venv FOLDER; uv pip install --python FOLDER evidently "pandas<3"`,
then `--evidently FOLDER/bin/python`). The ratio is measured at `--peer-rows`, the same rows on both sides; with five million Evidently
takes twelve minutes and 10 GB. Ours is shown for `--rows` as well.
Run it with `python -m benchmarks.monitoring --evidently PYTHON`; it writes `benchmarks/results/monitoring.json`.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.measure import PROJECT, Measured, keep, measure

COLUMNS, DAYS, LIMIT = 30, 30, 50


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
    moments = np.arange(rows, dtype=np.int64) * (DAYS * 86_400_000_000 // rows)
    at = pl.Series("at", moments).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame(columns).with_columns(
        at, *(pl.when(pl.Series(random.random(rows) > 0.05)).then(f"float_{number}").alias(f"float_{number}") for number in (1, 2))
    )


def ours(folder: Path, *, windows: bool) -> None:
    """Profile both tables of a folder and compare them; prints the seconds of each part and the columns that drifted."""
    from lakehouse_assets.platform.monitoring.drift.drift_metrics import BASELINE, drift
    from lakehouse_assets.platform.monitoring.profiling.groups import Groups
    from lakehouse_assets.platform.monitoring.profiling.profile import TABLE, profile

    base, new = (pl.scan_parquet(folder / f"{name}.parquet") for name in ("base", "new"))
    started = time.perf_counter()
    if windows:
        known = profile(base, Groups("at"), blocks=True, every="1d")
    else:
        base, new = base.drop("at"), new.drop("at")
        known = profile(base)
    based = time.perf_counter()
    found = profile(new, Groups("at", "1d") if windows else None, known.cells)
    profiled = time.perf_counter()
    rows = drift(found, known, p_values=True).filter("drifted", pl.col("column_name") != TABLE, pl.col("drift_type") == BASELINE)
    seconds = {"baseline": based - started, "profile": profiled - based, "drift": time.perf_counter() - profiled}
    print(json.dumps({"seconds": seconds, "drifted": rows["column_name"].unique().sort().to_list()}))


def write(folder: Path, rows: int) -> None:
    """Make both tables of a folder."""
    folder.mkdir()
    made(rows, 0, 1).write_parquet(folder / "base.parquet")
    made(rows, 0.2, 2).write_parquet(folder / "new.parquet")


def megabytes_of(rows: int) -> float:
    """Of one table in memory."""
    return made(min(rows, 100_000), 0, 1).estimated_size("mb") * rows / min(rows, 100_000)


def measure_ours(folder: Path, *, windows: bool = False) -> tuple[Measured, dict[str, Any]]:
    done = measure([sys.executable, "-m", "benchmarks.monitoring", "--ours", str(folder), *(["--windows"] if windows else [])])
    said = json.loads(done.output)
    if said["drifted"] != ["float_0"]:
        raise SystemExit(f"what drifted should be float_0, and is {said['drifted']}")
    return done, said


def measure_peer(folder: Path, python: str) -> tuple[Measured, dict[str, Any]]:
    done = measure([python, "-W", "ignore", str(PROJECT / "benchmarks" / "evidently_drift.py"), str(folder)])
    return done, json.loads(done.output.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--peer-rows", type=int, default=5_000_000)
    parser.add_argument("--evidently", metavar="PYTHON", help="the Python that has Evidently; without it there is no ratio")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--windows", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make is not None:
        write(options.make, options.rows)
        return
    if options.ours is not None:
        ours(options.ours, windows=options.windows)
        return
    result: dict[str, Any] = {"rows": options.rows, "columns": COLUMNS, "limit": LIMIT, "threads": pl.thread_pool_size()}
    print(f"two tables of {COLUMNS} columns and {options.rows:,} or {options.peer_rows:,} rows each, {pl.thread_pool_size()} threads\n")
    print(f"{'':<36} {'rows':>11} {'wall s':>8} {'CPU s':>8} {'peak MB':>8}")
    with tempfile.TemporaryDirectory() as name:
        for rows in sorted({min(options.peer_rows, options.rows), options.rows}):
            folder = Path(name) / str(rows)
            # By another process: what this one has in memory would count as the peak of those that it measures.
            measure([sys.executable, "-m", "benchmarks.monitoring", "--make", str(folder), "--rows", str(rows)])
            for windows in (False, True):
                what = "by_day" if windows else "whole"
                done, said = measure_ours(folder, windows=windows)
                shown(f"profile and drift, {what.replace('_', ' ')}", rows, done.seconds, done)
                result[f"{what}_{rows}"] = {"wall": done.seconds, "cpu": done.cpu, "megabytes": done.megabytes, **said}
            if options.evidently and rows == min(options.peer_rows, options.rows):
                peer(options, Path(name), result)
                keep("monitoring", result)
        result["megabytes_of_a_table"] = megabytes_of(options.rows)
    print(f"a table of {options.rows:,} rows in memory has {result['megabytes_of_a_table']:,.0f} MB")
    keep("monitoring", result)
    sys.exit(result.get("ratio", LIMIT) < LIMIT)


def peer(options: argparse.Namespace, folder: Path, result: dict[str, Any]) -> None:
    """Measure Evidently on the same rows."""
    rows = min(options.peer_rows, options.rows)
    done, said = measure_peer(folder / str(rows), options.evidently)
    shown("Evidently", rows, said["seconds"], replace(done, cpu=said["cpu"]))
    result["evidently"] = {
        "rows": rows,
        "wall": said["seconds"],
        "cpu": said["cpu"],
        "megabytes": done.megabytes,
        "metrics": said["metrics"],
    }
    for what in ("whole", "by_day"):
        result[f"ratio_{what}"] = said["seconds"] / result[f"{what}_{rows}"]["wall"]
        result[f"ratio_cpu_{what}"] = said["cpu"] / result[f"{what}_{rows}"]["cpu"]
    result["ratio"] = result["ratio_whole"]
    holds = "holds" if result["ratio"] >= LIMIT else "BROKEN"
    print(f"\nEvidently takes {result['ratio']:.0f} times as long on the same rows, limit {LIMIT}: {holds}")
    print(f"(and {result['ratio_cpu_whole']:.0f} times as much CPU time, which depends less on what else the machine does)")
    print(f"({result['ratio_by_day']:.0f} times as long as ours by day, which it does not do)")


def shown(what: str, rows: int, seconds: float, done: Measured) -> None:
    print(f"{what:<36} {rows:>11,} {seconds:>8.1f} {done.cpu:>8.1f} {done.megabytes:>8,.0f}", flush=True)


if __name__ == "__main__":
    main()
