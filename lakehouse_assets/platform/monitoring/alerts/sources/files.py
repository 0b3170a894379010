"""Signals about landed files: a feed is bad while files of it are refused. How a file is refused is in `ingestion`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl

from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.ingestion.file_state import FeedState
from lakehouse_assets.platform.ingestion.zone import Zone
from lakehouse_assets.platform.monitoring.alerts.signals import Reading, Signal
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.wording import counted, listed

_REASONS: Final = 3
_MOST_LOOKED_AT: Final = 100
"""So many refused files of a feed are looked for in the landing zone; with more, they count as there."""
_BECAME: Final[Mapping[str, str]] = {
    landing.READ: "was read",
    landing.IGNORED: "is ignored",
    landing.DUPLICATE: "has the content of another file",
    landing.ARCHIVED: "was archived",
}


@dataclass(frozen=True)
class RefusedFiles:
    """The files of declared feeds that are refused now: as the landing log has them, whoever read or ignored them.

    What is so now is said each time, so that a feed that stays bad is told again after the cool-down. A file that was taken out of the
    landing zone is not refused any more.

    Attributes:
        lakehouse: The tables.
        owners: By feed, who answers for it.
        zone: Where the files of a feed land.
    """

    lakehouse: Lakehouse
    owners: Mapping[str, str]
    zone: Callable[[str], Zone]

    name = "the landing log"

    def read(self, watermark: Callable[[str], int | None], now: datetime) -> Reading:  # noqa: ARG002 nothing is consumed
        """See `Source.read`."""
        log = self.lakehouse.table(landing.LOG)
        return Reading([self._signal(feed, landing.state(log, feed), now) for feed in sorted(self.owners)])

    def _signal(self, feed: str, state: FeedState, now: datetime) -> Signal:
        listed_as_refused = state.last_events([landing.REFUSED]).sort("path")
        gone = self._gone(feed, listed_as_refused["path"].to_list())
        refused = listed_as_refused.filter(~pl.col("path").is_in(gone))
        if refused.height:
            reasons = [reason or path for path, reason in refused.select("path", "reason").iter_rows()]
            shown = listed(reasons, _REASONS, "; ").rstrip(".")
            text = f"{counted(refused.height, 'file')} refused: {shown}. See `lakehouse files list {feed} --refused`."
        else:
            text = f"No file is refused any more{_what_became(state, gone)}."
        return Signal(
            key=f"files:{feed}",
            is_bad=bool(refused.height),
            at=now,
            text=text,
            severity="warn",
            owner=self.owners[feed],
            value=float(refused.height),
            threshold=1.0,
        )

    def _gone(self, feed: str, paths: list[str]) -> list[str]:
        """The files that are not in the landing zone any more. What cannot be looked at counts as there."""
        if not paths or len(paths) > _MOST_LOOKED_AT:
            return []
        zone, gone = self.zone(feed), []
        for path in paths:
            try:
                zone.stat(path)
            except FileNotFoundError:
                gone.append(path)
            except OSError:
                continue
        return gone


def _what_became(state: FeedState, gone: list[str]) -> str:
    """What became of the files that were refused last; empty if none ever was."""
    once = state.discoveries.filter(pl.col("outcome") == landing.REFUSED)["path"]
    last = state.latest.filter(pl.col("path").is_in(once.implode())).sort("event_number", descending=True)
    if last.is_empty():
        return ""
    became = [
        f"{path} was taken out of the landing zone" if path in gone else f"{path} {_BECAME.get(event, f'is {event} now')}"
        for path, event in last.select("path", "event").iter_rows()
    ]
    return f": {listed(became, _REASONS, '; ')}"
