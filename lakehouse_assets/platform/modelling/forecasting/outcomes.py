"""What comes true of a forecast: the value of the day, as it is known at a moment. How forecasts are made is in `inputs` and `direct`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.actual_outcomes import REPORTED_AT, Outcomes
from lakehouse_assets.platform.declarations.learning import ACTUAL, LABEL_KNOWN_AT, Learner, Read
from lakehouse_assets.platform.modelling.forecasting.examples import SeriesExamples
from lakehouse_assets.platform.modelling.forecasting.inputs import INPUTS, forecast_rows
from lakehouse_assets.platform.modelling.forecasting.known_days import at_each_origin
from lakehouse_assets.platform.storage.known_at import KNOWN_AT, as_known
from lakehouse_assets.platform.storage.types import TIMESTAMP

_AS_OF = "as_of"


@dataclass(frozen=True)
class SeriesOutcomes(Outcomes):
    """The outcomes of daily series. See `Outcomes`.

    Attributes:
        examples: Of the model.
    """

    examples: SeriesExamples
    horizon = "horizon"

    @property
    def table(self) -> str:
        """See `Outcomes.table`: the feature set, which keeps when each value became known."""
        return self.examples.features

    @property
    def key(self) -> tuple[str, ...]:
        """See `Outcomes.key`."""
        return self.examples.series.stored_key

    @property
    def times(self) -> tuple[str, ...]:
        """See `Outcomes.times`."""
        return (self.examples.series.time,)

    @property
    def rhythm(self) -> int:
        """See `Outcomes.rhythm`."""
        return self.examples.series.step

    def known(self, rows: pl.LazyFrame, until: datetime) -> pl.DataFrame:
        """See `Outcomes.known`."""
        value = pl.col(self.examples.series.value).alias(ACTUAL)
        found = as_known(rows, self.key, until).select(*self.key, value, pl.col(KNOWN_AT).cast(TIMESTAMP).alias(LABEL_KNOWN_AT))
        return found.with_columns(pl.lit(None, TIMESTAMP).alias(REPORTED_AT)).collect(engine="streaming")

    def became_known(self, rows: pl.LazyFrame, after: datetime, until: datetime) -> pl.LazyFrame:
        """See `Outcomes.became_known`."""
        return rows.filter(pl.col(KNOWN_AT) > after, pl.col(KNOWN_AT) <= until).select(self.key)

    def about(self, rows: pl.LazyFrame, columns: Sequence[str]) -> pl.LazyFrame:
        """See `Outcomes.about`."""
        return as_known(rows, self.key).select(*self.key, *columns)

    @property
    def tested_about(self) -> pl.Expr:
        """See `Outcomes.tested_about`."""
        return (pl.col("origin") + pl.duration(days=pl.col("horizon"))).cast(TIMESTAMP)

    def learnt_until(self, rows: pl.LazyFrame) -> datetime | None:
        """See `Outcomes.learnt_until`: the end of the newest day."""
        day = pl.col(self.examples.series.time).max().cast(TIMESTAMP) + timedelta(days=1)
        newest: datetime | None = rows.select(day).collect(engine="streaming").item()
        return newest

    def is_unseen(self, learnt_until: datetime) -> pl.Expr:
        """See `Outcomes.is_unseen`: the forecast was made at the end of the last day that the model learnt from, or later."""
        return pl.col(_AS_OF).cast(TIMESTAMP) + timedelta(days=1) >= pl.lit(learnt_until, TIMESTAMP)

    def baseline(self, learner: Learner, then: Read, now: Read, asked: pl.DataFrame, *, seed: int, compute: Compute) -> pl.DataFrame | None:
        """See `Outcomes.baseline`: from the same origins, with what was known at their ends."""
        series = self.examples.series
        predictor = learner.fit(self.examples.training(self.examples.rows(then)), seed=seed, compute=compute)
        origins = asked[_AS_OF].unique().to_list()
        rows = forecast_rows(at_each_origin(now(self.table).collect(), series), series).filter(pl.col("origin").is_in(origins))
        on = [*series.by, "origin", "horizon"]
        inputs = [name for name in predictor.inputs if name in INPUTS and name not in on]
        types = rows.collect_schema()
        wanted = asked.select(*series.by, pl.col(_AS_OF).alias("origin"), pl.col("horizon").cast(types["horizon"]))
        found = wanted.join(rows.select(*on, *inputs).collect(), on=on, how="left", maintain_order="left")
        return predictor.predict(found)
