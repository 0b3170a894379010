"""One landed file, opened to be read into bronze: refused with its reason, or a stream of rows.

The stream ends only if the file is still as it was discovered. Which columns bronze gains is decided here, by the feed's policy. How the
bytes become text is in `parse`.
"""

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import polars as pl

from lakehouse_assets.platform.ingestion.child import Child
from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.ingestion.file_state import READ, REFUSED, REREAD
from lakehouse_assets.platform.ingestion.header import MOST_NEW_COLUMNS
from lakehouse_assets.platform.ingestion.parse import Parsed, RefusedFile, parse
from lakehouse_assets.platform.ingestion.zone import FILES_AT_ONCE, LandedFile, Zone
from lakehouse_assets.platform.quality.masking import without_values
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.wording import counted, listed

MOST_COLUMNS = 1_000
"""Of a bronze table that gains what its files have: more are declared, or no columns but values."""
_ROWS_AT_ONCE = 50_000
_BYTES_AT_ONCE = 256 * 1024 * 1024
# Not the fault of a file: the run stops, and the next one continues where it was.
_OUR_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class BrokenStream(Exception):
    """A file that could be read at first could not be read to its end. Nothing was committed."""

    def __init__(self, sequence: int, reason: str) -> None:
        super().__init__(reason)
        self.sequence = sequence


@dataclass
class BrokenStreams:
    """The files of a feed that broke while they were read. One is refused when it breaks again: the first time may not be its fault.

    Attributes:
        reasons: Why files are to be refused, by their number.
    """

    reasons: dict[int, str] = field(default_factory=dict)
    _once: set[int] = field(default_factory=set)

    def add(self, stream: BrokenStream) -> None:
        """Note that a file broke."""
        if stream.sequence in self._once:
            self.reasons[stream.sequence] = str(stream)
        self._once.add(stream.sequence)


class ChangedSinceDiscovery(RefusedFile):
    """A file is not any more as it was discovered; the next run examines it again."""


@dataclass(frozen=True)
class OpenedFile:
    """A file that was discovered, with its rows or the reason why it was refused.

    Attributes:
        landed: As it was discovered.
        reread: Whether its rows take the place of older ones.
        transient: Whether it was refused only because it was not any more as it was discovered.
        remarks: What somebody should know who looks for its content: sentences.
    """

    landed: LandedFile
    sequence: int
    zone: Zone
    reread: bool = False
    parsed: Parsed | None = None
    refused: str | None = None
    transient: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Below the feed's folder."""
        return self.landed.path

    @property
    def rows(self) -> int:
        """How many."""
        return 0 if self.parsed is None else self.parsed.rows

    def outcome(self) -> dict[str, Any]:
        """Its event for the landing log."""
        outcome = {"path": self.path, "sequence": self.sequence, "rows": self.rows}
        if self.refused is None:
            return outcome | {"event": READ, "reason": "; ".join(self.remarks) or None}
        # With its size and time it counts as refused as it is there now; without, it is examined again.
        as_listed = {} if self.transient else {"size": self.landed.size, "modified": self.landed.modified}
        return outcome | {"event": REFUSED, "reason": self.refused} | as_listed

    def batches(self, schema: Mapping[str, pl.DataType], stamps: Mapping[str, object]) -> Iterator[pl.DataFrame]:
        """The rows with their lineage, a part at a time.

        Raises:
            BrokenStream: The file changed while it was read, or cannot be read any more.
        """
        if self.parsed is None:
            return
        lineage = {"_file": self.path, "_sequence": self.sequence, **stamps}
        own = set(self.parsed.frame.collect_schema().names())
        # A column that bronze gained by a later file is one that this file does not have.
        absent = [pl.lit(None, pl.String).alias(name) for name in schema if name not in own and name not in lineage]
        stamped = [pl.lit(value, dtype=schema[name]).alias(name) for name, value in lineage.items()]
        rows = 0
        try:
            frame = self.parsed.frame.with_columns(*stamped, *absent).select(list(schema))
            for part in frame.collect_batches(chunk_size=_ROWS_AT_ONCE, lazy=True):
                rows += part.height
                yield from _by_size(part)
            _check_unchanged(self.zone, self.landed)
        except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException, RefusedFile) as error:
            _stop_at_our_faults(error, str(error))
            raise BrokenStream(self.sequence, without_values(error)) from error
        if rows != self.rows:
            raise BrokenStream(self.sequence, f"{self.path} gave {rows} rows after it had given {self.rows}")


@dataclass(frozen=True)
class Opener:
    """Opens the files of one batch.

    Attributes:
        columns: Of bronze, without the lineage; what it gains is added.
        resources: Keeps the files on this machine until the batch is in bronze.
        broken: Why files, by their number, could not be read to their end before.
        child: Reads what could end this process.
    """

    feed: Feed
    zone: Zone
    bronze: Table
    columns: list[str]
    resources: ExitStack
    broken: Mapping[int, str]
    child: Child
    _gaining: Lock = field(default_factory=Lock, repr=False)

    def open_all(self, rows: Iterable[Mapping[str, Any]]) -> list[OpenedFile]:
        """Discovered files, opened several at a time: a disk has more than one core to feed, and a bucket takes its time.

        They are read here once, to their end where that is how errors show, and are closed again: what is kept of a file is how to read it,
        what was unpacked of it on disk, and of a workbook its rows.
        """
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            return list(pool.map(self.open, rows))

    def open(self, row: Mapping[str, Any]) -> OpenedFile:
        """A discovered file, opened; one that cannot be read is refused and no error."""
        landed = LandedFile(row["path"], row["size"], row["modified"])
        file = OpenedFile(landed, row["sequence"], self.zone, row["event"] == REREAD)
        try:
            parsed, remarks = self._parsed(row, landed)
            return replace(file, parsed=parsed, remarks=remarks)
        except RefusedFile as refused:
            _stop_at_our_faults(refused.__cause__, str(refused))
            return replace(file, refused=str(refused), transient=isinstance(refused, ChangedSinceDiscovery))

    def _parsed(self, row: Mapping[str, Any], landed: LandedFile) -> tuple[Parsed, tuple[str, ...]]:
        if row.get("superseded"):
            raise ChangedSinceDiscovery(f"{landed.path} was discovered again before its rows were in bronze: the newer discovery counts")
        _check_unchanged(self.zone, landed)
        if row["sequence"] in self.broken:
            raise RefusedFile(f"{landed.path} cannot be read to its end ({self.broken[row['sequence']]}). Land it again.")
        if row["content_hash"] is None:
            _check_opens(self.zone, landed.path)
        return self._parse(landed.path)

    def _parse(self, path: str) -> tuple[Parsed, tuple[str, ...]]:
        try:
            local = self.resources.enter_context(self.zone.local(path))
        except OSError as error:
            raise _cannot_be_opened(path, error) from error
        parsed, remarks = parse_by_policy(local, path, self.feed, tuple(self.columns), child=self.child, gain=self._gain)
        self.resources.enter_context(parsed)
        return parsed, remarks

    def _gain(self, names: Sequence[str]) -> bool:
        """Add columns to bronze, or not if it has too many then."""
        with self._gaining:
            new = [name for name in names if name not in self.columns]
            if len(self.columns) + len(new) > MOST_COLUMNS:
                return False
            if new:
                self.bronze.add_columns(dict.fromkeys(new, pl.String()))
                self.columns.extend(new)
        return True


def parse_by_policy(
    local: Path, path: str, feed: Feed, columns: Sequence[str], *, child: Child, gain: Callable[[Sequence[str]], bool]
) -> tuple[Parsed, tuple[str, ...]]:
    """A file as its feed wants it, and remarks about it.

    Args:
        local: The file on this machine.
        path: In the feed.
        feed: With its policies.
        columns: Of bronze, without the lineage.
        child: Reads what could end this process.
        gain: Lets bronze have more columns; whether it may.

    Raises:
        RefusedFile: It cannot be read, or the feed refuses its content.
    """
    parse_with = partial(
        parse, local, required=feed.headers, read_options=feed.read_options, file_format=feed.format, landed_as=path, child=child
    )
    try:
        parsed = parse_with(columns=columns)
    except RefusedFile as refused:
        if feed.personal and refused.without_content != refused.reason:
            raise RefusedFile(refused.without_content) from None
        raise
    if feed.snapshot and not parsed.rows:
        raise RefusedFile(f"{local.name} has no rows, and each file of this feed is a whole snapshot. Land it again, complete.")
    if parsed.unknown and feed.new_columns == "refuse":
        raise RefusedFile(
            f"{local.name} has columns that are not declared: {_listed(parsed.unknown)}. Land it without them, declare them in the feed, "
            "or let bronze gain them by new_columns='evolve'."
        )
    if not parsed.unknown or feed.new_columns == "rescue":
        return parsed, parsed.remarks
    gained = parsed.unknown
    if len(gained) > MOST_NEW_COLUMNS or not gain(gained):
        return parsed, (*parsed.remarks, _not_gained(gained, len(columns)))
    parsed.close()
    new = f"bronze has {counted(len(gained), 'new column')} by this file: {_listed(gained)}"
    return parse_with(columns=[*columns, *gained]), (*parsed.remarks, new)


def _not_gained(names: Sequence[str], width: int) -> str:
    return (
        f"{len(names):,} columns that bronze does not have were rescued ({_listed(names)}): it has {width:,}, gains at most "
        f"{MOST_NEW_COLUMNS} by one file and has at most {MOST_COLUMNS:,}. Declare the ones that you need as optional in the feed, with "
        "new_columns='rescue' for the others"
    )


def _by_size(part: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows in parts that hold no more than so many bytes of text: one text can stand in many rows, and is written for each."""
    lengths = part.select(pl.sum_horizontal(pl.col(pl.String).str.len_bytes().cast(pl.Int64))).to_series()
    if part.height < 2 or lengths.sum() <= _BYTES_AT_ONCE:
        yield part
        return
    numbers = (lengths.cum_sum() - lengths) // _BYTES_AT_ONCE
    start = 0
    for length in numbers.rle().struct.field("len"):
        yield part[start : start + length]
        start += length


def _check_unchanged(zone: Zone, landed: LandedFile) -> None:
    try:
        now = zone.stat(landed.path)
    except FileNotFoundError as error:
        raise ChangedSinceDiscovery(f"{landed.path} is gone ({error.strerror}). Land it again.") from error
    except OSError as error:
        raise _cannot_be_opened(landed.path, error) from error
    if now != landed:
        raise ChangedSinceDiscovery(f"{landed.path} changed between being discovered and being read: the next run reads it as it is then")


def _check_opens(zone: Zone, path: str) -> None:
    """For a file that could not be opened when it was discovered: without a hash of its content, a duplicate could not be told."""
    try:
        with zone.open(path) as content:
            content.read(1)
    except OSError as error:
        raise _cannot_be_opened(path, error) from error
    raise ChangedSinceDiscovery(f"{path} could not be opened when it was discovered: the next run reads it")


def _cannot_be_opened(path: str, error: OSError) -> RefusedFile:
    return RefusedFile(f"{path} cannot be opened ({error.strerror or error}). Correct that, then `lakehouse files retry {path}`.")


def _stop_at_our_faults(error: BaseException | None, message: str) -> None:
    if isinstance(error, OSError) and error.errno in _OUR_FAULTS:
        raise OSError(error.errno, f"{message} Nothing was written; the next run continues here.") from error


def _listed(names: Sequence[str]) -> str:
    return listed([repr(name) for name in names], 5)
