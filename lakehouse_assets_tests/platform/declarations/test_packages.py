"""`LAKEHOUSE_PRODUCTS`: which packages hold products, however they are named, and where a new product is written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse_assets.platform.declarations.packages import from_any_folder, new_product_package, product_packages
from lakehouse_assets.settings import BUILT_IN_PRODUCTS, SettingError

PROJECT = Path(__file__).parents[3]
METERS = """from lakehouse_assets import Feed, feed

meters = feed("energy.bronze.meters", Feed("meters", headers=(("meter", "kwh"),)), "What meters counted.")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a package of products, `own_products`, that is on nobody's path."""
    (tmp_path / "own_products" / "energy").mkdir(parents=True)
    (tmp_path / "own_products" / "energy" / "__init__.py").touch()
    (tmp_path / "own_products" / "energy" / "tables.py").write_text(METERS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_default_is_the_package_of_the_demo_products():
    assert product_packages(BUILT_IN_PRODUCTS)[0].folder == PROJECT / "lakehouse_assets" / "products"
    assert from_any_folder(BUILT_IN_PRODUCTS) == BUILT_IN_PRODUCTS


@pytest.mark.parametrize("setting", ["own_products", "./own_products", "{here}/own_products", "../{name}/own_products/"])
def test_a_name_or_a_folder_names_the_same_package(folder, setting):
    setting = setting.format(here=folder, name=folder.name)
    assert [(package.name, package.folder) for package in product_packages(setting)] == [("own_products", folder / "own_products")]
    assert from_any_folder(setting) == str(folder / "own_products")
    assert new_product_package(setting).folder == folder / "own_products"


def test_a_new_product_goes_into_the_first_package_of_ones_own(folder):
    assert new_product_package(f"{BUILT_IN_PRODUCTS}, own_products").folder == folder / "own_products"
    assert new_product_package("./not_there_yet").folder == folder / "not_there_yet"
    nowhere_else = new_product_package(BUILT_IN_PRODUCTS)
    assert (nowhere_else.name, nowhere_else.folder) == ("my_products", folder / "my_products"), "never into the code of the platform"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("", "is empty"),
        ("nope", r"the package nope is not on Python's path, nor in this folder.*\./nope"),
        ("nope.deeper", "the package nope.deeper is not on Python's path"),
        ("./nope", "nope is no folder"),
        ("./not-a-name", "'not-a-name' cannot be the name of a Python package: rename"),
        ("./class", "'class' cannot be the name"),
        ("own-products", "is no name of a Python package"),
        ("csv", "the package csv is a module and no package"),
    ],
)
def test_what_is_no_package_is_refused_by_name(folder, setting, said):
    with pytest.raises(SettingError, match=f"LAKEHOUSE_PRODUCTS.*{said}"):
        product_packages(setting)


def test_a_folder_that_python_knows_as_something_else_is_refused(folder):
    (folder / "json").mkdir()
    with pytest.raises(SettingError, match=r"cannot be imported as json.*Rename the folder"):
        product_packages("./json")[0].load()


@pytest.mark.parametrize("setting", ["./own_products", f"own_products,{BUILT_IN_PRODUCTS}"])
def test_commands_and_the_code_location_load_them(folder, setting):
    environment = os.environ | {"LAKEHOUSE_PRODUCTS": setting, "LAKEHOUSE_ROOT": str(folder / "root"), "PYTHONSAFEPATH": "1"}
    code = (
        "from lakehouse_assets.client import open_lakehouse; from lakehouse_assets.definitions import defs;"
        "print([asset.name for asset in open_lakehouse().context.declarations if asset.product in ('energy', 'sales')][:1],"
        "len([key for key in defs().resolve_asset_graph().get_all_asset_keys() if key.path[0] in ('energy', 'sales')]) > 1)"
    )
    environment["PYTHONPATH"] = str(PROJECT)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=folder, check=True)
    assert done.stdout.split() == ["['energy.bronze.meters']", str("," in setting)], done.stderr
