"""One root, opened by its settings and without Dagster: its tables, landing zones, ingestion, MLflow registry.

Nothing is opened before it is asked for, and nothing heavy is imported before that.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from lakehouse_assets.platform.compute.memory import limit_memory
from lakehouse_assets.platform.operations import unfinished
from lakehouse_assets.platform.storage import bucket
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.paths import check_root
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.settings import Settings

if TYPE_CHECKING:
    from lakehouse_assets.platform.compute.protocol import Compute
    from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
    from lakehouse_assets.platform.ingestion.bronze import Ingestion
    from lakehouse_assets.platform.ingestion.zone import Zone
    from lakehouse_assets.platform.registry.registry import Registry

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Root:
    """A root by its settings.

    Raises:
        StorageError: Tables or databases could not be read again there: see `paths.check_root`. Or a backup is being restored there.
    """

    settings: Settings

    def __post_init__(self) -> None:
        for place in (str(self.settings.root), str(self.settings.home_folder)):
            check_root(place)
        unfinished.check(self.settings.home_folder)

    @cached_property
    def lakehouse(self) -> Lakehouse:
        """The tables.

        Raises:
            BucketRefused: They are in a bucket on which commits are not safe, or that cannot be reached.
        """
        limit_memory(self.settings.memory_megabytes, self.settings.processes_at_once)
        bucket.ready(str(self.settings.tables))
        return Lakehouse(str(self.settings.tables))

    @property
    def landing_log(self) -> Table:
        """The landing log, whether it exists or not."""
        from lakehouse_assets.platform.ingestion import landing

        return self.lakehouse.table(landing.LOG)

    def zone(self, feed: str) -> "Zone":
        """Where the files of a feed land, and where those that were read may be moved."""
        from lakehouse_assets.platform.ingestion.zones import zone_of

        return zone_of(feed, str(self.settings.landing), str(self.settings.archive), str(self.settings.tables))

    def ingestion(self, asset: "FeedDeclaration") -> "Ingestion":
        """The ingestion of a feed's files into its bronze table."""
        from lakehouse_assets.platform.ingestion.bronze import Ingestion

        batch_bytes = self.settings.batch_megabytes * _MEGABYTE
        bronze = self.lakehouse.table(asset.name)
        return Ingestion(asset.feed, self.zone(asset.feed.name), self.landing_log, bronze, batch_bytes, self.settings.batch_files)

    @cached_property
    def compute(self) -> "Compute":
        """Where trainings work, by the settings."""
        from lakehouse_assets.platform.compute.places import place_of_work

        return place_of_work(self.settings.compute, self.settings.compute_workers)

    def registry(self) -> "Registry":
        """MLflow's registry. MLflow itself, which takes seconds, is imported by the first call that writes to it."""
        from lakehouse_assets.platform.registry.mlflow_store import artifact_address
        from lakehouse_assets.platform.registry.registry import Registry

        return Registry(self.settings.tracking_uri, artifact_address(str(self.settings.artifacts)))
