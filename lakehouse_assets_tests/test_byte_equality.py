"""Two roots with the same files have the same tables, models and backtests, byte for byte, on any number of threads and processes.

`python -m benchmarks.sweeps` compares more numbers of threads on a longer series, which has more origins to be tested on.
"""

import hashlib
import json
import os
import random
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests import sweeps

PROJECT = Path(__file__).parents[1]
DAYS, THREADS = sweeps.of((120, (4,)), (400, (2, 8)))
LOANS = '''"""Loans of two branches."""

import polars as pl

from lakehouse_assets import Append, Contract, Feed, column, conform, day, feed, number, table, text

files = feed("library.bronze.loans", Feed("loans", headers=(("branch", "day", "loans"),)), "Loans by branch and day.")


class Loans(Contract):
    """Loans of a branch on a day."""

    branch: str = column(key=True)
    day: pl.Date = column(key=True)
    loans: float


@table("library.silver.loans", contract=Loans, kind=Append(), inputs={"rows": "library.bronze.loans"})
def loans(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Loans with their types."""
    return conform(rows, branch=text("branch"), day=day("day", formats=("%Y-%m-%d",)), loans=number("loans"))
'''
EXPECTED = '''"""How many loans are to be expected."""

from lakehouse_assets import forecast

expected = forecast("expected_loans", series="library.silver.loans", time="day", value="loans", by=("branch",), horizon=7)
'''

# The number of threads is one of a process, so that all commands of one number share it.
COMMANDS = """
import json, sys
from lakehouse_assets.cli.main import main
for words in json.loads(sys.argv[1]):
    try:
        main(words, prog_name="lakehouse")
    except SystemExit as end:
        if end.code:
            raise
"""

# Python imports it when it starts: which of its processes were workers is told by what they were started with.
SITE = """
import os, pathlib, sys
if any("compute.worker" in word for word in sys.orig_argv):
    pathlib.Path(os.environ["WORKERS"], str(os.getpid())).touch()
"""


def loans() -> str:
    draw, rows = random.Random(3), ["branch,day,loans"]
    for number in range(DAYS):
        day = date(2024, 1, 1) + timedelta(days=number)
        for branch, size in (("north", 40), ("south", 25)):
            rows.append(f"{branch},{day},{size + 10 * (day.weekday() > 4) + draw.gauss(0, 5):.3f}")
    return "\n".join(rows) + "\n"


def trained(folder: Path, threads: int, compute: str) -> dict[str, str]:
    """Digests of what a root has after training, by name."""
    products = folder / "byte_products"
    for name, content in (("library/loans.py", LOANS), ("expected_loans/forecast.py", EXPECTED)):
        (products / name).parent.mkdir(parents=True)
        (products / name).write_text(content, encoding="utf-8")
    (folder / "loans.csv").write_text(loans(), encoding="utf-8")
    (site := folder / "site").mkdir()
    (site / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    (workers := folder / "workers").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))} | {
        "LAKEHOUSE_ROOT": str(folder / "root"),
        "LAKEHOUSE_PRODUCTS": str(products),
        "LAKEHOUSE_COMPUTE": compute,
        "POLARS_MAX_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": f"{PROJECT}{os.pathsep}{site}",
        "WORKERS": str(workers),
    }
    commands = [["land", "loans", str(folder / "loans.csv")], ["run"], ["train"]]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)], env=environment, cwd=folder, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert any(workers.iterdir()) == (compute == "processes")
    root = Root(Settings.load({"LAKEHOUSE_ROOT": str(folder / "root")}))
    assert predictions_of(root) == 14
    found = {}
    for name, key in (("library.silver.loans", ["branch", "day"]), ("expected_loans.features.loans", ["branch", "day"])):
        rows = root.lakehouse.table(name).scan().collect().sort(key)
        found[name] = digest(rows.select(sorted(name for name in rows.columns if not name.startswith("_"))).write_csv().encode())
    registry = root.registry()
    versions = registry.versions("expected_loans.models.loans")
    assert versions
    for version in versions:
        folders = {"model": registry.model_folder(version), "run": registry.run_folder(version)}
        for kind, where in folders.items():
            for file in sorted(path for path in where.rglob("*") if path.suffix in {".txt", ".parquet"} or path.parent.name == "model"):
                found[f"{version.version}/{kind}/{file.relative_to(where)}"] = digest(file.read_bytes())
    return found


def predictions_of(root: Root) -> int:
    return root.lakehouse.table("expected_loans.predictions.loans").count()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.timeout(600)
def test_models_tables_and_backtests_are_equal_on_one_thread_and_on_more_in_several_processes(tmp_path):
    # The forecast of a table that the project does not know is a product folder of a few lines.
    assert len(EXPECTED.splitlines()) <= 15
    one = trained(tmp_path / "1", 1, "local")
    assert any(name.endswith("evaluation.parquet") for name in one)
    assert any(name.endswith("p50.txt") for name in one)
    for threads in THREADS:
        other = trained(tmp_path / str(threads), threads, "processes")
        assert {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)} == set()
