"""The monitor of rows whose time is still to come, which a forecast leaves out until then."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

import polars as pl

from lakehouse_assets.platform.declarations.features import is_ahead
from lakehouse_assets.platform.declarations.monitors import MonitorKind, Verdict, Watched
from lakehouse_assets.platform.monitoring.verdicts import FIRST_ZONE
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.wording import counted


@dataclass(frozen=True)
class NotAhead(MonitorKind):
    """No row of the tables that a table is made of has a time after today.

    Attributes:
        time: The column, of dates or moments in UTC.
        tables: What the table is made of.
    """

    time: str
    tables: tuple[str, ...]

    word: ClassVar[str] = "not_ahead"
    reads_table: ClassVar[bool] = False

    @property
    def demands(self) -> str:
        """See `MonitorKind.demands`."""
        return f"No row of what it is made of has a {self.time} after today: such rows are left out until then."

    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        """See `MonitorKind.evaluate`."""
        declared = [watched.catalog.get(name) for name in self.tables]
        shows = not any(self.time in one.personal for one in declared if one is not None)
        return [not_ahead(self.time, [watched.lakehouse.table(name) for name in self.tables], watched.now, shows=shows)]


def not_ahead(time: str, tables: Sequence[Table], now: datetime, *, shows: bool = True) -> Verdict:
    """Whether tables have rows whose time is still to come, how many, and the latest one.

    Args:
        time: The column, a date or a moment in UTC.
        tables: The tables.
        now: The moment to judge at (UTC).
        shows: Whether a value may be shown: not where the column is personal.
    """
    ahead = []
    for table in tables:
        if not table.exists():
            continue
        rows = table.scan()
        later = rows.filter(is_ahead(rows, time, now + FIRST_ZONE))
        count, latest = later.select(count=pl.len(), latest=pl.col(time).max()).collect(engine="streaming").row(0)
        if count:
            came = f"{counted(count, 'row')} of {table.name} {'has' if count == 1 else 'have'} a {time} after today"
            came += f", the latest {latest}" if shows else ""
            shown = f"`lakehouse show {table.name} --where \"{time} > date '{now.date()}'\"`"
            ahead.append(f"{came}: left out until then, see {shown}")
    return Verdict(passed=not ahead, text="; ".join(ahead) + "." if ahead else f"No {time} is after today.")
