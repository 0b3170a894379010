"""What a training costs besides LightGBM: a model step at a million rows against bare `lightgbm.train` on the same matrices.

The step reads the feature set and the labels, joins them, looks for leaks, trains and tests one fold next to a baseline and the best
one-line rule, trains on all rows, writes pictures, card, model and evaluation to MLflow, and lets the gate decide. The peer has the same
two matrices in memory, and trains with the same parameters and rounds. Both in one process, in which MLflow is imported by the step.
MLflow's database is there already, as after the first training of a root; to create it takes a second or two, once.
Run it with `python -m benchmarks.training`; it writes `benchmarks/results/training.json`.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.measure import PROJECT, keep
from benchmarks.orders_model import INPUTS, NAMES, ROUNDS, SOURCE, features, fraud
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.modelling.boosting import load_lightgbm
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.model_step import ModelStep
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.settings import Settings

ROWS = 1_000_000
MOST_TIMES_BARE = 1.3
START = datetime(2025, 1, 1, tzinfo=UTC)


def orders(rows: int) -> pl.DataFrame:
    """Orders over a year, with numbers of which some say something."""
    draw = np.random.default_rng(7)
    values = draw.normal(size=(rows, INPUTS))
    chance = 1 / (1 + np.exp(-(values[:, 0] + values[:, 1] * values[:, 2] - 2)))
    at = pl.Series(np.sort(draw.integers(0, 365 * 86_400, rows)))
    return pl.DataFrame({"order": np.arange(rows), **{name: values[:, number] for number, name in enumerate(NAMES)}}).with_columns(
        at=pl.lit(START).cast(pl.Datetime("us", "UTC")) + pl.duration(seconds=pl.lit(at)),
        charged_back=pl.Series(draw.random(rows) < chance),
    )


def with_database(folder: str) -> None:
    """Create MLflow's database, in a process of its own."""
    said = f"Root(Settings.load({{'LAKEHOUSE_ROOT': {folder!r}}})).registry().prepare()"
    names = "from lakehouse_assets.platform.operations.root import Root; from lakehouse_assets.settings import Settings; "
    subprocess.run([sys.executable, "-c", names + said], check=True, cwd=PROJECT)


@contextmanager
def watched(calls: list[tuple[dict[str, Any], int, int]]) -> Iterator[None]:
    """Note parameters, rounds and rows of every booster that is trained."""
    lightgbm = load_lightgbm()
    train = lightgbm.train

    def noting(parameters: dict[str, Any], dataset: Any, num_boost_round: int, **more: Any) -> Any:
        booster = train(parameters, dataset, num_boost_round, **more)
        calls.append((dict(parameters), num_boost_round, dataset.num_data()))
        return booster

    lightgbm.train = noting
    try:
        yield
    finally:
        lightgbm.train = train


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    rows = parser.parse_args().rows
    lightgbm = load_lightgbm()
    with tempfile.TemporaryDirectory() as folder:
        root = Root(Settings.load({"LAKEHOUSE_ROOT": folder}))
        made, source = orders(rows), root.lakehouse.table(SOURCE)
        source.create(made.schema)
        source.append(made)
        catalog = Catalog((features, fraud), frozenset({SOURCE}))
        Runner(catalog, root.lakehouse, root.ingestion, root.registry, 1).run([features.name], run_id="benchmark")
        with_database(folder)
        calls: list[tuple[dict[str, Any], int, int]] = []
        with watched(calls):
            started = time.perf_counter()
            done = ModelStep(fraud, root.lakehouse, root.registry(), 1, "benchmark").run()
            step = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        boosters = [call for call in calls if call[2] > rows // 2]  # not those of the leakage report
        bare = 0.0
        for parameters, rounds, height in boosters:
            part = made.head(height)
            values, target = part.select(NAMES).to_numpy(), part["charged_back"].cast(pl.Float64).to_numpy()
            started = time.perf_counter()
            lightgbm.train(parameters, lightgbm.Dataset(values, target), rounds)
            bare += time.perf_counter() - started
    ratio = step / bare
    table = Table("what", "seconds", "times", "limit", title=f"A training at {rows:,} rows, {len(boosters)} boosters of {ROUNDS} rounds")
    table.add_row("bare lightgbm.train", f"{bare:.1f}", "1", "")
    table.add_row("model step", f"{step:.1f}", f"{ratio:.2f}", f"{MOST_TIMES_BARE}")
    console = Console()
    console.print(table)
    console.print(f"peak memory {peak:,.0f} MB; {done.reasons[-1]}")
    if rows == ROWS:
        found = {
            "rows": rows,
            "boosters": len(boosters),
            "bare_seconds": bare,
            "step_seconds": step,
            "times_bare": ratio,
            "peak_megabytes": peak,
        }
        keep("training", found)


if __name__ == "__main__":
    main()
