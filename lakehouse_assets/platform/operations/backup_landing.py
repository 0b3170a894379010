"""The landing zone and the archive in a backup, so that a restored root reads every file once.

Files move from the landing zone into the archive while a backup is made. One that the bronze table of the backup has not read yet belongs
into the landing zone of the backup, wherever it was found; which one that is, the landing log of the backup says.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import BinaryIO, Final, cast

import polars as pl

from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.ingestion.feed import is_seen
from lakehouse_assets.platform.ingestion.file_state import EVENTS, FeedState
from lakehouse_assets.platform.ingestion.zone import content_hash
from lakehouse_assets.platform.operations.backup_copy import Copier, Tell
from lakehouse_assets.platform.operations.backup_files import Files, Found
from lakehouse_assets.platform.operations.backup_manifest import Entry
from lakehouse_assets.platform.operations.backup_pins import Pin

LANDING: Final = "landing"
ARCHIVE: Final = "archive"
_NUMBERED: Final = re.compile(r"(.*)\.\d+(\.[^./]*)?")


@dataclass(frozen=True)
class LandedFiles:
    """The files of the feeds of a root.

    Attributes:
        files: The root.
        archived: The files of the archive before the first bronze table was looked at: these were read.
    """

    files: Files
    archived: frozenset[str]

    @classmethod
    def begin(cls, files: Files) -> "LandedFiles":
        """Look at the archive. Bronze tables have to be looked at after that."""
        return cls(files, frozenset(found.path for found in _seen(files, ARCHIVE)))

    def copy(self, copier: Copier, pins: Mapping[str, Pin], before: Mapping[str, Entry], tell: Tell) -> tuple[list[Entry], list[Entry]]:
        """Copy what is in the landing zone, then what is in the archive by then: a file that moves meanwhile is found there.

        Args:
            copier: Copies.
            pins: The tables of the backup.
            before: The files of the backup before, by their paths in the root.
            tell: Told how far it is.
        """
        landed = copier.folder(self.files, [*_seen(self.files, LANDING)], before, tell)
        archived = copier.folder(self.files, [*_seen(self.files, ARCHIVE)], before, tell)
        moved = [entry for entry in archived if entry.path not in self.archived]
        back = dict(self._back(moved, pins, {entry.path: entry for entry in landed}))
        return landed + [entry for entry in back.values() if entry is not None], [entry for entry in archived if entry.path not in back]

    def _back(self, moved: Sequence[Entry], pins: Mapping[str, Pin], landed: Mapping[str, Entry]) -> Iterator[tuple[str, Entry | None]]:
        """The files that moved and that bronze has not read: by their path in the archive, what they are in the landing zone.

        None: they are there already.
        """
        discoveries: dict[str, pl.DataFrame] = {}
        for entry in moved:
            _, feed, path = entry.path.split("/", 2)
            content = content_hash(cast("BinaryIO", _Stream(self.files.chunks(entry.path))))
            original = match[1] + (match[2] or "") if (match := _NUMBERED.fullmatch(path)) else path
            if feed not in discoveries:
                discoveries[feed] = _discoveries(pins, feed)
            known = discoveries[feed].filter((pl.col("content_hash") == content) & pl.col("path").is_in([path, original]))
            if (known["sequence"] <= _read_up_to(pins, feed)).any():
                continue
            # What the log does not know was moved after it was looked at, by the name that it had: with a number only if that was taken.
            name = known["path"][-1] if known.height else path
            there = landed.get(f"{LANDING}/{feed}/{name}")
            if there is not None and there.digest != entry.digest:
                there, name = None, path
            yield entry.path, None if there is not None else replace(entry, path=f"{LANDING}/{feed}/{name}")


class _Stream:
    """Pieces of bytes as a file that is read from its beginning to its end."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self, _: int) -> bytes:
        return next(self._chunks, b"")


def _seen(files: Files, area: str) -> Iterator[Found]:
    """The files of all feeds, without those that are not meant to be read."""
    return (found for found in files.listing(area) if found.path.count("/") > 1 and is_seen(PurePosixPath(found.path)))


def _discoveries(pins: Mapping[str, Pin], feed: str) -> pl.DataFrame:
    log = pins.get(landing.LOG)
    if log is None:
        return FeedState.empty().discoveries
    rows = pl.scan_delta(log.table.delta(log.version)).filter(pl.col("feed") == feed).select(EVENTS.names()).collect()
    return FeedState.empty().apply(rows).discoveries


def _read_up_to(pins: Mapping[str, Pin], feed: str) -> int:
    name = landing.bronze_cursor(feed)
    return max((pin.cursors.get(name, 0) for table, pin in pins.items() if table != landing.LOG), default=0)
