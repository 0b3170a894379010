"""What the checks of the doctor share: a finding, the lakehouse that is examined, one table of it, and commands that fix things.

The checks themselves are in `table_checks`, `lakehouse_checks` and `pipeline_checks`; in which order they are made is in `examine`.
"""

import posixpath
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final, Literal

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX, Declaration
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.operations.maintenance import Maintenance
from lakehouse_assets.platform.storage import inventory
from lakehouse_assets.platform.storage.errors import StorageError
from lakehouse_assets.platform.storage.inventory import Inventory
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.maintenance import State
from lakehouse_assets.platform.storage.table import Table

PLATFORM: Final = "platform."
Severity = Literal["error", "warning", "note"]
SEVERITIES: Final = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or worth knowing.

    Attributes:
        severity: `error`: data or a table is at stake; `warning`: it will be; `note`: only so that it is known.
        table: Its name.
        what: What is wrong.
        fix: A command, or what else to do; empty if nothing has to be done.
    """

    severity: Severity
    table: str
    what: str
    fix: str = ""


@dataclass(frozen=True)
class Checkup:
    """A lakehouse that is examined.

    Attributes:
        lakehouse: Its tables.
        declarations: Of all products.
        known: Tables besides the declared ones that somebody answers for, as assets with Dagster's own means.
        maintenance: Whose cursors and pins count.
        is_running: Whether a run is under way, which explains what is unfinished.
        now: With time zone.
        failures: The tables at which the last run failed, with the reasons.
        other_products: The products that the root was run with and whose packages are not those that are set now, each with its package.
        dead_runs: By id, the runs that have not ended and whose process is gone, in words.
    """

    lakehouse: Lakehouse
    declarations: Sequence[Declaration]
    known: frozenset[str]
    maintenance: Maintenance
    is_running: bool
    now: datetime
    failures: Mapping[str, str] = field(default_factory=dict)
    other_products: Mapping[str, str] = field(default_factory=dict)
    dead_runs: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def declared(self) -> Mapping[str, Declaration]:
        """The declarations by the names of their tables."""
        return {asset.name: asset for asset in self.declarations}

    @cached_property
    def files(self) -> pl.DataFrame:
        """What last became of every landed file."""
        return landing.latest(self.lakehouse.table(landing.LOG))


@dataclass(frozen=True)
class CheckedTable:
    """One table that is examined."""

    checkup: Checkup
    table: Table

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name

    @property
    def asset(self) -> Declaration | None:
        """What a product declares about it, if it is the table and not its quarantine."""
        return self.checkup.declared.get(self.name)

    @cached_property
    def delta(self) -> DeltaTable:
        """The table at its newest version."""
        return self.table.delta()

    @cached_property
    def stock(self) -> Inventory:
        """Its folder."""
        return inventory.take(self.table)

    @cached_property
    def state(self) -> State:
        """Its state, with what maintenance would do."""
        return next(state for table, state in self.checkup.maintenance.states([self.name]) if table.name == self.name)

    def finding(self, severity: Severity, what: str, fix: str = "") -> Finding:
        """A finding about this table."""
        return Finding(severity, self.name, what, fix)


def unopened(table: Table) -> str:
    """Why a table cannot be opened; empty if it can."""
    try:
        table.delta()
    except (StorageError, DeltaError, OSError) as error:
        return str(error).splitlines()[0]
    return ""


def move_away(lakehouse: Lakehouse, table: Table) -> str:
    """The command that takes a table and its quarantine out of the lakehouse without deleting them."""
    quarantine = lakehouse.table(table.name + QUARANTINE_SUFFIX) if not table.name.endswith(QUARANTINE_SUFFIX) else table
    moved = [table, *([quarantine] if quarantine != table and quarantine.exists() else [])]
    if "://" in table.uri:
        return f"move all objects below {' and '.join(each.uri + '/' for each in moved)} to a place outside {lakehouse.root}"
    return " && ".join(f"mv {shlex.quote(each.uri)} {beside(lakehouse, f'{each.name}.moved')}" for each in moved)


def beside(lakehouse: Lakehouse, name: str) -> str:
    """The path of something next to the folder of the tables, quoted for a shell."""
    return shlex.quote(posixpath.normpath(f"{lakehouse.root.rstrip('/')}/../{name}"))


def base_name(checked: CheckedTable) -> str:
    """The name of the table, also of its quarantine."""
    return checked.name.removesuffix(QUARANTINE_SUFFIX)


def rebuild(checked: CheckedTable) -> str:
    """The command that moves a table away and makes it again."""
    return f"{move_away(checked.checkup.lakehouse, checked.table)} && lakehouse run {base_name(checked)}"
