"""Rows at the end of a file that add up the others: seen, not counted, and kept out of the sums."""

import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.scaffold.samples import FILE, ROW
from lakehouse_assets.scaffold.totals import pattern, totals_in
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.scaffold.files import write

HEADER = ["receipt", "member", "paid on", "method", "amount"]
LINES = [
    [f"R{row:04d}", f"M{row % 7}", f"2026-01-{row % 28 + 1:02d}" if row != 5 else None, ["cash", "bank"][row % 2], 10 + row]
    for row in range(30)
]
TOTALS = (
    ["TOTAL", None, None, None, 735],
    ["Summe:", None, None, None, 735],
    ["Total général", None, None, None, 735],
    [None, None, None, "Gesamt", 735],
    ["Grand total 2026", None, None, None, 735],
    [None, None, None, None, 735],
    ["Ergebnis", None, None, None, 735],
)
NONE = (
    ["R0030", "M1", "2026-02-01", "cash", 4],
    ["R0030", None, None, None, 4],
    ["R0030", "M1", "2026-02-01", "Total", 4],
    ["Total Energies", "M1", "2026-02-01", "cash", 4],
    ["R0030", None, None, None, None],
)


def sample(lines) -> pl.DataFrame:
    texts = [[None if cell is None else str(cell) for cell in line] for line in lines]
    rows = pl.DataFrame(texts, schema=dict.fromkeys(HEADER, pl.String), orient="row")
    return rows.with_columns(pl.lit("a.csv").alias(FILE), pl.int_range(1, pl.len() + 1).alias(ROW))


@pytest.mark.parametrize("last", TOTALS, ids=str)
def test_a_total_at_the_end_is_seen(last):
    (found,) = totals_in(sample([*LINES, last]), HEADER)
    assert (found.index, found.row, found.file) == (30, 31, "a.csv")
    if found.column:
        assert re.search(pattern([found.word]), found.word)


@pytest.mark.parametrize("last", NONE, ids=str)
def test_another_row_at_the_end_is_none(last):
    assert totals_in(sample([*LINES, last]), HEADER) == []


def test_several_lines_of_totals_and_a_name_that_is_usual():
    assert [found.row for found in totals_in(sample([*LINES, TOTALS[0], TOTALS[4]]), HEADER)] == [32, 31]
    shops = [["TOTAL", "M1", "2026-01-01", "cash", 1], *LINES, ["TOTAL", "M2", "2026-01-02", "cash", 2]]
    assert totals_in(sample(shops), HEADER) == []


def test_the_pattern_takes_the_word_alone():
    found = re.compile(pattern(["TOTAL 2025", "Summe:"]))
    assert all(found.search(text) for text in ("Total", "TOTAL 2026", "summe"))
    assert not any(found.search(text) for text in ("Total Energies", "Summer", "subtotal"))


def product(folder: Path) -> Path:
    return folder / f"totals_{folder.name}"


def run(folder: Path, *words: str) -> str:
    environment = {"LAKEHOUSE_ROOT": str(folder / "root"), "LAKEHOUSE_PRODUCTS": str(product(folder)), "DAGSTER_HOME": ""}
    result = CliRunner(env=environment).invoke(main, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.replace("\n", " ")


@pytest.mark.parametrize("last", sweeps.of([TOTALS[0], TOTALS[5]], [TOTALS[0], TOTALS[3], TOTALS[5]]), ids=str)
def test_a_total_is_in_quarantine_and_in_no_sum(tmp_path, last):
    file = write(tmp_path, "fees.csv", [HEADER, *LINES, last])
    said = run(tmp_path, "new", "choir", "--from", str(file), "--land")
    assert "row 31 of fees.csv" in said
    assert "looks like a total" in said
    assert "gold.daily_fees: rows without paid_on are not in it (1 of 30 rows)" in said
    contract = (product(tmp_path) / "choir" / "contracts.py").read_text()
    assert "receipt: str = column(key=True," in contract
    assert "member: str = column(description" in contract, "the total has no part in what may be missing"
    assert ("no_total_line = rule(" in contract) == (last is not TOTALS[5])
    assert "# Rows without paid_on are not in it (1 of 30 rows)" in (product(tmp_path) / "choir" / "gold.py").read_text()
    config = Path(__file__).parents[2] / "pyproject.toml"
    for check in (("format", "--check"), ("check", "--no-cache")):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "--config", config, product(tmp_path)], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, done.stdout + done.stderr
    run(tmp_path, "run", "group:choir")
    tables = Lakehouse(str(tmp_path / "root" / "tables"))
    assert tables.table("choir.silver.fees").count() == 30
    assert tables.table("choir.silver.fees__quarantine").count() == 1
    gold = tables.table("choir.gold.daily_fees").scan().collect()
    assert gold["total_amount"].sum() == sum(line[-1] for line in LINES) - LINES[5][-1], "the row without a day is not in gold"
