"""`lakehouse report`: all pages in one file that needs nothing else, also of an empty root; and the pages and the example as notebooks."""

import re
import subprocess
import sys
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from lakehouse_assets.cli.main import main
from lakehouse_assets.views.listed import NOTEBOOKS, PAGES
from lakehouse_assets_tests.views.prepared import HOSTILE, SECRET, environment

_PROJECT = Path(__file__).parents[2]
_RUN_ALL = """
import sys
from marimo._ast.load import load_app

for file in sys.argv[1:]:
    outputs, values = load_app(file).run()
    print(file, len(outputs))
made = values["made"]
print("rows", made.rows.height, "chart", type(values["chart"]).__name__)
"""
_OWN = ("#", "data:", "http://127.0.0.1:")
"""What an address in the file may begin with: itself, and the other UIs of this machine."""


class _Whole(HTMLParser):
    """Counts elements that are begun and ended, and notes which addresses stand in which."""

    def __init__(self) -> None:
        super().__init__()
        self.open = self.sections = self.charts = 0
        self.addresses: list[tuple[str, str]] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open += tag in {"section", "table", "svg"}
        self.sections += tag == "section"
        self.charts += tag == "svg"
        self.addresses += [(tag, value or "") for name, value in attrs if name.split(":")[-1] in {"src", "href", "action", "srcset"}]

    def handle_endtag(self, tag: str) -> None:
        self.open -= tag in {"section", "table", "svg"}


def report(tmp_path, monkeypatch, **variables: str) -> str:
    file = tmp_path / "out" / "report.html"
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(main, ["-q", "report", "-o", str(file)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.output.strip() == str(file)
    return file.read_text(encoding="utf-8")


def check(text: str) -> _Whole:
    """It is whole, has every page, and leads nowhere else."""
    found = _Whole()
    found.feed(text)
    assert found.open == 0
    assert found.sections == len(PAGES)
    assert not found.tags & {"script", "img", "link", "iframe", "object"}
    assert [one for one in found.addresses if not one[1].startswith(_OWN)] == []
    assert not re.search(r"@import|url\((?!#)", text)
    return found


def test_the_report_of_a_trained_root_has_every_page_with_its_charts(root, tmp_path, monkeypatch):
    text = report(tmp_path, monkeypatch, LAKEHOUSE_ROOT=str(root.root), LAKEHOUSE_PRODUCTS=root.products)
    found = check(text)
    assert found.charts >= 3
    assert escape(HOSTILE) in text
    assert SECRET not in text
    for part in (
        "Forecast for the 7 days after",
        "shop.models.fraud",
        "amount has drifted",
        "Ledger",
        "Columns that drifted",
        "Feature sets",
    ):
        assert part in text, part
    assert "masked" in text


def test_the_report_of_an_empty_root_says_what_to_do(tmp_path, monkeypatch):
    text = report(tmp_path, monkeypatch, LAKEHOUSE_ROOT=str(tmp_path / "root"))
    check(text)
    for part in ("There is nothing here yet", "There are no tables yet", "has nothing to learn from yet", "Never trained"):
        assert part in text, part


@pytest.mark.timeout(900)
def test_pages_and_the_example_run_as_notebooks(root):
    files = [str(_PROJECT / "lakehouse_assets" / "pages" / f"{name}.py") for name in NOTEBOOKS]
    files.append(str(_PROJECT / "docs" / "notebooks" / "training_set.py"))
    own = environment(LAKEHOUSE_ROOT=str(root.root), LAKEHOUSE_PRODUCTS=root.products)
    done = subprocess.run([sys.executable, "-c", _RUN_ALL, *files], capture_output=True, text=True, env=own, timeout=800)
    assert done.returncode == 0, done.stderr
    rows = int(re.search(r"rows (\d+) chart Chart", done.stdout)[1])
    assert rows > 100
