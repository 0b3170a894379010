"""The declarations of docs/models.md can be meant, and its commands are known."""

import re
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

import lakehouse_assets
from lakehouse_assets import ByKey, Contract, Timestamp, column, feature_set
from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.modules import declarations_in

PAGE = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


class Reader(Contract):
    """What was known of a reader."""

    loan: str = column(key=True)
    day: date = column(key=True)
    known_at: Timestamp
    age: float


class Branch(Contract):
    """What was known of a branch."""

    loan: str = column(key=True)
    day: date = column(key=True)
    known_at: Timestamp
    size: float


def features(name: str, contract: type[Contract]) -> Declaration:
    def known(rows: pl.LazyFrame) -> pl.LazyFrame:
        """What was known."""
        return rows

    usual = {"entity": ("loan",), "event_time": "day", "kind": ByKey("loan"), "inputs": {"rows": "library.silver.returns"}}
    return feature_set(name, contract=contract, **usual)(known)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_page_is_a_declaration(number):
    known = {name: getattr(lakehouse_assets, name) for name in lakehouse_assets.__all__}
    module = ModuleType("example")
    vars(module).update(known, timedelta=timedelta, __name__="example")
    vars(module).update(readers=features("library.features.readers", Reader), branches=features("library.features.branches", Branch))
    exec(EXAMPLES[number], vars(module))
    names = [declaration.name for declaration in declarations_in([module])]
    assert any(".models." in name for name in names), names


def test_each_command_of_the_page_is_known():
    commands = re.findall(r"(?:^|`)lakehouse ([a-z ]+?)(?= [A-Z\-#]| [a-z_]+\.|\n|`)", PAGE, re.MULTILINE)
    assert len(commands) > 8
    for words in commands:
        command = main
        for word in words.split():
            assert word in command.commands, words
            command = command.commands[word]
