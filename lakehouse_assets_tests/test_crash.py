"""Law 1 and law 2 against real deaths.

A run is killed before and after its commits and file moves and in the middle of its files, and the next run ends as if nothing had been; on
a disk, and in a bucket. Here at one place of each sort, and by `python -m benchmarks.sweeps` at every one; at random moments, and under
`lakehouse dev`, by `python -m benchmarks.kills`.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lakehouse_assets import products
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.settings import Settings
from lakehouse_assets.simulator.shop import simulate
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.crash_child import TABLES, archiving, some_of
from lakehouse_assets_tests.running import run_declared, tables_of

PROJECT = Path(__file__).parents[1]
KILLED, FILE_TOO_LARGE = 9, 25
# A bucket takes its time, so there it is the way of one feed's files to a table that replaces.
SHORT_WAY = (
    "sales.bronze.invoices",
    "sales.silver.invoice_lines",
    "sales.bronze.products",
    "sales.silver.products",
    "sales.silver.product_groups",
    "sales.gold.daily_revenue",
)

Place = tuple[int, str]


def settings_of(root: Path | str) -> Settings:
    return Settings.load({"LAKEHOUSE_ROOT": str(root)})


def run(root: Path | str, tables: Sequence[str] = TABLES) -> None:
    run_declared(settings_of(root), archiving(load(products)), tables)


class Children:
    """Processes that run tables until they die."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def run(self, root: Path | str, place: Place = (0, "before"), tables: Sequence[str] = TABLES) -> dict[str, Any]:
        """The signal that a run ended with (0: none), and its places if it came to its end."""
        order = {"root": str(root), "tables": list(tables), "fatal": place[0], "when": place[1]}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@contextmanager
def children(environment: dict[str, str] | None = None) -> Iterator[Children]:
    command = [sys.executable, "-m", "lakehouse_assets_tests.crash_child"]
    started = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT, env=os.environ | (environment or {})
    )
    with started as process:
        yield Children(process)


def content(root: Path | str) -> dict[str, pl.DataFrame]:
    """All tables without what differs from run to run: who wrote a row when."""
    found = {}
    for table in tables_of(settings_of(root)).tables():
        rows = table.scan().collect()
        rows = rows.drop("_ingested_at", "_run_id", "at", "run_id", "modified", "known_at", "recorded_at", "event_number", strict=False)
        if table.name == "platform.landing.log":
            # Of two runs at once, both may note that a file was moved.
            rows = rows.filter(pl.col("event") != "touched").unique()
        lists = [name for name, dtype in rows.schema.items() if dtype.is_nested()]
        rows = rows.with_columns(pl.col(lists).map_elements(str, return_dtype=pl.String))
        found[table.name] = rows.sort(pl.exclude(pl.Float64), pl.col(pl.Float64).round(2))
    return found


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def two_landings(tmp_path_factory) -> Path:
    """A root on which a first landing was run, without the feature set, and a second one waits.

    So a run has tables to create, merges, replacements and a new column to do.
    """
    root = tmp_path_factory.mktemp("crash") / "root"
    landing = Path(settings_of(root).landing)
    simulate(landing, root / "truth.json", days=28, orders_per_day=2, seed=1, start=date(2024, 1, 4))
    run(root, TABLES[:1])
    simulate(landing, root / "truth2.json", days=58, orders_per_day=2, seed=1, start=date(2024, 2, 1))
    (landing / "invoices" / "broken.csv").write_bytes(b"")
    wider = landing / "invoices" / "invoices_2024-02-01_2024-02-29.csv"
    lines = wider.read_text().splitlines()
    wider.write_text("\n".join([lines[0] + ",Till", *(line + ",1" for line in lines[1:])]) + "\n")
    return root


@pytest.fixture(scope="module")
def undisturbed(two_landings: Path, tmp_path_factory) -> tuple[dict[str, pl.DataFrame], list[str], Path]:
    root = tmp_path_factory.mktemp("oracle") / "root"
    shutil.copytree(two_landings, root)
    with children() as processes:
        done = processes.run(root)
    assert done["signal"] == 0
    return content(root), done["places"], root


# Where a commit, a move or a file is half of what belongs together; and what a run has to see that it did already.
SAMPLE = (("publish", "before"), ("move", "after"), ("append", "during"))


def places_of(names: Sequence[str]) -> list[Place]:
    """Where a run is killed: in the suite at a place of each sort of `SAMPLE` and before a drawn one, in a full sweep everywhere.

    Between two places nothing is kept but memory: after the one is before the next.
    """
    if not sweeps.FULL:
        one_of_each = {names[number - 1]: number for number in some_of(names, len(names))}
        today = sorted(set(names) - {"publish"})[datetime.now(UTC).date().toordinal() % (len(set(names)) - 1)]
        return [*((one_of_each[name], when) for name, when in SAMPLE if name in one_of_each), (one_of_each[today], "before")]
    every = range(1, len(names) + 1)
    moved = [number for number in every if names[number - 1] == "move"]
    written = [number for number in every if names[number - 1] != "move"]
    before = [(number, "before") for number in every]
    return [*before, *((number, "after") for number in (*moved, len(names))), *((number, "during") for number in written)]


@pytest.mark.timeout(sweeps.of(300, 7200))
def test_a_killed_run_is_taken_up_as_if_nothing_had_been(two_landings, undisturbed, tmp_path):
    expected, names, oracle = undisturbed
    assert {"append", "publish", "write", "merge", "create", "move", "add columns"} <= set(names)
    places = places_of(names)
    assert {(names[number - 1], when) for number, when in places} >= {*SAMPLE}

    def killed_and_run_again(some: Sequence[Place]) -> None:
        with children() as processes:
            for place in some:
                root = tmp_path / f"{place[0]}-{place[1]}"
                shutil.copytree(two_landings, root)
                assert processes.run(root, place)["signal"] == (FILE_TOO_LARGE if place[1] == "during" else KILLED), place
                assert processes.run(root)["signal"] == 0, place
                assert_same(content(root), expected, f"{place} {names[place[0] - 1]}")
                for part in ("landing", "archive"):
                    assert files_below(root / part) == files_below(oracle / part), place
                shutil.rmtree(root)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(killed_and_run_again, (places[::2], places[1::2])))


def test_two_runs_at_once_give_one_result(two_landings, undisturbed, tmp_path):
    expected, _, oracle = undisturbed
    root = tmp_path / "root"
    shutil.copytree(two_landings, root)

    def go(_: int) -> int:
        with children() as processes:
            return int(processes.run(root)["signal"])

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(go, range(2))) == [0, 0]
    assert_same(content(root), expected, "two at once")
    assert files_below(root / "archive") == files_below(oracle / "archive")


@pytest.mark.timeout(sweeps.of(300, 7200))
def test_a_killed_run_on_a_bucket_is_taken_up_as_if_nothing_had_been(s3, tmp_path, monkeypatch):
    environment = s3.environment()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    first, second = tmp_path / "first", tmp_path / "second"
    simulate(first, tmp_path / "truth.json", days=28, orders_per_day=1, seed=1, start=date(2024, 1, 4))
    simulate(second, tmp_path / "truth2.json", days=20, orders_per_day=1, seed=1, start=date(2024, 2, 1))

    def root_of(name: str) -> str:
        return f"s3://lake/crash-{name}"

    with children(environment) as processes:
        template = root_of("template")
        for number, folder in enumerate((first, second)):
            for path in sorted(folder.glob("invoices/*.csv")):
                zone_of(template, "invoices").put(path, path.name)
            if number == 0:
                assert processes.run(template, tables=SHORT_WAY)["signal"] == 0

        def copied(name: str) -> str:
            s3.copy("crash-template/", f"crash-{name}/")
            return root_of(name)

        oracle = copied("oracle")
        names = processes.run(oracle, tables=SHORT_WAY)["places"]
        expected = content(oracle)
        for place in places_of(names):
            root = copied(f"{place[0]}-{place[1]}")
            ended = processes.run(root, place, SHORT_WAY)["signal"]
            assert ended == KILLED or (place[1] == "during" and ended == 0), place
            assert processes.run(root, tables=SHORT_WAY)["signal"] == 0
            assert_same(content(root), expected, f"{place} {names[place[0] - 1]}")


def zone_of(root: str, feed: str) -> Any:
    from lakehouse_assets.platform.orchestration.resources import resources

    return resources(settings_of(root))["lakehouse"].zone(feed)


def assert_same(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame], name: str) -> None:
    assert set(found) == set(expected), name
    for table, rows in expected.items():
        assert found[table].height == rows.height, f"{name}: {table} has {found[table].height} rows instead of {rows.height}"
        # Sums of one set of floats differ in their last digits by the order of the rows.
        assert_frame_equal(found[table], rows, abs_tol=1e-3)
