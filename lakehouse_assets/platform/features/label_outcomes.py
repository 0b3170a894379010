"""What comes true of predictions where a model learns labels: the label of the same entity, as it was known at a moment.

A label counts from when training would count it, so that of young rows not only those are known that become known soon.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.actual_outcomes import ABOUT, FROM_SILENCE, REPORTED_AT, Outcomes
from lakehouse_assets.platform.declarations.learning import ACTUAL, LABEL_KNOWN_AT, Learner, NotEnoughData, Read, TrainingRows
from lakehouse_assets.platform.features.event_rows import moment
from lakehouse_assets.platform.features.labels import Labels
from lakehouse_assets.platform.storage.types import TIMESTAMP

_ONE: Final = "__one"


def _as_it_is(rows: pl.DataFrame) -> pl.DataFrame:
    return rows


@dataclass(frozen=True)
class LabelOutcomes(Outcomes):
    """The outcomes of a table of labels. See `Outcomes`.

    Attributes:
        labels: What is predicted.
        event_time: What the feature sets call the time of a row.
        as_learnt: Makes the target as it is learnt of that of the table.
        by_time: Whether an entity has a label for each time, as the days of a customer.
        data_until: The newest time of the table, as training takes it for now; None: not known.
    """

    labels: Labels
    event_time: str = ""
    as_learnt: Callable[[pl.DataFrame], pl.DataFrame] = field(default=_as_it_is, compare=False)
    by_time: bool = False
    data_until: datetime | None = None

    def keyed(self, key: Sequence[str]) -> "LabelOutcomes":
        """See `Outcomes.keyed`."""
        return replace(self, by_time=self.labels.at in key)

    @property
    def table(self) -> str:
        """See `Outcomes.table`."""
        return self.labels.table

    @property
    def key(self) -> tuple[str, ...]:
        """See `Outcomes.key`."""
        return (*self.labels.entity, self.labels.at) if self.by_time else self.labels.entity

    @property
    def times(self) -> tuple[str, ...]:
        """See `Outcomes.times`."""
        return tuple(dict.fromkeys(name for name in (self.labels.at, self.event_time) if name))

    @property
    def settled(self) -> timedelta | None:
        """See `Outcomes.settled`."""
        return self.labels.settled

    def as_far_as(self, rows: pl.LazyFrame) -> "LabelOutcomes":
        """See `Outcomes.as_far_as`."""
        return replace(self, data_until=self.labels.data_until(rows))

    def settled_until(self, now: datetime) -> datetime:
        """See `Outcomes.settled_until`."""
        return now if self.data_until is None else min(now, self.data_until)

    @property
    def usual(self) -> Any:
        """See `Outcomes.usual`."""
        return self.labels.otherwise

    @property
    def target(self) -> str | None:
        """See `Outcomes.target`."""
        return self.labels.target

    def known_by(self, rows: pl.LazyFrame, until: datetime) -> pl.DataFrame:
        """See `Outcomes.known_by`; of an entity with several times the newest counts, unless they are part of the key."""
        found = self.labels.rows(rows, known_until=until, settled_until=self.settled_until(until))
        silent = self.labels.from_silence(found.schema).alias(FROM_SILENCE)
        found = found.with_columns(silent).sort(self.labels.at, LABEL_KNOWN_AT)
        newest = found.unique(list(self.key), keep="last", maintain_order=True)
        return newest.join(self._first_reported(rows, until), on=list(self.key), how="left", maintain_order="left")

    def learnt(self, said: pl.DataFrame) -> pl.DataFrame:
        """See `Outcomes.learnt`."""
        return self.as_learnt(said)

    def known(self, rows: pl.LazyFrame, until: datetime) -> pl.DataFrame:
        """See `Outcomes.known`."""
        outcome = pl.col(self.labels.target).alias(ACTUAL)
        found = self.learnt(self.known_by(rows, until))
        return found.select(*self.key, outcome, pl.col(LABEL_KNOWN_AT).cast(TIMESTAMP), REPORTED_AT)

    def _first_reported(self, rows: pl.LazyFrame, until: datetime) -> pl.DataFrame:
        """The key, and when another outcome than the usual one was first reported."""
        labels, key = self.labels, list(self.key)
        if self.usual is None or labels.known_at is None:
            return rows.select(*key, pl.lit(None, TIMESTAMP).alias(REPORTED_AT)).limit(0).collect()
        other = pl.col(labels.target).is_not_null() & (pl.col(labels.target) != self.usual)
        told = rows.filter(other).select(*key, pl.col(labels.known_at).cast(TIMESTAMP).alias(REPORTED_AT))
        return told.filter(pl.col(REPORTED_AT) <= until).group_by(key).agg(pl.col(REPORTED_AT).min()).collect(engine="streaming")

    def became_known(self, rows: pl.LazyFrame, after: datetime, until: datetime) -> pl.LazyFrame:
        """See `Outcomes.became_known`; what is settled by its time alone says nothing."""
        if self.labels.known_at is None:
            return rows.select(self.key).limit(0)
        known = pl.col(self.labels.known_at).cast(TIMESTAMP)
        return rows.filter(known > after, known <= until).select(self.key)

    def about(self, rows: pl.LazyFrame, columns: Sequence[str]) -> pl.LazyFrame:
        """See `Outcomes.about`."""
        key = list(self.key)
        wanted = dict.fromkeys([*key, self.labels.at, *columns])
        newest = rows.select(*wanted).sort(self.labels.at, *columns).unique(key, keep="last", maintain_order=True)
        return newest.select(*key, *columns)

    @property
    def tested_about(self) -> pl.Expr:
        """See `Outcomes.tested_about`."""
        return pl.col(self.labels.at).cast(TIMESTAMP)

    def learnt_until(self, rows: pl.LazyFrame) -> datetime | None:
        """See `Outcomes.learnt_until`."""
        newest = moment(self.labels.rows(rows)[self.labels.at]).max()
        return newest if isinstance(newest, datetime) else None

    def is_unseen(self, learnt_until: datetime) -> pl.Expr:
        """See `Outcomes.is_unseen`."""
        return pl.col(ABOUT) > pl.lit(learnt_until, TIMESTAMP)

    def baseline(self, learner: Learner, then: Read, now: Read, asked: pl.DataFrame, *, seed: int, compute: Compute) -> pl.DataFrame | None:  # noqa: ARG002
        """See `Outcomes.baseline`: it learns from the labels alone, so it is one that says the same of every row."""
        labels = self.learnt(self.labels.rows(then(self.table))).with_columns(pl.lit(1.0).alias(_ONE))
        training = TrainingRows(labels.lazy(), self.labels.entity, self.labels.at, self.labels.target, (_ONE,))
        with suppress(NotEnoughData, ValueError, pl.exceptions.ColumnNotFoundError):  # one that reads inputs
            predictor = learner.fit(training, seed=seed, compute=compute)
            return predictor.predict(pl.DataFrame({_ONE: [1.0] * asked.height}, schema={_ONE: pl.Float64}))
        return None
