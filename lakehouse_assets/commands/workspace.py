"""One root as the commands see it: its settings, what the products declare, its tables, Dagster's instance. Printing is in `report`."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

import lakehouse_assets
from lakehouse_assets import products
from lakehouse_assets.definitions import definitions
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.ingestion.bronze import Ingestion
from lakehouse_assets.platform.ingestion.zone import Zone
from lakehouse_assets.platform.orchestration.assets import ingestion
from lakehouse_assets.platform.orchestration.autoload import Products, load
from lakehouse_assets.platform.orchestration.resources import LakehouseResource, MlflowResource, resources
from lakehouse_assets.platform.pipeline.model_step import ModelStep, newest_features, sync_aliases
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.settings import Settings

PROJECT = Path(lakehouse_assets.__file__).parents[1]


@dataclass(frozen=True)
class Workspace:
    """A root and the products of this code."""

    settings: Settings

    @cached_property
    def products(self) -> Products:
        """What the products declare."""
        return load(products)

    @cached_property
    def lakehouse(self) -> Lakehouse:
        """The tables."""
        return self._lakehouse_resource.open()

    @property
    def _lakehouse_resource(self) -> LakehouseResource:
        resource: LakehouseResource = resources(self.settings)["lakehouse"]
        return resource

    def feed(self, name: str) -> FeedDeclaration:
        """A feed by its name.

        Raises:
            LookupError: No product declares it.
        """
        feeds = {asset.feed.name: asset for asset in self.products.feeds}
        if name not in feeds:
            raise LookupError(f"no product declares a feed {name!r}. There are: {', '.join(sorted(feeds)) or 'none'}")
        return feeds[name]

    def ingestion(self, asset: FeedDeclaration) -> Ingestion:
        """The way of a feed's files into its bronze table."""
        return ingestion(asset, self._lakehouse_resource)

    def zone(self, feed: str) -> Zone:
        """Where the files of a feed land."""
        return self._lakehouse_resource.zone(feed)

    @property
    def mlflow(self) -> MlflowResource:
        """MLflow, not opened yet."""
        resource: MlflowResource = resources(self.settings)["mlflow"]
        return resource

    def model_step(self, name: str) -> ModelStep:
        """A model by its registered name.

        Raises:
            LookupError: No product declares it.
        """
        models = {model.registered_name: model for model in self.products.models}
        if name not in models:
            raise LookupError(f"no product declares a model {name!r}. There are: {', '.join(models) or 'none'}")
        return ModelStep(models[name], self.lakehouse, self.mlflow.open(), self.settings.seed, "by hand")

    def sync_champions(self) -> None:
        """Record champion aliases that were set by hand in MLflow. MLflow is opened only if something was decided about a model."""
        for model in self.products.models:
            sync_aliases(self.lakehouse, model, self.mlflow.open, "by hand")

    @property
    def log(self) -> Table:
        """The landing log."""
        return self.lakehouse.table(landing.LOG)

    def waiting(self) -> dict[str, int]:
        """How many files wait, by feed."""
        counts = {feed.feed.name: self.ingestion(feed).waiting() for feed in self.products.feeds}
        return {name: count for name, count in counts.items() if count}

    def pending(self) -> dict[str, str]:
        """The tables and models that have something to do, each with the reason; from cursors, versions and MLflow's aliases."""
        self.sync_champions()
        found: dict[str, str] = {}
        for asset in self.products.declarations:
            if reason := self._reason(asset):
                found[asset.name] = reason
        return found

    def _reason(self, asset: Any) -> str | None:
        table = self.lakehouse.table(asset.name)
        if not table.exists():
            return "does not exist yet"
        if isinstance(asset, FeedDeclaration):
            files = self.ingestion(asset).waiting()
            return f"{files} files wait" if files else None
        if isinstance(asset, ModelDeclaration):
            features = self.lakehouse.table(asset.features)
            trained_on = table.cursor(asset.features)
            moved = features.exists() and trained_on != newest_features(features, trained_on)
            return f"{asset.features} has changed" if moved else None
        behind = Refresh(asset, self.lakehouse, "", lambda _: None).pending()
        return f"{', '.join(behind)} has changed" if behind else None

    def definitions(self) -> dg.Definitions:
        """The code location, as Dagster loads it."""
        return definitions(self.settings, self.products)

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Dagster's instance of this root."""
        prepare_dagster_home(self.settings)
        with dg.DagsterInstance.get() as instance:
            yield instance


def prepare_dagster_home(settings: Settings) -> None:
    """Make the root's home of Dagster, with a copy of the project's dagster.yaml, which counts only there, and name it to Dagster."""
    home = settings.dagster_home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    source, target = PROJECT / "dagster.yaml", home / "dagster.yaml"
    if source.exists() and (not target.exists() or target.read_bytes() != source.read_bytes()):
        shutil.copyfile(source, target.with_suffix(".part"))
        target.with_suffix(".part").replace(target)
    os.environ["DAGSTER_HOME"] = str(home)


def as_json(value: Any) -> Any:
    """What `json.dumps` makes of values that JSON does not have."""
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
