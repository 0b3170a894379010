"""A feed of orders in a landing folder of its own, for tests of ingestion from files to bronze."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.ingestion.bronze import Ingestion
from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.ingestion.zone import LocalZone
from lakehouse_assets.platform.storage.lakehouse import Lakehouse


@dataclass(frozen=True)
class Orders:
    """What a test does to the feed, and sees of it."""

    ingestion: Ingestion
    folder: Path
    archive: Path

    @staticmethod
    def under(root: Path, **policy: Any) -> "Orders":
        zone = LocalZone(root / "landing" / "orders", root / "archive" / "orders")
        tables = Lakehouse(str(root / "tables"))
        feed = Feed("orders", **{"headers": (("id", "value"),), **policy})
        ingestion = Ingestion(feed, zone, tables.table(landing.LOG), tables.table("shop.bronze.orders"), 10_000_000)
        ingestion.create("Orders.")
        zone.folder.mkdir(parents=True, exist_ok=True)
        return Orders(ingestion, zone.folder, zone.archive_folder)

    def with_policy(self, **policy: Any) -> "Orders":
        """The same feed, declared otherwise."""
        return replace(self, ingestion=replace(self.ingestion, feed=replace(self.ingestion.feed, **policy)))

    def write(self, name: str, *rows: str, header: str = "id,value", at: float | None = None) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([header, *rows]) + "\n")
        if at is not None:
            os.utime(path, (at, at))
        return path

    def run(self) -> list[tuple[str, int]]:
        """Ingest; the files that were read or refused, with their rows."""
        return [(file.path, file.rows) for batch in self.ingestion.ingest("run") for file in batch]

    def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        frame = self.ingestion.bronze.scan().sort("_sequence", "_row").collect()
        return frame.select(columns or ("id", "value")).rows()

    def events(self, path: str) -> list[str]:
        """What the log says of a file, oldest first."""
        log = self.ingestion.log.scan().filter(pl.col("path") == path).collect().sort("event_number")
        return log["event"].to_list()

    def last(self, path: str) -> tuple[str, str | None]:
        """What last became of a file, and why."""
        row = landing.latest(self.ingestion.log).filter(pl.col("path") == path).row(0, named=True)
        return row["event"], row["reason"]


class Killed(BaseException):
    """Stands for a process that ends at once; no handler of ours catches it."""


def die_after(method: Callable[..., object]) -> Callable[..., object]:
    def dying(*args: object, **kwargs: object) -> None:
        method(*args, **kwargs)
        raise Killed

    return dying
