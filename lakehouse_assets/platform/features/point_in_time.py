"""Labels joined to feature values as they were known at the label's time, so that no training row sees what came later (law 5).

A feature set has a row for each entity and event time, and one more for each time that its values were revised or retracted; `known_at`
says from when on each was known. Which row counts when is worked out in `timeline`; how such tables are written is in `storage.known_at`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.features.timeline import NONE, Arrivals, Flags, Numbers, Timeline
from lakehouse_assets.platform.storage.known_at import IS_RETRACTED, KNOWN_AT, KNOWN_AT_ASSUMED, OWN_COLUMNS, without_retracted

_NUMBERS_AT_ONCE: Final = 100_000_000
_LEAST_AT_ONCE, _MOST_AT_ONCE = 6_000_000, 12_000_000
"""Feature rows that are held in memory at once, where a single entity has no more: as many as have so many values, within two bounds."""
_MOMENT: Final = pl.Datetime("us", "UTC")
_DAY: Final = 86_400_000_000
_ENTITY: Final = "__entity"


class JoinError(ValueError):
    """Labels and features cannot be joined. The message names the table, the column and what to do."""


@dataclass(frozen=True)
class FeatureRows:
    """The rows of one feature set as one side of a join.

    Attributes:
        name: Of the table, for messages.
        rows: All revisions of one version, as `known_at.of_version` gives them: `entity`, `event_time`, `known_at` (UTC), perhaps
            `is_retracted` and `known_at_assumed`, and values.
        entity: Columns that name the entity, here and in the labels; none: the values are about all labels.
        event_time: Column that says for when a value holds: a date counts from its beginning on (UTC).
        ttl: A row whose event time is older than this at the label's time is not used; None: none is too old.
        defaults: By column (without the prefix) the value for labels that find no row. A null in a row that is found stays.
        prefix: Stands before the names of the values in the result.
        columns: The values that are taken, in this order; None: all.
        version: Of the feature set, which `rows` are; None: it has none.
    """

    name: str
    rows: pl.LazyFrame
    entity: tuple[str, ...]
    event_time: str
    ttl: timedelta | None = None
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    prefix: str = ""
    columns: tuple[str, ...] | None = None
    version: int | None = None

    def values(self, schema: pl.Schema) -> tuple[str, ...]:
        """The columns that are taken, without the prefix.

        Raises:
            JoinError: One is missing.
        """
        wanted = (*self.entity, self.event_time, KNOWN_AT, *(self.columns or ()), *self.defaults)
        missing = [name for name in dict.fromkeys(wanted) if name not in schema]
        if missing:
            raise JoinError(f"{self.name} has no column {', '.join(missing)}: it has {', '.join(schema)}")
        own = {*self.entity, self.event_time, KNOWN_AT, *OWN_COLUMNS}
        return tuple(name for name in schema if name not in own) if self.columns is None else self.columns


Over = Callable[[FeatureRows, pl.DataFrame, pl.DataFrame], pl.DataFrame]
"""Of a feature set, the labels, and the row that each of them takes: the rows that they take instead."""


@dataclass(frozen=True)
class Joined:
    """Labels with features.

    Attributes:
        rows: The labels in their order, with the values of all feature sets.
        found: For each feature set, by name: `event_time`, `known_at` and `known_at_assumed` of the row that was taken, for each label;
            null where none was.
    """

    rows: pl.DataFrame
    found: Mapping[str, pl.DataFrame]


def join_as_of(
    labels: pl.LazyFrame | pl.DataFrame,
    features: Sequence[FeatureRows],
    *,
    at: str,
    name: str = "labels",
    rows_at_once: int | None = None,
    when_known: bool = True,
    over: Over | None = None,
) -> Joined:
    """Give each label of every feature set the newest row that had happened and was known at the label's time.

    Of the rows of the label's entity with `event_time` and `known_at` not after `at`, those of the newest event time are taken, and of them
    the one that became known last. If that one is a retraction, the event is as if it had never been, and the next older one counts. So
    values that are known ahead of their time are right too: a price of tomorrow is not used today.
    If rows tie in event time and `known_at`, a retraction counts before the others, then the largest values do, compared column by column
    in the order of the columns' names (null is smallest): never the order of the rows.

    Args:
        labels: One row a label, with the columns of the entities and `at`. An entity may also be a value of a feature set further to the
            front. A null in the entity or in `at` finds nothing.
        features: The feature sets.
        at: Column of the labels: a time with a time zone, or a date, whose end counts (UTC); its time to live counts from its beginning.
        name: Of the labels' table, for messages.
        rows_at_once: The most feature rows to hold in memory; None: six million, or all of up to twelve with few columns. The join is done
            part by part of the entities if there are more, and each part reads the feature set again.
        when_known: False: `known_at` is not limited by `at`: events up to it, with their values as they are known now. To score, never to
            learn.
        over: Gives the rows that count in the place of those that were found, in `found` as well.

    Returns:
        The labels in the order in which they came, with one column for each value.

    Raises:
        JoinError: A column is missing, exists twice, or has a type that cannot be meant.
    """
    rows = labels.lazy().collect(engine="streaming")
    moments = _Moments.of(rows, at, name)
    found: dict[str, pl.DataFrame] = {}
    for feature in features:
        schema = feature.rows.collect_schema()
        values = feature.values(schema)
        _check(feature, schema, rows, values, name)
        taken = _Search(feature, schema, (*values, *_stamps(feature, schema)), moments, when_known).rows_of(rows, rows_at_once)
        taken = taken if over is None else over(feature, rows, taken)
        found[feature.name] = taken.select(
            pl.col(feature.event_time).alias("event_time"),
            KNOWN_AT,
            pl.col(KNOWN_AT_ASSUMED).fill_null(value=False)
            if KNOWN_AT_ASSUMED in taken.columns
            else pl.lit(value=False).alias(KNOWN_AT_ASSUMED),
        )
        absent = taken[KNOWN_AT].is_null()
        rows = rows.hstack([_filled(taken[value], absent, feature).alias(feature.prefix + value) for value in values])
    return Joined(rows, MappingProxyType(found))


def naive_known_at(
    labels: pl.DataFrame, feature: FeatureRows, *, at: str, name: str = "labels", rows_at_once: int | None = None
) -> pl.Series:
    """When the row became known that a join by event time alone takes: the newest event up to `at`, with its values as they are now.

    Where it is after the label's time, such a join would have seen the future.

    Returns:
        One time for each label, null where there is no row.

    Raises:
        JoinError: See `join_as_of`.
    """
    schema = feature.rows.collect_schema()
    _check(feature, schema, labels, (), name)
    moments = _Moments.of(labels, at, name)
    search = _Search(feature, schema, (KNOWN_AT,), moments, when_known=False)
    return search.rows_of(labels, rows_at_once)[KNOWN_AT]


def as_first_known(features: pl.LazyFrame, on: Sequence[str]) -> pl.LazyFrame:
    """Of each key the values that were known first: what a model could see on the day itself. Keys that were retracted are left out."""
    return without_retracted(features, on).sort(KNOWN_AT).unique(list(on), keep="first", maintain_order=True)


@dataclass(frozen=True)
class _Moments:
    """The times of labels in microseconds: `until` is the last one at which something may become known, and events are before `before`."""

    until: pl.Series
    ages_from: pl.Series
    of_dates: bool

    @classmethod
    def of(cls, labels: pl.DataFrame, at: str, name: str) -> "_Moments":
        if at not in labels.columns:
            raise JoinError(f"{name} has no column {at}: it has {', '.join(labels.columns)}")
        dtype = labels.schema[at]
        _check_time(name, at, dtype)
        begins = labels.select(micros(at, dtype)).to_series()
        of_dates = dtype == pl.Date
        return cls(begins + _DAY if of_dates else begins, begins, of_dates)


def _check_time(table: str, column: str, dtype: pl.DataType, *, dates: bool = True) -> None:
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is None:
            raise JoinError(
                f"{table}: {column} is a time without a time zone, so it cannot be compared with known_at (UTC): "
                f'say which one it is, as in pl.col("{column}").dt.replace_time_zone("UTC")'
            )
    elif not (dates and dtype == pl.Date):
        what = "a date or a time with a time zone" if dates else "a time with a time zone"
        raise JoinError(f"{table}: {column} has to be {what}, and is {dtype}")


def _check(feature: FeatureRows, schema: pl.Schema, labels: pl.DataFrame, values: Sequence[str], name: str) -> None:
    feature.values(schema)
    missing = [column for column in feature.entity if column not in labels.columns]
    if missing:
        raise JoinError(
            f"{name} has no column {', '.join(missing)}, which is the entity of {feature.name}: add it to {name}, "
            f"or put a feature set that has it before {feature.name}"
        )
    _check_time(feature.name, feature.event_time, schema[feature.event_time])
    _check_time(feature.name, KNOWN_AT, schema[KNOWN_AT], dates=False)
    twice = [feature.prefix + value for value in values if feature.prefix + value in labels.columns]
    if twice:
        raise JoinError(
            f"{feature.name}: {', '.join(twice)} is also a column of {name} or of a feature set before it: "
            f'give the values a prefix, as in prefix="{feature.name.rpartition(".")[2]}_", or leave columns out'
        )


def _stamps(feature: FeatureRows, schema: pl.Schema) -> tuple[str, ...]:
    return (feature.event_time, KNOWN_AT, *([KNOWN_AT_ASSUMED] if KNOWN_AT_ASSUMED in schema else []))


def _filled(values: pl.Series, absent: pl.Series, feature: FeatureRows) -> pl.Series:
    default = feature.defaults.get(values.name)
    if default is None:
        return values
    try:
        return values.zip_with(~absent, pl.Series([default]).cast(values.dtype, strict=True))
    except (pl.exceptions.PolarsError, TypeError, OverflowError) as error:
        raise JoinError(f"{feature.name}: the default {default!r} of {values.name} is no {values.dtype}: give one of its type") from error


def micros(column: str, dtype: pl.DataType, *, up: bool = False) -> pl.Expr:
    """A date or time as microseconds; nanoseconds are rounded, so that nothing is used before it is known."""
    value = pl.col(column)
    if dtype == pl.Datetime("ns", getattr(dtype, "time_zone", None)):
        whole = value.to_physical()
        return -((-whole).floordiv(1000)) if up else whole.floordiv(1000)
    return (value.cast(pl.Datetime("us")) if dtype == pl.Date else value.dt.cast_time_unit("us")).to_physical()


def same_type(feature: FeatureRows, schema: pl.Schema, labels: pl.DataFrame) -> Iterator[pl.Expr]:
    """The columns of the entity from the labels, in a type that both sides can have."""
    for column in feature.entity:
        here, there = labels.schema[column], schema[column]
        if here == there:
            yield pl.col(column)
        elif here.is_integer() and there.is_integer():
            yield pl.col(column).cast(pl.Int128 if pl.UInt64 in (here, there) else pl.Int64)
        elif all(one in (pl.String, pl.Categorical, pl.Enum) for one in (here, there)):
            yield pl.col(column).cast(pl.String)
        else:
            raise JoinError(f"{feature.name}: {column} is {there}, and {here} in the labels: give both tables one type")


def _of_entities(rows: pl.LazyFrame, entities: pl.DataFrame, on: list[str]) -> pl.LazyFrame:
    return rows.join(entities.lazy(), on=on) if on else rows.with_columns(pl.lit(0).alias(_ENTITY))


def _ranges(rows: pl.LazyFrame, entities: pl.DataFrame, on: list[str], rows_at_once: int) -> list[tuple[int, int]]:
    """Ranges of entities whose rows fit into memory, as good as none being split allows."""
    counts = rows.group_by(on).len().join(entities.lazy(), on=on).select(_ENTITY, "len").collect(engine="streaming").sort(_ENTITY)
    rows_before = counts["len"].cast(pl.Int64).cum_sum() - counts["len"].cast(pl.Int64)
    group = rows_before // rows_at_once
    starts = counts[_ENTITY].filter((group != group.shift(1)).fill_null(value=True)).to_list()
    return list(zip([0, *starts[1:]], [*starts[1:], entities.height], strict=True))


@dataclass(frozen=True)
class _Search:
    """Which row of a feature set each label takes: by what was known then or, not `when_known`, by event time alone."""

    feature: FeatureRows
    schema: pl.Schema
    columns: tuple[str, ...]
    moments: _Moments
    when_known: bool = True

    def rows_of(self, labels: pl.DataFrame, rows_at_once: int | None) -> pl.DataFrame:
        """`columns` of the row of each label, null where there is none."""
        # Few columns are read in one go where that is all; parts, joined to the result of the others, are smaller.
        whole = rows_at_once or min(max(_NUMBERS_AT_ONCE // len(self.columns), _LEAST_AT_ONCE), _MOST_AT_ONCE)
        rows_at_once = rows_at_once or _LEAST_AT_ONCE
        on, until = list(self.feature.entity), self.moments.until
        keys = labels.select(same_type(self.feature, self.schema, labels))
        entities = keys.drop_nulls().unique(maintain_order=True).with_row_index(_ENTITY)
        if on:
            entity = keys.join(entities, on=on, how="left", maintain_order="left")[_ENTITY].cast(pl.Int64)
        else:  # the rows are about everything
            entity = pl.zeros(labels.height, pl.Int64, eager=True)
        asked = np.flatnonzero((entity.is_not_null() & until.is_not_null()).to_numpy())
        parts, places, placed = [pl.DataFrame(schema={name: self.schema[name] for name in self.columns})], np.full(len(until), NONE), 0
        if len(asked):
            who, when, oldest = entity.gather(asked).to_numpy(), until.gather(asked).to_numpy(), self._oldest(asked)
            rows = self._candidates(keys.schema, int(when.max()), None if oldest is None else int(oldest.min()))
            fits = not on or self.feature.rows.select(pl.len()).collect(engine="streaming").item() <= whole
            for first, last in [(0, max(entities.height, 1))] if fits else _ranges(rows, entities, on, rows_at_once):
                mine = np.flatnonzero((who >= first) & (who < last))
                part = self._part(_of_entities(rows, entities[first:last], on))
                found = part.find(who[mine], when[mine], None if oldest is None else oldest[mine])
                hit = np.flatnonzero(found != NONE)
                parts.append(part.rows.select(self.columns)[found[hit]])
                places[asked[mine[hit]]] = placed + np.arange(len(hit))
                placed += len(hit)
        at = pl.Series(places)
        return pl.concat(parts).select(pl.all().gather(at.set(at == NONE, None)))

    def _oldest(self, asked: Numbers) -> Numbers | None:
        ttl = self.feature.ttl
        return None if ttl is None else self.moments.ages_from.gather(asked).to_numpy() - ttl // timedelta(microseconds=1)

    def _candidates(self, types: pl.Schema, until: int, oldest: int | None) -> pl.LazyFrame:
        """The rows that some label could take, as far as a table tells them by its statistics."""
        event, last = self.feature.event_time, pl.lit(until, dtype=_MOMENT)
        of_dates = self.schema[event] == pl.Date
        rows = self.feature.rows.filter(pl.col(event) <= (last.dt.date() if of_dates else last))
        if oldest is not None:
            first = pl.lit(oldest - 1, dtype=_MOMENT)  # an event in nanoseconds is rounded up
            rows = rows.filter(pl.col(event) >= (first.dt.date() if of_dates else first))
        rows = rows.filter(pl.col(KNOWN_AT) <= last if self.when_known else pl.col(KNOWN_AT).is_not_null())
        return rows.with_columns(pl.col(name).cast(dtype) for name, dtype in types.items() if self.schema[name] != dtype)

    def _part(self, rows: pl.LazyFrame) -> "_Part":
        event_time, retracts = self.feature.event_time, IS_RETRACTED in self.schema
        read = dict.fromkeys([*self.columns, event_time, KNOWN_AT, *([IS_RETRACTED] if retracts else [])])
        frame = rows.select(_ENTITY, *read).collect(engine="streaming")
        event = frame.select(micros(event_time, self.schema[event_time], up=True)).to_series().to_numpy()
        known = frame.select(micros(KNOWN_AT, self.schema[KNOWN_AT], up=True)).to_series().to_numpy()
        # Of a label by date the end of its day counts, at which the first moment of the next day has not begun.
        happened = event + 1 if self.moments.of_dates else event
        gone: Flags | None = frame[IS_RETRACTED].fill_null(value=False).to_numpy() if retracts else None
        decisive = [*([IS_RETRACTED] if retracts else []), *sorted(set(self.columns) - {event_time, KNOWN_AT})]

        def ties(chosen: Numbers) -> pl.DataFrame:
            return frame[chosen].select(pl.col(name).alias(f"value {number:05}") for number, name in enumerate(decisive))

        begins = np.maximum(happened, known) if self.when_known else happened
        return _Part(frame, event, Timeline.of(Arrivals(frame[_ENTITY].to_numpy().astype(np.int64), begins, happened, known, gone, ties)))


@dataclass(frozen=True)
class _Part:
    """Feature rows of some entities, in memory, with their timeline."""

    rows: pl.DataFrame
    event: Numbers
    timeline: Timeline

    def find(self, entity: Numbers, until: Numbers, oldest: Numbers | None) -> Numbers:
        """The number of the row that counts, within its time to live."""
        found = self.timeline.at(entity, until)
        if oldest is None or not self.rows.height:
            return found
        return np.where((found != NONE) & (self.event[found] >= oldest), found, NONE)
