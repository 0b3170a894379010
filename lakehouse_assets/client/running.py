"""What the client says of the work that waits, and the runs and trainings that do it. How they are carried out is in `execution`."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse_assets.client.context import Context

if TYPE_CHECKING:
    from lakehouse_assets.platform.operations.follow import MicroBatch
    from lakehouse_assets.platform.orchestration.run import Outcome


@dataclass(frozen=True)
class Running:
    """The part of a `Client` that runs and trains."""

    context: Context

    def pending(self) -> dict[str, str]:
        """The tables that the next run would bring up to date, each with the reason."""
        from lakehouse_assets.platform.operations.pending import pending

        return pending(self.context.root, self.context.declarations)

    def untrained(self) -> dict[str, str]:
        """The models that the next training would train, each with the reason."""
        from lakehouse_assets.platform.operations.pending import untrained

        return untrained(self.context.root, self.context.models)

    def without_champion(self) -> list[str]:
        """The models that have no champion although their features are there, so that nothing is predicted, by their ledgers."""
        from lakehouse_assets.platform.operations.pending import without_champion

        return without_champion(self.context.root, self.context.models)

    def with_changed_function(self) -> list[str]:
        """The tables with rows that their functions computed before they were changed: a full refresh computes them again."""
        from lakehouse_assets.platform.operations.pending import with_changed_function

        return with_changed_function(self.context.root, self.context.declarations)

    def forgotten_products(self) -> str:
        """What to do where `LAKEHOUSE_PRODUCTS` is not set in a root that was run with it; empty elsewhere."""
        from lakehouse_assets.client.execution import forgotten_products

        return forgotten_products(self.context)

    def nothing_landed(self) -> bool:
        """Whether there are feeds, and no file of any of them has ever landed, so that a run has nothing to read."""
        from lakehouse_assets.platform.operations.pending import nothing_landed

        return nothing_landed(self.context.root, self.context.declarations)

    def run(
        self,
        selection: Iterable[str] = (),
        *,
        full_refresh: bool = False,
        partition: str | None = None,
        on_progress: "Callable[[Outcome], None]" = lambda _: None,
    ) -> "Outcome | None":
        """Bring all tables, or a selection, up to date. No model is trained: see `train`. Imports Dagster.

        Args:
            selection: Tables by name and Dagster's selections, as in `["sales.silver.invoice_lines+", "group:sales"]`; none: all. Models
                among them are left out.
            full_refresh: Recompute the tables from all rows of their sources.
            partition: Compute this partition of the selected tables again (kind `ByPartition`), as "2026-01" or "2026-01-31", or of plain
                assets that have partitions (`@dg.asset(partitions_def=…)`); only these are run then.
            on_progress: Called several times a second with the outcome so far.

        Returns:
            What became of each table; None if nothing was selected, and everything is up to date or no file has landed yet.

        Raises:
            ValueError: The selection cannot be understood, nothing matches it, or it names models alone.
        """
        from lakehouse_assets.client.execution import run

        return run(self.context, selection, full_refresh=full_refresh, partition=partition, on_progress=on_progress)

    def follow(
        self,
        tables: Iterable[str] = (),
        *,
        seconds: float = 1.0,
        on_batch: "Callable[[MicroBatch], None]" = lambda _: None,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        """Keep tables up to date within seconds, in micro-batches, until `wait` says stop. Dagster is not asked, and no model is trained.

        Monitors of these tables are evaluated in the background: at first, then each hour, or as often as a shorter `every` of theirs asks.

        Args:
            tables: Names of tables or products: these and all that they are made of are followed; none: everything.
            seconds: How long to wait where nothing was new.
            on_batch: Told of each batch.
            wait: Waits for so many seconds, and returns True to stop, as `wait` of a `threading.Event` does. None: it goes on for ever.

        Raises:
            LookupError: No product declares a table of that name.
        """
        from lakehouse_assets.client.execution import follow

        follow(self.context, tables, seconds, on_batch, wait or threading.Event().wait)

    def train(
        self,
        models: Iterable[str] = (),
        *,
        force: bool = False,
        reason: str = "",
        on_progress: "Callable[[Outcome], None]" = lambda _: None,
    ) -> "Outcome | None":
        """Train models whose features have changed since their last training, let the gate decide, and score again. Imports Dagster.

        Args:
            models: Names; none: all.
            force: Train also where no feature has changed, as after a change of the code.
            reason: Why: it is kept on the runs of Dagster and MLflow and in the ledgers.
            on_progress: As for `run`.

        Returns:
            What became of each model and of what its champion predicts; None if nothing has changed.

        Raises:
            LookupError: No product declares a model of that name, there is no model, or the features of one do not exist yet.
            ValueError: The function of its features was changed, and they have rows from before: a full refresh comes first. Where no
                model was named, the others are trained, and the outcome warns of it.
        """
        from lakehouse_assets.client.execution import train

        return train(self.context, models, force=force, reason=reason, on_progress=on_progress)

    def train_due(self, *, on_progress: "Callable[[Outcome], None]" = lambda _: None) -> "dict[str, Outcome]":
        """Train the models whose `retrain=` asks for it now, one after the other, as the sensor `retraining` does under `lakehouse dev`.

        Each is trained for the reason that `models.retraining()` tells. It may be called as often as one likes, and by several processes.

        Args:
            on_progress: As for `run`.

        Returns:
            What became of each model that was trained, by its name.
        """
        from lakehouse_assets.client.execution import train_due

        return train_due(self.context, on_progress)
