"""A restore that is planned: what it would do, and doing it. Which tables go back together is decided in `operations.restore`."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lakehouse_assets.client.context import Context
from lakehouse_assets.client.runs import Runs
from lakehouse_assets.platform.pipeline.marks import is_on_a_source

if TYPE_CHECKING:
    from lakehouse_assets.platform.operations.last_good import LastGood
    from lakehouse_assets.platform.operations.restore import Restoration
    from lakehouse_assets.platform.storage.table import Table


@dataclass(frozen=True)
class PlannedRestore:
    """Tables that go back to one moment together."""

    context: Context
    plan: "Restoration"

    @property
    def is_done(self) -> bool:
        """Whether every table is where it should be already."""
        return self.plan.is_done

    @cached_property
    def missing_files(self) -> dict[str, list[str]]:
        """By feed, the files whose rows go and would not be read again, because they are not in the landing zone any more."""
        from lakehouse_assets.platform.operations import restore

        context = self.context
        return restore.missing_files(context.root.lakehouse, context.declarations, self.plan, context.root.zone)

    def runs_under_way(self) -> list[str]:
        """The ids of runs under way: what they write while a table is restored is not part of it."""
        return Runs(self.context).under_way()

    def carry_out(self) -> dict[str, int]:
        """Restore; the version of each table afterwards."""
        from lakehouse_assets.platform.operations import restore

        return restore.carry_out(self.context.root.lakehouse, self.context.declarations, self.plan, str(uuid.uuid4()))

    def as_values(self, done: dict[str, int] | None = None) -> dict[str, Any]:
        """The plan as plain values; with what `carry_out` returned, also the versions afterwards."""
        steps = [
            {
                "table": step.table.name,
                "version": step.plan.version,
                "to": step.plan.to,
                "rows": step.plan.rows,
                "rows_after": step.plan.rows_after,
                "cursors": {name: at for name, at in step.plan.cursors.items() if is_on_a_source(name)},
                "already_restored": step.plan.done_at is not None,
                "version_after": None if done is None else done.get(step.table.name),
            }
            for step in self.plan.steps
        ]
        return {"tables": steps, "readers": [*self.plan.readers], "missing_files": self.missing_files, "done": done is not None}


@dataclass(frozen=True)
class PlannedLastGood:
    """Damaged tables that go back to their last good versions, with those that had read what is lost."""

    context: Context
    plan: "LastGood"

    @property
    def is_done(self) -> bool:
        """Whether nothing is damaged."""
        return self.plan.is_done

    def carry_out(self) -> dict[str, int]:
        """Go back; the version of each table afterwards, -1 of one that had no good version and was moved away."""
        return self.plan.carry_out(str(uuid.uuid4()))

    def as_values(self, done: dict[str, int] | None = None) -> dict[str, Any]:
        """The plan as plain values; with what `carry_out` returned, also the versions afterwards."""
        tables = [
            {"table": damage.table.name, "what": damage.what, "version": damage.newest, "to": damage.last_good, "lost": len(damage.commits)}
            for damage in self.plan.damages
        ]
        return {"tables": tables, "versions_after": done, "done": done is not None}


def plan_last_good(context: Context, table: str | None) -> PlannedLastGood:
    """What going back to the last good versions would do.

    Raises:
        RestoreRefused: The table is intact.
    """
    from lakehouse_assets.platform.operations.last_good import last_good

    return PlannedLastGood(context, last_good(context.root.lakehouse, context.declarations, table))


def plan_restore(context: Context, table: str | None, version: int | None, at: datetime | None, run: str | None) -> PlannedRestore:
    """What a restore would do.

    Raises:
        ValueError: Neither a table with a version or a moment, nor a run alone; or it cannot be restored.
        NoSuchVersion: That version does not exist (any more).
    """
    from lakehouse_assets.platform.operations import restore

    if (table is None) == (run is None) or (table is not None) != ((version is None) != (at is None)):
        raise ValueError("name a table with a version or a moment, or a run alone")
    lakehouse, declarations = context.root.lakehouse, context.declarations
    if run is not None:
        return PlannedRestore(context, restore.of_run(lakehouse, declarations, run))

    def version_of(handle: "Table") -> int:
        return version if version is not None else handle.version_at(at) if at is not None else handle.version()

    return PlannedRestore(context, restore.of_table(lakehouse, declarations, str(table), version_of))
