"""The landing log: every file ever discovered, numbered, with its outcome. Reading the files into bronze is in `bronze`.

The log is a Delta table of events and only grows. Discovery adds `found`, `reread`, `duplicate`, `changed`, `ignored` and `touched`, each
with a sequence number of its own; reading adds `read` or `refused`, and moving away `archived`, under the sequence of the file. Every event
gets its number in the commit that adds it, so that events are ordered by commits. What follows from them is computed in `file_state`.
"""

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import repeat
from typing import Any

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.ingestion.file_state import (
    ARCHIVED,
    CHANGED,
    DUPLICATE,
    EVENTS,
    FOUND,
    IGNORED,
    READ,
    REFUSED,
    REREAD,
    TOUCHED,
    FeedState,
    FileState,
    classify,
)
from lakehouse_assets.platform.ingestion.zone import FILES_AT_ONCE, LandedFile, Zone, content_hash
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor, cursor_of
from lakehouse_assets.platform.storage.errors import CursorMoved, NoSuchTable
from lakehouse_assets.platform.storage.table import Table

__all__ = ["ARCHIVED", "CHANGED", "DUPLICATE", "FOUND", "IGNORED", "READ", "REFUSED", "REREAD", "TOUCHED"]

LOG = platform_tables.LANDING
SCHEMA = pl.Schema({"feed": pl.String(), **EVENTS, "run_id": pl.String()})
DESCRIPTION = "Every file ever discovered in the landing zone, numbered, with its outcome."

_IGNORABLE = (REFUSED, CHANGED)
_MOST_STATES = 200
# Of feeds that this process has read, by log and feed. Only a hint: it is used while the log has no later event, and extended by those that
# it has.
_states: dict[tuple[str, str], FeedState] = {}


class RequestRefused(ValueError):
    """A file cannot be read again as was requested."""


def state(log: Table, feed: str) -> FeedState:
    """The state of a feed at the latest version of the log.

    A process reads each event once: the next call reads the events that were added since.
    """
    try:
        table = log.now()
    except NoSuchTable:
        return FeedState.empty()
    known = _states.get((log.uri, feed), FeedState.empty())
    log_id, events = str(table.metadata().id), cursor_of(table, _events(feed))
    if known.log_id != log_id or (known.events or 0) > (events or 0):
        known = FeedState.empty()
    if known.events != events:
        rows = pl.scan_delta(table).filter((pl.col("feed") == feed) & (pl.col("event_number") > (known.events or 0)))
        known = known.apply(rows.select(EVENTS.names()).collect())
    now = replace(
        known,
        log_id=log_id,
        events=events,
        numbered=cursor_of(table, _numbering(feed)),
        reported=cursor_of(table, bronze_cursor(feed)),
    )
    if now.position == known.position:
        return known
    if len(_states) >= _MOST_STATES:
        _states.clear()
    _states[log.uri, feed] = now
    return now


def bronze_cursor(feed: str) -> str:
    """The name under which bronze keeps how far it has read a feed, and the log how far outcomes are recorded."""
    return f"landing/{feed}"


def _numbering(feed: str) -> str:
    return f"numbered/{feed}"


def _events(feed: str) -> str:
    return f"events/{feed}"


def listed(zone: Zone, feed: Feed) -> pl.DataFrame:
    """The files that are in the landing folder of a feed now: `path`, `size`, `modified`, oldest first."""
    return _taken(zone.listing().files, feed)


def to_examine(known: FeedState, listing: pl.DataFrame, feed: Feed) -> pl.DataFrame:
    """The listed files of a feed that discovery has to examine. The pattern is matched last: it takes longer than the comparison."""
    return _taken(known.to_examine(listing), feed)


def _taken(files: pl.DataFrame, feed: Feed) -> pl.DataFrame:
    takes = [feed.takes(path) for path in files["path"]]
    return files if all(takes) else files.filter(pl.Series(takes, dtype=pl.Boolean))


def unsettled(files: pl.DataFrame, feed: Feed) -> pl.Series:
    """Which files were modified less than the settle time of the feed ago, and may still be being written.

    A file from further in the future than that has a wrong clock: it counts as settled, or it would never be read.
    """
    if not feed.settle_seconds or not files.height:
        return pl.Series([False] * files.height, dtype=pl.Boolean)
    age = (pl.lit(clock.now()) - pl.col("modified")).abs()
    return files.select(age < timedelta(seconds=feed.settle_seconds)).to_series()


def discover(log: Table, zone: Zone, feed: Feed, run_id: str) -> int:
    """Number the files that the log does not know yet; how many events were added.

    Files that may still be being written are waited for once, for the settle time of the feed at most; those that were modified meanwhile
    are left for the next discovery. Two discoveries at once give every file one number.
    """
    waited = False
    while True:
        known = state(log, feed.name)
        unknown = to_examine(known, zone.listing().files, feed)
        open_ended = unsettled(unknown, feed)
        if open_ended.any() and not waited:
            time.sleep(feed.settle_seconds)
            waited = True
            continue
        unknown = unknown.filter(~open_ended)
        states = known.of_paths(unknown["path"].to_list())
        files = [LandedFile(*row) for row in unknown.iter_rows()]
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            events = pool.map(_discovery, files, repeat(zone), (states.get(file.path) for file in files), repeat(feed))
            rows = [row for row in events if row is not None]
        if not rows:
            return 0
        try:
            _number(log, feed, _mark_duplicates(rows, known, feed), known, run_id)
        except CursorMoved:
            continue  # another discovery was faster: examine what is left
        return len(rows)


def request_read(log: Table, zone: Zone, feed: Feed, path: str, *, reread: bool, run_id: str) -> str:
    """Number a file again, so that the next run reads it: one that was refused, or any one with `reread`. The event that was added.

    Raises:
        RequestRefused: The file is not in the landing zone or is pending already; without `reread`, it was not refused.
    """
    while True:
        known = state(log, feed.name)
        file_state = known.of_paths([path]).get(path)
        _check_request(path, feed, file_state, archived=path in known.discoveries["path"], reread=reread)
        try:
            file = zone.stat(path)
        except OSError as error:
            raise RequestRefused(f"{path} cannot be opened in the landing zone ({error.strerror}): land it again") from error
        row: dict[str, Any] = {
            "path": path,
            "size": file.size,
            "modified": file.modified,
            "content_hash": _content_hash(zone, path),
            "reason": "requested by hand",
        }
        again = reread or (file_state is not None and file_state.ingested_hash is not None)
        row["event"] = REREAD if again else FOUND
        if row["event"] == FOUND:
            row = _mark_duplicates([row], known, feed)[0]
        try:
            _number(log, feed, [row], known, run_id)
        except CursorMoved:
            continue
        return str(row["event"])


def _check_request(path: str, feed: Feed, file_state: FileState | None, *, archived: bool, reread: bool) -> None:
    if file_state is None and not archived:
        raise RequestRefused(f"{path} was never found in feed {feed.name}: `lakehouse files list {feed.name}` lists what was")
    if file_state is not None and file_state.is_pending:
        raise RequestRefused(f"{path} is pending already: `lakehouse run` reads it")
    if not reread and (file_state is None or file_state.outcome != REFUSED):
        outcome = ARCHIVED if file_state is None else file_state.outcome or file_state.event
        raise RequestRefused(f"{path} was not refused ({outcome}): `lakehouse files reread {path}` reads it again all the same")


def ignore(log: Table, feed: Feed, path: str, *, reason: str, run_id: str) -> None:
    """Record that a file which was refused, or changed after it was read, is to stay as it is: nothing warns of it any more.

    It need not be in the landing zone any more. Once its content changes there, it is discovered as any other.

    Raises:
        RequestRefused: There is nothing to ignore: it is pending, or was read and did not change; or no reason is given.
    """
    if not reason.strip():
        raise RequestRefused(f"say why {path} is ignored: the landing log keeps the reason")
    while True:
        known = state(log, feed.name)
        last = known.latest.filter(pl.col("path") == path)
        if last.is_empty() or last["event"].item() not in _IGNORABLE:
            event = "never found" if last.is_empty() else last["event"].item()
            raise RequestRefused(
                f"{path} needs no decision ({event}): only a file that was refused, or changed after it was read, is ignored"
            )
        listed = (
            known.discoveries.filter(pl.col("path") == path).tail(1).select("path", "size", "modified", "content_hash").row(0, named=True)
        )
        try:
            _number(log, feed, [listed | {"event": IGNORED, "reason": reason}], known, run_id)
        except CursorMoved:
            continue
        return


def _number(log: Table, feed: Feed, rows: list[dict[str, Any]], known: FeedState, run_id: str) -> None:
    """Add discovery events with the next sequence numbers.

    Raises:
        CursorMoved: Numbers were given since `known` was read.
    """
    log.create(SCHEMA, ("feed",), DESCRIPTION)
    first = (known.numbered or 0) + 1
    events = [{**row, "sequence": first + position} for position, row in enumerate(rows)]
    _append(log, feed.name, events, run_id, (Cursor(_numbering(feed.name), known.numbered, first - 1 + len(rows)),))


def record(log: Table, feed: str, outcomes: Iterable[dict[str, Any]], run_id: str, cursor: Cursor | None = None) -> None:
    """Record outcomes of files, each with `path`, `sequence` and `event`.

    Raises:
        CursorMoved: Another run was faster.
    """
    events = list(outcomes)
    if events or cursor is not None:
        _append(log, feed, events, run_id, () if cursor is None else (cursor,))


def _append(log: Table, feed: str, events: Sequence[dict[str, Any]], run_id: str, cursors: tuple[Cursor, ...]) -> None:
    """One commit; the events get their numbers from the very version that they are added to."""
    frame = pl.DataFrame(list(events), schema=SCHEMA).with_columns(feed=pl.lit(feed), at=clock.now(), run_id=pl.lit(run_id))

    def attempt(table: DeltaTable) -> Counts:
        for cursor in cursors:
            # Also where the cursor has come as far as this commit would bring it: then another run's events are there, not these.
            if (at := cursor_of(table, cursor.source)) != cursor.before:
                raise CursorMoved(f"the cursor of {cursor.source!r} is at {at}, this commit starts at {cursor.before}: read it again")
        last = cursor_of(table, _events(feed))
        numbers = pl.int_range(pl.len(), dtype=pl.Int64) + (last or 0) + 1
        commit = Commit((Cursor(_events(feed), last, (last or 0) + frame.height), *cursors))
        counts = Counts(written=frame.height)
        log.write_rows(table, frame.with_columns(event_number=numbers), commit.properties(table, counts, read_before_write=False))
        return counts

    log.write(None, attempt)


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


def _discovery(file: LandedFile, zone: Zone, file_state: FileState | None, feed: Feed) -> dict[str, Any] | None:
    """The event of a file; None if it is gone again."""
    try:
        content = _content_hash(zone, file.path)
    except FileNotFoundError:
        return None
    event, reason = classify(file.path, content, file_state, feed.changed)
    return {"path": file.path, "size": file.size, "modified": file.modified, "content_hash": content, "event": event, "reason": reason}


def _mark_duplicates(rows: list[dict[str, Any]], known: FeedState, feed: Feed) -> list[dict[str, Any]]:
    if feed.identity == "name":
        return rows
    to_read = [row for row in rows if row["event"] in {FOUND, REREAD}]
    contents = known.ingested_contents(newest_only=feed.snapshot, without_pending=[row["path"] for row in to_read])
    contents = contents.filter(pl.col("content_hash").is_in([row["content_hash"] for row in to_read]))
    paths: dict[str | None, str] = dict(contents.iter_rows())
    for row in to_read:
        content, path = row["content_hash"], row["path"]
        first = paths.get(content) if content is not None and row["event"] == FOUND else None
        if first is not None:
            own = f"if it is a delivery of its own, say identity='name' in its Feed, then `lakehouse files reread {path}`"
            row |= {"event": DUPLICATE, "reason": f"the same content as {first}, which is read already; {own}"}
            continue
        if feed.snapshot:
            paths.clear()  # only what the newest snapshot has is a duplicate
        paths[content] = path
    return rows


def latest(log: Table, events: Sequence[str] | None = None) -> pl.DataFrame:
    """The last event of every file, one row a feed and path, by feed; with `events`, of those files whose last event is one of them."""
    try:
        feeds = sorted({str(partition["feed"]) for partition in log.now().partitions()})
    except NoSuchTable:
        feeds = []
    rows = [state(log, feed).last_events(events).select(pl.lit(feed).alias("feed"), *EVENTS) for feed in feeds]
    return pl.concat([pl.DataFrame(schema={"feed": pl.String(), **EVENTS}), *rows])


def journal(log: Table, feed: str | None = None, path: str | None = None) -> pl.DataFrame:
    """Every sequence number that was given, with its outcome, by feed in the order in which they were given. It reads the whole log.

    Columns: `feed`, `path`, `sequence`, `event` (as it was discovered), `outcome` (null: none), `archived_at`, `reason`, `rows`, `size`,
    `modified`, `found_at`, `at` (of the outcome, else of the discovery), `run_id`.
    """
    events = (log.scan() if log.exists() else pl.LazyFrame(schema=SCHEMA)).drop("content_hash")
    events = events.filter(pl.lit(value=True) if feed is None else pl.col("feed") == feed)
    rows = events.filter(pl.lit(value=True) if path is None else pl.col("path") == path).sort("feed", "event_number").collect()
    number = ["feed", "sequence"]
    outcomes = rows.filter(pl.col("event").is_in([READ, REFUSED])).unique(number, keep="last", maintain_order=True)
    outcomes = outcomes.select(*number, "rows", outcome="event", why="reason", done_at="at", done_by="run_id")
    moved = rows.filter(pl.col("event") == ARCHIVED).unique(number, keep="first", maintain_order=True).select(*number, archived_at="at")
    return (
        rows.filter(~pl.col("event").is_in([READ, REFUSED, ARCHIVED]))
        .drop("rows")
        .join(outcomes, on=number, how="left")
        .join(moved, on=number, how="left")
        .select(
            "feed",
            "path",
            "sequence",
            "event",
            "outcome",
            "archived_at",
            # A request by hand is no reason for its outcome.
            pl.when(pl.col("outcome").is_null()).then("reason").otherwise("why").alias("reason"),
            "rows",
            "size",
            "modified",
            pl.col("at").alias("found_at"),
            pl.coalesce("done_at", "at").alias("at"),
            pl.coalesce("done_by", "run_id").alias("run_id"),
        )
        .sort("feed", "sequence")
    )
