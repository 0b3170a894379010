"""Products from many files: what is guessed is right, and what is written is linted, typed, tested, and runs by the real command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from lakehouse_assets import open_lakehouse
from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.scaffold import files

PROJECT = Path(__file__).parents[2]
PACKAGE = "matrix_products"
# By table of silver: its key, its time, its personal columns, its table in gold.
EXPECTED = {
    "german.silver.auftraege": (("auftrag_nr",), "bestellt_am", {"strasse"}, "daily_auftraege"),
    "shop.silver.orders": (("order_id",), "ordered_at", {"customer_name"}, "daily_orders"),
    "shop.silver.order_lines": (("order_id", "line"), None, set(), "order_lines_by_sku"),
    "sensors.silver.readings": (("sensor", "measured_at"), "measured_at", set(), "daily_readings"),
    "library.silver.loans": (("loan",), "borrowed", {"reader"}, "daily_loans"),
    "library.silver.books": (("isbn",), None, set(), "books_by_genre"),
    "hospital.silver.beds": (("bed_no",), "admitted", {"patient", "date_of_birth"}, "daily_beds"),
    "trips.silver.trips": (("trip_id",), "trip_day", {"driver_phone"}, "daily_trips"),
    "log.silver.log": ((), None, set(), "log_by_level"),
    "wide.silver.wide": (("id",), "wide_day", set(), "daily_wide"),
    "accounts.silver.accounts": (("ref",), "opened", {"a", "b", "c"}, "daily_accounts"),
}
REJECTED = {"accounts.silver.accounts": 1}


def command(folder: Path, *words: str) -> str:
    environment = {"LAKEHOUSE_ROOT": str(folder / "root"), "LAKEHOUSE_PRODUCTS": str(folder / PACKAGE), "DAGSTER_HOME": ""}
    result = CliRunner(env=environment).invoke(main, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A folder with all products, landed and run; and what `lakehouse new` said of each."""
    folder = tmp_path_factory.mktemp("matrix")
    said = {}
    for make in files.ALL:
        (folder / make.__name__).mkdir()
        samples = make(folder / make.__name__)
        said[make.__name__] = command(folder, "new", make.__name__, "--from", *map(str, samples), "--land")
    # Very many columns take as long as all other products together.
    command(folder, "run", *(f"group:{name}" for name in said if name != "wide"))
    return folder, said


@pytest.fixture(scope="module")
def tables(written):
    lake = open_lakehouse(settings=Settings.load({"LAKEHOUSE_PRODUCTS": str(written[0] / PACKAGE)}))
    return {one.name: one for one in lake.context.declarations}


def tool(folder: Path, *arguments: str, cwd: Path | None = None) -> None:
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=cwd or folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_row_is_lost_and_only_mistyped_ones_are_rejected(written, tables):
    lakehouse = Lakehouse(str(written[0] / "root" / "tables"))
    for name, table in tables.items():
        if table.product == "wide":
            continue
        if table.layer == "silver":
            rows = lakehouse.table(table.inputs["rows"]).count()
            rejected = lakehouse.table(table.quarantine)
            count = rejected.count() if rejected.exists() else 0
            assert (count, lakehouse.table(name).count()) == (REJECTED.get(name, 0), rows - REJECTED.get(name, 0)), name
        if table.layer == "gold":
            assert lakehouse.table(name).count() > 0, name


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_guessed(tables, written, name):
    key, time, personal, gold = EXPECTED[name]
    table, product = tables[name], name.split(".")[0]
    assert table.identity == key
    assert table.personal == personal
    assert tables[f"{product}.gold.{gold}"].inputs == {"rows": name}
    source = (written[0] / PACKAGE / product / "silver.py").read_text()
    assert (f'pl.col("{time}")' in source) == (time is not None)


def test_a_reference_is_found(tables):
    assert tables["library.silver.loans"].references() == ("library.silver.books",)
    assert tables["shop.silver.order_lines"].references() == ("shop.silver.orders",)


def test_the_code_is_formatted_and_linted(written):
    folder, _ = written
    tool(folder, "ruff", "format", "--check", "--config", str(PROJECT / "pyproject.toml"), PACKAGE)
    tool(folder, "ruff", "check", "--no-cache", "--config", str(PROJECT / "pyproject.toml"), PACKAGE)


@pytest.mark.timeout(300)
def test_the_code_has_types(written):
    # Of one product of each sort; with the project's cache, which `make lint` fills.
    products = [str(written[0] / PACKAGE / name) for name in ("shop", "sensors", "hospital", "oddities")]
    tool(written[0], "mypy", "--config-file", "pyproject.toml", *products, cwd=PROJECT)


def test_the_generated_tests_pass(written):
    tool(written[0], "pytest", "-q", "-p", "no:cacheprovider", PACKAGE)


def test_no_personal_value_is_in_code_or_output(written):
    folder, said = written
    code = "".join(path.read_text(encoding="utf-8") for path in (folder / PACKAGE).rglob("*.py"))
    for text in (code, *said.values()):
        for value in ("Person 1", "@mail.example", "DE8937", "4111", "10.0.9", "Ann Lee", "1951", "+4420"):
            assert value not in text, value


def test_evidence_stands_in_the_code(written):
    def code(product: str, module: str) -> str:
        return (written[0] / PACKAGE / product / f"{module}.py").read_text(encoding="utf-8")

    assert "# key: unique in 60 of 60 rows" in code("shop", "contracts")
    assert "# a date in 60 of 60 values; day first: '13/01/2026' in row 11; " in code("library", "silver")
    assert "# digits with zeros in front ('00000' in row 1): an identifier" in code("library", "silver")
    assert "taken for missing: 'N/A' 12 times" in code("log", "silver")
    assert "a whole number in 59 of 60 values; the others go to quarantine ('soon' in row 10)" in code("accounts", "silver")
    assert "card number with a right check digit in 3 of 3 different values" in code("accounts", "contracts")
    assert 'number("Betrag", decimal=",", thousands=".")' in code("german", "silver")
    assert 'encoding="cp1252"' in code("german", "bronze")
    assert "2 different values: 'Düren', 'Köln'" in code("german", "contracts")
    assert "is assumed: each value can be read either way" in written[1]["accounts"]
    assert "no key: rows are only added" in written[1]["log"]
