"""The landing log: every file ever seen, numbered, with what became of it. Reading the files into bronze is in `bronze`.

The log is a Delta table of events and only grows. Discovery adds `found`, `reread`, `duplicate`, `changed`, `ignored` and `touched`, each
with a number of its own; reading adds `read` or `refused`, and moving away `archived`, under the number of the file that was found. What
follows from the events is worked out in `look`.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import repeat

import polars as pl

from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.ingestion.file_state import (
    ARCHIVED,
    CHANGED,
    DUPLICATE,
    FOUND,
    IGNORED,
    READ,
    REFUSED,
    REREAD,
    TOUCHED,
    Look,
    State,
    judge,
)
from lakehouse_assets.platform.ingestion.zone import FILES_AT_ONCE, LandedFile, Zone, content_hash
from lakehouse_assets.platform.storage.commit import Commit, Cursor, cursor_of
from lakehouse_assets.platform.storage.errors import CursorMoved, NoSuchTable
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

__all__ = ["ARCHIVED", "CHANGED", "DUPLICATE", "FOUND", "IGNORED", "READ", "REFUSED", "REREAD", "TOUCHED"]

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
_LOOKED_AT = ("path", "sequence", "event", "rows", "size", "modified", "content_hash", "at")


class NotAsked(ValueError):
    """A file cannot be read again as was asked for."""


def look(log: Table, feed: str, *also: str) -> Look:
    """What the log says of a feed, with the cursors of `also`: one read of one version of the log, and of the feed's own part of it."""
    sources = (_numbering(feed), *also)
    try:
        table = log.now()
    except NoSuchTable:
        return Look.of(pl.DataFrame(schema={name: SCHEMA[name] for name in _LOOKED_AT}), dict.fromkeys(sources))
    events = pl.scan_delta(table).filter(pl.col("feed") == feed).select(_LOOKED_AT).collect()
    return Look.of(events, {source: cursor_of(table, source) for source in sources})


def _numbering(feed: str) -> str:
    return f"numbered/{feed}"


def files_of(zone: Zone, feed: Feed) -> list[LandedFile]:
    """The files of a feed as they lie there now, oldest first."""
    return [file for file in zone.files() if feed.takes(file.path)]


def discover(log: Table, zone: Zone, feed: Feed, run_id: str) -> int:
    """Number the files that the log does not know yet; how many events were added.

    Two discoveries at once give every file one number: the numbers are a cursor of the log's own commits.
    """
    while True:
        seen = look(log, feed.name)
        unknown = seen.unknown(files_of(zone, feed))
        states = seen.states([file.path for file in unknown])
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            events = pool.map(_event, unknown, repeat(zone), (states.get(file.path) for file in unknown), repeat(feed))
            rows = [row for row in events if row is not None]
        if not rows:
            return 0
        try:
            _add(log, feed, _mark_duplicates(rows, seen, feed), seen, run_id)
        except CursorMoved:
            continue  # another discovery was faster: look again at what is left
        return len(rows)


def ask(log: Table, zone: Zone, feed: Feed, path: str, *, reread: bool, run_id: str) -> str:
    """Number a file again, so that the next run reads it: one that was refused, or any one with `reread`. The event that was added.

    Raises:
        NotAsked: The file is not in the landing zone or waits already; without `reread`, it was not refused.
    """
    while True:
        seen = look(log, feed.name)
        state = seen.states([path]).get(path)
        _check_asked(path, feed, state, archived=path in seen.files["path"], reread=reread)
        try:
            file = zone.stat(path)
        except OSError as error:
            raise NotAsked(f"{path} cannot be opened in the landing zone ({error.strerror}): land it again") from error
        row = {"path": path, "size": file.size, "modified": file.modified, "content_hash": _content_hash(zone, path)}
        again = reread or (state is not None and state.holds is not None)
        row |= {"event": REREAD if again else FOUND, "reason": "asked for by hand"}
        if row["event"] == FOUND:
            row = _mark_duplicates([row], seen, feed)[0]
        try:
            _add(log, feed, [row], seen, run_id)
        except CursorMoved:
            continue
        return str(row["event"])


def _check_asked(path: str, feed: Feed, state: State | None, *, archived: bool, reread: bool) -> None:
    if state is None and not archived:
        raise NotAsked(f"{path} was never found in feed {feed.name}: `lakehouse files {feed.name}` lists what was")
    if state is not None and state.waits:
        raise NotAsked(f"{path} waits to be read already: `lakehouse run` reads it")
    if not reread and (state is None or state.outcome != REFUSED):
        became = ARCHIVED if state is None else state.outcome or state.event
        raise NotAsked(f"{path} was not refused ({became}): `lakehouse files reread {path}` reads it again all the same")


def _add(log: Table, feed: Feed, rows: list[dict[str, object]], seen: Look, run_id: str) -> None:
    log.create(SCHEMA, ("feed",), DESCRIPTION)
    source = _numbering(feed.name)
    last = seen.cursors[source]
    frame = pl.DataFrame(rows, schema=SCHEMA).with_columns(
        feed=pl.lit(feed.name),
        sequence=pl.int_range(pl.len(), dtype=pl.Int64) + (last or 0) + 1,
        at=datetime.now(UTC),
        run_id=pl.lit(run_id),
    )
    log.append(frame, Commit((Cursor(source, last, (last or 0) + len(rows)),)))


def record(log: Table, feed: str, outcomes: Iterable[dict[str, object]], run_id: str, cursor: Cursor | None = None) -> None:
    """Say what became of files, each with `path`, `sequence` and `event`.

    Raises:
        CursorMoved: Another run was faster.
    """
    frame = pl.DataFrame(list(outcomes), schema=SCHEMA)
    if frame.height or cursor is not None:
        stamped = frame.with_columns(feed=pl.lit(feed), at=datetime.now(UTC), run_id=pl.lit(run_id))
        log.append(stamped, Commit(() if cursor is None else (cursor,)))


def _content_hash(zone: Zone, path: str) -> str | None:
    """None if the file cannot be read: reading it will refuse it with its reason.

    Raises:
        FileNotFoundError: It is gone.
    """
    try:
        with zone.open(path) as content:
            return content_hash(content)
    except FileNotFoundError:
        raise
    except OSError:
        return None


def _event(file: LandedFile, zone: Zone, state: State | None, feed: Feed) -> dict[str, object] | None:
    """What discovery says of a file; None if it is gone again."""
    try:
        content = _content_hash(zone, file.path)
    except FileNotFoundError:
        return None
    event, reason = judge(file.path, content, state, feed.changed)
    return {"path": file.path, "size": file.size, "modified": file.modified, "content_hash": content, "event": event, "reason": reason}


def _mark_duplicates(rows: list[dict[str, object]], seen: Look, feed: Feed) -> list[dict[str, object]]:
    found = [row for row in rows if row["event"] in {FOUND, REREAD}]
    names: dict[object, object] = dict(seen.accepted(newest_only=feed.snapshot, but=[str(row["path"]) for row in found]))
    for row in found:
        content, path = row["content_hash"], row["path"]
        first = names.get(content) if content is not None and row["event"] == FOUND else None
        if first is not None:
            row |= {"event": DUPLICATE, "reason": f"the same content as {first}, which is read already"}
            continue
        if feed.snapshot:
            names.clear()  # only what was said last is not said again
        names[content] = path
    return rows


def latest(log: Table) -> pl.DataFrame:
    """What last became of every file: one row a feed and path."""
    if not log.exists():
        return pl.DataFrame(schema=SCHEMA)
    return log.scan().collect().sort("at", "sequence", maintain_order=True).unique(["feed", "path"], keep="last", maintain_order=True)


def journal(log: Table, feed: str | None = None, path: str | None = None) -> pl.DataFrame:
    """Every number that was given, with what became of it, in the order in which they were given.

    Columns: `feed`, `path`, `sequence`, `event` (as it was found), `outcome` (null: none), `archived_at`, `reason`, `rows`, `size`,
    `modified`, `found_at`, `at` (of the outcome, else of the find), `run_id`.
    """
    events = (log.scan() if log.exists() else pl.LazyFrame(schema=SCHEMA)).drop("content_hash")
    events = events.filter(pl.lit(value=True) if feed is None else pl.col("feed") == feed)
    found = events.filter(pl.lit(value=True) if path is None else pl.col("path") == path).sort("at").collect()
    number = ["feed", "sequence"]
    became = found.filter(pl.col("event").is_in([READ, REFUSED])).unique(number, keep="last")
    became = became.select(*number, "rows", outcome="event", why="reason", done_at="at", done_by="run_id")
    moved = found.filter(pl.col("event") == ARCHIVED).unique(number, keep="first").select(*number, archived_at="at")
    return (
        found.filter(~pl.col("event").is_in([READ, REFUSED, ARCHIVED]))
        .drop("rows")
        .join(became, on=number, how="left")
        .join(moved, on=number, how="left")
        .select(
            "feed",
            "path",
            "sequence",
            "event",
            "outcome",
            "archived_at",
            # A request by hand is no reason for what came of it.
            pl.when(pl.col("outcome").is_null()).then("reason").otherwise("why").alias("reason"),
            "rows",
            "size",
            "modified",
            pl.col("at").alias("found_at"),
            pl.coalesce("done_at", "at").alias("at"),
            pl.coalesce("done_by", "run_id").alias("run_id"),
        )
        .sort("found_at", "feed", "sequence")
    )
