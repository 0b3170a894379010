"""What the tables said of a logged row at some moment or version: whether later knowledge, or a store behind them, explains a difference.

A feature set that is computed from the event is computed from the event as it was sent; windows from the events that the tables had and
the one that was sent; of any other, the rows that there were count. Which differences are asked about is in `parity`, how tables are read
in `read_once`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
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
from lakehouse_assets.platform.serving.read_once import Grouped, ReadOnce
from lakehouse_assets.platform.serving.refused import Refused
from lakehouse_assets.platform.serving.rows import RowType
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.known_at import KNOWN_AT, of_version
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

LATE: Final = "late"
"""Something became known after the answer, as a correction of the event."""
ASKED: Final = "asked"
"""Windows counted events that were asked about, and that are not in the table."""
STALE: Final = "stale"
"""The value came into the table after the version that the online store had."""
_RECEIVED, _AT = "__received_at", "__event_time"
_AT_ONCE: Final = 1_000
_GONE: Final = (NoSuchVersion, FileNotFoundError, pl.exceptions.PolarsError)
"""What reading a version raises that maintenance has deleted."""


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with null for what is no finite number: so models take them, and so requests are given them."""
    return {name: None if isinstance(one, float) and not math.isfinite(one) else one for name, one in values.items()}


@dataclass(frozen=True)
class LoggedRow:
    """A logged row.

    Attributes:
        request: As it was sent, JSON.
        form: `rows`, `dry_run` or `keys`.
        received: When it came.
        names: The columns of the entities of feature sets, and the event time, as batch has them.
        status: By feature set, what the log says of it.
    """

    request: str
    form: str
    received: datetime
    names: Mapping[str, Any]
    status: Mapping[str, Mapping[str, Any]]

    def store(self, feature: FeatureSet) -> tuple[str, int, datetime | None] | None:
        """Of a feature set the table that the online store had, its version and until when it agreed with it; None: it is not known."""
        said = self.status.get(feature.name, {})
        table, _, version = said.get("table", "").rpartition("@")
        synced = said.get("synced_at")
        return (table, int(version), None if synced is None else datetime.fromisoformat(synced)) if table else None


@dataclass(frozen=True)
class KnownThen:
    """Works out features as of what was known.

    Attributes:
        endpoint: Whose log it is.
        roles: Where its features come from.
        lakehouse: The tables.
        versions: By feature set, the version that the model is given; None: the newest.
        logged: All rows that may be asked about.
    """

    endpoint: Endpoint
    roles: Roles
    lakehouse: Lakehouse
    versions: Mapping[str, int | None]
    logged: Sequence[LoggedRow]
    _read: ReadOnce = field(default_factory=ReadOnce, init=False, repr=False)
    _events: dict[str, pl.DataFrame | None] = field(default_factory=dict, init=False, repr=False)

    def why(self, feature: FeatureSet, asked: LoggedRow, given: dict[str, Any]) -> str:
        """Why a row was given other features than the tables have, though nothing became known later; empty: nothing says why."""
        if self.is_corrected(asked) and given in self.values(feature, asked):
            return LATE
        if given in self.in_store(feature, asked):
            return STALE
        return ASKED if given in self.with_asked(feature, asked) else ""

    def values(self, feature: FeatureSet, asked: LoggedRow) -> list[dict[str, Any]]:
        """The features that may have been right then: several where the tables had several after each other; columns without prefix."""
        event = self._event(asked)
        if event is not None and feature in self.roles.computed:
            ((parameter, _),) = feature.inputs.items()
            return self._of(feature, feature(**{parameter: event.lazy()}).collect())
        rows = self._feature_rows(feature).of(asked.names)
        if event is not None and self._counts_events(feature):
            # Also what the tables said of this event before it was corrected.
            before = rows.filter(pl.col(feature.event_time) == self._at(asked)).sort(KNOWN_AT)
            return [*self._statistics(feature, asked, event, self._known(feature, asked, event)), *self._of(feature, before)]
        return self._joined(feature, asked, rows.filter(pl.col(KNOWN_AT) <= asked.received))

    def in_store(self, feature: FeatureSet, asked: LoggedRow) -> list[dict[str, Any]]:
        """What the tables gave at the version that the online store had then; nothing of a set that was not looked up, or if it is gone."""
        if feature not in self.roles.looked_up or asked.form == "keys" or asked.store(feature) is None:
            return []
        event = self._event(asked)
        try:
            if event is not None and self._counts_events(feature):
                return self._statistics(feature, asked, event, self._others(feature, asked, event, self._in_store(feature, asked)))
            return self._joined(feature, asked, self._in_store(feature, asked))
        except _GONE:
            return []

    def is_lost(self, feature: FeatureSet, asked: LoggedRow, given: dict[str, Any]) -> bool:
        """Whether the store said that it has nothing of an entity of which its version of the table has something."""
        if self._counts_events(feature):
            return False
        said = self.in_store(feature, asked)
        return bool(said) and given not in said

    def is_corrected(self, asked: LoggedRow) -> bool:
        """Whether the event came into the table with other values than it was sent with."""
        event, table = self._event(asked), self.roles.event
        if event is None or table is None:
            return False
        columns = [name for name in self._type.columns if name != self.endpoint.model.examples.target]
        sent = (event.row(0, named=True) for one in self.logged if (event := self._event(one)) is not None)
        stored = self._read.rows(table.name, None, self._keys, sent, lambda: self.lakehouse.table(table.name).scan().select(columns))
        return not stored.of(event.row(0, named=True)).equals(event.select(columns))

    def with_asked(self, feature: FeatureSet, asked: LoggedRow) -> list[dict[str, Any]]:
        """The statistics that also count what was asked about before, or in the same request; none of a set without windows.

        The other events are those that were known then, or those that the store had.
        """
        event = self._event(asked)
        if event is None or not self._counts_events(feature):
            return []
        before = self._asked_before(feature, asked)

        def counting(others: pl.DataFrame) -> list[dict[str, Any]]:
            more = [others, before.join(others, on=self._keys, how="anti")]
            return self._statistics(feature, asked, event, pl.concat(more, how="vertical_relaxed"))

        found = counting(self._known(feature, asked, event))
        if feature in self.roles.looked_up and asked.store(feature) is not None:
            with suppress(*_GONE):
                found += counting(self._others(feature, asked, event, self._in_store(feature, asked)))
        return found

    # --- rows

    def _counts_events(self, feature: FeatureSet) -> bool:
        """Whether its statistics are of the events that the endpoint is asked about."""
        return self.roles.event is not None and form_of(feature).events == self.roles.event.name

    def _at(self, asked: LoggedRow) -> Any:
        return asked.names[self.roles.driving.event_time]

    def _feature_rows(self, feature: FeatureSet) -> Grouped:
        """The rows of the entities of all logged rows, with all that was ever known of them."""
        return self._rows_of(feature, feature.name, None, lambda: of_version(self._scan(feature.name), self.versions.get(feature.name)))

    def _rows_of(self, feature: FeatureSet, table: str, version: int | None, scan: Callable[[], pl.LazyFrame]) -> Grouped:
        names = [name for name in feature.entity if table == feature.name or name in self._type.columns]
        return self._read.rows(table, version, names, (one.names for one in self.logged), scan)

    def _scan(self, name: str, version: int | None = None) -> pl.LazyFrame:
        return self.lakehouse.table(name).scan(version)

    def _in_store(self, feature: FeatureSet, asked: LoggedRow) -> pl.DataFrame:
        """The rows of the table that the online store had, at its version, of the entity of a row.

        Raises:
            NoSuchVersion: It is gone.
        """
        store = asked.store(feature)
        assert store is not None  # noqa: S101 asked before
        name, version, synced = store
        if version < 0:  # a scan was under way: what it had not reached was of the version before
            if synced is None:
                raise NoSuchVersion(f"{name}: the store did not know it yet")
            version = self.lakehouse.table(name).version_at(synced)

        def scan() -> pl.LazyFrame:
            rows = self._scan(name, version)
            return of_version(rows, self.versions.get(feature.name)) if name == feature.name else rows.select(list(self._type.columns))

        return self._rows_of(feature, name, version, scan).of(asked.names)

    def _known(self, feature: FeatureSet, asked: LoggedRow, event: pl.DataFrame) -> pl.DataFrame:
        """The other events of the entity that the table had then."""
        table = self.roles.event
        assert table is not None  # noqa: S101 windows of events are asked for with one
        times = self._feature_rows(feature).of(asked.names).group_by(feature.event_time).agg(pl.col(KNOWN_AT).min())
        later = times.filter(pl.col(KNOWN_AT) > asked.received)[feature.event_time]
        events = self._rows_of(feature, table.name, None, lambda: self._scan(table.name).select(list(self._type.columns))).of(asked.names)
        return self._others(feature, asked, event, events.filter(~pl.col(feature.event_time).is_in(later.implode())))

    def _others(self, feature: FeatureSet, asked: LoggedRow, event: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
        """Of some events those up to the time of a row, without its own one."""
        before = events.filter(pl.col(feature.event_time) <= self._at(asked))
        return before.select(list(self._type.columns)).join(event.select(self._keys), on=self._keys, how="anti")

    def _asked_before(self, feature: FeatureSet, asked: LoggedRow) -> pl.DataFrame:
        """The events of requests up to then within the longest window, each as it was sent last; those of a dry run count nowhere."""
        at = self._at(asked)
        near = (pl.col(_RECEIVED) <= asked.received) & (pl.col(_AT) <= at) & (pl.col(_AT) > at - form_of(feature).windows.longest)  # type: ignore[union-attr]
        own = [pl.col(name).eq_missing(pl.lit(asked.names[name])) for name in feature.entity if name in self._type.columns]
        return self._all_asked.filter(near, *own).drop(_RECEIVED, _AT).unique(self._keys, keep="last", maintain_order=True)

    @cached_property
    def _all_asked(self) -> pl.DataFrame:
        """The events of all requests that the windows of the logged rows may have counted, in the order in which they came."""
        times, received = [self._at(one) for one in self.logged], max(one.received for one in self.logged)
        longest = max((form.windows.longest for one in self.roles.sets if hasattr(form := form_of(one), "windows")), default=timedelta())
        counting = (pl.col("form") == "rows") & (pl.col("status_code") == 200) & (pl.col("variant") != "shadow")
        near = (pl.col("received_at") <= received) & (pl.col("event_time") <= max(times)) & (pl.col("event_time") > min(times) - longest)
        rows = self._scan(self.endpoint.name).filter(counting & near).sort("received_at", "request_id", "row")
        found = rows.select("request", pl.col("received_at").alias(_RECEIVED), pl.col("event_time").alias(_AT)).collect(engine="streaming")
        parts = [self._with_events(part) for part in found.iter_slices(_AT_ONCE)]
        empty = self._type.frame([]).with_columns(found.select(_RECEIVED, _AT).clear())
        return pl.concat([empty.select(*self._type.columns, _RECEIVED, _AT), *parts], how="vertical_relaxed")

    def _with_events(self, requests: pl.DataFrame) -> pl.DataFrame:
        """The events of some requests, with when each came and its time; what cannot be read any more is left out."""
        try:
            events = self._type.frame(self._type.read(f"[{','.join(requests['request'])}]".encode()))
        except Refused:
            read = [self._read_event(text) for text in requests["request"]]
            requests = requests.filter(pl.Series([one is not None for one in read], dtype=pl.Boolean))
            events = pl.concat([self._type.frame([]), *(one for one in read if one is not None)], how="vertical_relaxed")
        return events.with_columns(requests.select(_RECEIVED, _AT)).select(*self._type.columns, _RECEIVED, _AT)

    # --- values

    def _joined(self, feature: FeatureSet, asked: LoggedRow, rows: pl.DataFrame) -> list[dict[str, Any]]:
        """What a join gives of some rows."""
        examples, at = self.endpoint.model.examples, self.roles.driving.event_time
        assert isinstance(examples, LabelledExamples)  # noqa: S101 rows are scored one by one
        side = examples.feature_rows(feature, lambda _: rows.lazy())
        label = {name: asked.names[name] for name in (*feature.entity, at)}
        types = {name: feature.schema[name] for name in feature.entity} | {at: self.roles.driving.schema[at]}
        found = join_as_of(pl.DataFrame([label], types), [side], at=at, when_known=False).rows
        return [finite(one) for one in found.select(pl.col(side.prefix + name).alias(name) for name in feature.columns).to_dicts()]

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
        return [finite(one) for one in rows.select(feature.columns).cast(schema).to_dicts()]  # type: ignore[arg-type]

    # --- events

    def _event(self, asked: LoggedRow) -> pl.DataFrame | None:
        """The event as it was sent; None if it was not sent, or cannot be read any more."""
        if asked.form == "keys":
            return None
        if asked.request not in self._events:
            self._events[asked.request] = self._read_event(asked.request)
        return self._events[asked.request]

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
