"""Which zone a feed's files land in: a folder or a bucket. What zones do is in `zone` and `bucket_zone`."""

from pathlib import Path

from lakehouse_assets.platform.ingestion.bucket_zone import BucketZone
from lakehouse_assets.platform.ingestion.zone import LocalZone, Zone
from lakehouse_assets.platform.storage import bucket


def zone_of(feed: str, landing: str, archive: str, tables: str) -> Zone:
    """Where the files of a feed land, and where those that were read may be moved.

    Raises:
        BucketRefused: The tables lie in a bucket on which commits are not safe, or that cannot be reached.
    """
    if bucket.is_bucket(landing):
        bucket.ready(tables)
        return BucketZone(f"{landing}/{feed}", f"{archive}/{feed}")
    return LocalZone(Path(landing) / feed, Path(archive) / feed)
