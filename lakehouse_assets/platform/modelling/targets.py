"""What a target is to a learner: numbers, the one of two values that counts, or classes; and what its predictions are called.

How inputs become numbers is in `encoding`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import polars as pl

from lakehouse_assets.platform.declarations.learning import NotEnoughData

PREDICTION: Final = "prediction"
PROBABILITY: Final = "probability"
Kind = Literal["number", "binary", "classes"]
Task = Literal["regression", "binary", "multiclass"]
KINDS: Final[Mapping[str, Kind]] = {"regression": "number", "binary": "binary", "multiclass": "classes"}
"""What a target is to each task."""
_MOST_CLASSES: Final = 1_000


@dataclass(frozen=True)
class Target:
    """How a column is learnt.

    Attributes:
        kind: `number`, `binary` (one of two values counts) or `classes`.
        classes: The values, ordered; of a binary target the one that counts comes last. None of a number.
    """

    kind: Kind
    classes: tuple[Any, ...] = ()

    def codes(self, values: pl.Series) -> Any:
        """Numbers, or the positions of the values among the classes, as float64."""
        if self.kind == "number":
            return values.cast(pl.Float64).to_numpy()
        names = [class_text(value) for value in self.classes]
        text = pl.select(class_name(pl.lit(values), values.dtype)).to_series()
        return text.replace_strict(names, list(range(len(names))), return_dtype=pl.Float64).to_numpy()

    @property
    def columns(self) -> list[str]:
        """The columns of a prediction."""
        if self.kind == "classes":
            return [f"{PROBABILITY}_{class_text(value)}" for value in self.classes]
        return [PREDICTION if self.kind == "number" else PROBABILITY]

    def to_json(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"kind": self.kind, "classes": list(self.classes)}

    @staticmethod
    def from_json(stored: dict[str, Any]) -> "Target":
        """Read what `to_json` gave."""
        return Target(stored["kind"], tuple(stored["classes"]))

    def frame(self, values: Any) -> pl.DataFrame:
        """Predictions as a frame, from one row of values for each, or one value where there is one column."""
        return pl.DataFrame(np.asarray(values, dtype=np.float64).reshape(-1, len(self.columns)), schema=self.columns)


def target_of(values: pl.Series, kind: Kind, positive: str | None = None) -> Target:
    """The target that known values make.

    Args:
        values: Without null; named as the target is.
        kind: What it is to be.
        positive: Of texts, the value that counts.

    Raises:
        NotEnoughData: There is no value, or there is one class.
        ValueError: The values do not fit the kind.
    """
    name = values.name
    if values.is_empty():
        raise NotEnoughData(f"no row has a target: {name!r} is null in all of them, or there are none")
    if kind == "number":
        if not (values.dtype.is_numeric() or values.dtype == pl.Boolean):
            raise ValueError(f"{name!r} is of type {values.dtype} and no number: use objective='binary' or 'multiclass'")
        return Target("number")
    classes = _distinct(values)
    if len(classes) == 1:
        raise NotEnoughData(f"{name!r} is {classes[0]!r} in all {len(values)} rows: a classifier needs rows of at least 2 classes")
    if kind == "classes":
        if len(classes) > _MOST_CLASSES:
            raise ValueError(f"{name!r} has {len(classes)} classes, and at most {_MOST_CLASSES} are learnt")
        return Target("classes", tuple(classes))
    return Target("binary", _ordered(name, classes, positive))


def _distinct(values: pl.Series) -> list[Any]:
    """The classes that there are, ordered: Booleans, whole numbers or texts."""
    name, dtype = values.name, values.dtype
    if is_text(dtype):
        return values.cast(pl.String).unique().sort().to_list()
    if dtype.is_numeric():
        whole = values.cast(pl.Int64, strict=False)
        if whole.null_count() or not (whole.cast(pl.Float64) == values.cast(pl.Float64)).all():
            raise ValueError(f"{name!r} has values that are no whole numbers, so they are no classes: use objective='regression'")
        return whole.unique().sort().to_list()
    if dtype != pl.Boolean:
        raise ValueError(f"{name!r} is of type {dtype}: classes are Booleans, whole numbers or texts")
    return values.unique().sort().to_list()


def _ordered(name: str, classes: list[Any], positive: str | None) -> tuple[Any, ...]:
    """Two classes, the one that counts last."""
    if len(classes) > 2:
        raise ValueError(f"{name!r} has {len(classes)} values: use objective='multiclass', or make a Boolean of it")
    if isinstance(classes[0], str):
        if positive not in classes:
            raise ValueError(f"{name!r} is {classes[0]!r} or {classes[1]!r}: say which value counts, as positive={classes[1]!r}")
        return tuple(sorted(classes, key=lambda value: value == positive))
    if classes != [False, True]:
        raise ValueError(f"{name!r} is {classes[0]} or {classes[1]}, and a binary target is 0 or 1: make a Boolean of it")
    return tuple(classes)


def suggested_kind(values: pl.Series) -> Kind:
    """What a column most likely is to be: of two values binary, of texts classes, else a number."""
    known = values.drop_nulls()
    if is_text(known.dtype):
        return "binary" if known.n_unique() <= 2 else "classes"
    if known.dtype == pl.Boolean or (known.dtype.is_integer() and known.is_in([0, 1]).all()):
        return "binary"
    return "number"


def is_text(dtype: pl.DataType) -> bool:
    """Whether values are texts, enumerations among them."""
    return dtype == pl.String or isinstance(dtype, pl.Enum | pl.Categorical)


def class_text(value: Any) -> str:
    """A class as a part of a column's name: `true`, `2`, `gold`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def class_name(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """`class_text` of each value of a column; whole numbers without a fraction, whatever their type."""
    if dtype.is_float() or dtype.is_decimal():
        column = column.cast(pl.Int64, strict=False)
    return column.cast(pl.String)
