"""From the landing log into a bronze table: files after the cursor, in order, exactly once. How one file is opened is in `opened`.

Two commits a batch: first the landing log records the outcome of each file, then the rows and the cursor go into bronze. A run that died in
between is taken up with the same batch. A file that is reread goes alone: one commit takes its old rows away and brings the new ones.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import polars as pl

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.ingestion.archive import move_read_files
from lakehouse_assets.platform.ingestion.child import Child
from lakehouse_assets.platform.ingestion.compression import estimated_text
from lakehouse_assets.platform.ingestion.feed import LINEAGE, Feed
from lakehouse_assets.platform.ingestion.feed_hint import is_idle, note
from lakehouse_assets.platform.ingestion.file_state import REREAD, FeedState
from lakehouse_assets.platform.ingestion.opened import BrokenStream, BrokenStreams, OpenedFile, Opener
from lakehouse_assets.platform.ingestion.zone import LISTED, Zone
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor, Written
from lakehouse_assets.platform.storage.errors import CursorMoved, NoSuchVersion
from lakehouse_assets.platform.storage.predicates import ColumnValues
from lakehouse_assets.platform.storage.stream import append_stream
from lakehouse_assets.platform.storage.table import Table

SEQUENCES = "lakehouse.sequences"
"""In a commit of bronze: the numbers of the files that came in with it, as JSON: above the first, up to the second."""
REPLACED = "lakehouse.replaced"
"""In a commit of bronze that rereads a file: the path, the number and the count of the rows that it took away, as JSON."""


@dataclass(frozen=True)
class Ingested:
    """The result of one file: how many rows, or the reason why it was refused; and remarks about what was read of it."""

    path: str
    sequence: int
    rows: int
    refused: str | None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ingestion:
    """Brings the files of a feed into its bronze table.

    Attributes:
        batch_bytes: Most bytes of text that go into one commit, estimated before the files are opened, unless the feed says otherwise.
        batch_files: Most files that go into one commit, unless the feed says otherwise.
    """

    feed: Feed
    zone: Zone
    log: Table
    bronze: Table
    batch_bytes: int
    batch_files: int = 1_000

    @property
    def cursor(self) -> str:
        """The name under which bronze keeps how far it has read the feed."""
        return landing.bronze_cursor(self.feed.name)

    def create(self, description: str) -> None:
        """Create the tables unless they exist, with every declared column."""
        self.log.create(landing.SCHEMA, ("feed",), landing.DESCRIPTION)
        self.bronze.create(self.feed.schema(), description=description)
        missing = {name: dtype for name, dtype in self.feed.schema().items() if name not in self.bronze.schema()}
        if missing:
            self.bronze.add_columns(missing)

    def waiting(self) -> int:
        """How many files are pending."""
        return self.pending().height

    def pending(self) -> pl.DataFrame:
        """The files that a run would examine, `path`, `size` and `modified`: unknown ones, and those with a number but not in bronze.

        Files that may still be being written, by the settle time of the feed, are left out. What it costs while nothing is pending does
        not grow with the number of files; in return it may take `feed_hint.LIST_AGAIN_SECONDS` until a file that was modified in place,
        and is not among the newest, is noticed.

        Raises:
            NotListed: The landing folder is out of reach.
        """
        state, at = self.state(), self.bronze.cursor(self.cursor)
        key = (self.feed, self.zone, self.log.uri, self.bronze.uri)
        basis = (state.position, at)
        if is_idle(key, basis, self.zone):
            return pl.DataFrame(schema=LISTED)
        listing = self.zone.listing()
        numbered = state.pending(at).select(LISTED.names())
        unknown = landing.to_examine(state, listing.files, self.feed)
        note(key, basis, listing, idle=not numbered.height and not unknown.height)
        settled = unknown.filter(~landing.unsettled(unknown, self.feed))
        return pl.concat([settled, numbered.join(settled, on="path", how="anti", maintain_order="left")])

    def state(self) -> FeedState:
        """The state of the feed's files now."""
        return landing.state(self.log, self.feed.name)

    def discover(self, run_id: str) -> int:
        """Number the files that the log does not know; how many events that made.

        Raises:
            NoSuchVersion: Bronze has read files that the landing log does not know: it was deleted.
        """
        self._check_log()
        return landing.discover(self.log, self.zone, self.feed, run_id)

    def request_read(self, path: str, *, reread: bool, run_id: str) -> str:
        """Let the next run read a file again; see `landing.request_read`."""
        return landing.request_read(self.log, self.zone, self.feed, path, reread=reread, run_id=run_id)

    def was_taken(self, path: str) -> bool:
        """Whether a run found the file and came to an end with it: one that was never found, or that waits, is read as it is then."""
        found = self.state().of_paths([path]).get(path) if self.log.exists() else None
        return found is not None and not found.is_pending

    def ignore(self, path: str, reason: str, run_id: str) -> None:
        """Leave a refused or changed file as it is: see `landing.ignore`."""
        landing.ignore(self.log, self.feed, path, reason=reason, run_id=run_id)

    def ingest(self, run_id: str) -> Iterator[list[Ingested]]:
        """Read what is pending, batch by batch; each batch is in bronze when it is yielded.

        With an archive, the files that were read are moved there at last; those that cannot be moved are yielded with the reason.

        Raises:
            NoSuchVersion: Bronze has read files that the landing log does not know: it was deleted.
        """
        self.discover(run_id)
        broken = BrokenStreams()
        more = True
        with Child() as child:
            while more and (batch := self._next_batch(run_id, broken, child)) is not None:
                files, more = batch
                yield files
        if self.feed.archive and (stuck := move_read_files(self.log, self.zone, self.feed, self.bronze.cursor(self.cursor), run_id)):
            yield [Ingested(path, sequence, 0, reason) for path, sequence, reason in stuck]

    def _check_log(self) -> None:
        """Stop before files get numbers that bronze has passed: they would never be read.

        Raises:
            NoSuchVersion: So they would.
        """
        at, numbered = self.bronze.cursor(self.cursor), self.state().numbered
        if (at or 0) > (numbered or 0):
            raise NoSuchVersion(
                f"{self.bronze.name} has read the files of feed {self.feed.name} up to number {at}, but {self.log.name} has given "
                f"{numbered or 0}: it was deleted, and new files would get numbers that count as read. `lakehouse doctor` says what to do"
            )

    def _next_batch(self, run_id: str, broken: BrokenStreams, child: Child) -> tuple[list[Ingested], bool] | None:
        """The results of the next files, and whether more of them are pending; None if there are none."""
        while True:
            state = self.state()
            before, reported = self.bronze.cursor(self.cursor), state.reported
            resumed = reported is not None and reported > (before or 0)
            pending = state.with_outcome(before, reported) if resumed and reported is not None else state.pending(before)
            batch = self._first_of(pending)
            if not batch.height:
                return None
            until = int(batch["sequence"][-1])
            with ExitStack() as resources:
                opener = Opener(self.feed, self.zone, self.bronze, self._columns(), resources, broken.reasons, child)
                files = opener.open_all(batch.iter_rows(named=True))
                try:
                    self._report(files, batch, Cursor(self.cursor, reported, until), run_id, resumed=resumed)
                    try:
                        if self._append(files, state, Cursor(self.cursor, before, until), run_id).counts is None:
                            raise CursorMoved(f"another run brought the files up to {until} into {self.bronze.name}")  # noqa: TRY301
                    except CursorMoved:
                        if resumed:
                            self._take_back(files, batch, run_id)
                        raise
                except CursorMoved:
                    continue  # another run took this batch: work on what is left
                except BrokenStream as stream:
                    broken.add(stream)
                    continue  # the same batch, as after a death; the second time with this file refused
            results = [Ingested(file.path, file.sequence, file.rows, file.refused, file.remarks) for file in files]
            return results, resumed or batch.height < pending.height

    def _columns(self) -> list[str]:
        """Those that come from files: declared ones and what bronze has gained."""
        return [name for name in self.bronze.schema() if name not in LINEAGE]

    def _first_of(self, pending: pl.DataFrame) -> pl.DataFrame:
        """As many of the oldest as fit into one commit, but at least one; one that is reread goes alone."""
        limit = self.batch_bytes if self.feed.batch_megabytes is None else self.feed.batch_megabytes * 1_000_000
        rereads = pending["event"] == REREAD
        if not pending.height or rereads[0]:
            return pending.head(1)
        text = pl.Series(estimated_text(pending["path"].to_list(), pending["size"].to_list(), self.feed.format), dtype=pl.Int64)
        fit = (text.cum_sum() <= limit) & (rereads.cum_sum() == 0)
        return pending.head(min(max(1, int(fit.sum())), self.feed.batch_files or self.batch_files))

    def _report(self, files: list[OpenedFile], batch: pl.DataFrame, cursor: Cursor, run_id: str, *, resumed: bool) -> None:
        outcomes = [file.outcome() for file in files]
        if not resumed:
            landing.record(self.log, self.feed.name, outcomes, run_id, cursor)
            return
        # The log has these outcomes already; only one that differs this time is added.
        known = set(batch.select("sequence", "outcome", "rows").iter_rows())
        new = [outcome for outcome in outcomes if (outcome["sequence"], outcome["event"], outcome["rows"]) not in known]
        landing.record(self.log, self.feed.name, new, run_id)

    def _take_back(self, files: list[OpenedFile], batch: pl.DataFrame, run_id: str) -> None:
        """Record again the outcomes that the log had before, of files that ended otherwise here, where another run was faster."""
        recorded = {row["sequence"]: row for row in batch.iter_rows(named=True)}
        wrong = [row for file in files if _outcome_of(row := recorded[file.sequence]) != (file.outcome()["event"], file.rows)]
        again = [{"path": row["path"], "sequence": row["sequence"], "event": row["outcome"], "rows": row["rows"]} for row in wrong]
        landing.record(self.log, self.feed.name, again, run_id)

    def _append(self, files: list[OpenedFile], state: FeedState, cursor: Cursor, run_id: str) -> Written:
        stamps = {"_ingested_at": clock.now(), "_run_id": run_id}
        schema = self.bronze.schema()
        rows = sum(file.rows for file in files)
        account = RowAccount(rows_in=rows, written=rows)
        sequences = json.dumps([cursor.before or 0, cursor.after])
        info = {"lakehouse.run_id": run_id, "lakehouse.account": account.to_json(), SEQUENCES: sequences}
        scope, more = self._replaced(files, state)

        def batches() -> Iterator[pl.DataFrame]:
            for file in files:
                yield from file.batches(schema, stamps)

        commit = Commit((cursor,), lambda counts: {**info, **more(counts)})
        return append_stream(self.bronze, rows, batches, commit, instead_of=scope)

    def _replaced(self, files: list[OpenedFile], state: FeedState) -> tuple[ColumnValues | None, Callable[[Counts], dict[str, str]]]:
        """The rows that a batch takes away, and the entry about them in its commit."""
        file = files[0]
        old = state.previous_read(file.path, file.sequence) if file.reread and file.refused is None else None
        if old is None:
            return None, lambda _: {}
        entry = {"file": file.path, "sequence": old}
        scope: ColumnValues = {"_file": [file.path], "_sequence": [old, file.sequence]}  # the new rows have to be in it as well
        return scope, lambda counts: {REPLACED: json.dumps(entry | {"rows": counts.removed}, ensure_ascii=False)}


def _outcome_of(row: dict[str, object]) -> tuple[object, object]:
    return row["outcome"], row["rows"]
