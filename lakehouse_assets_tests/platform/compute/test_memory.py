"""Queries spill at a budget that follows the machine or its container, and that all processes share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lakehouse_assets.platform.compute.memory import limit_memory, machine_megabytes
from lakehouse_assets.settings import RUNS_AT_ONCE, STEPS_AT_ONCE, Settings


def test_the_machine_has_what_the_system_says():
    assert machine_megabytes() * 1024 * 1024 <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert machine_megabytes() > 100


def test_the_limit_of_a_container_counts(tmp_path):
    limit = tmp_path / "sys/fs/cgroup/memory.max"
    limit.parent.mkdir(parents=True)
    limit.write_text("max\n")
    assert machine_megabytes(tmp_path) == machine_megabytes()
    limit.write_text(f"{64 * 1024 * 1024}\n")
    assert machine_megabytes(tmp_path) == 64


def test_the_budget_is_half_of_the_memory_unless_it_is_named():
    assert limit_memory(0, 1, {}) == machine_megabytes() // 2
    assert limit_memory(300, 1, {}) == 300
    assert limit_memory(300, 1, {"POLARS_OOC_MEMORY_BUDGET_MB": "7"}) == 7


def test_all_processes_that_may_work_at_once_stay_below_the_budget_together():
    assert limit_memory(300, 4, {}) == 75
    assert limit_memory(3, 4, {}) == 1
    environment: dict[str, str] = {}
    assert limit_memory(300, 4, environment) == limit_memory(300, 4, environment) == 75  # a child does not divide its parent's share


def test_as_many_runs_work_at_once_as_the_budget_is_divided_by():
    concurrency = yaml.safe_load((Path(__file__).parents[3] / "dagster.yaml").read_text())["concurrency"]
    assert concurrency["runs"]["max_concurrent_runs"] == RUNS_AT_ONCE
    assert Settings().processes_at_once == RUNS_AT_ONCE
    several = Settings.load({"LAKEHOUSE_EXECUTOR": "multiprocess"})
    assert several.processes_at_once == RUNS_AT_ONCE * STEPS_AT_ONCE


ENTRY_POINTS = {
    "command line": "from lakehouse_assets.cli.main import main; main(['settings'], standalone_mode=False)",
    "code location": "from lakehouse_assets.definitions import defs; defs()",
}
OPENED = """
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.settings import Settings
resources(Settings.load())["lakehouse"].open()
"""


def budget_after(code, root):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("POLARS_", "LAKEHOUSE_"))}
    return subprocess.run(
        [sys.executable, "-c", f"{code}\nimport os; print(os.environ.get('POLARS_OOC_MEMORY_BUDGET_MB'))"],
        env=environment | {"LAKEHOUSE_ROOT": str(root), "LAKEHOUSE_MEMORY_MEGABYTES": "800"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()[-1]


@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_an_entry_point_sets_the_budget_of_its_process(entry, tmp_path):
    assert budget_after(ENTRY_POINTS[entry], tmp_path) == "200"


def test_opening_a_lakehouse_changes_nothing_of_the_process(tmp_path):
    assert budget_after(OPENED, tmp_path) == "None"


def test_polars_spills_what_goes_beyond_the_budget(tmp_path):
    code = """
import os, sys
from lakehouse_assets.platform.compute.memory import limit_memory
limit_memory(5)
import polars as pl
rows = pl.LazyFrame({"i": range(1_000_000)}).with_columns((pl.col("i") * 7919 % 1_000_003).cast(pl.String).alias("s"))
rows.sort("s").sink_parquet(sys.argv[1])
"""
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "sorted.parquet")],
        env={name: value for name, value in os.environ.items() if not name.startswith("POLARS_")} | {"POLARS_OOC_LOG_METRICS": "1"},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    written = [float(part.partition(",")[0]) for part in told.stderr.split("file_mb(written=")[1:]]
    assert sum(written) > 0, told.stderr
