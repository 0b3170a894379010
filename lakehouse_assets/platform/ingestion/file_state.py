"""What follows from the events of one feed: which files are new, which are pending, whose rows bronze has. Nothing is read or written.

Discovery events have sequence numbers of their own; an outcome has the sequence of the file that it belongs to. Every event has a number by
the order of the commits of the log, and this order alone decides what is newest: the clocks of events are for people. A file that was
archived leaves its name free for another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import polars as pl

from lakehouse_assets.platform.ingestion.feed import Changed
from lakehouse_assets.platform.storage.types import TIMESTAMP

FOUND, REREAD, DUPLICATE, CHANGED, IGNORED, TOUCHED = "found", "reread", "duplicate", "changed", "ignored", "touched"
READ, REFUSED, ARCHIVED = "read", "refused", "archived"
TO_READ = (FOUND, REREAD)
_COPIES = (*TO_READ, DUPLICATE)
_OUTCOMES = (READ, REFUSED)
_AS_LISTED = ("path", "size", "modified")

EVENTS = pl.Schema(
    {
        "path": pl.String(),
        "sequence": pl.Int64(),
        "event_number": pl.Int64(),
        "event": pl.String(),
        "reason": pl.String(),
        "rows": pl.Int64(),
        "size": pl.Int64(),
        "modified": TIMESTAMP,
        "content_hash": pl.String(),
        "at": TIMESTAMP,
    }
)
"""The columns of the log from which the state follows."""
_DISCOVERIES = pl.Schema(
    {name: EVENTS[name] for name in ("path", "sequence", "event", "size", "modified", "content_hash")}
    | {"rows": pl.Int64(), "outcome": pl.String(), "transient": pl.Boolean(), "archived": pl.Boolean()}
)


@dataclass(frozen=True)
class FileState:
    """What the log records of one path, since it was last archived.

    Attributes:
        event: How it was last discovered: `found`, `reread` or `duplicate`.
        outcome: The outcome of that: `read`, `refused`, or None.
        content_hash: Its content at that.
        ingested_hash: The content whose rows bronze has under this path; None if it has none.
        ignored_hashes: The contents that were ignored.
        transient: Whether it was refused only because it was not there as it had been discovered.
        orphaned: Whether it is a duplicate of a content that was not read after all.
    """

    event: str
    outcome: str | None
    content_hash: str | None
    ingested_hash: str | None
    ignored_hashes: frozenset[str]
    transient: bool = False
    orphaned: bool = False

    @property
    def is_pending(self) -> bool:
        """Whether it is to be read, and was not read or refused yet."""
        return self.event in TO_READ and self.outcome is None


@dataclass(frozen=True)
class FeedState:
    """The state of one feed at one version of the log.

    Attributes:
        discoveries: What discovery recorded, by sequence: `path`, `sequence`, `event`, `size`, `modified`, `content_hash`; `outcome` and
            `rows` (null: none yet), `transient` (refused, but not for its content: it was not there as it had been discovered), `archived`.
        latest: The last event of each path, whatever it is: the columns of `EVENTS`.
        events: The number of the last event; None: there is none.
        numbered: The last sequence that discovery gave.
        reported: The last sequence up to which outcomes are recorded.
        log_id: Of the log that this was read from.
    """

    discoveries: pl.DataFrame
    latest: pl.DataFrame
    events: int | None = None
    numbered: int | None = None
    reported: int | None = None
    log_id: str = ""

    @property
    def position(self) -> tuple[str, int | None, int | None, int | None]:
        """The version of the state: where it is equal, the state is."""
        return self.log_id, self.events, self.numbered, self.reported

    @staticmethod
    def empty() -> "FeedState":
        """The state before the first event."""
        return FeedState(pl.DataFrame(schema=_DISCOVERIES), pl.DataFrame(schema=EVENTS))

    def apply(self, events: pl.DataFrame) -> "FeedState":
        """The state after more events, in any order, with the columns of `EVENTS`.

        To apply events in parts, in the order of their numbers, gives what applying all of them at once gives.
        """
        events = events.select(EVENTS.names()).sort("event_number")
        outcomes = (
            events.filter(pl.col("event").is_in(_OUTCOMES))
            .unique("sequence", keep="last", maintain_order=True)
            .select("sequence", "rows", outcome="event", transient=(pl.col("event") == REFUSED) & pl.col("size").is_null())
        )
        archived = events.filter(pl.col("event") == ARCHIVED)["sequence"]
        new = events.filter(~pl.col("event").is_in([*_OUTCOMES, ARCHIVED])).with_columns(
            pl.lit(None, pl.Int64).alias("rows"),
            pl.lit(None, pl.String).alias("outcome"),
            *(pl.lit(value=False).alias(name) for name in ("transient", "archived")),
        )
        discoveries = pl.concat([self.discoveries, new.select(_DISCOVERIES.names())])
        if outcomes.height:
            has_outcome = pl.col("outcome_new").is_not_null()
            discoveries = discoveries.join(outcomes, on="sequence", how="left", suffix="_new", maintain_order="left").select(
                pl.when(has_outcome).then(f"{name}_new").otherwise(name).alias(name) if name in outcomes.columns[1:] else name
                for name in _DISCOVERIES
            )
        if archived.len():
            discoveries = discoveries.with_columns(pl.col("archived") | pl.col("sequence").is_in(archived.implode()))
        latest = pl.concat([self.latest, events]).unique("path", keep="last", maintain_order=True)
        return replace(self, discoveries=discoveries, latest=latest)

    def to_examine(self, listing: pl.DataFrame) -> pl.DataFrame:
        """The listed files that discovery has to examine: new, changed or touched since, or not read for a reason that is gone."""
        return listing.join(self._known, on=list(_AS_LISTED), how="anti", maintain_order="left") if listing.height else listing

    def pending(self, after: int | None) -> pl.DataFrame:
        """The files to read above a sequence, by sequence; of a path that was discovered again before it was read, the last."""
        return self.copies.filter(pl.col("event").is_in(TO_READ) & (pl.col("sequence") > (after or 0)))

    def with_outcome(self, after: int | None, until: int) -> pl.DataFrame:
        """The files in (after, until] that have an outcome, with `superseded`: whether the path was discovered again since."""
        done = self.discoveries.filter(pl.col("sequence").is_between(after or 0, until, closed="right") & pl.col("outcome").is_not_null())
        newest = self.copies.select("sequence", newest=pl.lit(value=True))
        return done.join(newest, on="sequence", how="left").with_columns(superseded=pl.col("newest").is_null()).sort("sequence")

    def previous_read(self, path: str, sequence: int) -> int | None:
        """The sequence whose rows leave bronze when `sequence`, a reread of this path, comes in."""
        read = self.discoveries.filter((pl.col("path") == path) & (pl.col("outcome") == READ) & (pl.col("sequence") < sequence))
        return int(read["sequence"][-1]) if read.height else None

    def ingested_contents(self, *, newest_only: bool = False, without_pending: Sequence[str] = ()) -> pl.DataFrame:
        """The contents that bronze has or is about to have, `content_hash` and `path`; without those that are pending under some paths.

        Contents that were reread since, refused, or discovered again before they were read, are none of them.
        """
        pending = self._pending_contents
        if without_pending:
            pending = pending.filter(~pl.col("path").is_in(list(without_pending)))
        contents = pl.concat([self._read_contents, pending]).sort("sequence")
        return (contents.tail(1) if newest_only else contents).select("content_hash", "path")

    def last_events(self, events: Sequence[str] | None = None) -> pl.DataFrame:
        """The last event of each path; with `events`, of those where it is one of them."""
        if events is None:
            return self.latest
        return pl.concat([self.latest.clear(), *(self._by_last_event[event] for event in events if event in self._by_last_event)])

    def of_paths(self, paths: Sequence[str]) -> dict[str, FileState]:
        """The states of paths, each since it was last archived; a path without any is missing."""
        if not paths:
            return {}
        rows = self.discoveries.filter(pl.col("path").is_in(list(paths)))
        gone = pl.col("sequence").filter(pl.col("archived")).max().over("path")
        current = rows.filter(gone.is_null() | (pl.col("sequence") > gone))
        states = {path: _file_state(events.to_dicts()) for (path,), events in current.partition_by("path", as_dict=True).items()}
        orphaned = set(self._orphaned)
        return {str(path): replace(state, orphaned=path in orphaned) for path, state in states.items() if state is not None}

    @cached_property
    def copies(self) -> pl.DataFrame:
        """How each path was last discovered: as a file to read or as a duplicate."""
        return self.discoveries.filter(pl.col("event").is_in(_COPIES)).unique("path", keep="last", maintain_order=True)

    @cached_property
    def _by_last_event(self) -> dict[str, pl.DataFrame]:
        return {str(event): rows for (event,), rows in self.latest.partition_by("event", as_dict=True, maintain_order=True).items()}

    @cached_property
    def _known(self) -> pl.DataFrame:
        """The files as they were last discovered, but those that have to be examined however they are listed."""
        again = pl.concat([self._orphaned, self.copies.filter("transient")["path"]])
        last = self.discoveries.select(_AS_LISTED).unique("path", keep="last", maintain_order=True)
        return last.filter(~pl.col("path").is_in(again.implode()))

    @cached_property
    def _orphaned(self) -> pl.Series:
        """The duplicates of contents that were not read after all: they are read in their place."""
        duplicates = self.copies.filter((pl.col("event") == DUPLICATE) & ~pl.col("archived"))
        return duplicates.join(self.ingested_contents(), on="content_hash", how="anti", nulls_equal=True)["path"]

    @cached_property
    def _read_contents(self) -> pl.DataFrame:
        to_read = self.discoveries.filter(pl.col("event").is_in(TO_READ) & pl.col("content_hash").is_not_null())
        read = to_read.filter(pl.col("outcome") == READ)
        # A window over ten thousand paths takes longer than the rest together, and few of them were ever reread.
        was_reread = pl.col("path").is_in(read.filter(pl.col("event") == REREAD)["path"].implode())
        kept = read.filter(was_reread).filter(pl.col("event").shift(-1).over("path").ne_missing(REREAD))
        return pl.concat([read.filter(~was_reread), kept]).sort("sequence").select("sequence", "content_hash", "path")

    @cached_property
    def _pending_contents(self) -> pl.DataFrame:
        is_pending = pl.col("event").is_in(TO_READ) & pl.col("outcome").is_null() & pl.col("content_hash").is_not_null()
        return self.copies.filter(is_pending).select("sequence", "content_hash", "path")


def _file_state(events: list[dict[str, Any]]) -> FileState | None:
    copies = [event for event in events if event["event"] in _COPIES]
    if not copies:
        return None
    ingested = [event["content_hash"] for event in copies if event["outcome"] == READ]
    ignored = frozenset(event["content_hash"] for event in events if event["event"] == IGNORED)
    last = copies[-1]
    return FileState(
        last["event"], last["outcome"], last["content_hash"], ingested[-1] if ingested else None, ignored, transient=last["transient"]
    )


def classify(path: str, content_hash: str | None, state: FileState | None, changed: Changed) -> tuple[str, str | None]:
    """The discovery event, and its reason, of a listed file that is not known as it is listed."""
    # To correct or touch a refused file is how it is tried again.
    if state is None or state.orphaned or (state.outcome == REFUSED and state.ingested_hash is None):
        return FOUND, None
    if state.is_pending or state.transient:
        return state.event, None
    if content_hash is not None and content_hash == (state.ingested_hash or state.content_hash):
        return TOUCHED, None
    if changed == "reread":
        return (FOUND if state.ingested_hash is None else REREAD), None
    if changed == "ignore":
        ignored = content_hash in state.ignored_hashes
        return (TOUCHED, None) if ignored else (IGNORED, f"{path} changed after it was read, which this feed ignores")
    return CHANGED, (
        f"{path} changed after it was read; its rows stay as they were. If the new content corrects them, `lakehouse files reread {path}` "
        "puts its rows in their place; if it is another delivery, land it under a new name"
    )
