"""The examples of a forecast: one for each series, origin and day ahead, with what was known at the origin's end and what came.

How inputs are made is in `inputs`; who learns from the examples, and how, is for learners to know.
"""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from lakehouse_assets.platform.declarations.actual_outcomes import Outcomes
from lakehouse_assets.platform.declarations.learning import LABEL_KNOWN_AT, Read, ScoredAsStored, TrainingRows
from lakehouse_assets.platform.modelling.forecasting.inputs import INPUTS, forecast_rows
from lakehouse_assets.platform.modelling.forecasting.known_days import as_known_now, at_each_origin
from lakehouse_assets.platform.modelling.forecasting.series import DAY, VALUE, Series
from lakehouse_assets.platform.storage.known_at import KNOWN_AT, as_known


@dataclass(frozen=True)
class SeriesExamples(ScoredAsStored):
    """The examples of daily series. See `declarations.learning.Examples`.

    Attributes:
        series: What is forecast.
        features: Name of the table with the rows of `daily_features`.
        code: Says which code computes that table.
    """

    series: Series
    features: str
    code: str = ""

    at = "origin"
    target = VALUE
    inputs = INPUTS

    @property
    def key(self) -> tuple[str, ...]:
        """See `Examples.key`."""
        return (*self.series.by, "origin", "horizon")

    @property
    def outcome(self) -> tuple[pl.Expr, ...]:
        """See `Examples.outcome`: a day of a series is one, however many origins lie before it."""
        return (*(pl.col(name) for name in self.series.by), pl.col("origin").dt.offset_by(pl.format("{}d", "horizon")).alias(DAY))

    @property
    def slices(self) -> tuple[str, ...]:
        """See `Examples.slices`: each series, by the columns that tell them apart."""
        return self.series.by

    def sources(self) -> tuple[str, ...]:
        """See `Examples.sources`."""
        return (self.features,)

    def identity(self) -> str:
        """See `Examples.identity`."""
        return repr((self.series, self.features, self.code))

    def rows(self, read: Read, known_until: datetime | None = None) -> pl.LazyFrame:
        """See `Examples.rows`. A day that the series never had a row for is no outcome; one without anything in it is zero."""
        series, features = self.series, read(self.features).collect()
        outcomes = as_known(features.lazy(), series.stored_key, known_until).pipe(series.opened)
        return (
            forecast_rows(at_each_origin(features, series), series)
            .join(outcomes.select(*series.key, VALUE, pl.col(KNOWN_AT).alias(LABEL_KNOWN_AT)), on=series.key)
            .select(*self.key, *INPUTS[1:], VALUE, LABEL_KNOWN_AT)
        )

    def training(self, rows: pl.LazyFrame) -> TrainingRows:
        """Some of the rows, as learners take them."""
        return TrainingRows(rows, self.key, self.at, self.target, self.inputs)

    def newest(self, features: pl.LazyFrame) -> pl.LazyFrame:
        """What is to be forecast now: `key`, `day` and `inputs` of the newest day of all, as everything is known now.

        Args:
            features: The rows of the feature table with all revisions.
        """
        day = pl.col(self.series.time)
        known = as_known_now(features.filter(day > day.max() - self.series.lookback), self.series)
        return forecast_rows(known, self.series).filter(pl.col("origin") == pl.col("origin").max()).select(*self.key, DAY, *INPUTS[1:])

    def outcomes(self) -> Outcomes:
        """See `Examples.outcomes`."""
        from lakehouse_assets.platform.modelling.forecasting.outcomes import SeriesOutcomes  # which is made of examples

        return SeriesOutcomes(self)
