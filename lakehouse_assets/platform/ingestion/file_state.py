"""What follows from the events of one feed: which files are new, which wait, whose rows bronze holds. Pure: nothing is read or written.

Events that discovery adds have numbers of their own, in order; an outcome has the number of the find that it belongs to. A find is a
`found` or a `reread`; the last outcome of a number counts. A file that was archived leaves its name free for another.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from lakehouse_assets.platform.ingestion.feed import Changed
from lakehouse_assets.platform.ingestion.zone import LandedFile
from lakehouse_assets.platform.storage.types import TIMESTAMP

FOUND, REREAD, DUPLICATE, CHANGED, IGNORED, TOUCHED = "found", "reread", "duplicate", "changed", "ignored", "touched"
READ, REFUSED, ARCHIVED = "read", "refused", "archived"
FINDS = (FOUND, REREAD)
_COPIES = (*FINDS, DUPLICATE)
_OUTCOMES = (READ, REFUSED)
_AS_IT_LIES = ("path", "size", "modified")


@dataclass(frozen=True)
class State:
    """What the log says of one path, since it was last archived.

    Attributes:
        event: How it was last found: `found`, `reread` or `duplicate`.
        outcome: What became of that: `read`, `refused`, or None.
        content: The content hash of that.
        holds: The content hash of the file whose rows bronze holds under this path; None if it holds none.
        noted: The content hashes that were ignored.
        unfinished: Whether it was refused only because it was not there as it had been found.
        orphaned: Whether it is a copy of a content that was not read after all.
    """

    event: str
    outcome: str | None
    content: str | None
    holds: str | None
    noted: frozenset[str]
    unfinished: bool = False
    orphaned: bool = False

    @property
    def waits(self) -> bool:
        """Whether it was found and not read or refused yet."""
        return self.event in FINDS and self.outcome is None


@dataclass(frozen=True)
class Look:
    """What the log said of one feed when it was looked at.

    Attributes:
        files: What discovery saw, by number: `path`, `sequence`, `event`, `size`, `modified`, `content_hash`; `outcome` and `rows`
            (null: none yet), `unfinished` (refused, but not for what it says: it was not there as it had been found), `archived`.
        cursors: How far sources had come in the log.
    """

    files: pl.DataFrame
    cursors: Mapping[str, int | None]

    @staticmethod
    def of(events: pl.DataFrame, cursors: Mapping[str, int | None]) -> "Look":
        """The events of a feed, in any order, as files."""
        outcomes = (
            events.filter(pl.col("event").is_in(_OUTCOMES))
            .sort("at", maintain_order=True)
            .unique("sequence", keep="last", maintain_order=True)
            .select("sequence", "rows", outcome="event", unfinished=(pl.col("event") == REFUSED) & pl.col("size").is_null())
        )
        archived = events.filter(pl.col("event") == ARCHIVED).select("sequence", archived=pl.lit(value=True)).unique("sequence")
        files = (
            events.filter(~pl.col("event").is_in([*_OUTCOMES, ARCHIVED]))
            .drop("rows", "at")
            .join(outcomes, on="sequence", how="left")
            .join(archived, on="sequence", how="left")
            .with_columns(pl.col("unfinished", "archived").fill_null(value=False))
            .sort("sequence")
        )
        return Look(files, cursors)

    def unknown(self, files: Sequence[LandedFile]) -> list[LandedFile]:
        """Those of `files` that have to be looked at: new, changed or touched since, or not read for a reason that is gone."""
        if not files:
            return []
        last = self.files.unique("path", keep="last", maintain_order=True)
        again = self._orphaned() | set(self.copies().filter("unfinished")["path"])
        schema = {"path": pl.String(), "size": pl.Int64(), "modified": TIMESTAMP}
        listed = pl.DataFrame([(file.path, file.size, file.modified) for file in files], schema=schema, orient="row")
        known = set(listed.join(last.select(_AS_IT_LIES), on=_AS_IT_LIES, how="semi")["path"]) - again
        return [file for file in files if file.path not in known]

    def waiting(self, after: int | None) -> pl.DataFrame:
        """The finds above a number, by number; of a path that was found again before it was read, the last."""
        return self.copies().filter(pl.col("event").is_in(FINDS) & (pl.col("sequence") > (after or 0)))

    def reported(self, after: int | None, until: int) -> pl.DataFrame:
        """The finds in (after, until] that have an outcome, with `superseded`: whether the path was found again since."""
        finds = self.files.filter(pl.col("sequence").is_between(after or 0, until, closed="right") & pl.col("outcome").is_not_null())
        newest = self.copies().select("sequence", newest=pl.lit(value=True))
        return finds.join(newest, on="sequence", how="left").with_columns(superseded=pl.col("newest").is_null()).sort("sequence")

    def replaced_by(self, path: str, sequence: int) -> int | None:
        """The number whose rows leave bronze when `sequence`, a reread of this path, comes in."""
        read = self.files.filter((pl.col("path") == path) & (pl.col("outcome") == READ) & (pl.col("sequence") < sequence))
        return int(read["sequence"][-1]) if read.height else None

    def accepted(self, *, newest_only: bool = False, but: Sequence[str] = ()) -> Iterable[tuple[str, str]]:
        """The contents that bronze holds or is about to, each with its path; without those that wait under the paths `but`.

        Contents that were reread since, refused, or found again before they were read, are none of them.
        """
        finds = self.files.filter(pl.col("event").is_in(FINDS) & pl.col("content_hash").is_not_null())
        read = finds.filter(pl.col("outcome") == READ)
        kept = read.filter(pl.col("event").shift(-1).over("path").ne_missing(REREAD))
        waits = self.copies().filter(pl.col("event").is_in(FINDS) & pl.col("outcome").is_null() & pl.col("content_hash").is_not_null())
        found = pl.concat([kept, waits.filter(~pl.col("path").is_in(list(but)))]).sort("sequence")
        return (found.tail(1) if newest_only else found).select("content_hash", "path").iter_rows()

    def states(self, paths: Sequence[str]) -> dict[str, State]:
        """What the log says of paths, each since it was last archived; a path of which it says nothing is missing."""
        rows = self.files.filter(pl.col("path").is_in(list(paths)))
        gone = pl.col("sequence").filter(pl.col("archived")).max().over("path")
        current = rows.filter(gone.is_null() | (pl.col("sequence") > gone))
        orphaned = self._orphaned()
        states = {path: _state(events.to_dicts()) for (path,), events in current.partition_by("path", as_dict=True).items()}
        return {str(path): replace(state, orphaned=path in orphaned) for path, state in states.items() if state is not None}

    def copies(self) -> pl.DataFrame:
        """How each path was last found: a find or a duplicate."""
        return self.files.filter(pl.col("event").is_in(_COPIES)).unique("path", keep="last", maintain_order=True)

    def _orphaned(self) -> set[str]:
        """The copies of contents that were not read after all: they are read in their place."""
        copies = self.copies().filter((pl.col("event") == DUPLICATE) & ~pl.col("archived"))
        if not copies.height:
            return set()
        held = {content for content, _ in self.accepted()}
        return {path for path, content in copies.select("path", "content_hash").iter_rows() if content not in held}


def _state(events: list[dict[str, Any]]) -> State | None:
    copies = [event for event in events if event["event"] in _COPIES]
    if not copies:
        return None
    held = [event["content_hash"] for event in copies if event["outcome"] == READ]
    noted = frozenset(event["content_hash"] for event in events if event["event"] == IGNORED)
    last = copies[-1]
    return State(last["event"], last["outcome"], last["content_hash"], held[-1] if held else None, noted, unfinished=last["unfinished"])


def judge(path: str, content: str | None, state: State | None, changed: Changed) -> tuple[str, str | None]:
    """The event, and its reason, of a file that is unknown as it lies there with this content."""
    # Mending or touching a refused file is how it is tried again.
    if state is None or state.orphaned or (state.outcome == REFUSED and state.holds is None):
        return FOUND, None
    if state.waits or state.unfinished:
        return state.event, None
    if content is not None and content == (state.holds or state.content):
        return TOUCHED, None
    if changed == "reread":
        return (FOUND if state.holds is None else REREAD), None
    if changed == "ignore":
        return (TOUCHED, None) if content in state.noted else (IGNORED, f"{path} changed after it was read, which this feed ignores")
    return CHANGED, (
        f"{path} changed after it was read; its rows stay as they were. Land the new content under a new name, "
        f"or put its rows in the place of the old ones: `lakehouse files reread {path}`"
    )
