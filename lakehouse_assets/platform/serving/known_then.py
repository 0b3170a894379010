"""What the tables would have said of a logged row at the moment that it was answered: whether later knowledge explains a difference.

A feature set that is computed from the event is computed from the event as it was sent; windows from the events that the tables knew then
and the one that was sent; of any other, the rows that were known then count. Which differences are asked about is in `parity`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

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

LATE: Final = "late"
"""Something became known after the answer, as a correction of the event."""
ASKED: Final = "asked"
"""Windows counted events that were asked about, and that are not in the table."""


@dataclass(frozen=True)
class LoggedRow:
    """A logged row.

    Attributes:
        request: As it was sent, JSON.
        form: `rows`, `dry_run` or `keys`.
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

    def why(self, feature: FeatureSet, asked: LoggedRow, given: dict[str, Any]) -> str:
        """Why a row was given other features than the tables have, though nothing became known later; empty: nothing says why."""
        if self.is_corrected(asked) and given in self.values(feature, asked):
            return LATE
        return ASKED if given in self.with_asked(feature, asked) else ""

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

    def is_corrected(self, asked: LoggedRow) -> bool:
        """Whether the event came into the table with other values than it was sent with."""
        event, table = self._event(asked), self.roles.event
        if event is None or table is None or asked.form == "keys":
            return False
        columns = [name for name in self._type.columns if name != self.endpoint.model.examples.target]
        stored = self.lakehouse.table(table.name).scan().select(columns)
        stored = stored.filter(pl.col(name) == event[name].item() for name in self._keys)
        return not stored.collect().equals(event.select(columns))

    def with_asked(self, feature: FeatureSet, asked: LoggedRow) -> list[dict[str, Any]]:
        """The statistics that also count what was asked about before, or in the same request; none of a set without windows."""
        windows = getattr(form_of(feature), "windows", None)
        event = self._event(asked) if asked.form != "keys" else None
        if event is None or windows is None or self.roles.event is None or form_of(feature).events != self.roles.event.name:
            return []
        rows = self.lakehouse.table(feature.name).scan()
        rows = rows.filter(pl.col(name).eq_missing(pl.lit(asked.names[name], feature.schema[name])) for name in feature.entity)
        known = self._known(feature, asked, event, rows)
        more = [known, self._asked_before(asked, windows.longest).join(known, on=self._keys, how="anti")]
        return self._statistics(feature, asked, event, pl.concat(more, how="vertical_relaxed"))

    def _asked_before(self, asked: LoggedRow, longest: timedelta) -> pl.DataFrame:
        """The events of requests up to then within the longest window, each as it was sent last; those of a dry run count nowhere."""
        at, log = asked.names[self.roles.driving.event_time], self.lakehouse.table(self.endpoint.name).scan()
        counting = (pl.col("form") == "rows") & (pl.col("status_code") == 200) & (pl.col("variant") != "shadow")
        near = (pl.col("received_at") <= asked.received) & (pl.col("event_time") <= at) & (pl.col("event_time") > at - longest)
        texts = log.filter(counting & near).sort("received_at", "request_id", "row").select("request").collect().to_series()
        found = [event for text in texts.unique(maintain_order=True) if (event := self._read_event(text)) is not None]
        columns = list(self._type.columns)
        events = (
            pl.concat([one.select(columns) for one in found], how="vertical_relaxed") if found else self._type.frame([]).select(columns)
        )
        return events.unique(self._keys, keep="last", maintain_order=True)

    def _windows(self, feature: FeatureSet, asked: LoggedRow, event: pl.DataFrame, rows: pl.LazyFrame) -> list[dict[str, Any]]:
        """The statistics of the events that were known then; and what the tables said of this event before it was corrected."""
        at = asked.names[self.roles.driving.event_time]
        before = rows.filter(pl.col(feature.event_time) == at).sort(KNOWN_AT).collect()
        known = self._known(feature, asked, event, rows)
        return [*self._statistics(feature, asked, event, known), *self._of(feature, before)]

    def _known(self, feature: FeatureSet, asked: LoggedRow, event: pl.DataFrame, rows: pl.LazyFrame) -> pl.DataFrame:
        """The other events of the entity that the table had then."""
        table, at = self.roles.event, asked.names[self.roles.driving.event_time]
        assert table is not None  # noqa: S101 windows of events are asked for with one
        unknown = rows.group_by(feature.event_time).agg(pl.col(KNOWN_AT).min()).filter(pl.col(KNOWN_AT) > asked.received)
        later = unknown.select(feature.event_time).collect().to_series()
        columns = list(self._type.columns)
        own = event.select(self._keys)
        stored = self.lakehouse.table(table.name).scan().select(columns).filter(pl.col(feature.event_time) <= at)
        stored = stored.filter(pl.col(name) == asked.names[name] for name in feature.entity if name in self._type.columns)
        return stored.filter(~pl.col(feature.event_time).is_in(later.implode())).collect().join(own, on=self._keys, how="anti")

    def _statistics(self, feature: FeatureSet, asked: LoggedRow, event: pl.DataFrame, others: pl.DataFrame) -> list[dict[str, Any]]:
        """The statistics of the entity at the time of the event, of it and of others."""
        ((parameter, _),) = feature.inputs.items()
        columns = list(self._type.columns)
        own = event.select(self._keys)
        parts = [others.select(columns).join(own, on=self._keys, how="anti"), event.select(columns)]
        events = pl.concat(parts, how="vertical_relaxed")
        found = feature(**{parameter: events.lazy()}).collect()
        for name in feature.entity:
            found = found.filter(pl.col(name).eq_missing(pl.lit(asked.names[name], feature.schema[name])))
        return self._of(feature, found.sort(feature.event_time).tail(1))

    def _of(self, feature: FeatureSet, rows: pl.DataFrame) -> list[dict[str, Any]]:
        schema = {name: feature.schema[name] for name in feature.columns}
        return rows.select(feature.columns).cast(schema).to_dicts()  # type: ignore[arg-type]

    def _event(self, asked: LoggedRow) -> pl.DataFrame | None:
        """The event as it was sent; None if it cannot be read any more."""
        return self._read_event(asked.request)

    def _read_event(self, text: str) -> pl.DataFrame | None:
        try:
            return self._type.frame(self._type.read(f"[{text}]".encode()))
        except Refused:
            return None

    @cached_property
    def _type(self) -> RowType:
        return event_type(self.roles, self.endpoint.model.examples.target)

    @cached_property
    def _keys(self) -> list[str]:
        assert self.roles.event is not None  # noqa: S101 asked of events alone
        return list(key_columns(self.roles.event.contract))
