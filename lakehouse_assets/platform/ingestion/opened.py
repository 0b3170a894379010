"""One landed file, opened to be read into bronze: refused with its reason, or a stream of rows that ends as the file was found.

Which columns bronze gains is decided here, by the feed's policy. How the bytes become text is in `parse`.
"""

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import polars as pl

from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.ingestion.file_state import READ, REFUSED, REREAD
from lakehouse_assets.platform.ingestion.parse import Parsed, RefusedFile, parse
from lakehouse_assets.platform.ingestion.zone import FILES_AT_ONCE, LandedFile, Zone
from lakehouse_assets.platform.storage.table import Table

_ROWS_AT_ONCE = 50_000
# Not the fault of a file: the run stops, and the next one goes on where it was.
_OUR_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class BrokenStream(Exception):
    """A file that could be read at first could not be read to its end as it was found. Nothing was committed."""

    def __init__(self, sequence: int, reason: str) -> None:
        super().__init__(reason)
        self.sequence = sequence


class NotAsFound(RefusedFile):
    """A file does not lie there as it was found; the next run looks again."""


@dataclass(frozen=True)
class Opened:
    """A file that was found, with its rows or the reason why it was refused.

    Attributes:
        found: As it was found.
        reread: Whether its rows take the place of older ones.
        unfinished: Whether it was refused only because it did not lie there as it was found.
    """

    found: LandedFile
    sequence: int
    zone: Zone
    reread: bool = False
    parsed: Parsed | None = None
    refused: str | None = None
    unfinished: bool = False

    @property
    def path(self) -> str:
        """Below the feed's folder."""
        return self.found.path

    @property
    def rows(self) -> int:
        """How many."""
        return 0 if self.parsed is None else self.parsed.rows

    def outcome(self) -> dict[str, Any]:
        """What the landing log says of it."""
        said = {"path": self.path, "sequence": self.sequence, "rows": self.rows}
        if self.refused is None:
            return said | {"event": READ}
        # With the size and time of the find it counts as refused as it lies there; without, it is looked at again.
        as_found = {} if self.unfinished else {"size": self.found.size, "modified": self.found.modified}
        return said | {"event": REFUSED, "reason": self.refused} | as_found

    def batches(self, schema: Mapping[str, pl.DataType], stamps: Mapping[str, object]) -> Iterator[pl.DataFrame]:
        """The rows with their lineage, a part at a time.

        Raises:
            BrokenStream: The file changed while it was read, or cannot be read any more.
        """
        if self.parsed is None:
            return
        lineage = {"_file": self.path, "_sequence": self.sequence, **stamps}
        held = set(self.parsed.frame.collect_schema().names())
        # A column that bronze gained by a later file is one that this file does not have.
        absent = [pl.lit(None, pl.String).alias(name) for name in schema if name not in held and name not in lineage]
        stamped = [pl.lit(value, dtype=schema[name]).alias(name) for name, value in lineage.items()]
        rows = 0
        try:
            frame = self.parsed.frame.with_columns(*stamped, *absent).select(list(schema))
            for part in frame.collect_batches(chunk_size=_ROWS_AT_ONCE, lazy=True):
                rows += part.height
                yield part
            _check_as_found(self.zone, self.found)
        except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException, RefusedFile) as error:
            _stop_at_our_faults(error, str(error))
            raise BrokenStream(self.sequence, str(error)) from error
        if rows != self.rows:
            raise BrokenStream(self.sequence, f"{self.path} gave {rows} rows after it had given {self.rows}: it changed while it was read")


@dataclass(frozen=True)
class Opener:
    """Opens the files of one batch.

    Attributes:
        columns: Of bronze, without the lineage; what it gains is added.
        held: Holds the files on this machine until the batch is in bronze.
        broken: Why files, by their number, could not be read to their end before.
    """

    feed: Feed
    zone: Zone
    bronze: Table
    columns: list[str]
    held: ExitStack
    broken: Mapping[int, str]
    _gaining: Lock = field(default_factory=Lock, repr=False)

    def open_all(self, rows: Iterable[Mapping[str, Any]]) -> list[Opened]:
        """Finds, opened several at a time: a disk has more than one core to feed, and a bucket takes its time."""
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            return list(pool.map(self.open, rows))

    def open(self, row: Mapping[str, Any]) -> Opened:
        """A find, opened; one that cannot be read is refused and no error."""
        found = LandedFile(row["path"], row["size"], row["modified"])
        file = Opened(found, row["sequence"], self.zone, row["event"] == REREAD)
        try:
            return Opened(file.found, file.sequence, file.zone, file.reread, self._parsed(row, found))
        except RefusedFile as refused:
            _stop_at_our_faults(refused.__cause__, str(refused))
            return Opened(file.found, file.sequence, file.zone, file.reread, None, str(refused), isinstance(refused, NotAsFound))

    def _parsed(self, row: Mapping[str, Any], found: LandedFile) -> Parsed:
        if row.get("superseded"):
            raise NotAsFound(f"{found.path} was found again before its rows were in bronze: the newer find counts")
        _check_as_found(self.zone, found)
        if row["sequence"] in self.broken:
            raise RefusedFile(f"{found.path} cannot be read to its end ({self.broken[row['sequence']]}). Land it again.")
        if row["content_hash"] is None:
            _check_opens(self.zone, found.path)
        return self._parse(found.path)

    def _parse(self, path: str) -> Parsed:
        try:
            local = self.held.enter_context(self.zone.local(path))
        except OSError as error:
            raise _cannot_be_opened(path, error) from error
        parsed, gained = parse_by_policy(local, self.feed, tuple(self.columns))
        self.held.enter_context(parsed)
        if gained:
            with self._gaining:
                self.bronze.add_columns(dict.fromkeys(gained, pl.String()))
                self.columns.extend(name for name in gained if name not in self.columns)
        return parsed


def parse_by_policy(local: Path, feed: Feed, columns: Sequence[str]) -> tuple[Parsed, tuple[str, ...]]:
    """A file as its feed wants it, and the columns that bronze has to gain for it beside `columns`.

    Raises:
        RefusedFile: It cannot be read, or the feed refuses what it holds.
    """
    parse_with = partial(parse, local, required=feed.headers, encoding=feed.encoding, file_format=feed.format)
    parsed = parse_with(columns=columns)
    if feed.snapshot and not parsed.rows:
        raise RefusedFile(f"{local.name} has no rows, and each file of this feed is a whole snapshot. Land it again, complete.")
    if parsed.unknown and feed.new_columns == "refuse":
        raise RefusedFile(
            f"{local.name} has columns that are not declared: {_listed(parsed.unknown)}. Land it without them, declare them in the feed, "
            "or let bronze gain them by new_columns='evolve'."
        )
    if not parsed.unknown or feed.new_columns == "rescue":
        return parsed, ()
    gained = parsed.unknown
    parsed.close()
    return parse_with(columns=[*columns, *gained]), gained


def _check_as_found(zone: Zone, found: LandedFile) -> None:
    try:
        now = zone.stat(found.path)
    except FileNotFoundError as error:
        raise NotAsFound(f"{found.path} is gone ({error.strerror}). Land it again.") from error
    except OSError as error:
        raise _cannot_be_opened(found.path, error) from error
    if (now.size, now.modified) != (found.size, found.modified):
        raise NotAsFound(f"{found.path} changed between being found and being read: the next run reads it as it is then")


def _check_opens(zone: Zone, path: str) -> None:
    """For a file that could not be opened when it was found: without a hash of its content, a copy of it could not be told."""
    try:
        with zone.open(path) as content:
            content.read(1)
    except OSError as error:
        raise _cannot_be_opened(path, error) from error
    raise NotAsFound(f"{path} could not be opened when it was found: the next run reads it")


def _cannot_be_opened(path: str, error: OSError) -> RefusedFile:
    return RefusedFile(f"{path} cannot be opened ({error.strerror or error}). Mend that, then `lakehouse files retry {path}`.")


def _stop_at_our_faults(error: BaseException | None, said: str) -> None:
    if isinstance(error, OSError) and error.errno in _OUR_FAULTS:
        raise OSError(error.errno, f"{said} Nothing was written; the next run goes on here.") from error


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
