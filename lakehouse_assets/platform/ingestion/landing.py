"""The landing log: every file ever seen, numbered, with what became of it. Reading the files into bronze is in `bronze`.

The log is a Delta table of events and only grows. Discovery adds `found`, `duplicate`, `changed` and `touched`; reading adds `read` and
`refused` under the number of the file that was found.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import polars as pl

from lakehouse_assets.platform.ingestion.feed import is_seen
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

LOG = "platform.landing.log"
SCHEMA = pl.Schema(
    {
        "feed": pl.String(),
        "path": pl.String(),
        "sequence": pl.Int64(),
        "event": pl.String(),
        "reason": pl.String(),
        "rows": pl.Int64(),
        "size": pl.Int64(),
        "modified": TIMESTAMP,
        "content_hash": pl.String(),
        "at": TIMESTAMP,
        "run_id": pl.String(),
    }
)
DESCRIPTION = "Every file ever seen in the landing zone, numbered, with what became of it."
FOUND, DUPLICATE, CHANGED, TOUCHED, READ, REFUSED = "found", "duplicate", "changed", "touched", "read", "refused"


@dataclass(frozen=True)
class LandedFile:
    """A file below a feed's folder, as it lies there now. `path` is relative to the folder, with forward slashes."""

    path: str
    size: int
    modified: datetime


def files_of(folder: Path) -> list[LandedFile]:
    """The files of a feed, oldest first."""
    found = []
    for path in folder.rglob("*") if folder.is_dir() else ():
        relative = PurePosixPath(path.relative_to(folder).as_posix())
        if is_seen(relative) and path.is_file():
            found.append(landed_file(folder, str(relative)))
    return sorted(found, key=lambda file: (file.modified, file.path))


def landed_file(folder: Path, path: str) -> LandedFile:
    """A file as it lies there now.

    Raises:
        OSError: It is gone or out of reach.
    """
    status = (folder / path).stat()
    return LandedFile(path, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def events(log: Table, feed: str) -> pl.DataFrame:
    """The feed's events in the order of the log."""
    if not log.exists():
        return pl.DataFrame(schema=SCHEMA)
    return log.scan().filter(pl.col("feed") == feed).collect().sort("at", "sequence", maintain_order=True)


def new_files(log: Table, folder: Path, feed: str) -> list[LandedFile]:
    """The files that the log does not know as they lie there now."""
    return _unknown(files_of(folder), events(log, feed))


def _unknown(files: list[LandedFile], seen: pl.DataFrame) -> list[LandedFile]:
    looked_at = seen.filter(pl.col("size").is_not_null())
    known = {(e["path"]): (e["size"], e["modified"]) for e in looked_at.select("path", "size", "modified").to_dicts()}
    orphaned = _orphaned(seen)
    return [file for file in files if known.get(file.path) != (file.size, file.modified) or file.path in orphaned]


def _accepted(seen: pl.DataFrame) -> dict[str, str]:
    """The contents that were read or are about to be, each with its file: not those of finds that were refused or found again unread."""
    outcomes = seen.filter(pl.col("event").is_in([READ, REFUSED])).unique("sequence", keep="last", maintain_order=True)
    read = set(outcomes.filter(pl.col("event") == READ)["sequence"])
    found = seen.filter(pl.col("event") == FOUND).sort("sequence")
    newest = set(found.unique("path", keep="last")["sequence"])
    good = read | (newest - set(outcomes["sequence"]))
    rows = found.select("sequence", "content_hash", "path").iter_rows()
    return {content: path for sequence, content, path in rows if sequence in good}


def _orphaned(seen: pl.DataFrame) -> set[str]:
    """The duplicates of contents that were not read after all: they are read in their place."""
    copies = seen.filter(~pl.col("event").is_in([TOUCHED, CHANGED])).unique("path", keep="last", maintain_order=True)
    accepted = _accepted(seen)
    rows = copies.filter(pl.col("event") == DUPLICATE).select("path", "content_hash").iter_rows()
    return {path for path, content in rows if content not in accepted}


def discover(log: Table, folder: Path, feed: str, run_id: str) -> int:
    """Number the files that the log does not know yet; how many events were added.

    Two discoveries at once give every file one number: the numbers are a cursor of the log's own commits.
    """
    log.create(SCHEMA, ("feed",), DESCRIPTION)
    source = f"numbered/{feed}"
    while True:
        last = log.cursor(source)
        seen = events(log, feed)
        orphaned = _orphaned(seen)
        rows = [_event(file, folder, seen, orphaned, feed) for file in _unknown(files_of(folder), seen)]
        if not rows:
            return 0
        rows = _mark_duplicates(rows, seen)
        frame = pl.DataFrame(rows, schema=SCHEMA).with_columns(
            sequence=pl.int_range(pl.len(), dtype=pl.Int64) + (last or 0) + 1, at=datetime.now(UTC), run_id=pl.lit(run_id)
        )
        try:
            log.append(frame, Commit((Cursor(source, last, (last or 0) + len(rows)),)))
        except CursorMoved:
            continue  # another discovery was faster: look again at what is left
        return len(rows)


def _event(file: LandedFile, folder: Path, seen: pl.DataFrame, orphaned: set[str], feed: str) -> dict[str, object]:
    event: dict[str, object] = {"feed": feed, "path": file.path, "size": file.size, "modified": file.modified, "event": FOUND}
    try:
        with (folder / file.path).open("rb") as content:
            event["content_hash"] = hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        # Found all the same: reading it will refuse it with its reason.
        event["content_hash"] = f"unreadable: {error.strerror}"
    before = seen.filter((pl.col("path") == file.path) & ~pl.col("event").is_in([TOUCHED, CHANGED]))
    if not before.height or before["event"][-1] == REFUSED or file.path in orphaned:
        # New, or a copy of what was not read, or refused before: mending or touching a refused file is how it is tried again.
        return event
    if before["content_hash"].drop_nulls()[-1] == event["content_hash"]:
        event["event"] = TOUCHED
    elif before["event"][-1] in {READ, DUPLICATE}:
        reason = f"{file.path} changed after it was read; its rows stay as they were. Land the new content under a new name."
        event |= {"event": CHANGED, "reason": reason}
    return event


def _mark_duplicates(rows: list[dict[str, object]], seen: pl.DataFrame) -> list[dict[str, object]]:
    replaced = {row["path"] for row in rows if row["event"] == FOUND}
    names: dict[object, object] = {content: path for content, path in _accepted(seen).items() if path not in replaced}
    for row in rows:
        if row["event"] != FOUND:
            continue
        first = names.setdefault(row["content_hash"], row["path"])
        if first != row["path"]:
            row |= {"event": DUPLICATE, "reason": f"the same content as {first}, which is read already"}
    return rows


def waiting(log: Table, feed: str, after: int | None) -> pl.DataFrame:
    """The files found above a number, by number; of one that was found again before it was read, the last find."""
    found = events(log, feed).filter((pl.col("event") == FOUND) & (pl.col("sequence") > (after or 0)))
    return found.sort("sequence").unique("path", keep="last", maintain_order=True)


def latest(log: Table) -> pl.DataFrame:
    """What last became of every file: one row a feed and path."""
    if not log.exists():
        return pl.DataFrame(schema=SCHEMA)
    return log.scan().collect().sort("at", "sequence", maintain_order=True).unique(["feed", "path"], keep="last", maintain_order=True)
