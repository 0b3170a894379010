"""The runs of a root: which there are, whose process is gone, and ending one."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse_assets.client.context import Context

if TYPE_CHECKING:
    from lakehouse_assets.platform.orchestration.run_control import RunState


@dataclass(frozen=True)
class Runs:
    """The runs of a root, by `lakehouse run`, the sensor, the schedules and the web UI."""

    context: Context

    def dead(self) -> "list[RunState]":
        """The runs that have not ended, and whose process is gone. Imports Dagster only if a run has not ended.

        Raises:
            DatabaseUnavailable: Dagster's databases cannot be opened.
        """
        from lakehouse_assets.platform.operations import run_records

        if not run_records.runs_under_way(self.context.settings.dagster_home):
            return []
        from lakehouse_assets.platform.orchestration.instance import instance
        from lakehouse_assets.platform.orchestration.run_control import unfinished_runs

        with instance(self.context.settings) as opened:
            return [run for run in unfinished_runs(opened) if run.is_dead]

    def under_way(self) -> list[str]:
        """The ids of the runs that are under way, and whose process lives.

        Raises:
            DatabaseUnavailable: Dagster's databases cannot be opened.
        """
        from lakehouse_assets.platform.operations import run_records

        dead = {run.run_id for run in self.dead()}
        return [run_id for run_id in run_records.runs_under_way(self.context.settings.dagster_home) if run_id not in dead]

    def end_dead(self) -> None:
        """End the runs whose process is gone, as each run does that starts, and tell the person. Imports Dagster only if there is one."""
        from lakehouse_assets.platform.orchestration.run_locks import RunLocks

        locks = RunLocks(self.context.settings.dagster_home)
        if all(locks.owner(name) for name in locks.names()):
            return
        from lakehouse_assets.platform.orchestration.instance import instance
        from lakehouse_assets.platform.orchestration.run_control import as_texts, end_dead_runs

        with instance(self.context.settings) as opened:
            for text in as_texts(end_dead_runs(opened)):
                self.context.notice(text)

    def list(self, limit: int = 20) -> list[dict[str, Any]]:
        """The newest runs and all that have not ended: state, job, who launched it, when, and the process that works on it.

        The state `dead` means that the run has not ended, and that its process is gone. Runs that are old enough to have left Dagster's
        databases come from the system tables.
        """
        from lakehouse_assets.platform.monitoring.system import system_log
        from lakehouse_assets.platform.orchestration.instance import instance
        from lakehouse_assets.platform.orchestration.run_control import list_runs
        from lakehouse_assets.platform.storage.platform_tables import RUNS

        with instance(self.context.settings) as opened:
            known = [_as_values(run) for run in list_runs(opened, limit)]
        older = system_log.newest_runs(self.context.root.lakehouse, limit, [run["run_id"] for run in known])
        older = self.context.reader.values(older, RUNS, "runs")
        found = sorted([*known, *map(_of_system_tables, older)], key=lambda run: run["created"], reverse=True)
        return [run for place, run in enumerate(found) if place < limit or run["ended"] is None]

    def end(self, run_id: str, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
        """End a run: its process is interrupted, and killed after 20 seconds; the run is canceled and its pool slots are free.

        A run of another machine is recorded as canceled; its process there ends after the step that it is in, or goes on if it is stuck.

        Args:
            run_id: Its id, or the first characters of it.
            say: Told what is waited for.

        Returns:
            The run as it was.

        Raises:
            LookupError: No run begins so, or several do.
            ValueError: It has ended already.
        """
        from lakehouse_assets.platform.orchestration.instance import instance
        from lakehouse_assets.platform.orchestration.run_control import end_run

        with instance(self.context.settings) as opened:
            return _as_values(end_run(opened, run_id, say))


def _of_system_tables(row: dict[str, Any]) -> dict[str, Any]:
    """A run that the system tables alone have, as `_as_values` gives it; its process is not known any more."""
    tables = row["tables"] if row["job"] == "selection" else ()
    own = {"run_id": row["run_id"], "state": row["status"], "job": row["job"], "launched_by": row["launched_by"]}
    return own | {"created": row["requested_at"], "ended": row["ended_at"], "owner": None, "tables": tables}


def _as_values(run: "RunState") -> dict[str, Any]:
    return dataclasses.asdict(run)
