"""Plain forecasts as learners: a column of the inputs as it is, with a band from how far it was off. What a model has to beat.

The columns themselves are made in `inputs`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import NotEnoughData, Predictor, TrainingRows
from lakehouse_assets.platform.modelling.forecasting.bands import level_with_few, weighted_quantile
from lakehouse_assets.platform.modelling.forecasting.model import MEAN
from lakehouse_assets.platform.modelling.forecasting.series import NAIVE, REFERENCE, WARM_UP_DAYS, Series, window_average
from lakehouse_assets.platform.modelling.quantile import MEDIAN, quantile_name

_FILE: Final = "column.json"
_MOST_ROWS = 20_000
# In units of a reference that is small against the level of today, as on the first days, an error says nothing of days to come.
_SMALL = 0.5
_LEAST_ROWS = 7
_UNIT, _LEVEL = "_unit", "_level"


@dataclass(frozen=True)
class PlainForecast:
    """A column of the inputs as the forecast. Its band is as wide as its errors were, in units of the reference.

    Attributes:
        column: One of `inputs.MONEY_INPUTS`.
        quantiles: Ascending, symmetric around the median.
    """

    column: str
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)

    def fit(self, training: TrainingRows, *, seed: int, compute: Compute) -> "PlainModel":  # noqa: ARG002
        """See `Learner.fit`; any example is enough.

        Raises:
            NotEnoughData: There is no example.
        """
        end = pl.col("origin") + pl.duration(days=pl.col("horizon"))
        target = pl.col(training.target)
        whole = training.rows.select(pl.col("origin").min(), end.max().alias("last"), pl.len(), (target.min() < 0).alias("below"))
        first, last, count, below = whole.collect().row(0)
        if not count:
            raise NotEnoughData(f"no day is known that {self.column} could be tried on: land at least 2 days")
        every = max(math.ceil(count / _MOST_ROWS), 1)
        place = (pl.lit(last) - pl.col("origin")).dt.total_days() + pl.col("horizon")
        names = list(dict.fromkeys([*training.key, self.column, REFERENCE, training.target]))
        rows = training.rows.filter(place % every == 0).select(names).sort("origin", *training.key, maintain_order=True).collect()
        sized = _sized(rows, training)
        error = ((sized[training.target] - sized[self.column]) / sized[_UNIT]).to_numpy()
        half_weeks = (last - first).days / 3.5
        shift = tuple(self._shift(error, quantile, half_weeks) for quantile in self.quantiles)
        return PlainModel(self.column, self.quantiles, shift, negative=bool(below))

    @staticmethod
    def _shift(error: "np.typing.NDArray[np.float64]", quantile: float, half_weeks: float) -> float:
        """How far the quantile lies from the column, in units of the reference: never on the other side of it."""
        if quantile == MEDIAN or not len(error):
            return 0.0
        side = 1.0 if quantile > MEDIAN else -1.0
        level = level_with_few(max(quantile, 1 - quantile), half_weeks)
        return side * max(weighted_quantile(side * error, np.ones(len(error)), level), 0.0)


def _sized(rows: pl.DataFrame, training: TrainingRows) -> pl.DataFrame:
    """The rows whose errors count, with the unit of each: its reference, or its series' level where almost no reference will do.

    How a series ended says nothing of those that go on: where one does, errors of series with nothing in the last weeks do not count.
    """
    by = [name for name in training.key if name not in {"origin", "horizon"}]
    age = pl.col("origin").max() - pl.col("origin")
    recent = (pl.col(training.target) != 0) & (age < pl.duration(days=WARM_UP_DAYS))
    alive = rows.filter(recent.any().over(by) if by else recent.any())
    rows = rows if alive.is_empty() else alive
    of_series = (
        pl.col(REFERENCE).filter(age < pl.duration(days=7)).mean(),
        pl.col(training.target).abs().filter(age < pl.duration(days=WARM_UP_DAYS)).median(),
    )
    levels = [value.over(by) if by else value for value in of_series]
    rows = rows.with_columns(pl.max_horizontal(levels).alias(_LEVEL), pl.col(REFERENCE).alias(_UNIT))
    good = rows.filter(pl.col(_UNIT) > 0, pl.col(_UNIT) >= _SMALL * pl.col(_LEVEL))
    if good.height < _LEAST_ROWS:
        good = rows.with_columns(pl.max_horizontal(_UNIT, _LEVEL).alias(_UNIT)).filter(pl.col(_UNIT) > 0)
    return good


@dataclass(frozen=True)
class PlainModel(Predictor):
    """A column of the inputs as it is; see `PlainForecast`.

    Attributes:
        column: The input.
        quantiles: Ascending, symmetric around the median.
        shift: For each quantile its distance from the column, in units of the reference.
        negative: Whether the values have been below 0: else no quantile is.
    """

    word: ClassVar[str] = "forecast_column"

    column: str
    quantiles: tuple[float, ...]
    shift: tuple[float, ...]
    negative: bool = True

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Predictor.inputs`."""
        return tuple(dict.fromkeys((self.column, REFERENCE)))

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Quantiles, ascending in every row, and the column as `mean`.

        Raises:
            ValueError: An input is missing.
        """
        if missing := [name for name in self.inputs if name not in rows.columns]:
            raise ValueError(f"the forecast needs the input {missing[0]}, which the rows do not have")
        plain, reference = (pl.col(name).cast(pl.Float64).fill_null(0) for name in (self.column, REFERENCE))
        least = None if self.negative else 0.0
        places = [
            (plain + shift * reference).clip(least).alias(quantile_name(quantile))
            for quantile, shift in zip(self.quantiles, self.shift, strict=True)
        ]
        return rows.select(*places, plain.alias(MEAN))

    def save(self, folder: Path) -> None:
        """See `Predictor.save`."""
        parts = {"column": self.column, "quantiles": list(self.quantiles), "shift": list(self.shift), "negative": self.negative}
        (folder / _FILE).write_text(json.dumps(parts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "PlainModel":
        """Read what `save` wrote."""
        parts = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return cls(parts["column"], tuple(parts["quantiles"]), tuple(parts["shift"]), parts["negative"])


def plain_forecasts(series: Series) -> Mapping[str, PlainForecast]:
    """What a forecast is held against, by name: the same weekday of the last week, windows of four and eight weeks, and the reference."""
    columns = {
        "seasonal_naive": NAIVE,
        "seasonal_window_average": window_average(4),
        "seasonal_window_average_8": window_average(8),
        "reference": REFERENCE,
    }
    return {name: PlainForecast(column, series.quantiles) for name, column in columns.items()}
