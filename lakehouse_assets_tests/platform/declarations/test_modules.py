"""The modules of products: what keeps one from being imported is said with its line, by every command."""

import importlib
import sys

import pytest
from click.testing import CliRunner

from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.catalog import declarations_in, modules_of

FEED = """from lakehouse_assets import Feed, feed

meters = feed("{name}", Feed("meters", headers=(("meter", "kwh"),)), "What meters counted.")
"""


@pytest.fixture
def products(tmp_path, monkeypatch):
    """A function that makes a package of products from files, by their paths."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(files: dict[str, str]):
        for path, text in ({"__init__.py": ""} | files).items():
            file = tmp_path / "some_products" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return importlib.import_module("some_products")

    yield make
    for name in [name for name in sys.modules if name.split(".")[0] == "some_products"]:
        del sys.modules[name]


def test_modules_come_by_name_and_folders_without_modules_are_no_matter(products):
    files = {"energy/__init__.py": "", "energy/tables.py": FEED.format(name="energy.bronze.meters"), "a.py": "", "data/x.csv": ""}
    modules = list(modules_of(products(files)))
    assert [module.__name__ for module in modules] == ["some_products.a", "some_products.energy", "some_products.energy.tables"]
    assert [declared.name for declared in declarations_in(modules)] == ["energy.bronze.meters"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"energy/tables.py": ""}, "some_products/energy has modules and no __init__.py: add an empty one"),
        ({"energy/__init__.py": "", "energy/gold/a.py": ""}, "some_products/energy/gold has modules and no __init__.py: add an empty one"),
        ({"a.py": "x = 1\ny = pl.col"}, "some_products/a.py:2: NameError: name 'pl' is not defined"),
        ({"a/__init__.py": "import nowhere"}, "some_products/a/__init__.py:1: ModuleNotFoundError: No module named 'nowhere'"),
        ({"a.py": "x = (1"}, "some_products/a.py:1: SyntaxError: '(' was never closed (a.py, line 1)"),
        ({"a.py": FEED.format(name="meters")}, "some_products/a.py:3: 'meters' is no name of a table: write product.layer.name in lower"),
    ],
)
def test_every_command_says_what_keeps_a_product_from_being_imported(products, tmp_path, files, message):
    package = products(files)
    with pytest.raises(DeclarationError) as refused:
        list(modules_of(package))
    assert str(refused.value).startswith(message)

    for words in (["run"], ["status"], ["contracts", "diff"]):
        result = CliRunner(
            env={"LAKEHOUSE_PRODUCTS": "some_products", "LAKEHOUSE_ROOT": str(tmp_path / "root"), "DAGSTER_HOME": ""}
        ).invoke(main, words)
        assert (result.exit_code, result.stderr.startswith(f"Error: {message}")) == (1, True), words
