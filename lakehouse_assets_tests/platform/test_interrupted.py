"""A signal that interrupts a process takes no rows away: Polars ends a query in batches early then, and without an error."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.platform.ingestion.orders import Orders

ROWS = 300_000


def start(*words: str | Path) -> str:
    command = [sys.executable, "-m", "lakehouse_assets_tests.platform.interrupted", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("interrupted") / "numbers.csv"
    pl.DataFrame({"id": range(ROWS), "value": "x"}).write_csv(file)
    return file


@pytest.mark.parametrize(("how", "whole"), [((), False), (("ignored",), False), (("kept",), True), (("kept", "ignored"), True)])
def test_polars_ends_batches_early_and_without_an_error_when_it_hears_the_signal(numbers, how, whole):
    counts = start("polars", numbers, *how).split()
    assert len(counts) == 30
    assert (set(counts) == {str(ROWS)}) is whole


def test_a_file_is_not_refused_because_a_signal_came_while_it_was_read(tmp_path, numbers):
    orders = Orders.under(tmp_path)
    for number in range(3):
        (orders.folder / f"{number}.csv").write_text(numbers.read_text() + f"{number},y\n")  # no two with the same content
    start("ingest", tmp_path)
    assert [orders.last(f"{number}.csv") for number in range(3)] == [("read", None)] * 3
    assert orders.ingestion.bronze.count() == 3 * (ROWS + 1)


def test_a_table_that_is_rewritten_keeps_its_rows_when_signals_come(tmp_path):
    table = Lakehouse(str(tmp_path)).table("shop.silver.numbers")
    table.create({"id": pl.Int32()})
    table.append(pl.DataFrame({"id": range(2_000_000)}, schema={"id": pl.Int32}))
    assert int(start("widen", tmp_path)) > 0, "no signal came in between"
    assert table.schema() == {"id": pl.Int64()}
    assert table.count() == 2_000_000
