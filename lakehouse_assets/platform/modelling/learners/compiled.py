"""Gradient boosting for the few rows of a request: the same numbers to the bit, without a query for each column.

A property test holds it equal to `Boosted`. Many rows are left to `Boosted`, which is faster at them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import polars as pl

from lakehouse_assets.platform.declarations.learning import Predictor
from lakehouse_assets.platform.modelling.encoding import FIRST, MISSING, OTHER
from lakehouse_assets.platform.modelling.learners.boosted import Boosted

_FEW: Final = 256
_HANDFUL: Final = 64
_PLAIN: Final = frozenset({float, int, bool, type(None)})
_NUMBERS: Final = (pl.Float64, pl.Float32, pl.Int64, pl.Int32, pl.Int16, pl.Int8, pl.UInt32, pl.UInt16, pl.UInt8, pl.Boolean)


@dataclass(frozen=True)
class CompiledBoosted(Predictor):
    """A `Boosted` that is fast for few rows.

    Attributes:
        boosted: What it says.
    """

    boosted: Boosted

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Predictor.inputs`."""
        return self.boosted.inputs

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Predictor.predict`."""
        encoded = self._encoded(rows)
        if encoded is None:
            return self.boosted.predict(rows)
        return self.boosted.finished({name: np.asarray(one.predict(encoded)) for name, one in self.boosted.boosters.items()})

    def contributions(self, rows: pl.DataFrame, top: int = 3, *, raising: bool = False) -> pl.DataFrame:
        """See `Predictor.contributions`."""
        encoded = self._encoded(rows)
        if encoded is None:
            return self.boosted.contributions(rows, top, raising=raising)
        return self.boosted.contributions_of(encoded, rows, top, raising=raising)

    def save(self, folder: Path) -> NoReturn:  # noqa: ARG002
        """A compiled model is not saved: what it was compiled from is."""
        raise TypeError("a compiled model cannot be saved: save the one that it was compiled from")

    @classmethod
    def load(cls, folder: Path) -> NoReturn:  # noqa: ARG003
        """See `save`."""
        raise TypeError("a compiled model cannot be loaded: load the one that it was compiled from")

    def importance(self) -> pl.DataFrame | None:
        """See `Predictor.importance`."""
        return self.boosted.importance()

    def settings(self) -> Mapping[str, object]:
        """See `Predictor.settings`."""
        return self.boosted.settings()

    def _encoded(self, rows: pl.DataFrame) -> Any | None:
        """The encoded inputs as a matrix with NaN where there is no number; None if `Boosted` has to encode them."""
        if not 0 < rows.height <= _FEW or self._others or not self._inputs <= {*rows.columns}:
            return None
        matrix = self._of_values(rows) if rows.height <= _HANDFUL else self._of_columns(rows)
        if matrix is not None:
            matrix[~np.isfinite(matrix)] = np.nan
        return matrix

    def _of_values(self, rows: pl.DataFrame) -> Any | None:
        """The inputs of a handful of rows: to take their values takes less time than one look at each column."""
        at = {name: place for place, name in enumerate(rows.columns)}
        order = [at[name] for name in self.inputs]
        taken = []
        for row in rows.rows():
            values = [row[place] for place in order]
            for place, codes in self._texts.values():
                if not isinstance(values[place], str | None):
                    return None
                values[place] = codes.get(values[place], float(OTHER))
            if not {*map(type, values)} <= _PLAIN:
                return None
            taken.append(values)
        return np.array(taken, dtype=np.float64)

    def _of_columns(self, rows: pl.DataFrame) -> Any | None:
        matrix = np.empty((rows.height, len(self._inputs)), dtype=np.float64)
        if self._numbers:
            numbers = rows[list(self._numbers)]
            if not all(isinstance(dtype, _NUMBERS) for dtype in numbers.dtypes):
                return None
            matrix[:, list(self._numbers.values())] = numbers.to_numpy().astype(np.float64)
        for name, (place, codes) in self._texts.items():
            values = rows.get_column(name)
            if values.dtype != pl.String:
                return None
            matrix[:, place] = [codes.get(value, float(OTHER)) for value in values.to_list()]
        return matrix

    @cached_property
    def _inputs(self) -> frozenset[str]:
        return frozenset(self.inputs)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """The places of the numbers, by name."""
        return {column.name: place for place, column in enumerate(self.boosted.encoding.columns) if column.kind == "number"}

    @cached_property
    def _texts(self) -> dict[str, tuple[int, dict[str | None, float]]]:
        """The places of the texts with the codes of their categories, by name."""
        found: dict[str, tuple[int, dict[str | None, float]]] = {}
        for place, column in enumerate(self.boosted.encoding.columns):
            if column.kind == "text":
                codes: dict[str | None, float] = {category: float(FIRST + number) for number, category in enumerate(column.categories)}
                codes[None] = float(MISSING)
                found[column.name] = (place, codes)
        return found

    @cached_property
    def _others(self) -> bool:
        """Whether there are inputs that are neither."""
        return len(self._numbers) + len(self._texts) < len(self._inputs)
