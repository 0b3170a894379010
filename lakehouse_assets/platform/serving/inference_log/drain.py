"""From closed segments into Delta tables, exactly once. Where segments come from is in `places` and `spool`.

A table keeps, in the commit that brings the rows, up to which segment of a writer it has them (a `txn` watermark, as every table keeps its
sources). So a crash between the commit and the deletion of the segments commits nothing twice, nor do two processes at once. Who drains
again and again is in `background`.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from shutil import rmtree
from typing import Final

import polars as pl

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.serving.inference_log import table as tables
from lakehouse_assets.platform.serving.inference_log.places import Segments, closed_segments, dead
from lakehouse_assets.platform.serving.inference_log.records import Record, Unreadable, record_id
from lakehouse_assets.platform.serving.inference_log.segments import create_segment, keep_unreadable, keep_unreadable_record, read_segment
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

_NO_ROW: Final = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, pl.exceptions.PolarsError)
_BYTES_OF_A_COMMIT: Final = 8 * 1024 * 1024
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """Where records go.

    Attributes:
        lakehouse: Opens it; asked at each attempt, since a bucket may be away when the service starts.
        personal: By table, whether its keys and features are personal; a table that is missing here is not known to this process.
    """

    lakehouse: Callable[[], Lakehouse]
    personal: Mapping[str, bool]


@dataclass(frozen=True)
class Drained:
    """What was drained: rows that came into the tables, and records that cannot be read, which are kept in files of their own."""

    rows: int = 0
    unreadable: int = 0

    def __add__(self, other: "Drained") -> "Drained":
        """Both together."""
        return Drained(self.rows + other.rows, self.unreadable + other.unreadable)


def drain_dead(spool: Path, target: Target) -> Drained:
    """Bring the segments of processes that are gone into the tables."""
    count = Drained()
    for place in dead(spool):
        segments = place.segments()
        if not segments:
            continue
        last, path = segments[-1]
        if read_segment(path):
            descriptor, _ = create_segment(place, last + 1)  # numbers go on from it when all others are gone
            os.close(descriptor)
        else:
            segments = segments[:-1]
        count += drain(place.writer, segments, target, unreadable_of(spool))
        if not place.is_original:
            rmtree(place.folder, ignore_errors=True)
    return count


def drain(writer: str, segments: Segments, target: Target, unreadable: Path) -> Drained:
    """Bring closed segments of a writer into the tables and delete them. What is gone was drained by another.

    What cannot be read of them is kept in files of the folder `unreadable`.

    Raises:
        StorageError, OSError, DeltaError: As a commit; what was not committed is there for the next time.
    """
    count = Drained()
    for batch in _batches(segments):
        by_table: dict[str, list[tuple[int, Record]]] = {}
        for number, path in batch:
            lost = Unreadable()
            with suppress(FileNotFoundError):
                for name, record in read_segment(path, lost):
                    by_table.setdefault(name, []).append((number, record))
            if lost.frames:
                keep_unreadable(path, lost, unreadable, f"{writer}-{path.name}")
                count += Drained(unreadable=len(lost.frames))
        paths = dict(batch)

        def is_no_row(name: str, number: int, record: Record, paths: dict[int, Path] = paths) -> None:
            keep_unreadable_record(paths[number], name, record, unreadable, f"{writer}-{paths[number].name}-{record_id(record)}")

        for name, records in by_table.items():
            count += _commit(name, f"spool:{writer}", records, batch[-1][0], target, is_no_row=is_no_row)
        _delete(batch)
    return count


def unreadable_of(spool: Path) -> Path:
    """The folder of what cannot be read of segments."""
    return spool.parent / "unreadable"


def unreadable_files(spool: Path) -> int:
    """How many files there are of what cannot be read."""
    folder = unreadable_of(spool)
    return sum(not path.name.startswith(".") for path in folder.iterdir()) if folder.exists() else 0


def _delete(segments: Segments) -> None:
    for _, path in segments:
        path.unlink(missing_ok=True)


def _commit(
    name: str, source: str, records: list[tuple[int, Record]], until: int, target: Target, *, is_no_row: Callable[[str, int, Record], None]
) -> Drained:
    """One commit with those records of segments up to `until` that the table does not have yet.

    A record that cannot become a row is given to `is_no_row`: it holds no other one up.
    """
    table = tables.create(target.lakehouse(), name, type(records[0][1]), personal=target.personal.get(name))
    while True:
        cursor = table.cursor(source)
        new = [(number, record) for number, record in records if cursor is None or number > cursor]
        if not new:
            return Drained()
        rows, odd = _as_rows(new)
        for number, record in odd:
            is_no_row(name, number, record)
        if rows is None:
            return Drained(unreadable=len(odd))
        try:
            table.append(rows, Commit((Cursor(source, cursor, until),)))
        except CursorMoved:
            continue
        return Drained(rows.height, len(odd))


def _as_rows(records: list[tuple[int, Record]]) -> tuple[pl.DataFrame | None, list[tuple[int, Record]]]:
    """The rows of records, None if there are none, and the records that are no rows."""
    try:
        return tables.rows([record for _, record in records]), []
    except _NO_ROW:
        if len(records) == 1:
            _LOG.exception("a record of the inference log is no row of its table, and is kept in a file of its own")
            return None, records
    parts = [_as_rows([one]) for one in records]
    frames = [rows for rows, _ in parts if rows is not None]
    return pl.concat(frames) if frames else None, [one for _, odd in parts for one in odd]


def _batches(segments: Segments) -> Iterator[Segments]:
    batch: Segments = []
    size = 0
    for number, path in segments:
        try:
            bytes_of_it = path.stat().st_size
        except FileNotFoundError:
            continue
        if batch and size + bytes_of_it > _BYTES_OF_A_COMMIT:
            yield batch
            batch, size = [], 0
        batch.append((number, path))
        size += bytes_of_it
    if batch:
        yield batch


@dataclass(frozen=True)
class DrainState:
    """What a drainer tells of itself, for metrics.

    Attributes:
        rows: Rows that it brought into tables since the process started.
        unreadable: Records since then that cannot be read and are kept in files of their own, as of a newer release.
        failures: Attempts that failed, one after the other, until now; 0 if the last one succeeded.
        trouble: Why the last one failed; empty if it did not.
        succeeded_at: When it last found nothing left to do, or did it all.
    """

    rows: int = 0
    unreadable: int = 0
    failures: int = 0
    trouble: str = ""
    succeeded_at: datetime | None = None


class Drainer:
    """Drains what one writer has closed, and what processes left that are gone.

    Args:
        folder: Of the spools of all processes.
        writer: Gives the name of the writer; empty: it has none now.
        target: Where records go.
    """

    def __init__(self, folder: Path, writer: Callable[[], str], target: Target) -> None:
        self._folder, self._writer, self._target = folder, writer, target
        self._state, self._one_at_once = DrainState(), threading.Lock()

    @property
    def state(self) -> DrainState:
        """What it tells of itself."""
        return self._state

    def once(self) -> bool:
        """Drain all that is closed, now; whether that succeeded."""
        with self._one_at_once:
            try:
                count, writer, kept = Drained(), self._writer(), unreadable_of(self._folder)
                if writer:
                    count += drain(writer, closed_segments(self._folder / writer), self._target, kept)
                count += drain_dead(self._folder, self._target)
            except Exception as error:  # noqa: BLE001 a bucket that is away raises what its client pleases; the segments stay
                lines = str(error).splitlines() or [type(error).__name__]
                if lines[0] != self._state.trouble:
                    _LOG.warning("the inference log waits on disk: %s", lines[0])
                self._state = replace(self._state, failures=self._state.failures + 1, trouble=lines[0])
                return False
            if count.unreadable:
                _LOG.warning("%s records cannot be read and are kept in %s", count.unreadable, kept)
            rows, unreadable = self._state.rows + count.rows, self._state.unreadable + count.unreadable
            self._state = DrainState(rows, unreadable, 0, "", clock.now())
            return True
