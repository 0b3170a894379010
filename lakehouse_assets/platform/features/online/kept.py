"""Which items the online store keeps of a table: the newest rows of a feature set, or the recent events that its windows are of.

A pure function from rows of the table to items, so that a sync of changes and one from a scan agree. When rows are read is in `sync`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol

import polars as pl
from msgspec import structs

from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.features.online.codecs import DAY, MICROSECOND, NotServable, encoded, kinds_of
from lakehouse_assets.platform.features.online.readers import counting, events_of, values_of
from lakehouse_assets.platform.features.online.store import Put, Retention, SetState
from lakehouse_assets.platform.features.windows import EVERY_EVENT, Windows
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets.platform.storage.known_at import IS_RETRACTED, KNOWN_AT, VERSION, of_version
from lakehouse_assets.platform.storage.table import Table

TIME: Final = "time"
KNOWN: Final = "known"
RETRACTED: Final = "retracted"
"""Columns of `Kept.rows`; next to them are `entity 0`, `key 0`, `value 0` and so on."""


class Kept(Protocol):
    """What one set of the store keeps of a table."""

    @property
    def name(self) -> str:
        """Of the set in the store."""
        ...

    @property
    def what(self) -> str:
        """`values` or `events`."""
        ...

    @property
    def feature(self) -> FeatureSet:
        """What is served."""
        ...

    @property
    def keep(self) -> timedelta:
        """How late a request may be, and how long what was pushed counts that no table confirms."""
        ...

    @property
    def table(self) -> Table:
        """What it is made from."""
        ...

    @property
    def meanings(self) -> frozenset[int]:
        """Of values what they mean; of events nothing: what they mean is said by who reads them."""
        ...

    def state(self) -> SetState:
        """The state of the set before anything is stored.

        Raises:
            NotServable: A column has a type that is not kept.
        """
        ...

    def retention(self, now: int) -> Retention:
        """For how long items are kept."""
        ...

    def over(self, newest: int | None) -> int | None:
        """The time up to which entities are of no use any more, where the newest item of all is of this time; None: there is none."""
        ...

    def rows(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Of rows of the table those that count, with the columns that matter."""
        ...

    def current(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Of all that `rows` gave of some entities what holds now."""
        ...

    def puts(self, rows: pl.DataFrame) -> list[Put]:
        """Rows as items."""
        ...

    def entities(self, rows: pl.DataFrame) -> list[bytes]:
        """The entity of each row, as items have it."""
        ...


@dataclass(frozen=True)
class KeptValues:
    """The newest rows of one version of a feature set.

    Of an entity and event time what comes later is known later, as `storage.known_at` writes it: so rows that came can be added without
    those that were there.

    Attributes:
        feature: The set.
        table: Its table.
        version: The feature_set_version; None: the table has none.
        keep: How long a value stays after a newer one came.
        meanings: What the values mean, see `FeatureVersion`: readers who have learnt this are led to them.
    """

    feature: FeatureSet
    table: Table
    version: int | None
    keep: timedelta
    meanings: frozenset[int] = frozenset()
    what = "values"

    @property
    def name(self) -> str:
        """See `Kept.name`."""
        return values_of(self.feature.name, self.version)

    def state(self) -> SetState:
        """See `Kept.state`."""
        schema = self.table.schema()
        columns = tuple(name for name in self.feature.columns if name in schema)
        made_of = (self.feature.entity, self.feature.event_time, str(schema[self.feature.event_time]))
        return _state(self, schema, columns, made_of, version=self.version)

    def retention(self, now: int) -> Retention:
        """See `Kept.retention`."""
        return Retention(self.keep // MICROSECOND, one_before=True, now=now)

    def over(self, newest: int | None) -> int | None:
        """See `Kept.over`."""
        ttl = self.feature.ttl
        # The time to live of a date counts from its beginning: a request may be a day later.
        return None if ttl is None or newest is None else newest - (ttl + self.keep) // MICROSECOND - DAY

    def rows(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """See `Kept.rows`."""
        schema = rows.collect_schema()
        # Where rows tie, the largest values count, as in a join.
        values = [name for name in (*self.feature.columns, "known_at_assumed") if name in schema]
        chosen = rows if self.version is None else of_version(rows.filter(pl.col(VERSION) == self.version), self.version)
        gone = pl.col(IS_RETRACTED).fill_null(value=False) if IS_RETRACTED in schema else pl.lit(value=False)
        named = chosen.select(
            *_entities(self.feature.entity),
            _time(self.feature.event_time, schema).alias(TIME),
            _time(KNOWN_AT, schema).alias(KNOWN),
            gone.alias(RETRACTED),
            *(pl.col(name).alias(f"value {place}") for place, name in enumerate(values)),
        )
        return named.drop_nulls([*entity_columns(named), TIME, KNOWN])

    def current(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Kept.current`."""
        schema = self.table.schema()
        values = [name for name in (*self.feature.columns, "known_at_assumed") if name in schema]
        ties = [f"value {place}" for _, place in sorted((name, place) for place, name in enumerate(values))]
        newest = rows.sort(KNOWN, RETRACTED, *ties).unique([*entity_columns(rows), TIME], keep="last", maintain_order=True)
        return newest.filter(~pl.col(RETRACTED))

    def puts(self, rows: pl.DataFrame) -> list[Put]:
        """See `Kept.puts`."""
        stored = len([name for name in self.feature.columns if name in self.table.schema()])
        payloads = encoded(rows, [KNOWN, *(f"value {place}" for place in range(stored))])
        found = zip(self.entities(rows), rows[TIME], rows[KNOWN], payloads, strict=True)
        return [Put(entity, time, b"", known, payload) for entity, time, known, payload in found]

    def entities(self, rows: pl.DataFrame) -> list[bytes]:
        """See `Kept.entities`."""
        return _entity_bytes(rows)


@dataclass(frozen=True)
class KeptEvents:
    """The recent events of each entity.

    Attributes:
        feature: The set of statistics.
        table: The events.
        windows: What is worked out of them.
        where: Which of them count.
        numbers: The columns of values that are made floats before.
        key: The columns that tell events apart.
        keep: How late a request may be.
        meanings: See `Kept`.
    """

    feature: FeatureSet
    table: Table
    windows: Windows
    where: pl.Expr | None
    numbers: tuple[str, ...]
    key: tuple[str, ...]
    keep: timedelta
    meanings: frozenset[int] = frozenset()
    what = "events"

    @property
    def name(self) -> str:
        """See `Kept.name`."""
        return events_of(self.feature.name)

    def state(self) -> SetState:
        """See `Kept.state`."""
        if not self.key:
            raise NotServable(
                f"{self.feature.name}: the events of {self.table.name} have no key, so none can be told from another: mark columns of its "
                "contract with key=True"
            )
        schema = self.table.schema()
        floats = pl.Schema({name: pl.Float64() if name in self.numbers else dtype for name, dtype in schema.items()})
        counts = counting(self.windows.time, self.where, self._used, self.numbers)
        made_of = (self.feature.entity, str(schema[self.windows.time]), counts, self.windows.windows)
        state = _state(self, floats, self._used, made_of)
        return structs.replace(state, key=self.key, key_kinds=kinds_of(schema, self.key), counting=counts)

    def retention(self, now: int) -> Retention:
        """See `Kept.retention`."""
        return Retention((self.windows.longest + self.keep) // MICROSECOND, one_before=False, now=now)

    def over(self, newest: int | None) -> int | None:
        """See `Kept.over`."""
        if newest is None:
            return None
        # The row of an entity's last event holds for its time to live, at events that do not count and where keys alone are asked about.
        ttl = self.feature.ttl
        return None if ttl is None else newest - self.retention(0).back - ttl // MICROSECOND

    def rows(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """See `Kept.rows`."""
        schema = rows.collect_schema()
        counted = rows if self.where is None else rows.filter(self.where)
        named = counted.select(
            *_entities(self.feature.entity),
            _time(self.windows.time, schema).alias(TIME),
            *(pl.col(name).alias(f"key {place}") for place, name in enumerate(self.key)),
            *(self._value(name, schema[name]).alias(f"value {place}") for place, name in enumerate(self._used)),
        )
        return named.drop_nulls([*entity_columns(named), TIME])

    def current(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Kept.current`."""
        return rows

    def puts(self, rows: pl.DataFrame) -> list[Put]:
        """See `Kept.puts`."""
        ids = encoded(rows, [f"key {place}" for place in range(len(self.key))])
        values = [f"value {place}" for place in range(len(self._used))]
        payloads = encoded(rows, values) if values else [b"\x90"] * rows.height
        found = zip(self.entities(rows), rows[TIME], ids, payloads, strict=True)
        return [Put(entity, time, id_, 1, payload) for entity, time, id_, payload in found]

    def entities(self, rows: pl.DataFrame) -> list[bytes]:
        """See `Kept.entities`."""
        return _entity_bytes(rows)

    @property
    def _used(self) -> tuple[str, ...]:
        return tuple(name for name in self.windows.values if name != EVERY_EVENT)

    def _value(self, name: str, dtype: pl.DataType) -> pl.Expr:
        value = pl.col(name).cast(pl.Float64) if name in self.numbers else pl.col(name)
        return pl.when(value.is_finite()).then(value) if dtype.is_float() or name in self.numbers else value


def trimmed(rows: pl.DataFrame, keep: Retention) -> pl.DataFrame:
    """What a store would keep of all items of some entities."""
    entity, time = entity_columns(rows), pl.col(TIME)
    by: Any = entity or pl.lit(0)
    before = (time.filter(time <= keep.now).max() - keep.back).over(by)
    marked = rows.with_columns(before.alias("__before"))
    if not keep.one_before:
        return marked.filter((time > pl.col("__before")) | pl.col("__before").is_null()).drop("__before")
    stays = time.filter(time <= pl.col("__before")).max().over(by)
    marked = marked.with_columns(stays.alias("__stays"))
    return marked.filter((time >= pl.col("__stays")) | pl.col("__stays").is_null()).drop("__before", "__stays")


def entity_columns(rows: pl.DataFrame | pl.LazyFrame) -> list[str]:
    """The columns of the entity in what `Kept.rows` gives."""
    return [name for name in rows.collect_schema() if name.startswith("entity ")]


def _entities(entity: Sequence[str]) -> list[pl.Expr]:
    return [pl.col(name).alias(f"entity {place}") for place, name in enumerate(entity)]


def _entity_bytes(rows: pl.DataFrame) -> list[bytes]:
    entity = entity_columns(rows)
    return encoded(rows, entity) if entity else [b"\x90"] * rows.height


def _time(name: str, schema: pl.Schema) -> pl.Expr:
    dtype = schema[name]
    if dtype == pl.Date:
        return pl.col(name).cast(pl.Datetime("us")).to_physical()
    if not isinstance(dtype, pl.Datetime):
        raise NotServable(f"{name} is {dtype}, and a feature set is served by a date or a time: declare it as one")
    return pl.col(name).dt.cast_time_unit("us").to_physical()


def _state(kept: Kept, schema: pl.Schema, columns: tuple[str, ...], made_of: Any, version: int | None = None) -> SetState:
    kinds, entity_kinds = kinds_of(schema, columns), kinds_of(schema, kept.feature.entity)
    keep = kept.retention(0)
    text = repr((made_of, columns, kinds, entity_kinds, [str(schema[name]) for name in columns], version, keep))
    return SetState(
        table=kept.table.name,
        table_id=str(kept.table.now().metadata().id),
        cursor=-1,
        made_of=hashlib.sha256(text.encode()).hexdigest()[:16],
        columns=columns,
        kinds=kinds,
        entity_kinds=entity_kinds,
        version=version,
        back=keep.back,
    )


def newest_version(table: Table) -> int | None:
    """The newest feature_set_version in a table; None if it has none."""
    if (known := FeatureVersion.of(table)) is not None:
        return known.number
    if VERSION not in table.schema():
        return None
    newest: int | None = table.scan().select(pl.col(VERSION).max()).collect(engine="streaming").item()
    return newest
