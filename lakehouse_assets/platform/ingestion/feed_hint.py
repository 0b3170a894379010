"""A hint that a feed has nothing pending, so that a sensor tick need not list a folder of ten thousand files that were read long ago.

It is kept in memory, is worth nothing after a restart, and only decides whether a run is started: a run always lists.
"""

import time
from collections.abc import Hashable
from dataclasses import dataclass

from lakehouse_assets.platform.ingestion.zone import Listing, Zone

LIST_AGAIN_SECONDS = 300.0
"""After so long the folder is listed again: a file that was modified in place, and is none of the newest, is noticed at the latest then."""

_MOST_HINTS = 200


@dataclass(frozen=True)
class _Idle:
    basis: Hashable
    listing: Listing
    listed_at: float


_idle: dict[Hashable, _Idle] = {}


def is_idle(key: Hashable, basis: Hashable, zone: Zone) -> bool:
    """Whether nothing was pending when the folder was last listed, and nothing tells that this has changed.

    Args:
        key: Of the feed, its folder and its tables.
        basis: What was known about the feed besides the listing: how far log and bronze have come.
        zone: The folder.
    """
    hint = _idle.get(key)
    if hint is None or hint.basis != basis or time.monotonic() - hint.listed_at >= LIST_AGAIN_SECONDS:
        return False
    return zone.is_unchanged(hint.listing)


def note(key: Hashable, basis: Hashable, listing: Listing, *, idle: bool) -> None:
    """Keep what a listing, taken just now, came to."""
    if not idle:
        _idle.pop(key, None)
        return
    if len(_idle) >= _MOST_HINTS:
        _idle.clear()
    _idle[key] = _Idle(basis, listing, time.monotonic())
