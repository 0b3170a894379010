"""docs/notebook.md is true: its code runs, in its order, on a lakehouse with a few invoices."""

import ast
import re
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import land_text, run_products

DOCUMENT = (Path(__file__).parents[2] / "docs" / "notebook.md").read_text(encoding="utf-8")
HEADER = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country"
LINE = "489434,85048,CANDLE,12,2009-12-01 07:45:00,6.95,13085,United Kingdom"


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Runs a cell as a notebook does; gives the value of its last line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", "")
    settings = Settings.load({"LAKEHOUSE_ROOT": "data"})
    land_text(settings, "invoices", "first.csv", f"{HEADER}\n{LINE}\n")
    run_products(settings, ["sales", "revenue_forecast.features.daily_revenue"])
    Path("new.csv").write_text(f"{HEADER}\n{LINE.replace('489434', '489435')}\n")
    names: dict = {}

    def run(cell: str):
        *lines, last = ast.parse(cell).body
        exec(compile(ast.Module(lines, []), "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            return eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        return exec(compile(ast.Module([last], []), "cell", "exec"), names)

    return run


def test_the_cells_of_the_document_run(notebook):
    cells = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(cells) >= 6
    values = [notebook(cell) for cell in cells]
    frames = [value for value in values if isinstance(value, pl.DataFrame)]
    assert [frame.height for frame in frames] == [1, 1]
    assert ("sales.silver.invoice_lines", "done", 1) in next(value for value in values if isinstance(value, list) and "done" in str(value))
