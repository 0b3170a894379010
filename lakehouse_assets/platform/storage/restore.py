"""Brings one table back to a version: rows and cursors together, in a new commit, so that what came later is read again.

Which tables go back together, and in which order, is decided in `assets.restore`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError

from lakehouse_assets.platform.storage import inventory
from lakehouse_assets.platform.storage.change_feed import last_change
from lakehouse_assets.platform.storage.commit import NEVER, cursor_of, next_write, with_retries
from lakehouse_assets.platform.storage.commit_log import INFO_PREFIX
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.maintenance import UPKEEP, readable_from
from lakehouse_assets.platform.storage.table import Table

RESTORED_TO: Final = "lakehouse.restored_to"


@dataclass(frozen=True)
class Plan:
    """What a restore does to a table.

    Attributes:
        table: Its name.
        version: Where it stands.
        to: Where it goes back to.
        rows: That it has now.
        rows_after: That it has then.
        cursors: Where the sources are read from again (None: from their beginning); those that do not move are not named.
        stands_at: The version that is like `to` already, rows and cursors, if there is one: then nothing has to be done.
    """

    table: str
    version: int
    to: int
    rows: int
    rows_after: int
    cursors: Mapping[str, int | None]
    stands_at: int | None


def plan(table: Table, to: int) -> Plan:
    """What `restore` would do.

    Raises:
        NoSuchVersion: There is no such version, or vacuum has deleted files of it.
    """
    delta = table.delta()
    _check(table, delta, to)
    then = table.delta(to)
    stands = _stands_at(table, delta, to)
    cursors = {} if stands is not None else {source: cursor_of(then, source) for source in _moved(table, delta, to)}
    return Plan(table.name, delta.version(), to, table.count(), table.count(to), cursors, stands)


def restore(table: Table, to: int, run_id: str, cursors: Mapping[str, int] | None = None) -> int:
    """Bring a table back to a version, unless it stands there already; its version then.

    Two at once, or one beside other writers, are as one after the other: a writer whose batch had begun before finds its cursor moved.

    Args:
        table: The table.
        to: The version whose rows and cursors it gets.
        run_id: Stands in the commit.
        cursors: Of some sources, when not as they were at that version.

    Raises:
        NoSuchVersion: There is no such version, or vacuum has deleted files of it. Nothing was written.
        CommitConflict: Other writers did not let this one through.
    """

    def attempt() -> int:
        delta = table.delta()
        _check(table, delta, to)
        if (stands := _stands_at(table, delta, to)) is not None:
            return stands
        then = table.delta(to)
        back = {source: cursor_of(then, source) for source in _moved(table, delta, to)} | dict(cursors or {})
        transactions = [Transaction(source, NEVER if at is None else at) for source, at in back.items()]
        properties = CommitProperties(
            custom_metadata={"lakehouse.run_id": run_id, RESTORED_TO: str(to)},
            app_transactions=[*transactions, next_write(delta)],
            max_commit_retries=0,  # what another writer adds in between has to go as well
        )
        try:
            delta.restore(to, commit_properties=properties)
        except CommitFailedError:
            raise
        except DeltaError as error:
            raise NoSuchVersion(f"table {table.name} cannot go back to version {to}: {error}") from error
        return delta.version()

    return with_retries(table.name, table.uri, attempt)


def runs_of(table: Table) -> dict[str, int]:
    """The runs that wrote into a table, by id, each with the version before its first commit; newest run first.

    -1 means that the run made the table with its rows. Of runs whose commits were removed from the log nothing is known: their versions
    are older than any that a table can go back to. Maintenance and restores are no writes of a run.
    """
    found: dict[str, int] = {}
    for commit in table.commits():
        if (run := commit["info"].get("run_id")) and not _is_upkeep(commit["info"]):
            found[run] = commit["version"] - 1
    return found


def beside(table: Table, to: int, sibling: Table) -> int:
    """The version at which a table's quarantine stood when the table came to a version.

    A batch writes its rejected rows first, so they belong to it if they were there when the table got its rows.
    """
    moment = next(commit["at"] for commit in table.commits(to))
    return _last_until(sibling, moment)


def same_rows(table: Table, one: int, other: int) -> bool:
    """Whether no row came, changed or went between two versions of a table."""
    first, last = sorted([one, other])
    return last_change(table.delta(), first, last, table.storage_options) == first


def _last_until(table: Table, moment: datetime) -> int:
    return max((commit["version"] for commit in table.commits() if commit["at"] <= moment), default=0)


def _is_upkeep(info: Mapping[str, str]) -> bool:
    return UPKEEP.removeprefix(INFO_PREFIX) in info or RESTORED_TO.removeprefix(INFO_PREFIX) in info


def _check(table: Table, delta: DeltaTable, to: int) -> None:
    if not 0 <= to <= delta.version():
        raise NoSuchVersion(f"table {table.name} has no version {to}: it stands at {delta.version()}, see `lakehouse history {table.name}`")
    whole_from = readable_from(table)
    if to < whole_from:
        raise NoSuchVersion(
            f"version {to} of table {table.name} is not whole any more, upkeep has deleted files of it: version {whole_from} is the oldest "
            "to go back to. LAKEHOUSE_RETENTION_DAYS says how long versions are kept."
        )


def _moved(table: Table, delta: DeltaTable, to: int) -> list[str]:
    """The sources whose cursors were set after a version."""
    transactions = inventory.log_files(table, delta, to, delta.version()).transactions
    return [name for name in transactions["appId"].unique(maintain_order=True) if not name.startswith(INFO_PREFIX)]


def _stands_at(table: Table, delta: DeltaTable, to: int) -> int | None:
    """The version from which on the table has been as it was at `to`."""
    said = inventory.log_files(table, delta, to, delta.version())
    cursors = said.transactions["version"].filter(~said.transactions["appId"].str.starts_with(INFO_PREFIX))
    rows = last_change(delta, to, delta.version(), table.storage_options)
    last = max(rows, *cursors, to)
    if last == to:
        return delta.version()
    return last if next(table.commits(last))["info"].get(RESTORED_TO.removeprefix(INFO_PREFIX)) == str(to) else None
