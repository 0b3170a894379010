"""The Delta table of alerts: the log of their events.

A commit of the log carries the watermarks of what its events were made from, so that each signal is consumed once, whatever crashes or
runs at once. The table is only added to. What is an event is decided in `machine`, what is told to whom and when in `delivery`; what came
of that is in `delivery_log`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import cached_property
from typing import Any, Final

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.monitoring.alerts.machine import NOTIFIED, OPEN, Entry
from lakehouse_assets.platform.monitoring.checkpoints import Log
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor, cursor_of
from lakehouse_assets.platform.storage.errors import CursorMoved, NoSuchTable
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.types import TIMESTAMP

LOG: Final = platform_tables.ALERTS
DESCRIPTION: Final = "The events of alerts, each once: of how an alert is opened, goes on and is resolved."
SCHEMA: Final = pl.Schema(
    {
        "sequence": pl.Int64(),
        "key": pl.String(),
        "event": pl.String(),
        "alert_id": pl.String(),
        "number": pl.Int64(),
        "at": TIMESTAMP,
        "opened_at": TIMESTAMP,
        "severity": pl.String(),
        "owner": pl.String(),
        "text": pl.String(),
        "bad_windows": pl.Int64(),
        "value": pl.Float64(),
        "threshold": pl.Float64(),
        "rows": pl.Int64(),
        "window": TIMESTAMP,
        "run_id": pl.String(),
        "good_windows": pl.Int64(),
        "notified_at": TIMESTAMP,
        "sinks": pl.List(pl.String()),
        "logged_at": TIMESTAMP,
        "resolve_after": pl.Int64(),
    }
)
COLUMNS: Final[Mapping[str, str]] = {
    "sequence": "Number of the entry, from 1: the order of the events.",
    "key": "What is watched, as step:sales.silver.payments.",
    "event": "opened, repeated or resolved; nobody is told pending, cleared, recovering and relapsed: too few windows in a row.",
    "alert_id": "Id of the alert; empty while there is none.",
    "number": "Number of the event in its alert, from 1.",
    "at": "When it was so, in UTC.",
    "opened_at": "When the alert was opened.",
    "severity": "How bad it is: warn or error.",
    "owner": "Who answers for it.",
    "text": "What is wrong, or that it is well again.",
    "bad_windows": "Windows in a row that were bad until it was an alert.",
    "value": "What was measured.",
    "threshold": "Where the measure begins to be bad.",
    "rows": "How many rows were judged.",
    "window": "Begin of the window that was judged.",
    "run_id": "Run that it comes from.",
    "good_windows": "Windows in a row that have been good while it is open.",
    "notified_at": "When people were told last of the alert.",
    "sinks": "The sinks that were to be told when it was logged.",
    "logged_at": "When it was logged.",
    "resolve_after": "Windows in a row that have to be good until it is resolved; null: none has been good.",
}
ALERT_ID: Final = "alert_id"
RECENT: Final = 50
"""So many of the alerts that were opened last are read without the whole log."""
_ENTRIES: Final = "entries"
# Columns by which the log goes on, and that say nothing to people.
_FOR_THE_LOG: Final = ("sinks", "bad_windows", "notified_at")
# Columns that say how far an open alert is from being resolved, also where people are told nothing new.
_RECOVERY: Final = ("good_windows", "resolve_after")
_FIELDS: Final = tuple(one.name for one in fields(Entry))


@dataclass(frozen=True)
class Logged:
    """An entry as it was logged: with the sinks that were to be told, and when."""

    entry: Entry
    sinks: Sequence[str]
    logged_at: datetime


@dataclass(frozen=True)
class Snapshot:
    """The log at one version.

    Attributes:
        opened: The table; None if there is none yet.
        lakehouse: Has checkpoints of it; None: it is read whole.
    """

    opened: DeltaTable | None
    lakehouse: Lakehouse | None = None

    def watermark(self, source: str) -> int | None:
        """How far a source was consumed; None if never."""
        return None if self.opened is None else cursor_of(self.opened, source)

    @property
    def sequence(self) -> int:
        """The number of the last entry."""
        return self.watermark(_ENTRIES) or 0

    def rows(self) -> pl.LazyFrame:
        """The entries."""
        if self.opened is None:
            return pl.LazyFrame(schema=SCHEMA)
        return _complete(pl.scan_delta(self.opened))

    def last(self, keys: Collection[str] | None = None) -> dict[str, Entry]:
        """The last entry of each key: of these keys, or of all."""
        last = _last_of_each(self._counting.lazy()).collect()
        newest = last if keys is None else last.filter(pl.col("key").is_in(list(keys)))
        return {row["key"]: Entry(**row) for row in newest.select(_FIELDS).iter_rows(named=True)}

    @cached_property
    def _counting(self) -> pl.DataFrame:
        rows = self.rows() if self.opened is None or self.lakehouse is None else _log(self.lakehouse).rows(self.opened)
        return _counting(rows).collect()

    def rows_of(self, *, open_only: bool, limit: int | None) -> pl.LazyFrame:
        """Rows of alerts, by which they are shown: of each its last one, and the last one that people are told.

        Args:
            open_only: Of those that are open.
            limit: Of so many that were opened last at least; None: of all.
        """
        if open_only:
            return self._open_rows()
        rows = self.rows() if limit is None or limit > RECENT else self._counting.lazy()
        return rows.filter(pl.col(ALERT_ID) != "")

    def _open_rows(self) -> pl.LazyFrame:
        """Rows of the alerts that are open, the last one of each and the last one that people are told among them."""
        rows = self._counting.lazy()
        return rows.join(_last_of_each(rows).filter(pl.col("event").is_in(OPEN)), on=ALERT_ID, how="semi")

    def open_alerts(self) -> list[Entry]:
        """The last entries of the alerts that are open, in their order."""
        return sorted((entry for entry in self.last().values() if entry.event in OPEN), key=lambda entry: entry.sequence)

    def notified_since(self, moment: datetime) -> list[Logged]:
        """The entries that people are told, which were logged since a moment, in their order."""
        rows = self.rows().filter(pl.col("event").is_in(NOTIFIED) & (pl.col("logged_at") >= moment)).sort("sequence").collect()
        return [
            Logged(Entry(**{name: row[name] for name in _FIELDS}), row["sinks"], row["logged_at"]) for row in rows.iter_rows(named=True)
        ]


@dataclass(frozen=True)
class AlertLog:
    """The alerts of a lakehouse."""

    lakehouse: Lakehouse

    def snapshot(self) -> Snapshot:
        """The log as it is now."""
        try:
            return Snapshot(self.lakehouse.table(LOG).now(), self.lakehouse)
        except NoSuchTable:
            return Snapshot(None)

    def append(
        self, entries: Sequence[Entry], cursors: Iterable[Cursor], sinks: Callable[[Entry], Sequence[str]], now: datetime, sequence: int
    ) -> None:
        """Add entries, with the watermarks of what they were made from, all or nothing.

        Args:
            entries: What happened.
            cursors: How far the sources were read.
            sinks: The names of those who are to be told of an entry.
            now: The moment (UTC).
            sequence: The number of the last entry of the snapshot that they were made from.

        Raises:
            CursorMoved: Another process was faster: read again.
            CommitConflict: Other writers did not let this one through.
        """
        log = self.lakehouse.table(LOG)
        log.create(SCHEMA, description=DESCRIPTION)
        log.add_columns(SCHEMA)
        moved = list(cursors)
        if entries:
            # Also for what has no watermark, as what time alone makes bad.
            moved.append(Cursor(_ENTRIES, sequence or None, sequence + len(entries)))
        rows = [asdict(entry) | {"sinks": list(sinks(entry)), "logged_at": now} for entry in entries]
        frame = pl.DataFrame(rows, schema=SCHEMA)

        def attempt(table: DeltaTable) -> Counts:
            if any(cursor_of(table, cursor.source) != cursor.before for cursor in moved):
                raise CursorMoved("another process has logged alerts since: read again")
            log.write_rows(table, frame, Commit(tuple(moved)).properties(table, Counts(), read_before_write=False))
            return Counts(written=frame.height)

        log.write(None, attempt)
        if entries:
            _log(self.lakehouse).went_on(sequence + len(entries), now)

    def alerts(self, *, open_only: bool = False, limit: int | None = None, begins: str = "") -> list[dict[str, Any]]:
        """Alerts, the one that was opened last first: of each the last event that people are told, and how many windows are good since.

        Args:
            open_only: Only those that are open: so not all of the log is read.
            limit: At most so many; None: all. Of a few not all of the log is read.
            begins: Only those whose id begins so.
        """
        # Which of them begin so is not known before all are read.
        rows = self.snapshot().rows_of(open_only=open_only, limit=None if begins else limit).sort("sequence")
        by_alert = rows.filter(pl.col(ALERT_ID).str.starts_with(begins)).group_by(ALERT_ID, maintain_order=True)
        is_notified = pl.col("event").is_in(NOTIFIED)
        shown = pl.all().exclude(_RECOVERY).filter(is_notified).last()
        newest = by_alert.agg(shown, pl.col(_RECOVERY).last()).select(SCHEMA.names())
        shown_first = newest.sort("opened_at", "sequence", descending=True).drop(_FOR_THE_LOG)
        found = (shown_first if limit is None else shown_first.head(limit)).collect()
        return [row | {"is_open": row["event"] in OPEN} for row in found.iter_rows(named=True)]

    def events(self, alert_id: str) -> list[dict[str, Any]]:
        """The events of an alert that people are told, in their order."""
        of = self.snapshot().rows().filter(pl.col("alert_id") == alert_id, pl.col("event").is_in(NOTIFIED))
        return of.sort("number").collect().to_dicts()


def _complete(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Rows of the log, also of one of an earlier release, with the columns of this one."""
    known = rows.collect_schema()
    new = rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in known)
    return new.with_columns(pl.col("good_windows").fill_null(0))


def _last_of_each(rows: pl.LazyFrame, of: str = "key") -> pl.LazyFrame:
    return rows.sort("sequence").group_by(of, maintain_order=True).last().select(list(SCHEMA))


def _counting(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The entries by which the log goes on, and those that show the alerts that are open or were opened last.

    That are of each key, and of each of these alerts, the last entry and the last that is told.
    """
    alerts = rows.filter(pl.col(ALERT_ID) != "").group_by(ALERT_ID).agg(pl.col("opened_at").first())
    newest = alerts.filter(pl.col("opened_at").rank("min", descending=True) <= RECENT)
    shown = rows.join(newest, on=ALERT_ID, how="semi")
    is_told = pl.col("event").is_in(NOTIFIED)
    counting = [_last_of_each(given.filter(which), of) for given, of in ((rows, "key"), (shown, ALERT_ID)) for which in (True, is_told)]
    return pl.concat(counting).unique("sequence").sort("sequence")


def _log(lakehouse: Lakehouse) -> Log:
    return Log(lakehouse, LOG, _counting, ("key", "event", "at"), (__name__,), _complete)


def open_ids(opened: DeltaTable) -> list[str]:
    """The ids of the alerts that are open: their rows stay, however old they are."""
    return [entry.alert_id for entry in Snapshot(opened).open_alerts()]
