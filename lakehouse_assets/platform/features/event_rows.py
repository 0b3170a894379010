"""Feature rows of the labelled events themselves, for training: what was known of an event when it came, also where it came late.

A prediction about an event is made when the event comes, so its own features are known then, whatever its event time. Which feature sets
have a row at each event follows from the declarations. Rows of anything else are joined as of the label's time: see `point_in_time`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import numpy as np
import polars as pl

from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.learning import Read
from lakehouse_assets.platform.features.point_in_time import FeatureRows, micros, same_type
from lakehouse_assets.platform.features.timeline import Numbers
from lakehouse_assets.platform.storage.known_at import IS_RETRACTED, KNOWN_AT, KNOWN_AT_ASSUMED, OWN_COLUMNS, REPLACED_KNOWN_AT, VERSION

_LABEL, _EVENT, _KNOWN = "__label", "__event", "__known"


def sets_of_events(entity: Sequence[str], features: Sequence[FeatureSet]) -> tuple[FeatureSet, ...]:
    """The feature sets that have a row at each event of the table that labels are about.

    The first one is computed from a row of that table alone, and its entity is that of the labels. So are the others, or they are
    statistics at each event of the same table (`window_features` without `every`).

    Args:
        entity: Of the labels.
        features: Of the model.

    Returns:
        None of them if the labels are not about the events of a table.
    """
    computed = [
        one
        for one in features
        if {*one.entity} == {*entity} and len(one.sources()) == 1 and one.is_computed_from(one.sources()[0], one.entity)
        # What is announced ahead of its time does not come when it happens.
        if not one.known_ahead
    ]
    if not computed:
        return ()
    first = computed[0]
    table = first.sources()[0]
    alike = [one for one in computed if one.sources() == (table,) and one.event_time == first.event_time]
    at_each = [one for one in features if one.online is not None and one.online.events == table and one.event_time == first.event_time]
    return (*alike, *(one for one in at_each if one not in alike))


@dataclass(frozen=True)
class EventRows:
    """Puts the row of the event itself into the place of an older one, where the event came too late to be known at its own time.

    It is the row that was known first: no later revision is seen. An event counts if it is the first of its entity: one whose time was
    corrected had another time when it came. If entities have several events at once, as the days of a customer, the rows are no events,
    and nothing is put anywhere.

    Where a feature set fell behind, so that the events of a later commit may be in its row, the label gets what was known at its time.

    Attributes:
        labels: With their entity and time.
        at: The column of their time.
        sets: As `sets_of_events` gives them.
        own: The first of them, as a side of the join; None: there is none.
        read: Reads their tables.
    """

    labels: pl.DataFrame
    at: str
    sets: tuple[str, ...]
    own: FeatureRows | None
    read: Read

    def over(self, feature: FeatureRows, labels: pl.DataFrame, taken: pl.DataFrame) -> pl.DataFrame:
        """The rows that labels take of a feature set.

        Args:
            feature: The set.
            labels: With the entity of the set.
            taken: The rows that they would take as of their time.
        """
        if feature.name not in self.sets:
            return taken
        at, event = (rows.select(micros(one, rows.schema[one])) for rows, one in ((labels, self.at), (taken, feature.event_time)))
        is_late = at.to_series().ne_missing(event.to_series())
        late = labels.with_columns(pl.when(is_late).then(self.at).alias(self.at))
        revisions = _Revisions.of(feature, self.read(feature.name))
        asked = revisions.asked(late, self.at)
        if asked.is_empty() or self._came is None:
            return taken
        found = revisions.first(asked, taken.columns).join(self._came, on=_LABEL, suffix="__own")
        # A commit of events between the two may be in the row.
        before = np.searchsorted(self._commits, found[_KNOWN].to_numpy(), side="left")
        until = np.searchsorted(self._commits, found[f"{_KNOWN}__own"].to_numpy(), side="right")
        found = found.filter(pl.Series(before <= until, dtype=pl.Boolean)).with_columns(pl.lit(value=True).alias("__is_own"))
        numbers = pl.DataFrame({_LABEL: np.arange(labels.height, dtype=np.int64)})
        rows = numbers.join(found, on=_LABEL, how="left", maintain_order="left")
        is_own = rows["__is_own"].fill_null(value=False)
        return taken.select(rows[name].zip_with(is_own, taken[name]).alias(name) for name in taken.columns)

    @cached_property
    def _came(self) -> pl.DataFrame | None:
        """When the events came: see `_Revisions.came`."""
        return None if self.own is None else _Revisions.of(self.own, self.read(self.own.name)).came(self.labels, self.at)

    @cached_property
    def _commits(self) -> Numbers:
        """When events came that did not come in order, in microseconds, sorted."""
        assert self.own is not None  # noqa: S101 something came
        return _Revisions.of(self.own, self.read(self.own.name)).commits()


@dataclass(frozen=True)
class _Revisions:
    """All rows of a feature set, of all versions, with the columns that tell when each came."""

    feature: FeatureRows
    rows: pl.LazyFrame
    schema: pl.Schema
    version: int

    @classmethod
    def of(cls, feature: FeatureRows, rows: pl.LazyFrame) -> "_Revisions":
        schema = rows.collect_schema()
        own = {VERSION: 1, REPLACED_KNOWN_AT: None, IS_RETRACTED: False, KNOWN_AT_ASSUMED: False}
        rows = rows.with_columns(pl.lit(value, OWN_COLUMNS[name]).alias(name) for name, value in own.items() if name not in schema)
        known = pl.coalesce(REPLACED_KNOWN_AT, KNOWN_AT)
        assumed = pl.col(KNOWN_AT_ASSUMED).fill_null(value=False)
        rows = rows.with_columns(
            micros(feature.event_time, schema[feature.event_time]).alias(_EVENT),
            known.alias(_KNOWN).dt.cast_time_unit("us").to_physical(),
            (assumed & pl.col(REPLACED_KNOWN_AT).is_null()).alias("__in_order"),
        )
        return cls(feature, rows, schema, 1 if feature.version is None else feature.version)

    def commits(self) -> Numbers:
        """When rows came that did not come in order, sorted, in microseconds."""
        times = self.rows.filter(~pl.col("__in_order")).select(pl.col(KNOWN_AT).dt.cast_time_unit("us").to_physical().unique())
        return times.collect(engine="streaming").to_series().sort().to_numpy()

    def came(self, labels: pl.DataFrame, at: str) -> pl.DataFrame | None:
        """When the event of each label was known first: number of the label and time. None if the rows are no events."""
        entity = list(self.feature.entity)
        asked = self.asked(labels, at)
        keys = asked.select(entity).unique()
        # What an earlier version had is not known later because it is recomputed.
        since = pl.col(_KNOWN).min().over(*entity, _EVENT)
        mine = self._typed(asked).select(*entity, _EVENT, VERSION, IS_RETRACTED, _KNOWN)
        rows = mine.join(keys.lazy(), on=entity, how="semi").collect(engine="streaming")
        rows = rows.with_columns(since.alias("__since")).filter(pl.col(VERSION) == self.version).sort(_KNOWN)
        stands = rows.unique([*entity, _EVENT], keep="last", maintain_order=True).filter(~pl.col(IS_RETRACTED))
        if stands.select(entity).is_duplicated().any():
            return None
        first = rows.filter(~pl.col(IS_RETRACTED)).unique([*entity, _EVENT], keep="first", maintain_order=True)
        first = first.select(*entity, _EVENT, pl.col("__since").alias(_KNOWN))
        is_first = pl.col(_KNOWN) == pl.col(_KNOWN).min().over(entity)
        first = first.filter(is_first & (is_first.sum().over(entity) == 1), pl.col(_KNOWN) > self._begins())
        return asked.join(first, on=[*entity, _EVENT]).select(_LABEL, _KNOWN)

    def first(self, asked: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
        """The rows at the time of the labels, as `asked` gives them, that were known first: number of the label, when, and columns.

        The first row of a later version is what was known first only if an earlier version had its value since then.
        """
        entity = list(self.feature.entity)
        wanted = dict.fromkeys([*entity, _EVENT, _KNOWN, VERSION, IS_RETRACTED, REPLACED_KNOWN_AT, KNOWN_AT, KNOWN_AT_ASSUMED, *columns])
        keys = asked.select(*entity, _EVENT).unique()
        rows = self._typed(asked).select(*wanted).join(keys.lazy(), on=[*entity, _EVENT], how="semi").collect(engine="streaming")
        rows = rows.filter(~pl.col(IS_RETRACTED))
        came = rows.group_by(*entity, _EVENT).agg(pl.col(_KNOWN).min().alias("__came")).filter(pl.col("__came") > self._begins())
        rows = rows.filter(pl.col(VERSION) == self.version).join(came, on=[*entity, _EVENT]).filter(pl.col(_KNOWN) == pl.col("__came"))
        # Rows that tie are told apart by their values, and not by their order.
        tied = rows.select(*entity, _EVENT).is_duplicated()
        if tied.any():
            rows = rows.sort(*sorted({*columns} - {*entity}), descending=True, nulls_last=True)
        rows = rows.unique([*entity, _EVENT], keep="first", maintain_order=True).with_columns(
            pl.coalesce(REPLACED_KNOWN_AT, KNOWN_AT).alias(KNOWN_AT),
            pl.col(KNOWN_AT_ASSUMED) | pl.col(REPLACED_KNOWN_AT).is_not_null(),
        )
        return asked.select(_LABEL, *entity, _EVENT).join(rows, on=[*entity, _EVENT]).select(_LABEL, _KNOWN, *columns)

    def _begins(self) -> int:
        """Since when it can be told what was known first: the oldest version that is left may have begun with revised values."""
        oldest = self.rows.select(pl.col(VERSION).min()).collect(engine="streaming").item()
        if oldest is None or oldest == 1:
            return -(2**63)
        of_it = self.rows.filter((pl.col(VERSION) == oldest) & ~pl.col("__in_order"))
        began: int | None = of_it.select(pl.col(KNOWN_AT).dt.cast_time_unit("us").to_physical().min()).collect(engine="streaming").item()
        return 2**63 - 1 if began is None else began

    def asked(self, labels: pl.DataFrame, at: str) -> pl.DataFrame:
        """Number, entity and time of the labels that have all of them, in the types of `_typed`."""
        keys = labels.select(*same_type(self.feature, self.schema, labels), micros(at, labels.schema[at]).alias(_EVENT))
        if (labels.schema[at] == pl.Date) != (self.schema[self.feature.event_time] == pl.Date):
            keys = keys.clear()  # a day is no moment
        return keys.with_row_index(_LABEL).cast({_LABEL: pl.Int64}).drop_nulls()

    def _typed(self, asked: pl.DataFrame) -> pl.LazyFrame:
        types = {name: asked.schema[name] for name in self.feature.entity}
        return self.rows.with_columns(pl.col(name).cast(dtype) for name, dtype in types.items() if self.schema[name] != dtype)


def moment(times: pl.Series) -> pl.Series:
    """Times in UTC; of a date its beginning."""
    if times.dtype == pl.Date:
        return times.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return times.dt.convert_time_zone("UTC").dt.cast_time_unit("us")


def until(at: pl.Series) -> pl.Series:
    """The last moment that counts for labels: of a date its end."""
    return moment(at) + timedelta(days=1) if at.dtype == pl.Date else moment(at)


def came_late(found: pl.DataFrame, at: pl.Series) -> pl.Series:
    """Whether the row of a label became known after the label's time, as that of an event that came late."""
    return (found[KNOWN_AT] > until(at)).fill_null(value=False)
