"""The text of a function changes with what it does, also in functions and constants of its product that it uses, and with nothing else."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse_assets.platform.declarations.code import source_of
from lakehouse_assets.products.revenue_forecast.forecast import revenue

DECLARED = '''
from product_of_code import helpers
from product_of_code.helpers import SHARES, doubled
from product_of_code.sub import deeper
import product_of_code.sub.deeper

LIMIT = 3
EXPRESSION = helpers.pl.col("a") * 2

def function(x):
    """Says what it does."""
    return doubled(x) + helpers.tripled(x) + LIMIT + SHARES["a"] + product_of_code.sub.deeper.four(x) + (lambda y: later(y))(x), EXPRESSION

def later(x):
    return x

def not_used(x):
    return x
'''
HELPERS = '''
import functools
import polars as pl

SHARES = {"a": 1, "b": (2, 3)}
FACTOR = 2

@functools.cache
def doubled(x):
    # a comment
    return FACTOR * x

def tripled(x):
    """Three times."""
    return 3 * x if x else tripled(1)
'''
DEEPER = "def four(x):\n    return 4 * x\n"
FILES = {"declared.py": DECLARED, "helpers.py": HELPERS, "sub/__init__.py": "", "sub/deeper.py": DEEPER, "__init__.py": ""}
SCRIPT = """
from product_of_code.declared import function
from lakehouse_assets.platform.declarations.code import source_of
print(source_of(function))
"""


def text(folder: Path, changes: dict[str, tuple[str, str]]) -> str:
    """Of the function of a product in which some files have one text instead of another, in a process of its own."""
    for name, content in FILES.items():
        old, new = changes.get(name, ("", ""))
        assert old in content
        file = folder / "product_of_code" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content.replace(old, new) if old else content)
    path = [str(folder), str(Path(importlib.import_module("lakehouse_assets").__file__ or "").parents[1])]
    command = [sys.executable, "-c", f"import sys\nsys.path[:0] = {path}\n{SCRIPT}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return text(tmp_path_factory.mktemp("before"), {})


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("helpers.py", "FACTOR = 2", "FACTOR = 20"),
        ("helpers.py", "return FACTOR * x", "return FACTOR * x + 1"),
        ("helpers.py", "3 * x", "3.5 * x"),
        ("helpers.py", '"a": 1', '"a": 2'),
        ("sub/deeper.py", "4 * x", "5 * x"),
        ("declared.py", "LIMIT = 3", "LIMIT = 4"),
        ("declared.py", '("a") * 2', '("a") * 3'),
        ("declared.py", "def later(x):\n    return x", "def later(x):\n    return -x"),
    ],
)
def test_what_a_function_uses_of_its_product_counts(before, tmp_path, file, old, new):
    assert text(tmp_path, {file: (old, new)}) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("helpers.py", "# a comment", "# another comment"),
        ("helpers.py", "Three times.", "Thrice."),
        ("declared.py", "def not_used(x):\n    return x", "def not_used(x):\n    return -x"),
        ("sub/deeper.py", "def four", "ANOTHER = 1\n\ndef four"),
    ],
)
def test_what_it_does_not_use_does_not_count(before, tmp_path, file, old, new):
    assert text(tmp_path, {file: (old, new)}) == before


def test_the_platform_itself_does_not_count():
    """Its version says what it does; of a function that a recipe made, what the recipe was given counts."""
    assert "rolling" not in source_of(revenue.features.function)


def test_a_function_that_was_made_without_a_module_has_a_text():
    names: dict = {"__name__": None}
    exec("def helper(x):\n    return x\n\ndef function(x):\n    return helper(x) + 1\n", names)
    assert source_of(names["function"])
