"""Predictions with what became true of them, as it was known at a moment: those of a table of predictions.

Only what a version of the model had not learnt from counts: a table of predictions has rows of its whole past scored again by each new
champion. Predictions that an endpoint answered are in `requested`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final, Self

import polars as pl

from lakehouse_assets.platform.declarations.actual_outcomes import ABOUT, REPORTED_AT, Outcomes
from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.learning import ACTUAL, LABEL_KNOWN_AT, WEIGHT, Read
from lakehouse_assets.platform.declarations.models import MODEL_VERSION, ModelDeclaration, Predictions
from lakehouse_assets.platform.storage.errors import NoSuchTable, NoSuchVersion
from lakehouse_assets.platform.storage.known_at import as_known
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.scopes import Keys
from lakehouse_assets.platform.storage.source import Source
from lakehouse_assets.platform.storage.types import TIMESTAMP

OWN: Final = (ABOUT, ACTUAL, LABEL_KNOWN_AT, REPORTED_AT)
"""The columns that are added to those of predictions."""
Spans = Sequence[tuple[datetime, datetime]]


class NotWatchable(ValueError):
    """The accuracy of some predictions cannot be worked out. The message says what to do."""


@dataclass(frozen=True)
class Predicted(ABC):
    """Predictions of a model, and where their outcomes come from.

    Attributes:
        predictions: The declared table of predictions.
        outcomes: What comes true of them.
        driving: The feature set whose rows are scored.
        slices: Columns by whose values they are told apart: of the predictions, of the table of outcomes, or of the driving feature set.
        lakehouse: The tables.
        at: The versions of the tables that are read; None: the newest.
    """

    predictions: Predictions
    outcomes: Outcomes
    driving: FeatureSet
    slices: tuple[str, ...]
    lakehouse: Lakehouse
    at: Mapping[str, int]

    @property
    def model(self) -> ModelDeclaration:
        """The model."""
        return self.predictions.model

    @property
    @abstractmethod
    def name(self) -> str:
        """The table that the predictions are in."""

    @property
    @abstractmethod
    def tables(self) -> tuple[str, ...]:
        """The tables that are read, that of the predictions first."""

    @abstractmethod
    def times(self, source: Source) -> pl.Series:
        """The times that predictions are about which came, changed or went with a change of one of the tables, or whose outcome did."""

    @abstractmethod
    def between(self, after: datetime, until: datetime) -> pl.Series:
        """The times that predictions are about, after one moment and until another."""

    @abstractmethod
    def of_outcomes(self, keys: pl.DataFrame) -> pl.Series:
        """The times that predictions are about whose outcomes have one of some keys."""

    def became_known(self, after: datetime, until: datetime) -> pl.Series:
        """The times that predictions are about whose outcomes became known after one moment and until another, as they say themselves."""
        if not self.exists(self.outcomes.table):
            return pl.Series(ABOUT, [], TIMESTAMP)
        keys = self.outcomes.became_known(self.scan(self.outcomes.table), after, until)
        return self.of_outcomes(keys.unique().collect(engine="streaming"))

    @abstractmethod
    def rows(self, spans: Spans | None, now: datetime) -> pl.DataFrame:
        """Predictions with their outcomes, in a fixed order; with `model_version` and the columns `OWN`.

        Args:
            spans: The times that they are about; None: all until now.
            now: Outcomes are as they were known then.
        """

    @property
    def horizon(self) -> str | None:
        """See `Outcomes.horizon`."""
        return self.outcomes.horizon

    def pinned(self) -> Self:
        """These predictions, with all tables at the version that they have now, and outcomes settled as far as their rows go."""
        tables = [self.lakehouse.table(name) for name in self.tables]
        pinned = replace(self, at={table.name: table.version() for table in tables if table.exists()})
        if self.outcomes.table not in pinned.at:
            return pinned
        return replace(pinned, outcomes=self.outcomes.as_far_as(pinned.scan(self.outcomes.table)))

    def scan(self, name: str) -> pl.LazyFrame:
        """The rows of a table at the version that is read; a table that does not exist has none."""
        return self.lakehouse.table(name).scan(self.at.get(name))

    def exists(self, name: str) -> bool:
        """Whether a table is there."""
        return self.lakehouse.table(name).exists()

    def unseen(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows whose version of the model had not seen what they are about."""
        if rows.is_empty():
            return rows
        kept = [
            rows.filter(pl.col(MODEL_VERSION) == version, self._is_unseen(version))
            for version in rows[MODEL_VERSION].drop_nulls().unique().sort()
        ]
        return pl.concat(kept) if kept else rows.clear()

    def _is_unseen(self, version: int) -> pl.Expr:
        learnt = self.learnt_until(version)
        return pl.lit(value=True) if learnt is None else self.outcomes.is_unseen(learnt)

    def learnt_until(self, version: int) -> datetime | None:
        """The newest outcome that a version has learnt, of the tables as they were then; None: it learnt none.

        If they are gone, the time of the first decision about it counts.
        """
        if version not in self._learnt:
            self._learnt[version] = self._learnt_by(version)
        return self._learnt[version]

    @cached_property
    def _learnt(self) -> dict[int, datetime | None]:
        return {}

    def _learnt_by(self, version: int) -> datetime | None:
        if self.outcomes.table in self.learnt_from(version):
            try:
                return self.outcomes.learnt_until(self.then(version)(self.outcomes.table))
            except (NoSuchVersion, NoSuchTable):
                pass
        first: datetime | None = self._decisions.filter(pl.col("version") == version)["decided_at"].min()  # type: ignore[assignment]
        return first

    def learnt_from(self, version: int) -> Mapping[str, int]:
        """The tables that a version was trained on, with their versions."""
        found = self._decisions.filter(pl.col("version") == version)["training_tables"].drop_nulls()
        return json.loads(found[0]) if len(found) else {}

    def then(self, version: int) -> Read:
        """Reads tables as they were when a version was trained."""
        versions = self.learnt_from(version)
        return lambda name: self.lakehouse.table(name).scan(versions[name])

    @cached_property
    def _decisions(self) -> pl.DataFrame:
        ledger = self.lakehouse.table(self.model.name)
        columns = {"version": pl.Int64(), "decided_at": TIMESTAMP, "training_tables": pl.String()}
        return ledger.scan().select(list(columns)).collect() if ledger.exists() else pl.DataFrame(schema=columns)

    # --- outcomes and slices

    def with_outcomes(self, rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """Rows of predictions with what was known of them."""
        key = list(self.outcomes.key)
        if not self.exists(self.outcomes.table):
            return rows.with_columns(pl.lit(None, pl.Float64).alias(ACTUAL), *(pl.lit(None, TIMESTAMP).alias(one) for one in OWN[2:]))
        found = self.outcomes.known(self._of_keys(self.scan(self.outcomes.table), rows, key), now)
        return rows.join(_typed_as(rows, found, key), on=key, how="left", maintain_order="left")

    def with_slices(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of predictions with the columns by which they are sliced."""
        lacking = [name for name in self.slices if name not in rows.columns]
        for table, key, told in self._slice_sources:
            names = [name for name in lacking if name in told]
            lacking = [name for name in lacking if name not in names]
            if names and self.exists(table):
                of_rows = self._of_keys(self.scan(table), rows, key)
                about = self.outcomes.about(of_rows, names) if table == self.outcomes.table else self._of_driving(of_rows, key, names)
                told_of = _typed_as(rows, about.collect(engine="streaming"), key)
                rows = rows.join(told_of, on=list(key), how="left", maintain_order="left")
        return rows.with_columns(pl.lit(None, pl.String).alias(name) for name in self.slices if name not in rows.columns)

    @property
    def _slice_sources(self) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
        """Tables that may tell slices, with the key that predictions meet them by and the columns that they have."""
        of_outcomes = tuple(self.scan(self.outcomes.table).collect_schema()) if self.exists(self.outcomes.table) else ()
        found = [(self.outcomes.table, self.outcomes.key, of_outcomes)]
        if {*self.driving.entity} <= {*self.predictions.schema}:
            found.append((self.driving.name, self.driving.entity, tuple(self.driving.schema)))
        return found

    def _of_driving(self, rows: pl.LazyFrame, key: Sequence[str], names: Sequence[str]) -> pl.LazyFrame:
        time = self.driving.event_time
        known = as_known(rows, [*key, time])
        return known.sort(time).unique(list(key), keep="last", maintain_order=True).select(*key, *names)

    @property
    def slice_tables(self) -> tuple[str, ...]:
        """The tables that slices come from, besides those of predictions and outcomes."""
        lacking = [name for name in self.slices if name not in self.predictions.schema]
        told = self._slice_sources[0][2]
        return (self.driving.name,) if any(name not in told for name in lacking) else ()

    @staticmethod
    def _of_keys(table: pl.LazyFrame, rows: pl.DataFrame, key: Sequence[str]) -> pl.LazyFrame:
        """The rows of a table whose key some predictions have."""
        types = table.collect_schema()
        return Keys(rows.select(pl.col(name).cast(types[name]) for name in key).drop_nulls().unique()).filter(table)


@dataclass(frozen=True)
class PredictedTable(Predicted):
    """The rows of a table of predictions."""

    @property
    def name(self) -> str:
        """See `Predicted.name`."""
        return self.predictions.name

    @property
    def tables(self) -> tuple[str, ...]:
        """See `Predicted.tables`."""
        return tuple(dict.fromkeys((self.name, self.outcomes.table, *self.slice_tables)))

    @cached_property
    def time(self) -> str:
        """The column with the time that a prediction is about.

        Raises:
            NotWatchable: The table lacks it, or a column of the key of outcomes.
        """
        return time_of(self.predictions, self.outcomes)

    def times(self, source: Source) -> pl.Series:
        """See `Predicted.times`."""
        if source.table.name == self.name:
            return source.touched([self.time]).select(_utc(self.time)).to_series().drop_nulls()
        key = list(self.outcomes.key if source.table.name == self.outcomes.table else self.driving.entity)
        return self._met(source.touched(key), key)

    def of_outcomes(self, keys: pl.DataFrame) -> pl.Series:
        """See `Predicted.of_outcomes`."""
        return self._met(keys, list(self.outcomes.key))

    def _met(self, keys: pl.DataFrame, key: Sequence[str]) -> pl.Series:
        met = self._of_keys(self.scan(self.name), keys, key)
        return met.select(_utc(self.time)).unique().collect(engine="streaming").to_series()

    def between(self, after: datetime, until: datetime) -> pl.Series:
        """See `Predicted.between`."""
        tick = timedelta(microseconds=1)
        rows = self.scan(self.name).filter(within(self.time, self.predictions.schema, after + tick, until + tick))
        times = rows.select(_utc(self.time)).unique()
        return times.filter(pl.col(ABOUT) > after, pl.col(ABOUT) <= until).collect(engine="streaming").to_series()

    def rows(self, spans: Spans | None, now: datetime) -> pl.DataFrame:
        """See `Predicted.rows`."""
        schema = self.predictions.schema
        kept = [name for name in schema if name not in {*OWN, WEIGHT}]
        rows = self.scan(self.name).select(*kept, _utc(self.time)).filter(pl.col(ABOUT).is_not_null(), pl.col(ABOUT) <= now)
        if spans is not None:
            rows = rows.filter(pl.any_horizontal(pl.lit(value=False), *(within(self.time, schema, start, end) for start, end in spans)))
        found = self.unseen(rows.collect(engine="streaming"))
        found = self.with_slices(self.with_outcomes(found, now))
        return found.sort(ABOUT, *self.outcomes.key, *([self.horizon] if self.horizon else []), MODEL_VERSION, maintain_order=True)


def time_of(predictions: Predictions, outcomes: Outcomes) -> str:
    """The column of a table of predictions with the time that a row is about.

    Raises:
        NotWatchable: It lacks it, or a column by which outcomes are met.
    """
    schema = predictions.schema
    lacking = [name for name in (*outcomes.key, *([outcomes.horizon] if outcomes.horizon else [])) if name not in schema]
    time = next((name for name in outcomes.times if name in schema), None)
    if lacking or time is None:
        names = ", ".join(lacking) if lacking else " or ".join(outcomes.times)
        raise NotWatchable(
            f"{predictions.name} has no column {names}, by which its predictions meet what {outcomes.table} says of them: add it to "
            f"contract {predictions.contract.__name__}"
        )
    return time


def _utc(column: str) -> pl.Expr:
    return pl.col(column).cast(TIMESTAMP).alias(ABOUT)


def _typed_as(rows: pl.DataFrame, others: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Other rows with their key in the types of these: a table may hold a moment in milliseconds, and predictions in microseconds."""
    return others.with_columns(pl.col(name).cast(rows.schema[name]) for name in key)


def within(column: str, schema: pl.Schema, start: datetime, end: datetime) -> pl.Expr:
    """Whether the time in a column lies in a span, by values of its own type, so that files of other times are not read."""
    if schema[column] == pl.Date:
        last = (end - timedelta(microseconds=1)).astimezone(UTC).date()
        return pl.col(column).is_between(pl.lit(start.astimezone(UTC).date()), pl.lit(last))
    return (pl.col(column) >= pl.lit(start)) & (pl.col(column) < pl.lit(end))


def predicted_by(model: ModelDeclaration, declared: Mapping[str, Declaration]) -> list[Predictions]:
    """The tables that a model predicts."""
    return [one for one in declared.values() if isinstance(one, Predictions) and one.model.name == model.name]
