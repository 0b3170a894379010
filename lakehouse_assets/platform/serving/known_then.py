"""What the tables would have said of a logged row at the moment that it was answered: whether later knowledge explains a difference.

A feature set that is computed from the event is computed from the event as it was sent; windows from the events that the tables knew then
and the one that was sent; of any other, the rows that were known then count. Which differences are asked about is in `parity`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations.endpoints import Endpoint, Roles
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.features.online.forms import form_of
from lakehouse_assets.platform.features.point_in_time import join_as_of
from lakehouse_assets.platform.features.training_set import LabelledExamples
from lakehouse_assets.platform.quality.contract import key_columns
from lakehouse_assets.platform.serving.assemble import event_type
from lakehouse_assets.platform.serving.refused import Refused
from lakehouse_assets.platform.serving.rows import RowType
from lakehouse_assets.platform.storage.known_at import KNOWN_AT, of_version
from lakehouse_assets.platform.storage.lakehouse import Lakehouse


@dataclass(frozen=True)
class LoggedRow:
    """A logged row.

    Attributes:
        request: As it was sent, JSON.
        form: `rows`, or `keys`.
        received: When it came.
        names: The columns of the entities of feature sets, and the event time, as batch has them.
    """

    request: str
    form: str
    received: datetime
    names: Mapping[str, Any]


@dataclass(frozen=True)
class KnownThen:
    """Works out features as of what was known.

    Attributes:
        endpoint: Whose log it is.
        roles: Where its features come from.
        lakehouse: The tables.
        versions: By feature set, the version that the model is given; None: the newest.
    """

    endpoint: Endpoint
    roles: Roles
    lakehouse: Lakehouse
    versions: Mapping[str, int | None]

    def values(self, feature: FeatureSet, asked: LoggedRow) -> list[dict[str, Any]]:
        """The features that may have been right then: several where the tables had several after each other; columns without prefix."""
        event = self._event(asked) if asked.form != "keys" else None
        if event is not None and feature in self.roles.computed:
            ((parameter, _),) = feature.inputs.items()
            return self._of(feature, feature(**{parameter: event.lazy()}).collect())
        rows = of_version(self.lakehouse.table(feature.name).scan(), self.versions.get(feature.name))
        rows = rows.filter(pl.col(name).eq_missing(pl.lit(asked.names[name], feature.schema[name])) for name in feature.entity)
        if event is not None and self.roles.event is not None and form_of(feature).events == self.roles.event.name:
            return self._windows(feature, asked, event, rows)
        return self._joined(feature, asked, rows)

    def _joined(self, feature: FeatureSet, asked: LoggedRow, rows: pl.LazyFrame) -> list[dict[str, Any]]:
        """Of what was known when the request came what a join gives."""
        examples, at = self.endpoint.model.examples, self.roles.driving.event_time
        assert isinstance(examples, LabelledExamples)  # noqa: S101 rows are scored one by one
        side = examples.feature_rows(feature, lambda _: rows.filter(pl.col(KNOWN_AT) <= asked.received))
        label = {name: asked.names[name] for name in (*feature.entity, at)}
        types = {name: feature.schema[name] for name in feature.entity} | {at: self.roles.driving.schema[at]}
        found = join_as_of(pl.DataFrame([label], types), [side], at=at, when_known=False).rows
        return found.select(pl.col(side.prefix + name).alias(name) for name in feature.columns).to_dicts()

    def _windows(self, feature: FeatureSet, asked: LoggedRow, event: pl.DataFrame, rows: pl.LazyFrame) -> list[dict[str, Any]]:
        """The statistics of the events that were known then; and what the tables said of this event before it was corrected."""
        table, at = self.roles.event, asked.names[self.roles.driving.event_time]
        assert table is not None  # noqa: S101 windows of events are asked for with one
        ((parameter, _),) = feature.inputs.items()
        before = rows.filter(pl.col(feature.event_time) == at).sort(KNOWN_AT).collect()
        unknown = rows.group_by(feature.event_time).agg(pl.col(KNOWN_AT).min()).filter(pl.col(KNOWN_AT) > asked.received)
        later = unknown.select(feature.event_time).collect().to_series()
        columns = list(self._type.columns)
        own = event.select(self._keys)
        stored = self.lakehouse.table(table.name).scan().select(columns).filter(pl.col(feature.event_time) <= at)
        stored = stored.filter(pl.col(name) == asked.names[name] for name in feature.entity if name in self._type.columns)
        known = stored.filter(~pl.col(feature.event_time).is_in(later.implode())).collect().join(own, on=self._keys, how="anti")
        events = pl.concat([known, event.select(columns)], how="vertical_relaxed")
        found = feature(**{parameter: events.lazy()}).collect()
        for name in feature.entity:
            found = found.filter(pl.col(name).eq_missing(pl.lit(asked.names[name], feature.schema[name])))
        return [*self._of(feature, found.sort(feature.event_time).tail(1)), *self._of(feature, before)]

    def _of(self, feature: FeatureSet, rows: pl.DataFrame) -> list[dict[str, Any]]:
        schema = {name: feature.schema[name] for name in feature.columns}
        return rows.select(feature.columns).cast(schema).to_dicts()  # type: ignore[arg-type]

    def _event(self, asked: LoggedRow) -> pl.DataFrame | None:
        """The event as it was sent; None if it cannot be read any more."""
        try:
            return self._type.frame(self._type.read(f"[{asked.request}]".encode()))
        except Refused:
            return None

    @cached_property
    def _type(self) -> RowType:
        return event_type(self.roles, self.endpoint.model.examples.target)

    @cached_property
    def _keys(self) -> list[str]:
        assert self.roles.event is not None  # noqa: S101 asked of events alone
        return list(key_columns(self.roles.event.contract))
