"""The modules that a module needs, found by reading: what a model's code is, and what has to lie next to a stored one."""

import sys
import types
from itertools import count
from pathlib import Path

import pytest

from lakehouse_assets.platform.declarations import closure as room
from lakehouse_assets.platform.declarations.closure import closure, text_of_modules

numbers = count()

TRAINER = '''"""Trains."""

from typing import TYPE_CHECKING

from .tools.helper import halve

if TYPE_CHECKING:
    from {name}.only_types import Nothing


class Trainer:
    """Trains."""

    rate: float = 0.1
    """How fast."""

    def train(self, value: int) -> int:
        """Train."""
        import {name}.late

        return halve(value)  # half of it
'''


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A package with a trainer, its helper, and modules that must not be imported."""
    root = tmp_path / f"package_{next(numbers)}"
    files = {
        "__init__.py": "raise AssertionError('imported')\n",
        "trainer.py": TRAINER.format(name=root.name),
        "only_types.py": "class Nothing: ...\n",
        "late.py": f"import json\nfrom {root.name} import sibling\n",
        "sibling.py": "",
        "not_needed.py": "",
        "tools/__init__.py": "",
        "tools/helper.py": "def halve(value: int) -> int:\n    return value // 2\n",
    }
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return root


@pytest.fixture(autouse=True)
def _as_in_a_process_of_its_own():
    forget()
    yield
    forget()


def forget() -> None:
    """A process reads a file once; here it is changed in between."""
    for cached in (room._file, room._read):
        cached.cache_clear()


def text(package: Path) -> str:
    forget()
    return text_of_modules(closure([f"{package.name}.trainer"], [package.name]))


def test_the_closure_has_what_is_imported_anywhere_and_the_packages_around_it_and_nothing_is_imported(package):
    found = closure([f"{package.name}.trainer"], [package.name])
    names = ["", ".late", ".sibling", ".tools", ".tools.helper", ".trainer"]
    assert list(found) == [package.name + name for name in names], "not what only type checkers see, nor what nobody imports"
    assert found[f"{package.name}.tools"] == package / "tools" / "__init__.py"
    assert not any(name.split(".")[0] == package.name for name in sys.modules)


def test_modules_outside_of_the_packages_and_those_that_do_not_exist_are_left_out(package):
    assert "json" not in closure([f"{package.name}.trainer"], [package.name])
    assert "json" in closure([f"{package.name}.trainer"], [package.name, "json"])
    assert closure([f"{package.name}.nowhere", "no_such_package.x"], [package.name, "no_such_package"]) == {}


def test_the_script_that_runs_and_a_notebook_have_a_name_of_their_own(package, monkeypatch):
    """`importlib.util.find_spec` refuses `__main__`, which a learner that is written into a script has as its module."""
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert closure(["__main__"], ["__main__"]) == {}
    forget()
    main.__file__ = str(package / "late.py")
    assert list(closure(["__main__"], ["__main__", package.name])) == ["__main__", package.name, f"{package.name}.sibling"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"""Train."""', '"""Train it, by halves."""'),
        ('    """How fast."""\n', ""),
        ("  # half of it", ""),
        ("return halve(value)", "return halve(\n            value,\n        )"),
        ('"""Trains."""\n\nfrom', '"""Something else."""\n\n\nfrom'),
    ],
)
def test_docstrings_comments_and_format_are_no_change(package, before, after):
    trainer = package / "trainer.py"
    same, source = text(package), trainer.read_text(encoding="utf-8")
    assert before in source
    trainer.write_text(source.replace(before, after), encoding="utf-8")
    assert text(package) == same


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("trainer.py", "0.1", "0.2"),
        ("tools/helper.py", "// 2", "// 3"),
        ("late.py", "import json", "import csv"),
        ("__init__.py", "'imported'", "'changed'"),
    ],
)
def test_what_the_code_does_is_a_change_wherever_it_stands(package, file, before, after):
    same, source = text(package), (package / file).read_text(encoding="utf-8")
    assert before in source
    (package / file).write_text(source.replace(before, after), encoding="utf-8")
    assert text(package) != same


@pytest.mark.parametrize("file", ["only_types.py", "not_needed.py"])
def test_a_module_that_is_not_needed_is_no_part_of_the_code(package, file):
    same = text(package)
    (package / file).write_text("changed = True\n", encoding="utf-8")
    assert text(package) == same
