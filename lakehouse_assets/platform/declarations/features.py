"""The word `feature_set`: a table by entity and event time that also keeps when each value became known.

How training rows are joined to it belongs to the features room, how revisions are stored to `storage.known_at`.
"""

import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.base import DeclarationError, nearest, owner_of, require_once, text_of
from lakehouse_assets.platform.declarations.code import source_of
from lakehouse_assets.platform.declarations.computed_kinds import ComputedKind
from lakehouse_assets.platform.declarations.kind import Inputs, Kind, Plan, Result, require_columns, require_key, require_kind
from lakehouse_assets.platform.declarations.tables import Dimension, Picture, TableDeclaration, by_parameter
from lakehouse_assets.platform.quality.contract import Contract, schema_of
from lakehouse_assets.platform.storage import feature_versions, known_at
from lakehouse_assets.platform.storage.commit import Commit, Written
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets.platform.storage.known_at import KNOWN_AT, OWN_COLUMNS
from lakehouse_assets.platform.storage.scopes import Everything, Scope, Tail
from lakehouse_assets.platform.storage.source import Source
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP
from lakehouse_assets.platform.wording import counted

if TYPE_CHECKING:
    from lakehouse_assets.platform.declarations.tables import TableDeclaration as Declared


@dataclass(frozen=True)
class Before:
    """A feature set as it was when a batch was planned.

    Attributes:
        version: Of the Delta table; None: it had nothing of its sources.
        changed: The rows that the batch computes from facts which the set had not read.
    """

    version: int | None
    changed: Scope


@dataclass(frozen=True)
class Revisions(Kind):
    """Computes what another kind computes, and keeps every value with the time from which on it was known.

    Attributes:
        of: The kind that says what is recomputed.
        on: The columns that identify a value: entity and event time, which is the last.
        known_ahead: Whether a value may be known before its event time.
        when_over: Whether rows are left out until their event time is over.
        code: A number that says which code computes the rows. Another one begins a new version of the feature set.
    """

    of: Kind
    on: tuple[str, ...]
    known_ahead: bool = False
    when_over: bool = False
    code: int = 0

    rewrites = False

    @property
    def word(self) -> str:
        """See `Kind.word`."""
        return "feature_set"

    def check(self, table: "Declared") -> None:
        """See `Kind.check`."""
        require_kind(table.name, self.of)
        require_once(f"{table.name}: feature_set", "entity with event_time", self.on)
        if self.of.takes_rows or not isinstance(self.of, ComputedKind):
            raise DeclarationError(
                f"{table.name}: {self.of.word} is no kind of a feature set, which has to be computed again where its sources are "
                "revised: use ByKey, ByPartition, Trailing or Full"
            )
        require_columns(table, [*self.on, KNOWN_AT], table.schema, f"contract {table.contract.__name__}")
        if (stored := table.schema[KNOWN_AT]) != TIMESTAMP:
            raise DeclarationError(
                f"{table.name}: {KNOWN_AT} is {stored} in contract {table.contract.__name__}, not a moment: declare it as Timestamp"
            )
        require_key(table, [self.on, (*self.on, KNOWN_AT)])
        if taken := [name for name in table.contract.to_schema().columns if name in OWN_COLUMNS]:
            raise DeclarationError(
                f"{table.name}, contract {table.contract.__name__}: feature_set adds the column {taken[0]} itself: rename that of the "
                "contract, or leave it out"
            )
        self.of.check(table)
        if self.when_over and self._computed.orders_by != self.on[-1]:
            raise DeclarationError(
                f"{table.name}: when_over=True needs kind=Trailing({self.on[-1]!r}, …), which comes back to what was not over: "
                f"{self.of.word} does not"
            )
        if self.when_over and self.known_ahead:
            raise DeclarationError(
                f"{table.name}: what is known ahead of its time does not wait until it is over: drop known_ahead or when_over"
            )

    def check_sources(self, table: "Declared", schemas: Mapping[str, Mapping[str, pl.DataType]]) -> None:
        """See `Kind.check_sources`."""
        self.of.check_sources(table, schemas)

    def stored(self, schema: pl.Schema) -> pl.Schema:
        """See `Kind.stored`."""
        return pl.Schema({**schema, **OWN_COLUMNS})

    def identity(self, contract: type[Contract]) -> tuple[str, ...]:  # noqa: ARG002
        """See `Kind.identity`."""
        return (*self.on, KNOWN_AT, known_at.VERSION)

    def result_key(self, contract: type[Contract]) -> tuple[str, ...]:  # noqa: ARG002
        """See `Kind.result_key`."""
        return self.on

    def computes_each(self, key: Sequence[str]) -> bool:
        """See `Kind.computes_each`."""
        return self.of.computes_each(key)

    def check_result(self, rows: pl.DataFrame) -> str:
        """See `Kind.check_result`. Nothing is known before its event time, unless it is declared so."""
        event_time = self.on[-1]
        if not self.known_ahead and rows.schema[event_time].is_temporal():
            moment = pl.col(event_time).cast(pl.Datetime("us")).dt.replace_time_zone(None)
            early = rows.filter(moment > pl.col(KNOWN_AT).dt.replace_time_zone(None))
            if early.height:
                first = early.row(0, named=True)
                return (
                    f"{counted(early.height, 'row')} would be known before {event_time}, the first with {event_time} = {first[event_time]} "
                    f"and {KNOWN_AT} = {first[KNOWN_AT]}. Give {KNOWN_AT} the time from which on the values of the row were known, or "
                    "declare known_ahead=True if they are known ahead of their time, as prices and bookings are"
                )
        return self.of.check_result(rows)

    @property
    def layout(self) -> str:
        """See `Kind.layout`."""
        return f"revisions by {', '.join(self.on)} of {self.of.layout}"

    def plan(self, inputs: Inputs) -> Plan:
        """See `Kind.plan`. The first batch of a version computes all rows, whatever changed."""
        seen = _as_consumed(inputs)
        before = inputs.stored.version() if any(source.before is not None for source in seen.sources.values()) else None
        if before is None or not self._begins_version(inputs.stored):
            plan = self._computed.plan_for(inputs, self._with_left_out(inputs)) if self.when_over else self.of.plan(inputs)
            return self._of_the_past(replace(plan, note=Before(before, Everything())), inputs)
        restated_unseen = any(source.moved and name not in seen.keys for name, source in seen.dimensions.items())
        changed = Everything() if restated_unseen else self._computed.scope(seen)
        return self._of_the_past(replace(self._computed.plan_for(inputs, Everything()), note=Before(before, changed)), inputs)

    def parts(self, plan: Plan, inputs: Inputs, rows: int) -> list[Plan]:
        """See `Kind.parts`."""
        return [replace(part, note=plan.note) for part in self.of.parts(plan, inputs, rows)]

    def write(self, table: Table, result: Result, commit: Commit) -> Written:
        """See `Kind.write`."""
        now, changed = clock.now(), result.note.changed
        rows = result.rows.filter(pl.col(KNOWN_AT) <= now) if self.when_over else result.rows

        def is_same(number: int) -> bool:
            return known_at.is_same(rows, table.scan(), self.on, number, changed)

        version, marks = feature_versions.begin(table, self.code, is_same)
        return known_at.revise(
            table,
            rows,
            self.on,
            now,
            replace(commit, cursors=(*commit.cursors, *marks)),
            event_time=KNOWN_AT if self.known_ahead else self.on[-1],
            had=result.note.version,
            version=version,
            scope=None if result.adds else result.scope,
            changed=changed,
        )

    @property
    def waits_for(self) -> str:
        """See `Kind.waits_for`."""
        return self.on[-1] if self.when_over else ""

    def _of_the_past(self, plan: Plan, inputs: Inputs) -> Plan:
        """The plan without rows of inputs whose time is still to come: a function that goes on to the newest day would go on to theirs."""
        if not self.when_over or plan.frames is None:
            return plan
        now = clock.now()
        rows = {name: plan.frames[name] for name in inputs.sources}
        passed = {name: frame.filter(~is_ahead(frame, self.on[-1], now)) for name, frame in rows.items()}
        return replace(plan, frames={**plan.frames, **passed})

    def _with_left_out(self, inputs: Inputs) -> Scope:
        """The scope, with what is after all that the set has: it was left out before, because it was not over."""
        scope = self._computed.scope(inputs)
        if not isinstance(scope, Tail):
            return scope
        stored, time = inputs.stored.scan(), pl.col(scope.column)
        # What is older need not be read where there is something as new.
        for rows in (stored.filter(time >= scope.after), stored):
            newest = rows.select(time.max()).collect(engine="streaming").item()
            if newest is not None:
                return Tail(scope.column, min(newest, scope.after))
        return Everything()

    def _begins_version(self, table: Table) -> bool:
        return not feature_versions.is_of(table, self.code)

    @property
    def _computed(self) -> ComputedKind:
        assert isinstance(self.of, ComputedKind)  # noqa: S101 see `check`
        return self.of


def is_ahead(rows: pl.LazyFrame, time: str, now: datetime) -> pl.Expr:
    """Whether the time of a row (a date, or a moment in UTC) is after now; false for one without."""
    dtype = rows.collect_schema()[time]
    if dtype == pl.Date:
        return (pl.col(time) > now.date()).fill_null(value=False)
    if not dtype.is_temporal():
        return pl.lit(value=False)
    return (pl.col(time).cast(pl.Datetime("us")).dt.replace_time_zone(None) > now.replace(tzinfo=None)).fill_null(value=False)


def _as_consumed(inputs: Inputs) -> Inputs:
    """The inputs from where the table has consumed them, also where a full refresh reads them from their beginning."""

    def seen(sources: Mapping[str, Source]) -> dict[str, Source]:
        stored = inputs.stored
        return {
            name: Source(source.table, stored.cursor(source.table.name) if stored.exists() else None, source.after)
            for name, source in sources.items()
        }

    return replace(inputs, sources=seen(inputs.sources), dimensions=seen(inputs.dimensions))


class OnlineForm(Protocol):
    """How a feature set is served within a request; the forms are in `features.online.forms`."""

    @property
    def events(self) -> str:
        """The table of events that rows are worked out of at the time of the request; empty: the newest stored row is looked up."""
        ...


@dataclass(frozen=True)
class FeatureSet(TableDeclaration):
    """A feature set.

    Attributes:
        entity: The columns that identify what the features are about.
        event_time: The column that says for when a value holds.
        ttl: How long a value may be used after its event time; None: without end.
        defaults: By column, the value for entities of which nothing is known.
        known_ahead: Whether a value may be known before its event time, as a price list is.
        online: How it is served within a request; None: by its newest values.
    """

    entity: tuple[str, ...] = ()
    event_time: str = ""
    ttl: timedelta | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    known_ahead: bool = False
    online: OnlineForm | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ttl is not None and self.ttl <= timedelta(0):
            raise DeclarationError(f"{self.name}: ttl={self.ttl!r} is no time: give it as timedelta(days=30), or leave it out")
        if self.ttl is not None and not self.schema[self.event_time].is_temporal():
            raise DeclarationError(f"{self.name}: ttl needs a date or a time, and {self.event_time} is {self.schema[self.event_time]}")
        for name, value in self.defaults.items():
            self._check_default(name, value)

    @staticmethod
    def version_of(table: Table) -> int | None:
        """The version of the stored rows, as `feature_set_version` has it; None while there are none."""
        newest = FeatureVersion.of(table)
        return None if newest is None else newest.number

    @property
    def code(self) -> int:
        """A number for the code that computes it: see `Revisions`."""
        return _code_of(self.function, self.contract)

    @property
    def fingerprint(self) -> str:
        """A digest of the function, without its comments, and of the columns."""
        return hashlib.sha256(f"{source_of(self.function)}\0{sorted(map(str, self.schema.items()))}".encode()).hexdigest()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The feature columns: those of the contract besides entity, event time and `known_at`."""
        return tuple(name for name in schema_of(self.contract) if name not in {*self.entity, self.event_time, KNOWN_AT})

    def is_computed_from(self, event: str, key: tuple[str, ...]) -> bool:
        """Whether a row can be worked out from a row of a table with that key alone, so that nothing has to be looked up for it."""
        return self.sources() == (event,) and self.kind.computes_each(key)

    def _check_default(self, name: str, value: Any) -> None:
        where = f"{self.name}: defaults"
        if name not in self.columns:
            known = [*self.entity, self.event_time, KNOWN_AT]
            why = "is no feature" if name in known else f"contract {self.contract.__name__} lacks"
            raise DeclarationError(
                f"{where} names the column {name!r}, which {why}: name one of its features.{nearest(name, self.columns)}"
            )
        dtype = self.schema[name]
        try:
            stored = pl.Series([value], strict=True).cast(dtype, strict=True).item()
        except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
            stored = None
        if value is None or stored != value or isinstance(value, bool) != (dtype == pl.Boolean()):
            raise DeclarationError(f"{where} gives {name} the value {value!r}, and the column is {dtype}: give it a value of that type")


def feature_set(
    name: str,
    *,
    contract: type[Contract],
    entity: tuple[str, ...],
    event_time: str,
    kind: Kind,
    inputs: Mapping[str, str],
    dimensions: Mapping[str, Dimension] = MappingProxyType({}),
    ttl: timedelta | None = None,
    defaults: Mapping[str, Any] = MappingProxyType({}),
    known_ahead: bool = False,
    when_over: bool = False,
    partition_by: tuple[str, ...] = (),
    picture: Picture | None = None,
    owner: str | None = None,
    online: OnlineForm | None = None,
) -> Callable[[Callable[..., pl.LazyFrame]], FeatureSet]:
    """Declare a feature set by the pure function that computes it.

    Args:
        name: `product.features.name`.
        contract: Columns, types, rules. Its key is entity and event time. The column `known_at` claims from when on a row was known: when
            its event time had ended. That is believed of history that comes in order (`known_at_assumed`); all else is known from when
            it came.
        entity: The columns that identify what the features are about.
        event_time: The column that says for when a value holds.
        kind: What is recomputed when sources change: a kind that computes a scope as a whole.
        inputs: As for `table`.
        dimensions: As for `table`.
        ttl: How long a value may be used after its event time.
        defaults: By column, the value for entities of which nothing is known, or nothing that `ttl` still allows.
        known_ahead: Whether rows may be known before their event time, as prices and bookings are. Else such a row stops the run.
        when_over: Whether rows are left out until their event time is over: until something new came after the `known_at` that the function
            gives. So a day that is landed at noon is no row yet. The function is not given rows whose event time is still to come, and a
            check warns of them. Needs `Trailing` by the event time.
        partition_by: As for `table`.
        picture: As for `table`.
        owner: As for `table`.
        online: How it is served within a request, which recipes say; None: by its newest values.

    Raises:
        DeclarationError: The declaration cannot be meant.
    """

    def declare(function: Callable[..., pl.LazyFrame]) -> FeatureSet:
        return FeatureSet(
            name,
            text_of(function),
            owner_of(name, owner),
            contract,
            Revisions(kind, (*entity, event_time), known_ahead, when_over, _code_of(function, contract)),
            by_parameter(name, "inputs", inputs),
            by_parameter(name, "dimensions", dimensions),
            function,
            partition_by=partition_by,
            picture=picture,
            entity=entity,
            event_time=event_time,
            ttl=ttl,
            defaults=dict(defaults),
            known_ahead=known_ahead,
            online=online,
        )

    return declare


def _code_of(function: Callable[..., Any], contract: Any) -> int:
    """The code of a version: the function without its comments, and the columns with their types."""
    columns = schema_of(contract) if isinstance(contract, type) and issubclass(contract, Contract) else {}
    return zlib.crc32(f"{source_of(function)}\0{sorted((name, str(dtype)) for name, dtype in columns.items())}".encode()) + 1
