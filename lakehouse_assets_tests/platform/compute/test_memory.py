"""Queries spill at a budget that follows the machine, and a container's limit counts where it is less."""

import os
import subprocess
import sys

from lakehouse_assets.platform.compute.memory import limit_memory, machine_megabytes


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
    assert limit_memory(0, {}) == machine_megabytes() // 2
    assert limit_memory(300, {}) == 300
    assert limit_memory(300, {"POLARS_OOC_MEMORY_BUDGET_MB": "7"}) == 7


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
