"""Landed files: what became of them, their rows, and reading them again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import polars as pl

from lakehouse_assets.client.context import Context
from lakehouse_assets.client.tables import TableHandle, full_name
from lakehouse_assets.platform.declarations.base import nearest_or_all
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.operations import landed_files

if TYPE_CHECKING:
    from lakehouse_assets.platform.ingestion.bronze import Ingestion

_BY_HAND = "by hand"
Values = list[dict[str, Any]]


@dataclass(frozen=True)
class Files:
    """The landing log of a root."""

    context: Context

    def list(self, feed: str | None = None, *, refused: bool = False, path: str | None = None) -> Values:
        """What became of every file: when it was read, how many rows, into which version of bronze; refused, changed or ignored, and why.

        Args:
            feed: Only this feed.
            refused: Only files that were refused, changed or ignored.
            path: All that became of this file, with or without the feed in front.

        Raises:
            LookupError: No product declares the feed, or the log does not know the path.
        """
        bronze = self.context.policy.feeds()
        if feed is not None:
            _bronze_of(bronze, feed)
        found = landed_files.landed_files(self.context.root.lakehouse, bronze, feed, refused=refused, path=path)
        return self._values(found)

    def duplicates(self, run_id: str) -> Values:
        """The files that a run found and left out, because a file with the same content was read: `feed`, `path`, `reason`."""
        return self._values(landed_files.duplicates(self.context.root.landing_log, run_id))

    def remarks(self, run_id: str) -> Values:
        """What a run noticed about files that it read, such as new columns: `feed`, `path`, `reason`."""
        return self._values(landed_files.remarks(self.context.root.landing_log, run_id))

    def rows(self, path: str, feed: str | None = None) -> pl.LazyFrame:
        """The rows of a file in bronze, in the order of the file; `_row` is the number of the record in it.

        Raises:
            LookupError: The log does not know the path, or knows it in several feeds.
        """
        feed, name = landed_files.find_file(self.context.root.landing_log, path, feed)
        bronze = _bronze_of(self.context.policy.feeds(), feed)
        return landed_files.rows_of_file(self.context.reader.scan(bronze), name)

    def origins(self, table: str, where: str | None = None) -> pl.LazyFrame:
        """Rows of a table, each with the file and the record in it that it came from.

        Args:
            table: Its name.
            where: Which rows: a condition in SQL on the columns, which sees personal data masked.

        Raises:
            LookupError: Each row of the table is made from many.
            ValueError: The condition cannot be understood.
        """
        handle = TableHandle(self.context, full_name(self.context, table))
        from lakehouse_assets.platform.governance.sql import condition

        described = self.context.policy.tables.get(handle.name)
        checked = None if where is None else condition(where)
        return landed_files.with_origin(handle.scan(), handle.name, described.sources if described else (), checked)

    def retry(self, paths: Iterable[str], feed: str | None = None) -> Values:
        """Have the next run read refused files again, once.

        Raises:
            LookupError: As `rows`.
            RequestRefused: A file was not refused, waits already, or is not in the landing zone.
        """
        return [self._ask(path, feed, reread=False) for path in paths]

    def reread(self, paths: Iterable[str], feed: str | None = None) -> Values:
        """Have the next run replace the rows that files brought by what they contain now, once, whatever the feed's policy.

        Raises:
            LookupError: As `rows`.
            RequestRefused: A file waits already, or is not in the landing zone.
        """
        return [self._ask(path, feed, reread=True) for path in paths]

    def ignore(self, paths: Iterable[str], reason: str, feed: str | None = None) -> Values:
        """Leave files as they are that were refused, or changed after they were read: nothing warns of them any more.

        The landing log keeps who decided so and why. A file whose content changes later is discovered as any other.

        Raises:
            LookupError: As `rows`.
            RequestRefused: A file was neither refused nor changed, or no reason is given.
        """
        from lakehouse_assets.platform.governance.principal import this_user

        who = this_user(str(self.context.settings.root), self.context.settings.show_personal).name
        asked = []
        for path in paths:
            of, name = landed_files.find_file(self.context.root.landing_log, path, feed)
            self.context.root.ingestion(self.context.feed(of)).ignore(
                name, f"ignored by {who}: {reason.strip()}" if reason.strip() else "", _BY_HAND
            )
            asked.append({"feed": of, "path": name, "event": "ignored"})
        return asked

    def _values(self, rows: "Sequence[Mapping[str, Any]]") -> Values:
        return self.context.reader.values(rows, landing.LOG, "files")

    def _ask(self, path: str, feed: str | None, *, reread: bool) -> dict[str, Any]:
        feed, name = landed_files.find_file(self.context.root.landing_log, path, feed)
        event = self.context.root.ingestion(self.context.feed(feed)).request_read(name, reread=reread, run_id=_BY_HAND)
        return {"feed": feed, "path": name, "event": event}


def land(files: list[Path], ingestion: "Ingestion", *, replace: bool = False) -> list[tuple[str, bool]]:
    """Copy files into a feed's landing zone; the name of each there, and whether it, or its content, is new.

    With `replace`, a file takes the place of one that has its name, and the next run puts its rows in the place of the old ones.

    Raises:
        NotLanded: A file is missing, the feed's pattern does not match it, or another file has its name there. Those before it have landed.
    """
    from lakehouse_assets.platform.ingestion.feed import is_seen
    from lakehouse_assets.platform.ingestion.zone import NotLanded

    feed = ingestion.feed
    for file in files:
        if not feed.takes(file.name) or not is_seen(PurePosixPath(file.name)):
            raise NotLanded(
                f"{file} does not match the pattern of feed {feed.name} ({feed.pattern}) or looks unfinished: no run would read it"
            )
    return [(file.name, _put(file, ingestion, replace=replace)) for file in files]


def _put(file: Path, ingestion: "Ingestion", *, replace: bool) -> bool:
    is_new = ingestion.zone.put(file, file.name, replace=replace)
    if is_new and replace and ingestion.was_taken(file.name):
        ingestion.request_read(file.name, reread=True, run_id=_BY_HAND)
    return is_new


def _bronze_of(bronze: dict[str, str], feed: str) -> str:
    if feed not in bronze:
        raise LookupError(f"no product declares a feed {feed!r}{nearest_or_all(feed, bronze)}")
    return bronze[feed]
