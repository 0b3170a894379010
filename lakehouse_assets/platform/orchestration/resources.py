"""The Dagster resources: where the tables lie, and MLflow. Thin: what they do is in the storage and registry rooms.

What is set here is shown in the web UI, so it holds no secret: credentials are read from the environment when something is opened.
"""

from typing import Any

import dagster as dg
from dagster_deltalake import LocalConfig
from pydantic import Field

from lakehouse_assets.platform.compute.places import place_of_work
from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.ingestion.zone import Zone
from lakehouse_assets.platform.ingestion.zones import zone_of
from lakehouse_assets.platform.orchestration.io_manager import LakehouseIOManager, TableIOManager
from lakehouse_assets.platform.registry.mlflow_store import artifact_address
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets.platform.storage import bucket
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.settings import Settings


class LakehouseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The root of the tables, the landing zone, and how much is read at once."""

    tables: str = Field(description="Root of the Delta tables.")
    landing: str = Field(description="Where source systems drop files, a folder for each feed.")
    archive: str = Field(description="Where files that were read are moved, in feeds that ask for it.")
    reports: str = Field(description="Folder for pictures.")
    batch_megabytes: int = Field(128, description="Most megabytes of text, unpacked, in one commit of a bronze table.")
    batch_files: int = Field(1_000, description="Most files in one commit of a bronze table.")
    retention_days: int = Field(7, description="Days for which a replaced version of a table stays readable.")
    log_retention_days: int = Field(30, description="Days for which a commit stays in the log of its table.")
    run_retention_days: int = Field(30, description="Days for which a run that has ended stays in Dagster's databases.")
    system_retention_days: int = Field(400, description="Days for which runs, steps, checks and verdicts stay.")
    seed: int = Field(20, description="Seed of every training.")
    compute: str = Field("local", description="Where trainings work: local or processes.")
    compute_workers: int = Field(0, description="Most processes at once of a training; 0: one for each core.")

    def open(self) -> Lakehouse:
        """The tables.

        Raises:
            BucketRefused: They lie in a bucket on which commits are not safe, or that cannot be reached.
        """
        bucket.ready(self.tables)
        return Lakehouse(self.tables)

    def place_of_work(self) -> Compute:
        """Where trainings work."""
        return place_of_work(self.compute, self.compute_workers)

    def zone(self, feed: str) -> Zone:
        """Where the source system of a feed drops files, and where those that were read may be moved.

        Raises:
            BucketRefused: As `open`.
        """
        return zone_of(feed, self.landing, self.archive, self.tables)


class MlflowResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """MLflow's database or server, and where artifacts go."""

    tracking_uri: str = Field(description="Tracking database or server; empty: what the environment says when it is opened.")
    artifacts: str = Field(description="Where models and plots are stored.")
    web_ui: str = Field("", description="Address of MLflow's web UI, for links.")

    def open(self) -> Registry:
        """The registry. Its database is made when something is written: one that is not there for a moment gets none in its place."""
        return Registry(self.tracking_uri or Settings.load().tracking_uri, self.artifacts)


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
            run_retention_days=settings.run_retention_days,
            system_retention_days=settings.system_retention_days,
            seed=settings.seed,
            compute=settings.compute,
            compute_workers=settings.compute_workers,
        ),
        "io_manager": _io_manager(str(settings.tables)),
        # An address with a user in it mostly has a password too.
        "mlflow": MlflowResource(
            tracking_uri="" if "@" in settings.mlflow_uri else settings.tracking_uri,
            artifacts=artifact_address(str(settings.artifacts)),
            web_ui=_web_ui(settings),
        ),
    }


def _io_manager(tables: str) -> dg.IOManagerDefinition:
    """The IO manager of plain assets, without settings to change for a run: dagster-deltalake has seven that mean nothing here."""

    @dg.io_manager(description=f"Stores the frame that a plain asset returns as a Delta table below {tables}.")
    def io_manager(context: dg.InitResourceContext) -> TableIOManager:
        return LakehouseIOManager(root_uri=tables, storage_options=LocalConfig()).create_io_manager(context)

    return io_manager


def _web_ui(settings: Settings) -> str:
    is_server = settings.mlflow_uri.startswith("http") and "@" not in settings.mlflow_uri
    return settings.mlflow_uri.rstrip("/") if is_server else f"http://{settings.host}:{settings.mlflow_port}"
