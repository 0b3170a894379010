"""The word `monitor`: what is watched about a table after it was written, how bad a failure is, who is told and when.

A monitor has one kind, which knows how to judge; the kinds are in `platform/monitoring`, as learners are in `modelling`. A monitor writes
no table of its own: what it says goes into tables of the platform.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import polars as pl

from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError, nearest, owner_of
from lakehouse_assets.platform.declarations.check_names import OTHER_CHECKS
from lakehouse_assets.platform.quality.monitors import Verdict as Verdict  # noqa: PLC0414 kinds give them
from lakehouse_assets.platform.storage.commit import Cursor
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

if TYPE_CHECKING:
    from lakehouse_assets.platform.declarations.catalog import Catalog

MONITORS: Final = "monitors"
"""The middle word of the names of monitors."""
OVER: Final = "is_over"
"""The number of a good verdict that says that what was bad is gone or corrected: its alert is resolved at once."""
Severity = Literal["warn", "error"]
_SEVERITIES: Final = ("warn", "error")
# Where an expression of Polars or a function lies in this process's memory is no part of what a kind was given.
_ADDRESS: Final = re.compile(r" at 0x[0-9A-Fa-f]+")
MOST_BETWEEN: Final = timedelta(hours=1)
"""The longest that a monitor waits while micro-batches run."""


@dataclass(frozen=True)
class AlertRule:
    """When a failed monitor is an alert.

    Attributes:
        consecutive: So many verdicts in a row have to be bad.
        least_rows: A verdict of fewer rows does not count.
        cool_down: For so long an open alert is not told again.
        resolve_after: So many good verdicts in a row resolve an alert, each of another window: what lies about at its threshold would
            open and resolve by turns otherwise. None: as the kind of the monitor has it, 3 for drift and 1 for all others.

    Raises:
        DeclarationError: A value cannot be meant.
    """

    consecutive: int = 1
    least_rows: int = 0
    cool_down: timedelta = timedelta(hours=24)
    resolve_after: int | None = None

    def __post_init__(self) -> None:
        if self.consecutive < 1:
            raise DeclarationError(f"AlertRule: consecutive={self.consecutive!r}: at least one verdict has to be bad, so give 1 or more")
        if self.resolve_after is not None and self.resolve_after < 1:
            raise DeclarationError(
                f"AlertRule: resolve_after={self.resolve_after!r}: at least one verdict has to be good, so give 1 or more"
            )
        if self.least_rows < 0:
            raise DeclarationError(f"AlertRule: least_rows={self.least_rows!r} is a number of rows: give 0 or more")
        if self.cool_down < timedelta(0):
            raise DeclarationError(f"AlertRule: cool_down={self.cool_down!r} is no span of time: give it as timedelta(hours=24)")


@dataclass(frozen=True)
class Watched:
    """What a monitor is given to judge by.

    Attributes:
        monitor: The monitor.
        lakehouse: The tables.
        catalog: All declarations.
        now: The moment to judge at (UTC).
        run_id: Of the run that asks.
        registry: Opens MLflow (`registry.Registry`); asked only by kinds that need it.
        reads: Watermarks of the table of verdicts, which the commit of these verdicts advances: a kind that judges what is in a log of its
            own adds how far it read, so that nothing of it is said twice or never.
        declared_as: `declared` of the last judgement; None: there was none.
        made_of: What the judgement depends on besides the declaration, as a baseline. A kind that adds it says itself what is over
            after another declaration; of all others, what they do not watch any more is over then.
    """

    monitor: "Monitor"
    lakehouse: Lakehouse
    catalog: "Catalog"
    now: datetime
    run_id: str
    registry: Callable[[], Any]
    reads: list[Cursor] = field(default_factory=list)
    declared_as: int | None = None
    made_of: list[str] = field(default_factory=list)

    @property
    def declared(self) -> int:
        """Tells the declaration from all others, and what the judgement depends on besides it."""
        one = self.monitor
        what = (one.of, one.fingerprint, one.severity, one.owner, one.alert, self.made_of)
        return int.from_bytes(blake2b(repr(what).encode(), digest_size=8).digest()) >> 2

    @property
    def is_redeclared(self) -> bool:
        """Whether it was declared differently when it was judged last, or never was: what it said then does not hold by itself any more."""
        return self.declared != self.declared_as


@dataclass(frozen=True)
class Cause:
    """Where something that a monitor found most likely comes from.

    Attributes:
        text: In a sentence.
        column: The column that it is about; empty: the rows.
        window: Begin of the window that it is about.
        weight: How far above its threshold the column is, times its importance.
        importance: The share that a champion's predictions owe to the column; None: not known.
        steps: From the watched table to where it came in, a sentence each.
    """

    text: str
    column: str = ""
    window: datetime | None = None
    weight: float = 0.0
    importance: float | None = None
    steps: tuple[str, ...] = ()


class MonitorKind(ABC):
    """What is watched, and how it is judged. Kinds are frozen dataclasses, whose fields are what the author gives."""

    word: ClassVar[str]
    """What the kind is called in tables and messages."""
    reads_table: ClassVar[bool] = True
    """Whether it judges the watched table itself, so that nothing is evaluated where that does not exist; False: what it is made of."""
    judges_changes: ClassVar[bool] = False
    """Whether it judges only windows that changed, so that what it said of other windows still holds."""
    resolve_after: ClassVar[int] = 1
    """So many good verdicts in a row resolve an alert where its rule does not say."""

    @property
    @abstractmethod
    def demands(self) -> str:
        """What has to hold, in a sentence, as "The newest day is at most 2 days old."."""

    @property
    def often(self) -> timedelta:
        """After so long it is evaluated again where there are no runs, as while micro-batches run."""
        return MOST_BETWEEN

    def problems_with(self, monitor: "Monitor", declared: Mapping[str, Declaration]) -> Iterator[str]:  # noqa: ARG002 some have none
        """Why it cannot be meant for the table of a monitor; each text names the remedy.

        Args:
            monitor: The monitor.
            declared: All declarations by name.
        """
        yield from ()

    def pinned(self) -> Mapping[str, int]:
        """See `Declaration.pinned`."""
        return {}

    @abstractmethod
    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        """Judge, and give a verdict for each window, slice and column that was; none if nothing has changed since the last time.

        Whatever it raises becomes a verdict that says that the monitor was not evaluated: it never fails a table.
        """

    def watches(self, slice_key: str | None, column: str | None) -> bool:
        """Whether it judges slices of a column, and a column by itself. Most judge the whole table alone.

        What it does not watch, and failed by an earlier declaration, is over; of what it does, it need not speak each time. A kind that
        adds to `Watched.made_of` is not asked.

        Args:
            slice_key: The column whose values are the slices; None: all rows.
            column: The column that is judged; None: the rows.
        """
        return slice_key is None and column is None

    def why(self, watched: Watched, bad: Sequence[Mapping[str, Any]]) -> Sequence[Cause]:  # noqa: ARG002 most do not know
        """Where failed verdicts come from, the likeliest first; none if that is not known.

        Args:
            watched: As `evaluate` has it.
            bad: The failed verdicts of one evaluation, as rows of the table of verdicts.
        """
        return ()


@dataclass(frozen=True)
class Monitor(Declaration):
    """Something that is watched about a table.

    Attributes:
        of: The table.
        kind: What is watched about it.
        severity: How bad a failure is.
        alert: When a failure is an alert.
    """

    of: str
    kind: MonitorKind
    severity: Severity = "warn"
    alert: AlertRule = field(default_factory=AlertRule)

    is_log: ClassVar[bool] = True
    # One that a table implies is called as the table and what it watches.
    _names = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){2,3}")

    @property
    def word(self) -> str:
        """What its check is called."""
        return self.name.rpartition(".")[2]

    @property
    def fingerprint(self) -> str:
        """What its kind was given, the same in each process."""
        return _ADDRESS.sub("", repr(self.kind))

    def sources(self) -> tuple[str, ...]:
        """See `Declaration.sources`."""
        return (self.of,)

    def outputs(self) -> tuple[str, ...]:
        """None of its own: verdicts go to a table of the platform."""
        return ()

    @property
    def schema(self) -> pl.Schema:
        """It has no rows of its own."""
        return pl.Schema()

    def columns(self, declared: Mapping[str, Declaration]) -> pl.Schema | None:
        """The promised columns of the watched table; None if they are not known before it is written."""
        found = declared.get(self.of)
        return None if found is None else found.schema or None

    def pinned(self) -> Mapping[str, int]:
        """See `Declaration.pinned`."""
        return self.kind.pinned()

    def problems_with(self, declared: Mapping[str, Declaration]) -> Iterator[str]:
        """See `Declaration.problems_with`."""
        yield from self._problems_with_word(declared)
        yield from self.kind.problems_with(self, declared)

    def _problems_with_word(self, declared: Mapping[str, Declaration]) -> Iterator[str]:
        """It is called by its last word among the checks of the table."""
        if self.word in OTHER_CHECKS or self.word in {rule.name for rule in getattr(declared.get(self.of), "rules", ())}:
            yield f"{self.name}: another check of {self.of} is called {self.word!r} already: rename the monitor"
        for other in declared.values():
            if other.outputs() or other.name >= self.name:
                continue
            if self.of in other.sources() and other.name.rpartition(".")[2] == self.word:
                yield f"{self.name} and {other.name} would both be the check {self.word!r} of {self.of}: rename one"

    def problems_with_column(
        self, parameter: str, column: str, declared: Mapping[str, Declaration], types: Sequence[Any] = (), words: str = ""
    ) -> Iterator[str]:
        """Why a column that a kind was given cannot be meant; nothing if the columns of the table are not known.

        Args:
            parameter: Of the kind, which names the column.
            column: The column.
            declared: All declarations by name.
            types: The classes of types that it may have; empty: any.
            words: What these are, as `dates or timestamps`.
        """
        columns = self.columns(declared)
        if columns is None:
            return
        where = f"{self.name}: {parameter}={column!r}"
        if column not in columns:
            yield f"{where} is no column of {self.of}.{nearest(column, columns) or ' There are: ' + ', '.join(columns)}"
        elif types and columns[column].base_type() not in types:
            yield f"{where} is a column of {columns[column]} in {self.of}, not of {words}: name another"


def monitor(
    name: str,
    *,
    of: Declaration | str,
    kind: MonitorKind,
    severity: Severity = "warn",
    alert: AlertRule | None = None,
    owner: str | None = None,
    description: str | None = None,
) -> Monitor:
    """Declare that a table is watched. The monitor is evaluated after each refresh of the table and shown as one of its checks.

    A failure stops nothing. Each verdict is a row of `platform.monitoring.verdicts`. Assign it to a name in a module of the product.

    Args:
        name: `product.monitors.name`.
        of: The watched table: what declared it, or its name; also a table of another product.
        kind: What is watched: `Freshness(…)`, `Volume()` and others.
        severity: "warn" or "error": how a failure is shown.
        alert: When a failure is an alert, and when that is over; by default each one is, once a day.
        owner: Who answers for it, and is told; by default the product's team.
        description: What is watched and what for; by default what the kind demands.

    Raises:
        DeclarationError: The declaration cannot be meant.

    Example::

        payments_come = monitor("sales.monitors.payments_come", of=payments, kind=Freshness("paid_at", timedelta(days=2)))
    """
    where, rule = f"monitor {name!r}", alert or AlertRule()
    table: Any = of
    what: Any = kind
    if name.count(".") != 2 or name.split(".")[1] != MONITORS:
        raise DeclarationError(f"{where}: write product.{MONITORS}.name, as in sales.{MONITORS}.payments_come")
    if not isinstance(table, Declaration | str):
        raise DeclarationError(f"{where}: of={type(table).__name__} is no table: give what declared it, or its name")
    if isinstance(table, Monitor):
        raise DeclarationError(f"{where}: of={table.name} is a monitor, which has no rows: name a table")
    if not isinstance(what, MonitorKind):
        said = what.__name__ if isinstance(what, type) else type(what).__name__
        raise DeclarationError(f"{where}: kind={said} is no kind of monitor: write it with its parameters, as in Freshness('day', …)")
    if severity not in _SEVERITIES:
        raise DeclarationError(
            f"{where}: severity={severity!r}: write one of {', '.join(_SEVERITIES)}.{nearest(str(severity), _SEVERITIES)}"
        )
    return Monitor(
        name,
        description or kind.demands,
        owner_of(name, owner),
        of.name if isinstance(of, Declaration) else of,
        kind,
        severity,
        replace(rule, resolve_after=rule.resolve_after or kind.resolve_after),
    )
