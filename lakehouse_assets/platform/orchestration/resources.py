"""The Dagster resources: where the tables lie, and MLflow. Thin: what they do is in the storage and registry rooms.

What is set here is shown in the web UI, so it holds no secret: credentials are read from the environment when something is opened.
"""

from typing import Any

import dagster as dg
from dagster_deltalake import LocalConfig

from lakehouse_assets.platform.ingestion.zone import Zone
from lakehouse_assets.platform.ingestion.zones import zone_of
from lakehouse_assets.platform.orchestration.io_manager import LakehouseIOManager
from lakehouse_assets.platform.registry.mlflow_store import artifact_address
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets.platform.storage import bucket
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.settings import Settings


class LakehouseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The root of the tables, the landing zone, and how much is read at once."""

    tables: str
    landing: str
    archive: str
    reports: str
    batch_megabytes: int = 128
    batch_files: int = 1_000
    retention_days: int = 7
    log_retention_days: int = 30
    seed: int = 20

    def open(self) -> Lakehouse:
        """The tables.

        Raises:
            BucketRefused: They lie in a bucket on which commits are not safe, or that cannot be reached.
        """
        bucket.ready(self.tables)
        return Lakehouse(self.tables)

    def zone(self, feed: str) -> Zone:
        """Where the source system of a feed drops files, and where those that were read may be moved.

        Raises:
            BucketRefused: As `open`.
        """
        return zone_of(feed, self.landing, self.archive, self.tables)


class MlflowResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """MLflow's database or server, and where artifacts go.

    Attributes:
        tracking_uri: Empty: what the environment says when it is opened.
    """

    tracking_uri: str
    artifacts: str

    def open(self) -> Registry:
        """The registry, its database made ready."""
        registry = Registry(self.tracking_uri or Settings.load().tracking_uri, self.artifacts)
        registry.prepare()
        return registry


def resources(settings: Settings) -> dict[str, Any]:
    """All resources of the code location, from its settings."""
    return {
        "lakehouse": LakehouseResource(
            tables=str(settings.tables),
            landing=str(settings.landing),
            archive=str(settings.archive),
            reports=str(settings.reports),
            batch_megabytes=settings.batch_megabytes,
            batch_files=settings.batch_files,
            retention_days=settings.retention_days,
            log_retention_days=settings.log_retention_days,
            seed=settings.seed,
        ),
        "io_manager": LakehouseIOManager(root_uri=str(settings.tables), storage_options=LocalConfig()),
        # An address with a user in it mostly has a password too.
        "mlflow": MlflowResource(
            tracking_uri="" if "@" in settings.mlflow_uri else settings.tracking_uri, artifacts=artifact_address(str(settings.artifacts))
        ),
    }
