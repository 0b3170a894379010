"""The reader: the one door through which people and services read rows. It masks personal data and writes down who read what.

Commands, notebooks, pages and services call it; the pipeline does not, because what it writes must be whole. Which columns are personal is
in `policy`, how they are masked in `quality.masking`, which queries may be asked in `sql`.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import polars as pl

from lakehouse_assets.platform.governance.audit import AuditLog, Read
from lakehouse_assets.platform.governance.personal import PersonalColumns
from lakehouse_assets.platform.governance.policy import Policy
from lakehouse_assets.platform.governance.principal import OWNER, Principal
from lakehouse_assets.platform.monitoring.system.system_views import VIEWS
from lakehouse_assets.platform.quality.masking import MASK, SOURCE, Personal
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.wording import printable

SETTING = "LAKEHOUSE_SHOW_PERSONAL"


def to_stderr(text: str) -> None:
    """Print lines for the person, apart from the rows; data in them is made fit for a terminal."""
    sys.stderr.write("\n".join(printable(line) for line in text.split("\n")) + "\n")


class Notices:
    """Lines for the person who reads, each told once."""

    def __init__(self, tell: Callable[[str], None] = to_stderr) -> None:
        self._tell, self._told = tell, set[str]()

    def __call__(self, text: str) -> None:
        """Tell a line unless it was told before."""
        if text not in self._told:
            self._told.add(text)
            self._tell(text)


@dataclass(frozen=True)
class Reader:
    """Reads tables for a principal.

    Attributes:
        lakehouse: The tables.
        policy: Gives the policy; called at the first read.
        principal: Who reads.
        audit: Where reads are written down.
        notice: Told, once each, that personal data is masked or shown.
    """

    lakehouse: Lakehouse
    policy: Callable[[], Policy]
    principal: Principal
    audit: AuditLog
    notice: Callable[[str], None]

    def scan(
        self,
        table: str,
        version: int | None = None,
        at: datetime | None = None,
        *,
        choose: Callable[[pl.LazyFrame], pl.LazyFrame] = lambda rows: rows,
        what: str = "scan",
        as_text: bool = False,
    ) -> pl.LazyFrame:
        """The rows of a table at a version, at a moment (naive: UTC), or now, with personal data masked unless the principal may see it.

        Args:
            table: Its name.
            version: Of the table.
            at: A moment, in place of a version.
            choose: Filters and selects; it is given the masked rows, so a condition sees the mask and not the value.
            what: What the audit log calls the read.
            as_text: Whether personal values of every type are masked as a text, so that nulls can still be counted.

        Raises:
            NoSuchTable: It does not exist.
            NoSuchVersion: There is no such version, or none at that moment; or it is a view, which has none.
        """
        if table in VIEWS:
            if version is not None or at is not None:
                raise NoSuchVersion(f"{table} is a view, which shows its tables as they are now: it has no versions")
            return self._shown(choose(self.frames([table])[table][0]), table, what)
        handle = self.lakehouse.table(table)
        number = handle.version_at(at) if at is not None else version
        return self._given(handle.scan(number), handle, what, number, choose, as_text=as_text)

    def view(self, rows: pl.LazyFrame, table: str, what: str, version: int | None = None) -> pl.LazyFrame:
        """Rows that were computed from a table (a quarantine with its source), masked as the rows of that table are.

        Args:
            rows: The rows.
            table: Its name.
            what: What the audit log calls the read.
            version: Of the table; None: the newest, for which the table is asked.
        """
        return self._given(rows, self.lakehouse.table(table), what, version)

    def values(self, rows: Iterable[Mapping[str, Any]], table: str, what: str) -> list[dict[str, Any]]:
        """Rows of a table that were collected already, masked as the rows of that table are.

        Args:
            rows: The rows.
            table: Its name.
            what: What the audit log calls the read.
        """
        given, handle = list(rows), self.lakehouse.table(table)
        exists = handle.exists()
        if not exists and not given:
            return []
        personal, columns = self.personal(table), tuple(given[0]) if given else ()
        hidden = tuple(name for name in columns if personal.hides(name))
        self._write_down(what, [_at(handle) if exists else table], columns, hidden, len(given))
        return [dict(row) if self.principal.sees_personal else personal.masked_row(row) for row in given]

    @contextmanager
    def opened(self, what: str) -> Iterator[Lakehouse]:
        """The tables, for what answers in sentences and masks what it reads: at the end, those that it opened are written down as one read.

        So they are if it ends with an error: rows had been read until then.

        Args:
            what: What the audit log calls the read; one that failed has `failed: ` before it.
        """
        noted = _Noted(self.lakehouse.root, self.lakehouse.storage_options)
        try:
            yield noted
        except BaseException:
            # Names without versions: what failed may be the storage, which is not asked again lest its next error hides the first.
            if noted.opened:
                self._write_down(f"failed: {what}", list(noted.opened), (), (), None)
            raise
        if there := [_at(table) for table in noted.opened.values() if table.exists()]:
            self._write_down(what, there, (), (), None)

    def names(self) -> list[str]:
        """The tables that exist, and the views that show some of them, by name."""
        tables = [table.name for table in self.lakehouse.tables()]
        return sorted({*tables, *(name for name, view in VIEWS.items() if any(map(view.sources, tables)))})

    def frames(self, names: Iterable[str]) -> dict[str, tuple[pl.LazyFrame, tuple[str, ...]]]:
        """The rows of tables and views, each with the names of its personal columns, masked unless the principal may see them.

        The read is not written down.
        """
        names = list(names)
        there = list(self.lakehouse.tables()) if VIEWS.keys() & set(names) else []
        return {name: self._frame(name, there) for name in names}

    def record(self, what: str, names: Iterable[str], personal: Iterable[str], rows: pl.DataFrame) -> None:
        """Write down a read whose rows are known, and tell the person what they do not see."""
        tables = [name if name in VIEWS else _at(self.lakehouse.table(name)) for name in names]
        self._write_down(what, tables, rows.columns, tuple(personal), rows.height)

    def personal(self, table: str) -> Personal:
        """The personal columns of a table: see `PersonalColumns.of`."""
        return self._personal.of(table)

    def _given(
        self,
        rows: pl.LazyFrame,
        table: Table,
        what: str,
        version: int | None = None,
        choose: Callable[[pl.LazyFrame], pl.LazyFrame] = lambda rows: rows,
        *,
        as_text: bool = False,
    ) -> pl.LazyFrame:
        masked, personal = self._masked(rows, table.name, as_text=as_text)
        chosen = choose(masked)
        columns = chosen.collect_schema().names()
        self._write_down(what, [_at(table, version)], columns, tuple(name for name in personal if name in columns), None)
        return chosen

    def _frame(self, name: str, there: Iterable[Table]) -> tuple[pl.LazyFrame, tuple[str, ...]]:
        if name in VIEWS:
            return VIEWS[name].scan(there, lambda table: self._masked(table.scan(), table.name)[0]), ()
        return self._masked(self.lakehouse.table(name).scan(), name)

    def _shown(self, rows: pl.LazyFrame, view: str, what: str) -> pl.LazyFrame:
        self._write_down(what, [view], rows.collect_schema().names(), (), None)
        return rows

    def _masked(self, rows: pl.LazyFrame, table: str, *, as_text: bool = False) -> tuple[pl.LazyFrame, tuple[str, ...]]:
        masked, personal = self.personal(table).masked(rows, as_text=as_text)
        return (rows if self.principal.sees_personal else masked), personal

    def _write_down(self, what: str, tables: list[str], columns: Iterable[str], personal: tuple[str, ...], rows: int | None) -> None:
        sees = self.principal.sees_personal
        masked, unmasked = ((), personal) if sees else (personal, ())
        self.audit.add(Read(self.principal.name, what, tuple(tables), tuple(columns), masked, unmasked, rows))
        named = self._named(tables, personal)
        if personal and sees:
            self.notice(f"Personal data is shown ({named}): {SETTING}={OWNER}, and {self.principal.name} owns this root.")
        elif personal:
            why = f"{self.principal.why}." if self.principal.why else f"The owner of the root sees it with {SETTING}={OWNER}."
            self.notice(f"Personal data is masked ({named}): texts as {MASK}, other values as null. {why}")

    def _named(self, tables: Iterable[str], personal: Sequence[str]) -> str:
        """Personal columns for a notice: those that people declared, and the platform's own, which repeat their values, by one word."""
        declared = {name for table in tables for name in self.personal(table).columns}
        own = [name for name in personal if name not in declared and (name.startswith("_") or name == SOURCE)]
        named = [name for name in personal if name not in own]
        return ", ".join([*named, "what the platform keeps of their texts"] if named and own else personal)

    @cached_property
    def _personal(self) -> PersonalColumns:
        return PersonalColumns(self.lakehouse, self.policy)


@dataclass(frozen=True)
class _Noted(Lakehouse):
    """Tables, with those that were opened by their names."""

    opened: dict[str, Table] = field(default_factory=dict, compare=False)

    def table(self, name: str) -> Table:
        self.opened[name] = table = super().table(name)
        return table


def _at(table: Table, version: int | None = None) -> str:
    return f"{table.name}@{table.version() if version is None else version}"
