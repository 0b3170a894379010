"""Residuals: how far each outcome was from what was predicted. They are what drift of a forecast is watched by.

Values themselves move with the season; residuals of a model that knows the season do not. They are compared with those of the champion's
tests, so each outcome counts once here too, by one of the forecasts that were made of it. How they are judged is in `residual_drift`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final

import polars as pl

from lakehouse_assets.platform.declarations.actual_outcomes import ABOUT
from lakehouse_assets.platform.declarations.learning import ACTUAL
from lakehouse_assets.platform.declarations.models import CHAMPION, MODEL_VERSION
from lakehouse_assets.platform.modelling.evaluation import Evaluation
from lakehouse_assets.platform.modelling.metric_inputs import MEANS, first_of
from lakehouse_assets.platform.monitoring.accuracy.changed import changed_times
from lakehouse_assets.platform.monitoring.accuracy.predicted import Predicted
from lakehouse_assets.platform.monitoring.accuracy.windows import COMPLETE, HORIZONS, Granularity
from lakehouse_assets.platform.monitoring.drift.watched_rows import WINDOW_START, Marks, WatchedRows
from lakehouse_assets.platform.monitoring.profiling.groups import MOMENT, Groups, Span, merged

TIME, RESIDUAL, SHARE = "about", "residual", "residual_share"
"""Columns: the time that a prediction is about, outcome less prediction, and that as a share of the prediction."""
_OVER: Final = "over"
_EPOCH, _LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)
_MONDAY: Final = 4
"""Days from 1970-01-01 to the first Monday."""


@dataclass(frozen=True)
class ResidualRows(WatchedRows):
    """The residuals of predictions whose windows are over and whose outcomes are known, by windows of the time that they are about.

    Attributes:
        predicted: The predictions, at the versions that are read.
        every: The length of windows.
        now: The moment (UTC).
    """

    predicted: Predicted
    every: Granularity
    now: datetime

    @property
    def name(self) -> str:
        """See `WatchedRows.name`."""
        return self.predicted.name

    @cached_property
    def identity(self) -> str:
        """See `WatchedRows.identity`."""
        return str(self.predicted.lakehouse.table(self.name).now().metadata().id)

    @property
    def version(self) -> int:
        """See `WatchedRows.version`."""
        return self.predicted.at[self.name]

    @property
    def marks(self) -> Mapping[str, int]:
        """See `WatchedRows.marks`: the versions of the tables, and when the newest window that is over ended."""
        return {**self.predicted.at, _OVER: (self.over - _EPOCH) // _TICK}

    @property
    def schema(self) -> pl.Schema:
        """See `WatchedRows.schema`."""
        return pl.Schema({TIME: MOMENT, **dict.fromkeys(self.predicted.slices, pl.String()), RESIDUAL: pl.Float64(), SHARE: pl.Float64()})

    @cached_property
    def over(self) -> datetime:
        """The end of the newest window that is over, with all that may still become known of it."""
        until = self.predicted.outcomes.settled_until(self.now) - (self.predicted.outcomes.settled or timedelta(0))
        found: datetime = pl.select(self.every.start(pl.lit(until, MOMENT))).item()
        return found

    def rows(self, groups: Groups, windows: pl.Series | None = None) -> pl.LazyFrame:  # noqa: ARG002 windows are those of `every`
        """See `WatchedRows.rows`."""
        wanted = self._starts if windows is None else windows
        ends = wanted.to_frame(WINDOW_START).select(WINDOW_START, self.every.end(pl.col(WINDOW_START)).alias("end"))
        found = once(self.predicted.rows(merged(ends.drop_nulls().iter_rows()), self.now), self.predicted)
        complete = found.with_columns(self.every.start(pl.col(ABOUT)).alias(WINDOW_START)).filter(self._is_complete)
        return _residuals(complete, pl.col(ABOUT), self.predicted).lazy()

    @property
    def _is_complete(self) -> pl.Expr:
        """Whether the outcomes of the window that a row lies in, which is over, are as complete as they get."""
        coverage = pl.col(ACTUAL).is_not_null().mean().over(WINDOW_START)
        return coverage >= COMPLETE if self.predicted.outcomes.settled is None else pl.lit(value=True)

    def windows(self, groups: Groups, spans: Sequence[Span] | None = None, *, nulls: bool = True) -> pl.Series:  # noqa: ARG002 see `rows`
        """See `WatchedRows.windows`."""
        if spans is None:
            return self._starts
        ends = [(self._moment(start, _LONG_AGO) - _TICK, self._moment(end, self.now) - _TICK) for start, end in spans]
        found = [self._of(self.predicted.between(start, min(end, self.now))) for start, end in ends if start < end]
        return pl.concat(found).unique().sort() if found else self._of(pl.Series([], dtype=MOMENT))

    @staticmethod
    def _moment(at: int | None, instead: datetime) -> datetime:
        return instead if at is None else max(_EPOCH + at * _TICK, _LONG_AGO)

    @cached_property
    def _starts(self) -> pl.Series:
        return self._of(self.predicted.between(_LONG_AGO, self.now))

    def changed(self, groups: Groups, before: Marks) -> pl.Series | None:  # noqa: ARG002 windows are those of `every`
        """See `WatchedRows.changed`."""
        over = before[_OVER]
        last = None if over is None else _EPOCH + over * _TICK
        times = changed_times(self.predicted, before, last, self.now)
        if times is None or last is None:
            return None
        ended = self._of(self.predicted.between(last - _TICK, self.now))
        return pl.concat([self._of(times), ended]).unique().sort()

    def _of(self, times: pl.Series) -> pl.Series:
        """The windows that times lie in and that are over."""
        starts = times.cast(MOMENT).to_frame(TIME).select(self.every.start(pl.col(TIME)).alias(WINDOW_START)).unique().sort(WINDOW_START)
        return starts.filter(pl.col(WINDOW_START) < pl.lit(self.over, MOMENT)).to_series()


def once(rows: pl.DataFrame, predicted: Predicted) -> pl.DataFrame:
    """Of each outcome the forecast that counts, by the newest version that made it.

    Outcomes of one day depend on each other, and a day that is forecast again each day would count as often. Tests forecast each day once,
    from origins some weeks apart; so of each day that forecast counts which was made about as long before as in such tests.
    """
    key, rhythm = list(predicted.outcomes.key), predicted.outcomes.rhythm
    if predicted.horizon is None or rhythm is None:
        order = pl.lit(0, pl.Int64)
    else:
        # From a Monday on, so that a week has days as far ahead as each other.
        ahead = (pl.col(ABOUT).dt.epoch("d") - _MONDAY) % rhythm + 1
        order = (pl.col(predicted.horizon).cast(pl.Int64) - ahead).abs()
    return rows.sort(order, -pl.col(MODEL_VERSION), maintain_order=True).unique(key, keep="first", maintain_order=True).sort(ABOUT, *key)


def of_tests(evaluation: Evaluation, predicted: Predicted) -> pl.DataFrame:
    """The residuals of the champion's tests, with the columns of `ResidualRows`."""
    rows = evaluation.own.of(CHAMPION)
    return _residuals(rows, predicted.outcomes.tested_about, predicted)


def lacking(evaluation: Evaluation, predicted: Predicted) -> list[str]:
    """The slices that the rows of an evaluation do not have."""
    return [name for name in predicted.slices if name not in evaluation.rows.columns]


def _residuals(rows: pl.DataFrame, about: pl.Expr, predicted: Predicted) -> pl.DataFrame:
    said, came = pl.col(first_of(rows, MEANS)).cast(pl.Float64), pl.col(ACTUAL).cast(pl.Float64)
    return rows.filter(pl.col(ACTUAL).is_not_null()).select(
        about.cast(MOMENT).alias(TIME),
        *(_slice(name, predicted.horizon) for name in predicted.slices),
        (came - said).alias(RESIDUAL),
        pl.when(said != 0).then((came - said) / said.abs()).alias(SHARE),
    )


def _slice(name: str, horizon: str | None) -> pl.Expr:
    """The values of a slice as texts; of days ahead the ranges that are scored together."""
    if name != horizon:
        return pl.col(name).cast(pl.String)
    ranges: Sequence[tuple[int, int]] = HORIZONS
    found = pl.lit(None, pl.String)
    for first, last in ranges:
        found = pl.when(pl.col(name).is_between(first, last)).then(pl.lit(f"{first}-{last}")).otherwise(found)
    return found.alias(name)
