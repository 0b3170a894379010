"""What each commit of each table did, as rows of a system table: what monitors count, and what outlasts the clean-up of a table's log.

The log of a table is the truth. This table is a reader of it with a cursor for each table, so it can be deleted and is filled again from
the commits that are still there. Counts are not made here: they are the row accounts that the commits carry.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.errors import CommitConflict, CursorMoved
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

TABLE: Final = platform_tables.COMMITS
SCHEMA: Final = pl.Schema(
    {
        "table": pl.String(),
        "table_id": pl.String(),  # another one after the table was deleted and created again
        "version": pl.Int64(),
        "at": TIMESTAMP,
        "operation": pl.String(),
        "run_id": pl.String(),
        "repeated": pl.Boolean(),  # its rows had all come before, as in a full refresh
        "rows_in": pl.Int64(),
        "written": pl.Int64(),
        "updated": pl.Int64(),
        "duplicates": pl.Int64(),
        "quarantined": pl.Int64(),
        "removed": pl.Int64(),
    }
)
DESCRIPTION: Final = "One row a commit of a table, with its row account where it has one. Filled from the tables' logs."
UNRECORDED: Final = 100
"""So many commits a monitor reads from a table's log each time before they are recorded."""
# What marks commits whose rows had come before, as `Table.history` names it.
_REPEATED = {"rebuild", "replay"}


@dataclass(frozen=True)
class Commits:
    """What is known of the commits of a table since a moment.

    Attributes:
        rows: As `SCHEMA` has them, oldest first, without a gap up to the newest version.
        missing: The newest version before them of which nothing is known, since its commit left the log unrecorded; None if there is none.
    """

    rows: pl.DataFrame
    missing: int | None


def record(lakehouse: Lakehouse, tables: Iterable[Table]) -> None:
    """Add the commits of tables that are not recorded yet, in one commit. If another process does the same at this moment, it is enough.

    Raises:
        CommitConflict: Other writers did not let this one through.
    """
    log = lakehouse.table(TABLE)
    cursors, frames = [], []
    for table in tables:
        source, recorded = _source(table), _recorded(log, table)
        if table.name != TABLE and (rows := _unrecorded(table, recorded)).height:
            cursors.append(Cursor(source, recorded, int(rows["version"][-1])))
            frames.append(rows)
    if frames:
        log.create(SCHEMA, ("table",), DESCRIPTION)
        with suppress(CursorMoved):
            log.append(pl.concat(frames), Commit(tuple(cursors)))


def recorded_until(lakehouse: Lakehouse, table: Table) -> int | None:
    """The newest version of a table that is recorded; None if none is."""
    return _recorded(lakehouse.table(TABLE), table)


def commits_since(lakehouse: Lakehouse, table: Table, begin: datetime) -> Commits:
    """The commits of a table from a moment on (UTC), from here and, for the newest ones, from its log.

    The cost does not grow with the number of commits that were made since: those of the log are recorded now and then.
    """
    log = lakehouse.table(TABLE)
    fresh = _unrecorded(table, _recorded(log, table))
    if fresh.height > UNRECORDED:
        with suppress(CommitConflict):  # the next one does it
            record(lakehouse, [table])
    rows = fresh
    if log.exists():
        known = log.scan().filter((pl.col("table") == table.name) & (pl.col("table_id") == _id(table)) & (pl.col("at") >= begin))
        rows = pl.concat([known.collect(engine="streaming"), fresh]).unique("version").sort("version")
    hole = rows.filter(pl.col("version").diff() > 1)["version"]
    rows = rows.filter(pl.col("version") >= (hole[-1] if hole.len() else -1))
    first = int(rows["version"][0]) if rows.height else 0
    is_gap = bool(hole.len()) or (first > 0 and not _is_known(log, table, first - 1))
    return Commits(rows.filter(pl.col("at") >= begin), first - 1 if is_gap else None)


def _is_known(log: Table, table: Table, version: int) -> bool:
    """Whether a commit before those that were asked for is recorded, or is still in the log."""
    if next(table.commits(version), None) is not None:
        return True
    if not log.exists():
        return False
    own = (pl.col("table") == table.name) & (pl.col("table_id") == _id(table)) & (pl.col("version") == version)
    return bool(log.scan().filter(own).select(pl.len()).collect().item())


def _unrecorded(table: Table, recorded: int | None) -> pl.DataFrame:
    """The commits above a version, oldest first."""
    rows: list[dict[str, Any]] = []
    for commit in table.commits():
        if recorded is not None and commit["version"] <= recorded:
            break
        rows.append(_row(commit) | {"table": table.name, "table_id": _id(table)})
    return pl.DataFrame(rows[::-1], schema=SCHEMA)


def _row(commit: dict[str, Any]) -> dict[str, Any]:
    info = commit["info"]
    account = vars(RowAccount.from_json(info["account"])) if "account" in info else {}
    own = {name: commit[name] for name in ("version", "at", "operation")}
    return own | {"run_id": info.get("run_id"), "repeated": bool(_REPEATED & info.keys())} | account


def _recorded(log: Table, table: Table) -> int | None:
    return log.cursor(_source(table))


def _source(table: Table) -> str:
    return f"{table.name}/{_id(table)}"


def _id(table: Table) -> str:
    return str(table.now().metadata().id)
