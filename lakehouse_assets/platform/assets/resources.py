"""The Dagster resources: where the tables lie, and MLflow. Thin: what they do is in the storage and registry rooms."""

from pathlib import Path
from typing import Any

import dagster as dg
from dagster_deltalake import LocalConfig

from lakehouse_assets.platform.assets.io_manager import LakehouseIOManager
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.settings import Settings


class LakehouseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The root of the tables, the landing zone, and how much is read at once."""

    tables: str
    landing: str
    reports: str
    batch_megabytes: int = 512
    seed: int = 20

    def open(self) -> Lakehouse:
        """The tables."""
        return Lakehouse(self.tables)

    @property
    def landing_zone(self) -> Path:
        """Where source systems drop files."""
        return Path(self.landing)


class MlflowResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """MLflow's database or server, and where artifacts go."""

    tracking_uri: str
    artifacts: str

    def open(self) -> Registry:
        """The registry, its database made ready."""
        registry = Registry(self.tracking_uri, self.artifacts)
        registry.prepare()
        return registry


def resources(settings: Settings) -> dict[str, Any]:
    """All resources of the code location, from its settings."""
    return {
        "lakehouse": LakehouseResource(
            tables=str(settings.tables),
            landing=str(settings.landing),
            reports=str(settings.reports),
            batch_megabytes=settings.batch_megabytes,
            seed=settings.seed,
        ),
        "io_manager": LakehouseIOManager(root_uri=str(settings.tables), storage_options=LocalConfig()),
        "mlflow": MlflowResource(tracking_uri=settings.tracking_uri, artifacts=str(settings.artifacts)),
    }
