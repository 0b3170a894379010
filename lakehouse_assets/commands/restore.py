"""Restores by hand: what would go, the question whether it may, what was done. What it does is in `platform.operations.restore`."""

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from lakehouse_assets.commands.report import right
from lakehouse_assets.commands.workspace import Workspace
from lakehouse_assets.platform.operations import restore
from lakehouse_assets.platform.operations.restore import Restoration
from lakehouse_assets.platform.storage.table import Table

_SAMPLE = 3


def plan(workspace: Workspace, table: str | None, version: int | None, at: datetime | None, run: str | None) -> Restoration:
    """What a restore would do.

    Raises:
        RestoreRefused: It cannot be restored.
        NoSuchVersion: That version is not there (any more).
    """
    declarations = workspace.products.declarations
    if run is not None:
        return restore.of_run(workspace.lakehouse, declarations, run)

    def version_of(handle: Table) -> int:
        return version if version is not None else handle.version_at(at) if at is not None else handle.version()

    return restore.of_table(workspace.lakehouse, declarations, str(table), version_of)


def missing_files(workspace: Workspace, restoration: Restoration) -> dict[str, list[str]]:
    """By feed, the files whose rows go and do not come again."""
    return restore.missing_files(workspace.lakehouse, workspace.products.declarations, restoration, workspace.zone)


def carry_out(workspace: Workspace, restoration: Restoration) -> dict[str, int]:
    """Do it; the version of each table afterwards."""
    return restore.carry_out(workspace.lakehouse, workspace.products.declarations, restoration, str(uuid.uuid4()))


def as_values(restoration: Restoration, missing: dict[str, list[str]], done: dict[str, int] | None) -> dict[str, Any]:
    """A restoration as plain values; `done` is None when nothing was done."""
    steps = [
        {
            "table": step.table.name,
            "version": step.plan.version,
            "to": step.plan.to,
            "rows": step.plan.rows,
            "rows_after": step.plan.rows_after,
            "cursors": dict(step.plan.cursors),
            "stands_there_already": step.plan.done_at is not None,
            "version_after": None if done is None else done.get(step.table.name),
        }
        for step in restoration.steps
    ]
    return {"tables": steps, "readers": list(restoration.readers), "missing_files": missing, "done": done is not None}


def print_plan(restoration: Restoration, missing: dict[str, list[str]], console: Console) -> None:
    """What would go, and who would work anew."""
    grid = Grid("table", right("version"), right("back to"), right("rows"), right("rows then"), "read again", box=None)
    for step in restoration.steps:
        said = step.plan
        again = ", ".join(f"{source} from {'its beginning' if at is None else at}" for source, at in said.cursors.items())
        then = "stands there already" if said.done_at is not None else again
        grid.add_row(said.table, str(said.version), str(said.to), f"{said.rows:,}", f"{said.rows_after:,}", then)
    console.print(grid)
    if restoration.readers:
        console.print(f"The next run works anew, where rows went: {', '.join(restoration.readers)}.")
    for feed, paths in missing.items():
        sample = ", ".join(paths[:_SAMPLE]) + (f" and {len(paths) - _SAMPLE} more" if len(paths) > _SAMPLE else "")
        console.print(
            f"[yellow]warning[/] {len(paths)} files of feed {feed} do not lie in the landing zone any more, so their rows do not come "
            f"again: {escape(sample)}. To have them, put them back first, from the archive if they were moved there."
        )
    console.print("The landing log and the models' ledgers stay as they are: `lakehouse rollback MODEL` is for models.")


def under_way(workspace: Workspace) -> list[str]:
    """The runs that Dagster says are under way: what they write while a table goes back is not part of it."""
    import dagster as dg

    with workspace.instance() as instance:
        records = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING]))
        return [run.run_id for run in records]


def restore_and_report(
    workspace: Workspace, restoration: Restoration, missing: dict[str, list[str]], console: Console, confirm: Callable[[], bool]
) -> dict[str, int] | None:
    """Show what would go, ask, do it and say what was done; None if it was not wanted."""
    print_plan(restoration, missing, console)
    if restoration.is_done:
        console.print("Nothing to do.")
        return {}
    if runs := under_way(workspace):
        console.print(f"[yellow]warning[/] a run is under way ({', '.join(run[:8] for run in runs)}): better wait for its end.")
    if not confirm():
        return None
    done = carry_out(workspace, restoration)
    for name, version in done.items():
        console.print(f"{name} stands at version {version} now.")
    console.print("Next: [bold]lakehouse run[/] reads again what came later. To undo this, restore to the version before it.")
    return done
