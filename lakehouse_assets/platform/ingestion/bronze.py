"""From the landing log into a bronze table: files after the cursor, in order, exactly once. Reading one file is in `parse`.

Two commits a batch: first the landing log says what became of each file, then the rows and the cursor go into bronze. A run that died in
between is taken up with the same batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.ingestion.parse import RefusedFile, parse
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.table import Table


@dataclass(frozen=True)
class Ingested:
    """What one file gave: how many rows, or the reason why it was refused."""

    path: str
    sequence: int
    rows: int
    refused: str | None


@dataclass(frozen=True)
class Ingestion:
    """A feed on its way into its bronze table."""

    feed: Feed
    folder: Path
    log: Table
    bronze: Table
    batch_bytes: int

    @property
    def cursor(self) -> str:
        """The name under which bronze keeps how far it has read the feed."""
        return f"landing/{self.feed.name}"

    def create(self, description: str) -> None:
        """Create the tables unless they exist."""
        self.log.create(landing.SCHEMA, ("feed",), landing.DESCRIPTION)
        self.bronze.create(self.feed.schema(), description=description)

    def waiting(self) -> int:
        """How many files wait: unseen ones, and those that have a number but are not in bronze."""
        numbered = landing.waiting(self.log, self.feed.name, self.bronze.cursor(self.cursor)).height
        return numbered + len(landing.new_files(self.log, self.folder, self.feed.name))

    def ingest(self, run_id: str) -> Iterator[list[Ingested]]:
        """Read what waits, batch by batch; each batch is in bronze when it is yielded."""
        landing.discover(self.log, self.folder, self.feed.name, run_id)
        while (batch := self._next_batch(run_id)) is not None:
            yield batch

    def _next_batch(self, run_id: str) -> list[Ingested] | None:
        while True:
            before = self.bronze.cursor(self.cursor)
            waiting = landing.waiting(self.log, self.feed.name, before)
            if not waiting.height:
                return None
            reported = self.log.cursor(self.cursor)
            resumed = reported is not None and reported > (before or 0)
            batch = waiting.filter(pl.col("sequence") <= reported) if resumed else self._first_of(waiting)
            # A file of a resumed batch may have been found again since, under a higher number.
            until = reported if resumed and reported is not None else int(batch["sequence"][-1])
            read = [self._read(row, run_id) for row in batch.iter_rows(named=True)]
            files = [file for file, _ in read]
            try:
                self._report(files, Cursor(self.cursor, reported, until), run_id, resumed=resumed)
                rows = pl.concat([pl.DataFrame(schema=self.feed.schema()), *(frame for _, frame in read)])
                self._append(rows, Cursor(self.cursor, before, until), run_id)
            except CursorMoved:
                continue  # another run took this batch: go on with what is left
            return files

    def _first_of(self, waiting: pl.DataFrame) -> pl.DataFrame:
        within = waiting["size"].cum_sum() <= self.batch_bytes
        return waiting.head(max(1, int(within.sum())))

    def _read(self, row: dict[str, object], run_id: str) -> tuple[Ingested, pl.DataFrame]:
        path, sequence = str(row["path"]), int(str(row["sequence"]))
        try:
            self._check_unchanged(path, row)
            parsed = parse(self.folder / path, columns=self.feed.columns, required=self.feed.headers, encoding=self.feed.encoding)
        except RefusedFile as refused:
            return Ingested(path, sequence, 0, str(refused)), pl.DataFrame(schema=self.feed.schema())
        lineage = {"_file": path, "_sequence": sequence, "_ingested_at": datetime.now(UTC), "_run_id": run_id}
        schema = self.feed.schema()
        frame = parsed.frame.with_columns(pl.lit(value, dtype=schema[name]).alias(name) for name, value in lineage.items())
        rows = frame.select(list(schema)).collect()
        return Ingested(path, sequence, rows.height, None), rows

    def _check_unchanged(self, path: str, row: dict[str, object]) -> None:
        try:
            now = landing.landed_file(self.folder, path)
        except OSError as error:
            raise RefusedFile(f"{path}: {error.strerror}. Land it again.") from error
        if (now.size, now.modified) != (row["size"], row["modified"]):
            raise RefusedFile(f"{path} changed between being found and being read: the next run reads it as it is then")

    def _report(self, files: list[Ingested], cursor: Cursor, run_id: str, *, resumed: bool) -> None:
        rows = pl.DataFrame(
            [
                {
                    "feed": self.feed.name,
                    "path": file.path,
                    "sequence": file.sequence,
                    "event": landing.READ if file.refused is None else landing.REFUSED,
                    "reason": file.refused,
                    "rows": file.rows,
                    "at": datetime.now(UTC),
                    "run_id": run_id,
                }
                for file in files
            ],
            schema=landing.SCHEMA,
        )
        if resumed:
            # The log has these outcomes already; only one that came out otherwise this time is added.
            known = landing.events(self.log, self.feed.name).select("sequence", "event", "rows")
            rows = rows.join(known, on=["sequence", "event", "rows"], how="anti")
            if rows.height:
                self.log.append(rows)
            return
        self.log.append(rows, Commit((cursor,)))

    def _append(self, rows: pl.DataFrame, cursor: Cursor, run_id: str) -> None:
        account = RowAccount(rows_in=rows.height, written=rows.height)
        info = {"lakehouse.run_id": run_id, "lakehouse.account": account.to_json()}
        self.bronze.append(rows, Commit((cursor,), lambda _: info))
