"""Runs declarations in the order of the graph, in this process and without Dagster: for notebooks, tests and scripts.

What Dagster adds (schedules, retries, the web UI) is in `orchestration`; both take the same steps.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, singledispatchmethod

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.endpoints import Endpoint
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.monitors import Monitor
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.ingestion.bronze import Ingestion
from lakehouse_assets.platform.pipeline.champions import champion_of
from lakehouse_assets.platform.pipeline.full_refresh import bring_up_to_date, full_refresh
from lakehouse_assets.platform.pipeline.functions import why_not_trained
from lakehouse_assets.platform.pipeline.model_step import ModelStep
from lakehouse_assets.platform.pipeline.refresh import Refresh, Refreshed
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets.platform.storage.lakehouse import Lakehouse


@dataclass(frozen=True)
class Runner:
    """A lakehouse and what can be run on it.

    Attributes:
        catalog: The declarations.
        lakehouse: The tables.
        ingestion: Gives the ingestion of a feed.
        registry: Opens MLflow; asked only when a model is trained or scored.
        seed: Of trainings.
        watch: Told the name of each table that was brought up to date, and the run's id: evaluates its monitors, as
            `monitoring.evaluation.watcher` does. None: nothing is watched.
        compute: Where trainings work.
    """

    catalog: Catalog
    lakehouse: Lakehouse
    ingestion: Callable[[FeedDeclaration], Ingestion]
    registry: Callable[[], Registry]
    seed: int
    watch: Callable[[str, str], None] | None = None
    compute: Compute = field(default_factory=Local)

    def run(self, names: Iterable[str] | None = None, *, run_id: str, from_scratch: bool = False) -> dict[str, Refreshed]:
        """Bring tables up to date; what was done, by the tables that are computed from others.

        Args:
            names: Of tables or products; None: all.
            run_id: Stands in the commits.
            from_scratch: Whether the tables are fully refreshed.
        """
        chosen = None if names is None else set(names)
        done: dict[str, Refreshed] = {}
        for declaration in self.catalog.in_order:
            if chosen is None or chosen & {declaration.name, declaration.product}:
                refreshed = self.step(declaration, run_id, from_scratch)
                if refreshed is not None:
                    done[declaration.name] = refreshed
                if self.watch is not None:
                    self.watch(declaration.name, run_id)
        return done

    @cached_property
    def champions(self) -> Callable[[ModelDeclaration], object | None]:
        """The champions of models."""
        return champion_of(self.lakehouse, self.registry)

    @singledispatchmethod
    def step(self, declaration: Declaration, run_id: str, from_scratch: bool) -> Refreshed | None:  # noqa: ARG002, FBT001
        """Bring one declaration up to date."""
        raise TypeError(f"{declaration.name}: a {type(declaration).__name__} cannot be run")

    @step.register
    def _(self, declaration: FeedDeclaration, run_id: str, _: bool) -> Refreshed | None:  # noqa: FBT001
        ingestion = self.ingestion(declaration)
        ingestion.create(declaration.description)
        for _batch in ingestion.ingest(run_id):
            pass
        return None

    @step.register
    def _(self, declaration: TableDeclaration, run_id: str, from_scratch: bool) -> Refreshed | None:  # noqa: FBT001
        refresh = Refresh(declaration, self.lakehouse, run_id, self.champions)
        return full_refresh(refresh) if from_scratch else bring_up_to_date(refresh)

    @step.register
    def _(self, declaration: ModelDeclaration, run_id: str, _: bool) -> Refreshed | None:  # noqa: FBT001
        if why := why_not_trained(declaration, self.catalog.declarations, self.lakehouse):
            raise ValueError(why)
        ModelStep(declaration, self.lakehouse, self.registry(), self.seed, run_id, self.compute).run()
        return None

    @step.register
    def _(self, declaration: Endpoint, run_id: str, _: bool) -> Refreshed | None:  # noqa: ARG002, FBT001
        return None  # it is served, not run

    @step.register
    def _(self, declaration: Monitor, run_id: str, _: bool) -> Refreshed | None:  # noqa: ARG002, FBT001
        return None  # it is evaluated with its table
