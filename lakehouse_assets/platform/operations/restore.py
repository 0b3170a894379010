"""Which tables go back together, and in which order: a table with its quarantine, or all that a run wrote.

The landing log and the models' ledgers are not restored: what was seen and what was decided stays true. A restored bronze table has its
cursor on the landing log set back, so that the files are read again. How one table goes back is in `storage.restore`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

import polars as pl

from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX, Declaration
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.ingestion.zone import Zone
from lakehouse_assets.platform.pipeline.replay import paired_cursors
from lakehouse_assets.platform.storage import restore as storage
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.restore import Plan
from lakehouse_assets.platform.storage.table import Table

_PLATFORM = "platform."
_SHORTEST_RUN_ID = 8


class RestoreRefused(ValueError):
    """What was asked for cannot be restored, with what to do instead."""


@dataclass(frozen=True)
class Step:
    """One table and what it goes back to."""

    table: Table
    plan: Plan


@dataclass(frozen=True)
class Restoration:
    """Tables that go back together.

    Attributes:
        steps: In the order in which they are done: sources before their readers, a table before its quarantine.
        readers: Tables that read one of them and do not go back: the next run recomputes them where rows went away.
    """

    steps: tuple[Step, ...]
    readers: tuple[str, ...]

    @property
    def is_done(self) -> bool:
        """Whether every table is as at its version already."""
        return all(step.plan.done_at is not None for step in self.steps)


def of_table(lakehouse: Lakehouse, declarations: Sequence[Declaration], name: str, version_of: Callable[[Table], int]) -> Restoration:
    """A table with its quarantine.

    Args:
        lakehouse: Where they are.
        declarations: Of all products.
        name: Of the table.
        version_of: Says which version of the table.

    Raises:
        RestoreRefused: It is a table that is not restored.
        NoSuchTable: There is no such table.
        NoSuchVersion: There is no such version, or vacuum has deleted files of it.
    """
    _check_name(name, declarations)
    table = lakehouse.table(name)
    return _restoration(declarations, _pair(lakehouse, table, version_of(table)))


def of_run(lakehouse: Lakehouse, declarations: Sequence[Declaration], run_id: str) -> Restoration:
    """All tables that a run wrote, each to just before the run's first commit in it.

    Args:
        lakehouse: Where they are.
        declarations: Of all products.
        run_id: Of the run, or how it begins.

    Raises:
        RestoreRefused: No run, or more than one, is called so; or it made a table with its rows.
        NoSuchVersion: Vacuum has deleted files of a version that is needed.
    """
    tables = [table for table in lakehouse.tables() if not never_restored(table.name, declarations)]
    quarantines = [quarantine for table in tables if (quarantine := lakehouse.table(table.name + QUARANTINE_SUFFIX)).exists()]
    before = {table.name: storage.runs_of(table) for table in [*tables, *quarantines]}
    run_id = _whole_id({run for runs in before.values() for run in runs}, run_id)
    steps: list[Step] = []
    for table in _sources_first(tables, declarations):
        to = before[table.name].get(run_id)
        if to == -1:
            raise RestoreRefused(f"{table.name} did not exist before run {run_id}: move its folder away instead, {table.uri}")
        if to is not None:
            steps += _pair(lakehouse, table, to)
            continue
        quarantine = lakehouse.table(table.name + QUARANTINE_SUFFIX)
        before_rejected = before.get(quarantine.name, {}).get(run_id)
        if before_rejected is not None:  # the run died before it wrote the table
            steps.append(Step(quarantine, storage.plan(quarantine, max(before_rejected, 0))))
    if not steps:
        raise RestoreRefused(
            f"run {run_id} wrote no table that can be restored: the landing log and the models' ledgers keep what they have"
        )
    return _restoration(declarations, steps)


def carry_out(lakehouse: Lakehouse, declarations: Sequence[Declaration], restoration: Restoration, run_id: str) -> dict[str, int]:
    """Do the steps; the version of each table afterwards. Killed anywhere, doing it again brings it to its end.

    Raises:
        NoSuchVersion: Vacuum has deleted files of a version in the meantime. The steps before are done.
        CommitConflict: Other writers did not let one through. The steps before are done.
    """
    done: dict[str, int] = {}
    for step in restoration.steps:
        cursors = _on_restored_sources(lakehouse, declarations, restoration, done, step)
        done[step.table.name] = storage.restore(step.table, step.plan.to, run_id, cursors)
    return done


def missing_files(
    lakehouse: Lakehouse, declarations: Iterable[Declaration], restoration: Restoration, zone_of: Callable[[str], Zone]
) -> dict[str, list[str]]:
    """By feed, the files whose rows go and do not come again, because they do not lie in the landing zone any more as they were read."""
    plans = {step.table.name: step.plan for step in restoration.steps}
    log, missing = lakehouse.table(landing.LOG), {}
    for asset in declarations:
        if not isinstance(asset, FeedDeclaration) or asset.name not in plans:
            continue
        cursor = f"landing/{asset.feed.name}"
        until = lakehouse.table(asset.name).cursor(cursor)
        if cursor not in plans[asset.name].cursors or until is None:
            continue
        listed = set(landing.listed(zone_of(asset.feed.name), asset.feed).iter_rows())
        again = landing.state(log, asset.feed.name).with_outcome(plans[asset.name].cursors[cursor], until)
        again = again.filter((pl.col("outcome") == landing.READ) & ~pl.col("superseded"))
        gone = [row["path"] for row in again.to_dicts() if (row["path"], row["size"], row["modified"]) not in listed]
        if gone:
            missing[asset.feed.name] = gone
    return missing


def _on_restored_sources(
    lakehouse: Lakehouse, declarations: Sequence[Declaration], restoration: Restoration, done: Mapping[str, int], step: Step
) -> dict[str, int]:
    """The cursors on sources that are again as the table had read them: nothing of them has to be read again."""
    cursors = {}
    then = step.table.delta(step.plan.to)
    for source in _reads(declarations).get(step.table.name, set()) & set(done):
        at = then.transaction_version(source)
        to = next(other.plan.to for other in restoration.steps if other.table.name == source)
        if at is not None and at >= 0 and storage.same_rows(lakehouse.table(source), at, to):
            cursors[source] = done[source]
    return cursors


def _pair(lakehouse: Lakehouse, table: Table, to: int) -> list[Step]:
    steps = [Step(table, storage.plan(table, to))]
    quarantine = lakehouse.table(table.name + QUARANTINE_SUFFIX)
    if quarantine.exists():
        steps.append(Step(quarantine, storage.plan(quarantine, storage.paired(table, to, quarantine, paired_cursors(quarantine.name)))))
    return steps


def _restoration(declarations: Iterable[Declaration], steps: list[Step]) -> Restoration:
    names = {step.table.name for step in steps}
    readers = [name for name, sources in _reads(declarations).items() if sources & names and name not in names]
    return Restoration(tuple(steps), tuple(readers))


def _reads(declarations: Iterable[Declaration]) -> dict[str, set[str]]:
    return {asset.name: set(asset.sources()) for asset in declarations if isinstance(asset, TableDeclaration)}


def _sources_first(tables: Sequence[Table], declarations: Iterable[Declaration]) -> list[Table]:
    named = {table.name: table for table in tables}
    order = TopologicalSorter({name: set[str]() for name in named} | _reads(declarations)).static_order()
    return [named[name] for name in order if name in named]


def never_restored(name: str, declarations: Iterable[Declaration]) -> bool:
    """Whether a table keeps what it has when others go back: logs and ledgers. A quarantine goes with its table."""
    logs = {asset.name for asset in declarations if asset.is_log}
    return name.startswith(_PLATFORM) or name in logs or name.endswith(QUARANTINE_SUFFIX)


def _check_name(name: str, declarations: Sequence[Declaration]) -> None:
    if name.endswith(QUARANTINE_SUFFIX):
        raise RestoreRefused(f"a quarantine goes back with its table: `lakehouse restore {name.removesuffix(QUARANTINE_SUFFIX)}`")
    if name == landing.LOG:
        bronze = ", ".join(asset.name for asset in declarations if isinstance(asset, FeedDeclaration))
        raise RestoreRefused(f"the landing log is not restored, what was seen was seen. To read files again, restore their table: {bronze}")
    for asset in declarations:
        if isinstance(asset, ModelDeclaration) and asset.name == name:
            raise RestoreRefused(
                f"{name} is the ledger of decisions about a model and is not restored: `lakehouse models rollback {asset.name}` makes "
                "the previous champion champion again"
            )
    if never_restored(name, declarations):
        raise RestoreRefused(f"{name} is a log of the platform and is not restored")


def _whole_id(runs: set[str], start: str) -> str:
    matching = {run for run in runs if run.startswith(start)}
    if start in matching:
        return start
    if len(start) < _SHORTEST_RUN_ID or not matching:
        raise RestoreRefused(
            f"no table has a commit of run {start!r}: `lakehouse history TABLE` shows the runs, give their first 8 characters"
        )
    if len(matching) > 1:
        raise RestoreRefused(f"more than one run begins with {start!r}: {', '.join(sorted(matching))}")
    return matching.pop()
