"""Gradient boosting for the few rows of a request: the same numbers to the bit, without a query for each column.

A property test holds it equal to `Boosted`. Many rows are left to `Boosted`, which is faster at them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import polars as pl

from lakehouse_assets.platform.declarations.learning import Predictor
from lakehouse_assets.platform.modelling.encoding import FIRST, MISSING, OTHER, Column
from lakehouse_assets.platform.modelling.learners.boosted import Boosted

_FEW: Final = 256
_NUMBERS: Final = (pl.Float64, pl.Float32, pl.Int64, pl.Int32, pl.Int16, pl.Int8, pl.UInt32, pl.UInt16, pl.UInt8)


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
        if not 0 < rows.height <= _FEW or not {*self.inputs} <= {*rows.columns}:
            return None
        matrix = np.empty((rows.height, len(self._encoders)), dtype=np.float64)
        for place, (name, encode) in enumerate(self._encoders):
            values = encode(rows.get_column(name))
            if values is None:
                return None
            matrix[:, place] = values
        matrix[~np.isfinite(matrix)] = np.nan
        return matrix

    @cached_property
    def _encoders(self) -> list[tuple[str, Callable[[pl.Series], Any | None]]]:
        return [(column.name, _encoder(column)) for column in self.boosted.encoding.columns]


def _encoder(column: Column) -> Callable[[pl.Series], Any | None]:
    """How values of a column become numbers; the function gives None for values of a type that it leaves to `Column.encode`."""
    if column.kind == "text":
        codes: dict[str | None, float] = {category: float(FIRST + number) for number, category in enumerate(column.categories)}
        codes[None] = float(MISSING)

        def coded(values: pl.Series) -> Any | None:
            return [codes.get(value, float(OTHER)) for value in values.to_list()] if values.dtype == pl.String else None

        return coded
    if column.kind != "number":
        return lambda _: None

    def number(values: pl.Series) -> Any | None:
        if values.dtype in _NUMBERS:
            return values.to_numpy()
        return [np.nan if value is None else float(value) for value in values.to_list()] if values.dtype == pl.Boolean else None

    return number
