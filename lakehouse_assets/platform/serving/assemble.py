"""From rows of requests to the frame that the function of a prediction table is given: the same columns as in batch.

Features that follow from an event alone are computed by the function of their feature set, the others are looked up in the online store.
How the store is kept and read is in `features.online`, what becomes of the frame in `scorer`.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import Any, Final, Literal, Protocol

import polars as pl

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.endpoints import Roles
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.quality.contract import columns_of, key_columns
from lakehouse_assets.platform.serving.refused import FieldError
from lakehouse_assets.platform.serving.rows import AS_WRITTEN, Row, RowType, frame_of, frame_of_columns

Form = Literal["rows", "features"]
OK, MISSING, EXPIRED = "ok", "missing", "expired"
_ROW: Final = "__row"


class Looked(Protocol):
    """What was looked up for some events: see `features.online.lookup`."""

    @property
    def columns(self) -> Mapping[str, list[Any]]:
        """Values by column, one for each event."""
        ...

    @property
    def stamps(self) -> Mapping[str, list[Any]]:
        """By feature set, which row was read for each event; None: none."""
        ...

    @property
    def status(self) -> Mapping[str, list[str]]:
        """By feature set, `ok`, `missing`, `expired` or `unavailable` for each event."""
        ...

    @property
    def synced_at(self) -> Mapping[str, datetime | None]:
        """By feature set, until when the store knows its table."""
        ...

    @property
    def tables(self) -> Mapping[str, str]:
        """By feature set, what the store has it from, as `table@version`."""
        ...


class Lookups(Protocol):
    """Where features are looked up."""

    def features(self, events: Sequence[Mapping[str, Any]], at: Sequence[datetime | date], requests: Sequence[int] | None = None) -> Looked:
        """The features of some events, each as of its time. It never raises because the store is away.

        `requests` says how many of them each request has, in their order: these count each other in windows.
        """
        ...

    def push(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Events that were scored become part of the windows."""
        ...

    def synced(self) -> Mapping[str, datetime | None] | None:
        """By feature set, until when the store knows its table; None: the store cannot be reached now."""
        ...


@dataclass
class Assembled:
    """Rows of requests with their features.

    Attributes:
        frame: What the function is given; rows that were refused are not among them.
        rows: For each row of the frame, the number of the row that it is made of.
        times: The event time of each row that came; None where it has none.
        status: By feature set, the status for each row that came.
        stamps: By feature set, which row of it was read.
        synced_at: See `Looked`.
        tables: See `Looked`.
        refused: By number of a row, why it cannot be scored.
        unsent: Of rows that came without all that tells them apart, the columns that they lack: they have values of no meaning.
    """

    frame: pl.DataFrame
    rows: list[int]
    times: list[datetime | None]
    status: Mapping[str, list[str]] = field(default_factory=dict)
    stamps: Mapping[str, list[Any]] = field(default_factory=dict)
    synced_at: Mapping[str, datetime | None] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)
    refused: dict[int, list[FieldError]] = field(default_factory=dict)
    unsent: Mapping[int, frozenset[str]] = field(default_factory=dict)

    def keep(self, rows: Collection[int]) -> None:
        """Leave all rows out but these; what is known of the others stays."""
        kept = [position for position, row in enumerate(self.rows) if row in rows]
        self.frame, self.rows = self.frame[kept], [self.rows[position] for position in kept]
        self.refused = {row: errors for row, errors in self.refused.items() if row in rows}


@dataclass(frozen=True)
class Assembler:
    """Makes the frames of one endpoint, for the feature versions of one model.

    Attributes:
        roles: Where features come from.
        lookups: Where they are looked up; None if none are.
        refuse_missing: Whether a row of which a looked-up feature is not known is refused.
    """

    roles: Roles
    lookups: Lookups | None
    refuse_missing: bool = False

    def assemble(
        self, form: Form, rows: Sequence[Row], event: pl.DataFrame | None = None, requests: Sequence[int] | None = None
    ) -> Assembled:
        """Rows of requests with their features.

        Args:
            form: `rows`: events; `features`: full rows of features.
            rows: With a value for every field. No two have one key.
            event: Events as a frame, where it is made already.
            requests: How many of the rows each request has, in their order; None: each is a request of its own.
        """
        if form == "features":
            return self._complete(rows)
        return self._events(rows, self._event_type.frame(rows) if event is None else event, requests)

    # --- events

    def _events(self, rows: Sequence[Row], event: pl.DataFrame, requests: Sequence[int] | None) -> Assembled:
        roles = self.roles
        refused: dict[int, list[FieldError]] = {}
        frames = {one.name: self._computed(one, event, refused) for one in roles.computed}
        driving = frames.get(roles.driving.name, event)
        at = driving[roles.driving.event_time].to_list()
        times = [as_moment(value) for value in at]
        looked = self._looked_up(rows, frames, at, refused, requests)
        parts = [driving[self._identity], *(self._given(one, frames[one.name]) for one in roles.computed)]
        if looked is not None:
            parts.append(frame_of_columns(looked.columns, self._looked_columns))
        frame, numbers = pl.concat(parts, how="horizontal")[self._order], list(range(len(rows)))
        if refused:
            numbers = [number for number in numbers if number not in refused]
            frame = frame[numbers]
        if looked is None:
            return Assembled(frame, numbers, times, refused=refused)
        return Assembled(frame, numbers, times, looked.status, looked.stamps, looked.synced_at, looked.tables, refused)

    def _computed(self, feature: FeatureSet, event: pl.DataFrame, refused: dict[int, list[FieldError]]) -> pl.DataFrame:
        """The rows of a feature set that is computed from the events, in their order."""
        ((parameter, _),) = feature.inputs.items()
        found = feature(**{parameter: event.lazy()}).collect(optimizations=AS_WRITTEN)
        if found.height == event.height and all(found[name].equals(event[name]) for name in self._key):
            return self._finite(feature, found, refused)
        # A function may sort, leave rows out, or give several for one event, of which the last counts.
        there = found.unique(self._key, keep="last", maintain_order=True).with_columns(pl.lit(value=True).alias(_ROW))
        aligned = event.select(self._key).join(there, on=list(self._key), how="left", maintain_order="left")
        for number in aligned[_ROW].is_null().arg_true():
            text = f"{feature.name} gave no row for it: its function left it out"
            refused.setdefault(number, []).append(FieldError(text, self._key[0], number))
        return self._finite(feature, aligned.drop(_ROW), refused)

    def _finite(self, feature: FeatureSet, frame: pl.DataFrame, refused: dict[int, list[FieldError]]) -> pl.DataFrame:
        """The rows without infinite values, as of huge amounts: null where the feature may be, as models take them; else refused."""
        prefix = self.roles.prefixes.get(feature.name, "")
        for name, is_nullable in self._floats[feature.name]:
            values = frame.get_column(name).to_list()  # a query for each column takes longer
            infinite = [number for number, value in enumerate(values) if value is not None and not math.isfinite(value)]
            if infinite and is_nullable:
                frame = frame.with_columns(pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name))
                continue
            for number in infinite:
                text = f"it becomes {values[number]} by what was sent, as by too large a number"
                refused.setdefault(number, []).append(FieldError(text, prefix + name, number))
        return frame

    @cached_property
    def _floats(self) -> dict[str, list[tuple[str, bool]]]:
        """By computed feature set, its features that are floats, and whether each may be null."""
        return {
            one.name: [
                (info.name, info.nullable)
                for info in columns_of(one.contract)
                if info.name in one.columns and one.schema[info.name].is_float()
            ]
            for one in self.roles.computed
        }

    def _given(self, feature: FeatureSet, frame: pl.DataFrame) -> pl.DataFrame:
        """The columns that a feature set gives to the model, as they are called there."""
        given, prefix = frame[list(feature.columns)], self.roles.prefixes.get(feature.name, "")
        return given.rename(lambda name: prefix + name) if prefix else given

    def _looked_up(
        self,
        rows: Sequence[Row],
        frames: Mapping[str, pl.DataFrame],
        times: Sequence[datetime | date | None],
        refused: dict[int, list[FieldError]],
        requests: Sequence[int] | None,
    ) -> Looked | None:
        if self.lookups is None:
            return None
        events: Sequence[Mapping[str, Any]] = rows
        if self._borrowed:
            values = {name: frames[table][name].to_list() for name, table in self._borrowed.items()}
            events = [{**row, **{name: one[number] for name, one in values.items()}} for number, row in enumerate(rows)]
        now = clock.now()
        looked = self.lookups.features(events, [now if one is None else one for one in times], requests)
        if self.refuse_missing:
            for feature in self.roles.looked_up:
                for number, status in enumerate(looked.status[feature.name]):
                    if status != OK:
                        by = ", ".join(f"{name}={events[number].get(name)!r}" for name in feature.entity)
                        text = f"{feature.name} has no row for {by} that may be used ({status}), and this endpoint refuses such requests"
                        refused.setdefault(number, []).append(FieldError(text, feature.entity[0] if feature.entity else None, number))
        return looked

    @cached_property
    def _looked_columns(self) -> dict[str, pl.DataType]:
        return {name: dtype for one in self.roles.looked_up for name, dtype in self.roles.columns_of(one).items()}

    @cached_property
    def _identity(self) -> list[str]:
        return list(self.roles.identity)

    @cached_property
    def _order(self) -> list[str]:
        """The columns of the frame."""
        return [*self._identity, *(name for one in self.roles.sets for name in self.roles.columns_of(one))]

    @cached_property
    def _borrowed(self) -> dict[str, str]:
        """Entities of looked-up feature sets that are no columns of the event, each with the computed set that has it."""
        entities = {name for one in self.roles.looked_up for name in one.entity if name not in self._event_type.columns}
        return {name: one.name for one in self.roles.computed for name in one.columns if name in entities}

    @cached_property
    def _key(self) -> tuple[str, ...]:
        assert self.roles.event is not None  # noqa: S101 there are no events otherwise
        return key_columns(self.roles.event.contract)

    @cached_property
    def _event_type(self) -> RowType:
        return event_type(self.roles, "")

    # --- full rows

    def _complete(self, rows: Sequence[Row]) -> Assembled:
        driving, columns, identity = self.roles.driving, self._columns, self.roles.identity
        refused: dict[int, list[FieldError]] = {}
        rows, status = self._with_defaults(rows, refused)
        made = {
            number: _placeholders(identity, row, number) for number, row in enumerate(rows) if any(row[name] is None for name in identity)
        }
        named = [row if number not in made else row | made[number] for number, row in enumerate(rows)]
        frame = frame_of(named, identity | columns)
        times = [as_moment(row[driving.event_time]) for row in rows]
        numbers = [number for number in range(len(rows)) if number not in refused]
        unsent = {number: frozenset(values) for number, values in made.items()}
        return Assembled(frame if not refused else frame[numbers], numbers, times, status, refused=refused, unsent=unsent)

    def _with_defaults(self, rows: Sequence[Row], refused: dict[int, list[FieldError]]) -> tuple[Sequence[Row], dict[str, list[str]]]:
        """Rows in which features that were left out have their defaults, and by feature set, of which rows some were left out."""
        width = len(self.roles.identity | self._columns)
        short = [number for number, row in enumerate(rows) if len(row) < width]
        if not short:
            return rows, {}
        filled, status = list(rows), dict[str, list[str]]()
        for number in short:
            filled[number] = self._defaults | rows[number]
            for one in self.roles.sets:
                left_out = [name for name in self.roles.columns_of(one) if name not in rows[number]]
                if not left_out:
                    continue
                status.setdefault(one.name, [OK] * len(rows))[number] = MISSING
                if self.refuse_missing:
                    text = f"it is left out, and this endpoint refuses such requests: send the value that {one.name} has, or null"
                    refused.setdefault(number, []).extend(FieldError(text, name, number) for name in left_out)
        return filled, status

    @cached_property
    def _columns(self) -> dict[str, pl.DataType]:
        return {name: dtype for one in self.roles.sets for name, dtype in self.roles.columns_of(one).items()}

    @cached_property
    def _defaults(self) -> Row:
        """The declared default of each feature, or null."""
        prefixes = self.roles.prefixes
        return {
            name: one.defaults.get(name.removeprefix(prefixes.get(one.name, "")))
            for one in self.roles.sets
            for name in self.roles.columns_of(one)
        }


def event_type(roles: Roles, target: str) -> RowType:
    """The fields of a raw event. What is predicted may be left out: nobody knows it yet."""
    assert roles.event is not None  # noqa: S101 an endpoint without events is asked by keys
    columns = {info.name: info for info in columns_of(roles.event.contract)}
    optional = frozenset(name for name, info in columns.items() if info.nullable or name == target)
    return RowType(f"a row of {roles.event.name}", {name: info.dtype for name, info in columns.items()}, optional)


def features_type(roles: Roles, needed: Sequence[str]) -> RowType:
    """The fields of a full row of features. What tells rows apart may be left out, and so may what is looked up, or may be null."""
    columns, optional = {**roles.identity}, {*roles.identity}
    for one in roles.sets:
        columns |= roles.columns_of(one)
        prefix = roles.prefixes.get(one.name, "")
        nullable = {info.name for info in columns_of(one.contract) if info.nullable}
        may_miss = one in roles.looked_up
        optional |= {name for name in roles.columns_of(one) if may_miss or name not in needed or name.removeprefix(prefix) in nullable}
    omittable = frozenset(optional).intersection(needed) - {*roles.identity}
    return RowType(f"a row of features of {roles.driving.name}", columns, frozenset(optional), omittable)


def _placeholders(identity: Mapping[str, pl.DataType], row: Row, number: int) -> Row:
    """Values for the columns of a row that have none, so that rows can be told apart."""
    found: Row = {}
    for name, dtype in identity.items():
        if row[name] is None:
            day = date(1970, 1, 1) + timedelta(days=number)
            moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
            found[name] = f"#{number}" if dtype == pl.String else day if dtype == pl.Date else moment if dtype.is_temporal() else number
    return found


def as_moment(value: datetime | date | None) -> datetime | None:
    """The moment as of which features are read: of a date its end."""
    if value is None or isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value
    if value == date.max:
        return datetime.max.replace(tzinfo=UTC)
    return datetime.combine(value + timedelta(days=1), time(), UTC) if isinstance(value, date) else None
