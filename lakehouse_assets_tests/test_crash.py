"""Law 1 and law 2 against real deaths.

A run is killed before and after each of its commits, and the next run ends as if nothing had been.
"""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lakehouse_assets.settings import Settings
from lakehouse_assets.simulator.shop import simulate
from lakehouse_assets_tests.crash_child import TABLES
from lakehouse_assets_tests.pipeline import run_products, tables_of

PROJECT = Path(__file__).parents[1]
KILLED = -9


def settings_of(root: Path) -> Settings:
    return Settings.load({"LAKEHOUSE_ROOT": str(root)})


def child(root: Path, fatal: int = 0, when: str = "before") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lakehouse_assets_tests.crash_child", str(root), str(fatal), when]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)


def content(root: Path) -> dict[str, pl.DataFrame]:
    """All tables without what differs from run to run: who wrote a row when."""
    found = {}
    for table in tables_of(settings_of(root)).tables():
        rows = table.scan().collect()
        rows = rows.drop("_ingested_at", "_run_id", "at", "run_id", "modified", "known_at", strict=False)
        if table.name == "platform.landing.log":
            rows = rows.filter(pl.col("event") != "touched")
        lists = [name for name, dtype in rows.schema.items() if dtype.is_nested()]
        rows = rows.with_columns(pl.col(lists).map_elements(str, return_dtype=pl.String))
        found[table.name] = rows.sort(pl.exclude(pl.Float64), pl.col(pl.Float64).round(2))
    return found


@pytest.fixture(scope="module")
def two_landings(tmp_path_factory) -> Path:
    """A root on which a first landing was run and a second one waits, so that a run has merges and replacements to do."""
    root = tmp_path_factory.mktemp("crash") / "root"
    settings = settings_of(root)
    simulate(settings.landing, root / "truth.json", days=28, orders_per_day=2, seed=1, start=date(2024, 1, 4))
    run_products(settings, TABLES)
    simulate(settings.landing, root / "truth2.json", days=90, orders_per_day=2, seed=1, start=date(2024, 2, 1))
    (settings.landing / "invoices" / "broken.csv").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def undisturbed(two_landings: Path, tmp_path_factory) -> tuple[dict[str, pl.DataFrame], int]:
    root = tmp_path_factory.mktemp("oracle") / "root"
    shutil.copytree(two_landings, root)
    done = child(root)
    assert done.returncode == 0, done.stderr
    return content(root), int(done.stdout)


def test_a_killed_run_is_taken_up_as_if_nothing_had_been(two_landings, undisturbed, tmp_path):
    expected, commits = undisturbed
    assert commits >= 15

    def killed_and_run_again(place: tuple[int, str]) -> tuple[str, int, dict[str, pl.DataFrame]]:
        root = tmp_path / f"{place[0]}-{place[1]}"
        shutil.copytree(two_landings, root)
        killed = child(root, *place)
        run_products(settings_of(root), TABLES)
        return root.name, killed.returncode, content(root)

    places = [(number, when) for number in range(1, commits + 1) for when in ("before", "after")]
    with ThreadPoolExecutor(2) as pool:
        for name, code, found in pool.map(killed_and_run_again, places):
            assert code == KILLED, name
            assert_same(found, expected, name)


def test_two_runs_at_once_give_one_result(two_landings, undisturbed, tmp_path):
    expected, _ = undisturbed
    root = tmp_path / "root"
    shutil.copytree(two_landings, root)
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda _: child(root), range(2)):
            assert done.returncode == 0, done.stderr
    assert_same(content(root), expected, "two at once")


def assert_same(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame], name: str) -> None:
    assert set(found) == set(expected), name
    for table, rows in expected.items():
        assert found[table].height == rows.height, f"{name}: {table} has {found[table].height} rows instead of {rows.height}"
        # Sums of one set of floats differ in their last digits by the order of the rows.
        assert_frame_equal(found[table], rows, abs_tol=1e-3)
