"""One table as a person or a program reads it, through the reader."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from lakehouse_assets.client.context import Context, by_last_word
from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX
from lakehouse_assets.platform.monitoring.system.system_views import VIEWS
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.errors import NoSuchTable, NoSuchVersion
from lakehouse_assets.platform.storage.table import Table

if TYPE_CHECKING:
    from lakehouse_assets.platform.quality.contract import Contract


@dataclass(frozen=True)
class TableHandle:
    """A table by its name. Made without opening anything; each method raises `NoSuchTable` if the table does not exist."""

    context: Context
    name: str

    def scan(self, *, version: int | None = None, at: datetime | None = None) -> pl.LazyFrame:
        """The rows at a version, at a moment (naive: UTC), or now, with personal data masked unless this user may see it.

        Raises:
            NoSuchVersion: There is no such version, or none at that moment.
        """
        return self.context.reader.scan(self._readable, version, at)

    def select(
        self,
        columns: Sequence[str] = (),
        where: str | None = None,
        *,
        version: int | None = None,
        at: datetime | None = None,
        what: str = "scan",
        as_text: bool = False,
    ) -> pl.LazyFrame:
        """Some columns of the rows that meet a condition, as `scan`; the condition sees personal data masked.

        Args:
            columns: Their names; none: all.
            where: A condition in SQL on columns of the table.
            version: As for `scan`.
            at: As for `scan`.
            what: What the audit log calls the read.
            as_text: Whether personal values of every type are masked as a text, so that nulls can still be counted.

        Raises:
            LookupError: There is no such column.
            QueryRefused: The condition cannot be understood.
        """
        if not columns and where is None:
            return self.context.reader.scan(self._readable, version, at, what=what, as_text=as_text)
        from lakehouse_assets.platform.governance.sql import select

        return self.context.reader.scan(
            self._readable, version, at, choose=lambda rows: select(rows, columns, where), what=what, as_text=as_text
        )

    def export(
        self, file: Path, columns: Sequence[str] = (), where: str | None = None, *, version: int | None = None, at: datetime | None = None
    ) -> None:
        """Write rows to a CSV, parquet or Excel file, as its name ends; arguments as for `select`.

        Raises:
            ExportRefused: The name ends in no known format, or the format cannot hold the rows.
        """
        from lakehouse_assets.platform.governance import formats

        formats.check_name(file)
        formats.write(self.select(columns, where, version=version, at=at, what=f"export: {file.name}"), file)

    def history(self, limit: int = 100) -> list[dict[str, Any]]:
        """The commits, newest first: `version`, `at` (UTC), `operation`, `metrics`, and `info`, what the platform recorded."""
        return [
            commit | {"info": {name: _decoded(value) for name, value in commit["info"].items()}} for commit in self._table.history(limit)
        ]

    def count(self, version: int | None = None) -> int:
        """Rows at a version, or now."""
        if self.name in VIEWS and version is None:
            rows = self.context.reader.frames([self.name])[self.name][0]
            return int(rows.select(pl.len()).collect(engine="streaming").item())
        return self._table.count(version)

    @property
    def schema(self) -> pl.Schema:
        """Names and types of the columns."""
        return VIEWS[self.name].of.schema if self.name in VIEWS else self._table.schema()

    @property
    def version(self) -> int:
        """The newest version."""
        return self._table.version()

    @property
    def contract(self) -> "type[Contract] | None":
        """The contract that a product declares for it; None if none does. Imports the products."""
        return next((asset.contract for asset in self.context.tables if asset.name == self.name), None)

    def exists(self) -> bool:
        """Whether the table has been created; a view is always there."""
        return self.name in VIEWS or self.context.root.lakehouse.table(self.name).exists()

    @property
    def _readable(self) -> str:
        """The name of what the reader is asked for."""
        return self.name if self.name in VIEWS else self._table.name

    @cached_property
    def _table(self) -> Table:
        if self.name in VIEWS:
            raise NoSuchVersion(f"{self.name} is a view, which shows its tables as they are now: it has no versions and no history")
        table = self.context.root.lakehouse.table(self.name)
        if not table.exists():
            raise self._does_not_exist()
        return table

    def _does_not_exist(self) -> NoSuchTable:
        declared = self.name.removesuffix(QUARANTINE_SUFFIX)
        if declared in self.context.policy.tables:
            return NoSuchTable(f"table {self.name} does not exist yet: `lakehouse run {declared}` creates it")
        if self.name in platform_tables.ALL:
            return NoSuchTable(f"table {self.name} {platform_tables.NOT_YET}")
        known = {*(table.name for table in self.context.root.lakehouse.tables()), *self.context.policy.tables}
        return NoSuchTable(f"there is no table {self.name!r}{self.context.unknown_name(self.name, known)}")


def _decoded(value: Any) -> Any:
    """What a text that holds a JSON object or list says; every other value as it is."""
    if isinstance(value, str) and value[:1] in {"{", "["}:
        with suppress(ValueError):
            return json.loads(value)
    return value


def full_name(context: Context, name: str) -> str:
    """The full name of a table: the last word of a name that only one table has is enough.

    Raises:
        NoSuchTable: No table has that last word.
        LookupError: Several tables have it.
    """
    if "." in name:
        return name
    known = {table.name for table in context.root.lakehouse.tables()} | set(context.policy.tables)
    full = by_last_word(name, known)
    if full is None:
        raise NoSuchTable(f"there is no table {name!r}{context.unknown_name(name, known)}")
    return full
