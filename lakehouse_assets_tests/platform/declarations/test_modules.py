"""The modules of products: how products are found, and that one with an error is named with its line and takes no other down."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.declarations.loading import load_packages, put_together
from lakehouse_assets.platform.declarations.modules import ProductModules

PROJECT = Path(__file__).parents[3]

FEED = """from lakehouse_assets import Feed, feed

meters = feed("{name}", Feed("meters", headers=(("meter", "kwh"),)), "What meters counted.")
"""
GOOD = """import polars as pl
from lakehouse_assets import Append, Contract, Feed, column, conform, feed, table, text

parcels = feed("parcels.bronze.parcels", Feed("parcels", headers=(("parcel",),)), "Parcels.")


class Parcel(Contract):
    parcel: str = column(key=True, description="Number.")


@table("parcels.silver.parcels", contract=Parcel, kind=Append(), inputs={"rows": "parcels.bronze.parcels"})
def weighed(rows: pl.LazyFrame) -> pl.LazyFrame:
    return conform(rows, parcel=text("parcel"))
"""
READER = """import polars as pl
from lakehouse_assets import Append, ByKey, Contract, column, table


class Part(Contract):
    parcel: str = column(key=True)


@table("reader.silver.of_parcels", contract=Part, kind=Append(), inputs={"rows": "parcels.silver.parcels"})
def of_parcels(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


@table("reader.gold.of_both", contract=Part, kind=ByKey("parcel"), inputs={"a": "reader.silver.of_parcels", "b": "%s"})
def of_both(a: pl.LazyFrame, b: pl.LazyFrame) -> pl.LazyFrame:
    return a
"""


def forget_products() -> None:
    """As in a process that has imported none."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "some_products"]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def products(tmp_path, monkeypatch):
    """A function that makes a package of products from files, by their paths."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(files: dict[str, str]):
        for path, text in ({"__init__.py": ""} | files).items():
            file = tmp_path / "some_products" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        forget_products()
        return importlib.import_module("some_products")

    return make


def loaded(package):
    return load_packages([package], lambda product: product)


def test_a_product_is_a_folder_with_or_without_init_or_a_module(products):
    files = {
        "energy/__init__.py": "",
        "energy/bronze/feeds.py": FEED.format(name="energy.bronze.meters"),
        "water.py": FEED.format(name="water.bronze.meters").replace('"meters"', '"water_meters"'),
        "plain/tables.py": GOOD,
        # Not products: hidden and private folders, folders without modules, what Python and editors leave behind.
        ".hidden/x.py": "raise SystemExit",
        "__pycache__/x.py": "raise SystemExit",
        "_drafts/x.py": "raise SystemExit",
        ".#water.py": "raise SystemExit",
        "notes/README.md": "",
    }
    found = loaded(products(files))
    assert [product.name for product in found.products] == ["energy", "plain", "water"]
    assert {asset.name for asset in found.catalog.declarations} == {
        "energy.bronze.meters",
        "water.bronze.meters",
        "parcels.bronze.parcels",
        "parcels.silver.parcels",
    }
    assert not found.broken


BROKEN = [
    ({"a.py": "import polars\npl.lit(1)\n"}, "some_products/a.py:2: NameError: name 'pl' is not defined"),
    ({"a.py": "valeu = 1\nprint(value)\n"}, "some_products/a.py:2: NameError: name 'value' is not defined. Did you mean valeu?"),
    ({"a/__init__.py": "import nowhere\n"}, "some_products/a/__init__.py:1: ModuleNotFoundError: No module named 'nowhere'"),
    ({"a/b/c.py": "import nowhere\n"}, "some_products/a/b/c.py:1: ModuleNotFoundError: No module named 'nowhere'"),
    ({"a.py": "\nx = (1,\n"}, "some_products/a.py:2: SyntaxError: '(' was never closed\n    x = (1,"),
    ({"a.py": "def f():\nreturn 1\n"}, "some_products/a.py:2: IndentationError: expected an indented block after function definition on"),
    ({"a.py": "from lakehouse_assets import tabel\n"}, "some_products/a.py:1: ImportError: cannot import name 'tabel' from"),
    ({"a.py": "import polars as pl\npl.LazyFrma()\n"}, "some_products/a.py:2: AttributeError: module 'polars' has no attribute 'LazyFrma'"),
    ({"a.py": "1 / 0\n"}, "some_products/a.py:1: ZeroDivisionError: division by zero"),
    ({"a.py": "raise SystemExit('no')\n"}, "some_products/a.py:1: SystemExit: no"),
    ({"a.py": b"x = '\xff'\n".decode("latin-1")}, ""),
    ({"a.py": FEED.format(name="meters")}, "some_products/a.py:3: 'meters' is no name of a table: write product.layer.name in lower"),
    (
        {"a.py": FEED.format(name="energy.bronze.meters").replace("meters = feed", "feed")},
        "some_products/a.py:3: energy.bronze.meters is declared here, and no variable of the module keeps it. Give it a name of its own",
    ),
    (
        {"a.py": FEED.format(name="energy.bronze.meters").replace("meters = ", "for _ in range(1):\n    ")},
        "some_products/a.py:4: energy.bronze.meters is declared here, and no variable of the module keeps it",
    ),
    (
        {"a.py": FEED.format(name="energy.bronze.day") + FEED.format(name="energy.bronze.night").replace('Feed("meters"', 'Feed("night"')},
        "some_products/a.py:3: energy.bronze.day is declared here, and no variable of the module keeps it",
    ),
    ({"my-product/a.py": ""}, "some_products/my-product: 'my-product' cannot be the name of a Python package: rename it, as my_product"),
]


@pytest.mark.parametrize(("files", "message"), [case for case in BROKEN if case[1]])
def test_a_product_with_an_error_is_named_with_its_line_and_the_others_are_loaded(products, files, message):
    found = loaded(products({"good.py": GOOD} | files))
    [broken] = found.broken
    assert broken.error.startswith(message)
    assert len(broken.text.splitlines()) <= 3
    assert [asset.name for asset in found.catalog.declarations] == ["parcels.bronze.parcels", "parcels.silver.parcels"]


def test_tables_that_need_a_broken_product_wait_for_it_and_the_rest_of_their_product_does_not(products):
    other = GOOD.replace("parcels", "letters")
    files = {"parcels.py": GOOD + "import nowhere\n", "letters.py": other, "reader.py": READER % "letters.silver.letters"}
    found = loaded(products(files))
    assert {asset.name for asset in found.catalog.declarations} == {"letters.bronze.letters", "letters.silver.letters"}
    assert found.waiting == {"reader.silver.of_parcels": "parcels", "reader.gold.of_both": "parcels"}
    [broken] = found.broken
    assert broken.name == "parcels"
    assert "Left out until it is fixed: reader.gold.of_both, reader.silver.of_parcels" in broken.text
    for name in ("parcels.silver.parcels", "parcels.silver.parcels__quarantine", "reader.gold.of_both", "reader.gold.of_both__quarantine"):
        assert found.is_left_out(name), name
    assert not found.is_left_out("letters.silver.letters")


def test_a_broken_product_owns_the_tables_that_its_files_name_whatever_its_folder_is_called(products):
    found = loaded(products({"shipping.py": GOOD + "import nowhere\n", "reader.py": READER % "reader.silver.of_parcels"}))
    assert found.waiting == {"reader.silver.of_parcels": "shipping", "reader.gold.of_both": "shipping"}


def test_a_product_that_imports_from_a_broken_one_is_broken_and_says_which_file_fails(products):
    found = loaded(products({"a.py": "from some_products.b import x\n", "b.py": "import nowhere\nx = 1\n", "good.py": GOOD}))
    errors = {broken.name: broken.error for broken in found.broken}
    assert errors["a"].startswith("some_products/b.py:1: it imports from another product, which fails: ModuleNotFoundError")
    assert errors["b"].startswith("some_products/b.py:1: ModuleNotFoundError")
    assert [product.name for product in found.products] == ["good"]


def test_what_a_product_imports_from_another_belongs_to_the_other(products):
    reader = (READER % "parcels.bronze.parcels") + "from some_products.z_parcels import weighed\n"
    found = loaded(products({"a_reader.py": reader + "1/0\n", "z_parcels.py": GOOD}))
    assert [broken.name for broken in found.broken] == ["a_reader"]
    found = loaded(products({"a_reader.py": reader, "z_parcels.py": GOOD + "1/0\n"}))
    assert [broken.name for broken in found.broken] == ["a_reader", "z_parcels"]
    assert not found.catalog.declarations


@pytest.mark.parametrize("held", ["[{}, {}]", "({}, {})", "dict(a={}, b={})"])
def test_declarations_in_a_list_or_dictionary_are_declared(products, held):
    calls = [f'feed("energy.bronze.{name}", Feed("{name}", headers=(("kwh",),)), "Meters.")' for name in ("day", "night")]
    found = loaded(products({"energy.py": f"from lakehouse_assets import Feed, feed\n\nmeters = {held.format(*calls)}\n"}))
    assert not found.broken
    assert {one.name for one in found.catalog.declarations} == {"energy.bronze.day", "energy.bronze.night"}


HELPER = """from lakehouse_assets import Feed, feed


def meters_of(product):
    return feed(f"{product}.bronze.meters", Feed(f"{product}_meters", headers=(("kwh",),)), "Meters.")


own = meters_of("helper")
"""
CALLERS = [
    ("from some_products.helper import meters_of\n\nmeters_of('caller')\n", 3),
    ("from some_products.helper import meters_of\n\nmeters = meters_of('caller')\nmeters = meters_of('caller')\n", 3),
    ("from some_products import helper\n\nfor name in ('caller', 'other'):\n    meters = helper.meters_of(name)\n", 4),
]


@pytest.mark.parametrize(("caller", "line"), CALLERS)
def test_who_calls_a_helper_answers_for_what_is_not_kept(products, caller, line):
    found = loaded(products({"helper.py": HELPER, "caller.py": caller}))
    assert [product.name for product in found.products] == ["helper"]
    [broken] = found.broken
    assert broken.name == "caller"
    assert broken.error.startswith(f"some_products/caller.py:{line}: caller.bronze.meters is declared here, and no variable of the")


def test_the_tests_of_a_product_are_not_part_of_it(products):
    tests = {f"parcels/{name}.py": "raise SystemExit" for name in ("test_tables", "tables_test", "conftest")}
    found = loaded(products({"parcels/tables.py": GOOD} | tests))
    assert not found.broken
    assert [product.name for product in found.products] == ["parcels"]


def test_a_copy_of_a_product_does_not_take_the_place_of_the_original(products):
    found = loaded(products({"parcels.py": GOOD, "a_copy.py": GOOD, "other.py": FEED.format(name="energy.bronze.meters")}))
    assert [product.name for product in found.products] == ["other", "parcels"]
    [broken] = found.broken
    assert "two declarations have the name parcels.bronze.parcels (some_products/" in broken.error
    assert "a_copy.py:4" in broken.error
    assert "parcels.py:4" in broken.error


def test_two_products_of_one_name_are_both_refused(products, tmp_path):
    package = products({"parcels.py": GOOD, "other.py": FEED.format(name="energy.bronze.meters")})
    (tmp_path / "more_products").mkdir()
    (tmp_path / "more_products" / "parcels.py").write_text(GOOD.replace("parcels", "letters"))
    found = load_packages([package, importlib.import_module("more_products")], lambda product: product)
    assert [product.name for product in found.products] == ["other"]
    assert found.broken[0].error == ("two products have the name parcels: some_products/parcels.py, more_products/parcels.py. Rename one")


def test_two_products_of_one_name_in_folders_of_one_name_are_told_apart(tmp_path):
    same = [ProductModules("meters", tmp_path / folder / "my_products" / "meters.py", "my_products") for folder in ("a", "b")]
    [error] = {broken.error for broken in put_together(same).broken}
    assert f"{tmp_path}/a/my_products/meters.py, {tmp_path}/b/my_products/meters.py" in error


def test_a_package_that_cannot_be_imported_is_a_broken_product(tmp_path, monkeypatch):
    folder = tmp_path / "own_broken_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("x = (\n")
    result = CliRunner(env={"LAKEHOUSE_PRODUCTS": str(folder), "LAKEHOUSE_ROOT": str(tmp_path / "root"), "DAGSTER_HOME": ""}).invoke(
        main, ["files"]
    )
    assert result.exit_code == 0, result.stderr
    assert "The product own_broken_package is left out. own_broken_package/__init__.py:1: SyntaxError: '(' was never" in result.stderr


class Done(NamedTuple):
    """A command that came to its end."""

    returncode: int
    stdout: str
    stderr: str


def lakehouse(root: Path, *words: str, of_its_own: bool = False) -> Done:
    """What a command says, in this process or in one of its own."""
    environment = {"LAKEHOUSE_PRODUCTS": str(root / "some_products"), "LAKEHOUSE_ROOT": str(root / "root"), "DAGSTER_HOME": ""}
    if of_its_own:
        clean = {**environment, "LAKEHOUSE_PRODUCTS": "./some_products", "PATH": "", "HOME": str(root), "PYTHONPATH": str(PROJECT)}
        done = subprocess.run([sys.executable, "-m", "lakehouse_assets.cli", *words], capture_output=True, text=True, env=clean, cwd=root)
        return Done(done.returncode, done.stdout, done.stderr)
    forget_products()
    result = CliRunner(env=environment).invoke(main, list(words))
    return Done(result.exit_code, result.stdout, result.stderr)


def test_every_command_works_without_the_broken_product_and_warns(products, tmp_path):
    broken = "import polars as pl\n\n\ndef f(:\n    pass\n"
    products({"parcels/tables.py": GOOD, "letters/tables.py": broken})
    said = "The product letters is left out. some_products/letters/tables.py:4: SyntaxError: invalid syntax\n    def f(:\n"
    (tmp_path / "p.csv").write_text("parcel\nA\nB\n")
    for words, code in {
        ("land", "parcels", str(tmp_path / "p.csv")): 0,
        ("run",): 1,
        ("run", "parcels.silver.parcels"): 0,
        ("status",): 0,
        ("files",): 0,
        ("doctor",): 1,
        ("maintenance",): 0,
        ("contracts", "diff"): 1,
    }.items():
        done = lakehouse(tmp_path, *words, of_its_own=words == ("status",))
        assert done.returncode == code, (words, done)
        assert done.stderr.count(f"warning: {said}") == done.stderr.count("is left out") == 1, (words, done)
        assert "Traceback" not in done.stdout + done.stderr, (words, done)
        if words == ("run",):
            assert "failed  letters.broken: The product letters is left out." in done.stdout
            assert "done    parcels.silver.parcels" in done.stdout
        if words == ("doctor",):
            assert "error   letters: The product letters is left out. some_products/letters/tables.py:4" in done.stdout
            assert "no product declares this table" not in done.stdout
    assert "A" in lakehouse(tmp_path, "show", "parcels.silver.parcels").stdout
    for words in (("run", "letters.gold.daily"), ("run", "+letters.gold.daily+"), ("show", "letters.gold.daily")):
        done = lakehouse(tmp_path, *words)
        assert done.returncode == 1
        assert "it belongs to the product letters, which is left out until its error is fixed" in done.stderr, (words, done)
        assert "There are" not in done.stderr


def test_the_code_location_shows_a_broken_product_as_an_asset_that_fails(products, tmp_path, settings):
    import dagster as dg

    from lakehouse_assets.platform.orchestration.autoload import load
    from lakehouse_assets.platform.orchestration.code_location import definitions

    found = definitions(settings, load(products({"parcels.py": GOOD, "letters.py": "import nowhere\n"})))
    graph = found.resolve_asset_graph()
    assert "some_products/letters.py:1: ModuleNotFoundError" in graph.get(dg.AssetKey(["letters", "broken"])).description
    assert dg.AssetKey(["parcels", "silver", "parcels"]) in graph.executable_asset_keys
    dg.Definitions.validate_loadable(found)


def test_nothing_is_vacuumed_while_a_product_is_broken(products, tmp_path, monkeypatch):
    """What its tables have not read, and what its models were trained on, is not known."""
    monkeypatch.setenv("LAKEHOUSE_RETENTION_DAYS", "0")
    products({"parcels.py": GOOD, "letters.py": "import nowhere\n"})
    from lakehouse_assets.client import health, open_lakehouse
    from lakehouse_assets.platform.operations.maintenance import KEEP_ALL
    from lakehouse_assets.settings import Settings

    lines: list[str] = []
    settings = Settings.load(
        {"LAKEHOUSE_PRODUCTS": "some_products", "LAKEHOUSE_ROOT": str(tmp_path / "root"), "LAKEHOUSE_RETENTION_DAYS": "0"}
    )
    assert health._maintenance(open_lakehouse(settings=settings, notice=lines.append).context).retention == KEEP_ALL
    assert len(lines) == 1


def test_personal_data_of_a_broken_product_stays_masked(products, tmp_path):
    from lakehouse_assets.client import open_lakehouse
    from lakehouse_assets.settings import Settings

    settings = Settings.load({"LAKEHOUSE_PRODUCTS": "some_products", "LAKEHOUSE_ROOT": str(tmp_path / "root")})
    people = GOOD.replace('headers=(("parcel",),)', 'headers=(("parcel", "email"),), personal=("email",)')
    products({"parcels.py": people})
    assert open_lakehouse(settings=settings).context.policy.of("parcels.bronze.parcels").hides("email")
    products({"parcels.py": people + "import nowhere\n"})
    assert open_lakehouse(settings=settings, notice=lambda _: None).context.policy.of("parcels.bronze.parcels").hides("email")
