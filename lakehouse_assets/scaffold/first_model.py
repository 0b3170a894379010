"""A first model of a table that is to be written as a product: what it is called, and of which types its columns are.

What is in it was found by `recipes.automl`; how it is written is in `render_first_model` and `render_first_predictions`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.modelling.targets import PROBABILITY
from lakehouse_assets.platform.quality.contract import Timestamp
from lakehouse_assets.platform.recipes.classifier_contracts import RESERVED
from lakehouse_assets.platform.recipes.question import Question
from lakehouse_assets.scaffold.names import is_free_in_python, plain, unused
from lakehouse_assets.scaffold.source import from_import

_PLATFORM: Final = "lakehouse_assets"
_TYPES: Final = {float: "float", int: "int", str: "str", bool: "bool", date: "date", Timestamp: "Timestamp"}
_OWN: Final = RESERVED | {"rows", "source", "known", "found", "champion", "features", "labels"}


@dataclass(frozen=True)
class Plan:
    """A product that is to be written.

    Attributes:
        name: The first word of its tables' names.
        package: By which its folder is imported.
        beside_platform: Whether the platform's code lies in the same folder, so that linters take both for one project.
        asked: What is predicted from what.
        learner: The best one that was found.
        found: How good it was, in a sentence.
        schema: Types of the columns of the table.
        kept: Columns that are learnt from though they seem to be made from the answer.
    """

    name: str
    package: str
    beside_platform: bool
    asked: Question
    learner: Any
    found: str
    schema: Mapping[str, pl.DataType]
    kept: Sequence[str]
    names: Mapping[str, str] = field(init=False)
    """What the columns of the table are called in the product."""

    def __post_init__(self) -> None:
        given: dict[str, str] = {}
        for one in (*self.asked.entity, self.asked.at, *self.asked.inputs, self.asked.target):
            name = one if _is_usable(one) else plain(one)
            given[one] = unused(name if _is_usable(name) else f"own_{name or 'column'}", given.values())
        object.__setattr__(self, "names", given)

    @property
    def entity(self) -> tuple[str, ...]:
        """The columns that name what is predicted; so are the next ones."""
        return tuple(self.names[one] for one in self.asked.entity)

    @property
    def at(self) -> str:
        """The column of time."""
        return self.names[self.asked.at]

    @property
    def target(self) -> str:
        """What is predicted."""
        return self.names[self.asked.target]

    @property
    def inputs(self) -> dict[str, str]:
        """The columns to learn from, with their types as source."""
        return {self.names[one]: _TYPES[annotation] for one, annotation in self.asked.inputs.items()}

    @property
    def keys(self) -> dict[str, str]:
        """Entity and time, with their types as source."""
        types = {self.names[one]: annotation_of(self.schema[one]) for one in self.asked.entity}
        return {**types, self.at: "date" if self.asked.time is None else annotation_of(self.schema[self.asked.time])}

    @property
    def target_type(self) -> str:
        """The type of the target as source."""
        return {"binary": "bool", "multiclass": "str", "regression": "float"}[self.asked.task]

    @property
    def key(self) -> tuple[str, ...]:
        """What tells rows apart."""
        return tuple(self.keys)

    def imports(self, standard: Sequence[str], others: Sequence[str], public: Sequence[str], own: Mapping[str, Sequence[str]]) -> list[Any]:
        """Sections of imports, as `ruff` sorts them."""
        ours = [from_import(f"{self.package}.{name}", names) for name, names in sorted(own.items())]
        platform = [from_import(_PLATFORM, public)] if public else []
        # A learner of scikit-learn is taken from its own package.
        from_others, plain_ones = [one for one in others if one.startswith("from")], [one for one in others if one.startswith("import")]
        if self.beside_platform:
            return [[*standard], [*plain_ones, *from_others], [*platform, *ours]]
        return [[*standard], [*plain_ones, *platform, *from_others], ours]


def _is_usable(name: str) -> bool:
    return is_free_in_python(name) and name == name.lower() and name not in _OWN and not name.startswith(("_", f"{PROBABILITY}_"))


@dataclass(frozen=True)
class WrittenModel:
    """A product that was written.

    Attributes:
        folder: Where it lies.
        files: The names of its modules.
        model: The name of its model.
        predictions: The name of its prediction table.
    """

    folder: Path
    files: tuple[str, ...]
    model: str
    predictions: str


def product_name(table: str, target: str) -> str:
    """What the product is called if nobody says."""
    return "_".join(filter(None, (plain(table.rpartition(".")[2]), plain(target)))) or "first_model"


def annotation_of(dtype: pl.DataType) -> str:
    """The type of a column in a contract, as source."""
    if dtype == pl.Boolean:
        return "bool"
    if dtype.is_integer():
        return "int"
    if dtype.is_numeric():
        return "float"
    if dtype == pl.Date:
        return "date"
    return "Timestamp" if isinstance(dtype, pl.Datetime) else "str"


def words(name: str) -> str:
    """A name as people read it."""
    return name.replace("_", " ")
