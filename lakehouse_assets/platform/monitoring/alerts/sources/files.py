"""Signals about landed files: a feed is bad while files of it are refused. How a file is refused is in `ingestion`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl

from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.monitoring.alerts.signals import Reading, Signal
from lakehouse_assets.platform.storage.commit import Cursor
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.wording import counted, listed

_REASONS: Final = 3


@dataclass(frozen=True)
class RefusedFiles:
    """The files that are refused now, by feed: as the landing log has them, whoever read or ignored them.

    What is so now is said each time, so that a feed that stays bad is told again after the cool-down.

    Attributes:
        lakehouse: The tables.
        owners: By feed, who answers for it.
    """

    lakehouse: Lakehouse
    owners: Mapping[str, str]

    name = "the landing log"

    def read(self, watermark: Callable[[str], int | None], now: datetime) -> Reading:
        """See `Source.read`."""
        log = self.lakehouse.table(landing.LOG)
        if not log.exists():
            return Reading()
        opened = log.now()
        source = f"{log.name}/{opened.metadata().id}"
        cursor = Cursor(source, watermark(source), opened.version())
        refused = landing.latest(log, [landing.REFUSED]).sort("feed", "path")
        feeds = sorted({str(partition["feed"]) for partition in opened.partitions()})
        return Reading([self._signal(feed, refused.filter(pl.col("feed") == feed), now) for feed in feeds], [cursor])

    def _signal(self, feed: str, refused: pl.DataFrame, now: datetime) -> Signal:
        text = "No file is refused any more."
        if refused.height:
            reasons = [reason or path for path, reason in refused.select("path", "reason").iter_rows()]
            shown = listed(reasons, _REASONS, "; ").rstrip(".")
            text = f"{counted(refused.height, 'file')} refused: {shown}. See `lakehouse files list {feed} --refused`."
        return Signal(
            key=f"files:{feed}",
            is_bad=bool(refused.height),
            at=now,
            text=text,
            severity="warn",
            owner=self.owners.get(feed, ""),
            value=float(refused.height),
            threshold=1.0,
        )
