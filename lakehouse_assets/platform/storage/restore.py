"""Brings one table back to a version: rows and cursors together, in a new commit, so that what came later is read again.

Versions are chosen by cursors and by the order of commits, never by a clock. Which tables go back together, and in which order, is decided
in `operations.restore`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError

from lakehouse_assets.platform.storage import inventory
from lakehouse_assets.platform.storage.change_feed import last_change
from lakehouse_assets.platform.storage.commit import NEVER, cursor_of, next_write, with_retries
from lakehouse_assets.platform.storage.commit_log import INFO_PREFIX
from lakehouse_assets.platform.storage.compaction import MAINTENANCE
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.maintenance import readable_from
from lakehouse_assets.platform.storage.table import Table

RESTORED_TO: Final = "lakehouse.restored_to"


@dataclass(frozen=True)
class Plan:
    """What a restore does to a table.

    Attributes:
        table: Its name.
        version: Its latest version.
        to: The version that it goes back to.
        rows: That it has now.
        rows_after: That it has then.
        cursors: Where the sources are read from again (None: from their beginning); those that do not move are not named.
        done_at: The version from which on it is as at `to` already, rows and cursors, if there is one: then nothing has to be done.
    """

    table: str
    version: int
    to: int
    rows: int
    rows_after: int
    cursors: Mapping[str, int | None]
    done_at: int | None


def plan(table: Table, to: int) -> Plan:
    """What `restore` would do.

    Raises:
        NoSuchVersion: There is no such version, or vacuum has deleted files of it.
    """
    delta = table.delta()
    _check(table, delta, to)
    then = table.delta(to)
    done_at = _done_at(table, delta, to)
    cursors = {} if done_at is not None else {source: cursor_of(then, source) for source in _moved(table, delta, to)}
    return Plan(table.name, delta.version(), to, table.count(), table.count(to), cursors, done_at)


def restore(table: Table, to: int, run_id: str, cursors: Mapping[str, int] | None = None) -> int:
    """Bring a table back to a version, unless it is as at that version already; its version then.

    Concurrent restores and writers are serialized: a writer whose batch had begun before finds its cursor moved.

    Args:
        table: The table.
        to: The version whose rows and cursors it gets.
        run_id: Is written into the commit.
        cursors: Of some sources, when not as they were at that version.

    Raises:
        NoSuchVersion: There is no such version, or vacuum has deleted files of it. Nothing was written.
        CommitConflict: Other writers did not let this one through.
    """

    def attempt() -> int:
        delta = table.delta()
        _check(table, delta, to)
        if (done_at := _done_at(table, delta, to)) is not None:
            return done_at
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
    runs: dict[str, int] = {}
    for commit in table.commits():
        if (run := commit["info"].get("run_id")) and not _is_maintenance(commit["info"]):
            runs[run] = commit["version"] - 1
    return runs


def paired(table: Table, to: int, sibling: Table, names: Mapping[str, str]) -> int:
    """The newest version of a sibling that has consumed no more of any source than a table had at a version. No clock is asked.

    Both commits of a batch carry the same cursors, and the sibling's comes first. What came into the sibling after the table was restored
    behind that version belongs to other batches with the same cursors and does not count.

    Args:
        table: The table.
        to: The version of it.
        sibling: As its quarantine.
        names: Cursors that the table has under other names or that are the platform's own, from the sibling's name to the table's. One that
            the table has forgotten is not compared.

    Raises:
        NoSuchVersion: The sibling cannot go back so far.
    """
    delta, then = sibling.delta(), table.delta(to)
    oldest, newest = readable_from(sibling), _end_of_life(table, to, sibling)
    moves = inventory.log_files(sibling, delta, oldest, max(newest, oldest)).transactions
    moved = {*_moved(table, table.delta(), to), *moves["appId"]}
    sources = [name for name in moved if not name.startswith(INFO_PREFIX) and name not in {*names, *names.values()}]
    limits = {source: _number(then.transaction_version(source)) for source in sources}
    limits |= {own: limit for own, name in names.items() if (limit := _limit(table, to, name)) is not None}
    first = sibling.delta(oldest)
    cursors = {name: _number(first.transaction_version(name)) for name in limits}
    newest_within = oldest if newest >= oldest and _is_within(cursors, limits) else None
    for (version,), commit in moves.group_by("version", maintain_order=True):
        before = int(version) - 1
        newest_within = before if before >= oldest and _is_within(cursors, limits) else newest_within
        cursors |= {name: at for name, at in commit.select("appId", "cursor").iter_rows() if name in limits}
    if _is_within(cursors, limits) and newest >= oldest:
        return newest
    if newest_within is None:
        raise NoSuchVersion(
            f"{sibling.name} has no version any more that belongs to version {to} of {table.name}: version {oldest} is the oldest to go "
            "back to. LAKEHOUSE_RETENTION_DAYS says how long versions are kept."
        )
    return newest_within


def _end_of_life(table: Table, to: int, sibling: Table) -> int:
    """The last version of a sibling before the commits of those who wrote after the first restore of a table behind a version."""
    before, after = set[str](), list[tuple[str, bool]]()
    for commit in table.commits():
        if commit["version"] <= to:
            break
        if MAINTENANCE.removeprefix(INFO_PREFIX) not in commit["info"]:
            after.append((commit["info"].get("run_id", ""), RESTORED_TO.removeprefix(INFO_PREFIX) in commit["info"]))
    while after and not after[-1][1]:
        before.add(after.pop()[0])
    later, newest = {run for run, _ in after} - before, sibling.version()
    for commit in sibling.commits() if later else ():
        if commit["info"].get("run_id", "") in later:
            newest = commit["version"] - 1
    return newest


def _limit(table: Table, to: int, name: str) -> int | None:
    """The cursor of a table at a version; None if it was taken away, as a full refresh does, or nothing is known of it any more."""
    oldest = readable_from(table)
    while (at := table.delta(to).transaction_version(name)) == NEVER:
        # A restore also takes away a cursor that the table did not have yet: then it is as it was there.
        transactions = inventory.log_files(table, table.delta(to), oldest, to).transactions
        versions = transactions.filter(pl.col("appId") == name)["version"]
        restored = next(table.commits(int(versions[-1])))["info"].get(RESTORED_TO.removeprefix(INFO_PREFIX)) if versions.len() else None
        if restored is None or int(restored) < oldest:
            return None
        to = int(restored)
    return _number(at)


def _number(cursor: int | None) -> int:
    return NEVER if cursor is None else cursor


def _is_within(cursors: Mapping[str, int], limits: Mapping[str, int]) -> bool:
    return all(cursors[name] <= limit for name, limit in limits.items())


def same_rows(table: Table, one: int, other: int) -> bool:
    """Whether no row came, changed or went between two versions of a table."""
    first, last = sorted([one, other])
    return last_change(table.delta(), first, last, table.storage_options) == first


def _is_maintenance(info: Mapping[str, str]) -> bool:
    return MAINTENANCE.removeprefix(INFO_PREFIX) in info or RESTORED_TO.removeprefix(INFO_PREFIX) in info


def _check(table: Table, delta: DeltaTable, to: int) -> None:
    if not 0 <= to <= delta.version():
        raise NoSuchVersion(
            f"table {table.name} has no version {to}: its latest is {delta.version()}, see `lakehouse history {table.name}`"
        )
    whole_from = readable_from(table)
    if to < whole_from:
        raise NoSuchVersion(
            f"version {to} of table {table.name} is not whole any more, maintenance has deleted files of it: version {whole_from} is the "
            "oldest to go back to. LAKEHOUSE_RETENTION_DAYS says how long versions are kept."
        )


def _moved(table: Table, delta: DeltaTable, to: int) -> list[str]:
    """The sources whose cursors were set after a version."""
    transactions = inventory.log_files(table, delta, to, delta.version()).transactions
    return [name for name in transactions["appId"].unique(maintain_order=True) if not name.startswith(INFO_PREFIX)]


def _done_at(table: Table, delta: DeltaTable, to: int) -> int | None:
    """The version from which on the table has been as it was at `to`."""
    moved = inventory.log_files(table, delta, to, delta.version()).transactions
    cursors = moved["version"].filter(~moved["appId"].str.starts_with(INFO_PREFIX))
    rows = last_change(delta, to, delta.version(), table.storage_options)
    last = max(rows, *cursors, to)
    if last == to:
        return delta.version()
    return last if next(table.commits(last))["info"].get(RESTORED_TO.removeprefix(INFO_PREFIX)) == str(to) else None
