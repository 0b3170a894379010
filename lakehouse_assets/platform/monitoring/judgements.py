"""What a monitor said at one moment, and how that is added to the table of verdicts: each once, with the version that was judged.

How the table is read is in `verdicts`; how is judged belongs to the kinds of monitors, when to `evaluation`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction

from lakehouse_assets.platform.declarations.monitors import Monitor, Verdict
from lakehouse_assets.platform.monitoring import verdicts
from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.retention import DATE
from lakehouse_assets.platform.storage.table import Table

# What tells verdicts of one monitor and version apart, and what came of them.
_OUTCOME = (
    *("metric", "window_start", "window_end", "granularity", "slice_key", "slice_value", "column_name", "model_version"),
    *("passed", "error"),
)
# With the name of a monitor, the watermarks that say what it judged last and what came of it, how it was declared then, and in which
# commit of the table it was first judged as that.
_LAST, _DECLARED, _DECLARATION = "judged:", "declared:", "declaration:"


@dataclass(frozen=True)
class Judgement:
    """All that a monitor said of one version of a table at one moment.

    Attributes:
        monitor: The monitor.
        table_id: Of the Delta table; None if it did not exist.
        version: Of the table; None if it did not exist.
        at: The moment (UTC).
        run_id: Of the run that asked.
        verdicts: What it said.
        reads: Watermarks that the commit of the verdicts advances: how far the kind read what it judged.
        declared: `Watched.declared` of it; None: nothing was judged, so it is as it was.
        is_stored: Whether the table of verdicts has them.
        failed_windows: Begins of the windows that were judged as failed this time, also where `verdicts` is what holds now.
    """

    monitor: Monitor
    table_id: str | None
    version: int | None
    at: datetime
    run_id: str
    verdicts: Sequence[Verdict]
    reads: tuple[Cursor, ...] = ()
    declared: int | None = None
    is_stored: bool = False
    failed_windows: tuple[datetime, ...] = ()

    @property
    def rows(self) -> Iterable[dict[str, Any]]:
        """As they are stored."""
        about = {
            "evaluated_at": self.at,
            "monitor": self.monitor.name,
            "kind": self.monitor.kind.word,
            "table": self.monitor.of,
            "table_id": self.table_id,
            "table_version": self.version,
            "owner": self.monitor.owner,
            "severity": self.monitor.severity,
            "run_id": self.run_id,
            DATE: self.at.date(),
        }
        for verdict in self.verdicts:
            said = {name: None if value == "" else value for name, value in vars(verdict).items()}
            said["slice_value"] = verdict.slice_value if verdict.slice_key else None  # an empty text is a value
            yield about | said | {"numbers": json.dumps(dict(verdict.numbers), default=str) if verdict.numbers else None}

    @property
    def digest(self) -> int:
        """What is the same number if the same passed and failed for the same version on the same day: texts and values do not count."""
        said = [tuple(getattr(one, name) for name in _OUTCOME) for one in self.verdicts]
        about = (self.declared, self.monitor.fingerprint, self.monitor.severity, self.monitor.owner)
        what = (self.table_id, self.version, self.at.date(), *about, said)
        read = (self.reads,) if self.reads else ()
        return int.from_bytes(blake2b(repr((*what, *read)).encode(), digest_size=8).digest()) >> 2

    def is_overtaken(self, delta: DeltaTable, lakehouse: Lakehouse) -> bool:
        """Whether a later version of the table was judged already: what held of this one may be over.

        A table that was made again, or lost the damaged end of its log, has smaller versions than were judged, but no later one.
        """
        judged = delta.transaction_version(self.monitor.name)
        if self.version is None or judged is None or judged <= self.version:
            return False
        table = lakehouse.table(self.monitor.of)
        return table.exists() and table.version() > self.version


def declared_as(opened: DeltaTable | None, monitor: str) -> int | None:
    """How a monitor was declared when it was judged last; None: it was not, or by an earlier release.

    Args:
        opened: The table of verdicts; None: there is none.
        monitor: Its name.
    """
    return None if opened is None else opened.transaction_version(_DECLARED + monitor)


def create(lakehouse: Lakehouse) -> Table:
    """The table of verdicts, created unless it exists."""
    table = lakehouse.table(verdicts.TABLE)
    table.create(verdicts.SCHEMA, (DATE,), verdicts.DESCRIPTION)
    table.add_columns(verdicts.SCHEMA)
    return table


def add(lakehouse: Lakehouse, judgements: Iterable[Judgement]) -> int:
    """Add what monitors said, in one commit with the watermarks of the versions that were judged; how many rows were added.

    A judgement that says the same as the last one of its monitor, of the same version on the same day, adds nothing, also if two processes
    add it at once.

    Raises:
        CursorMoved: What a kind read has been told by others up to another place than it began at, or a later version of the table was
            judged meanwhile: judge again.
        CommitConflict: Other writers did not let this one through.
    """
    given = [one for one in judgements if one.verdicts]
    if not given:
        return 0
    table = create(lakehouse)
    known = table.now()  # mostly nothing is new, and this is cheap
    given = [one for one in given if known.transaction_version(_LAST + one.monitor.name) != one.digest]
    if not given:
        return 0

    def attempt(delta: DeltaTable) -> Counts:
        new = [one for one in given if delta.transaction_version(_LAST + one.monitor.name) != one.digest]
        new = [one for one in new if not (one.reads and Commit(one.reads).done(delta))]
        if late := [one.monitor.name for one in new if one.is_overtaken(delta, lakehouse)]:
            raise CursorMoved(f"a later version of the table of {late[0]} was judged meanwhile")
        number = delta.version() + 1
        redeclared = [one for one in new if one.declared not in {None, delta.transaction_version(_DECLARED + one.monitor.name)}]
        since = {one.monitor.name: delta.transaction_version(_DECLARATION + one.monitor.name) for one in new}
        since |= {one.monitor.name: number for one in redeclared}
        told = [row | {"sequence": number, "declaration": since[one.monitor.name]} for one in new for row in one.rows]
        rows = pl.DataFrame(told, schema=verdicts.SCHEMA)
        if rows.height:
            marks = [Transaction(_LAST + one.monitor.name, one.digest) for one in new]
            marks += [Transaction(one.monitor.name, one.version) for one in new if one.version is not None]
            marks += [Transaction(read.source, read.after) for one in new for read in one.reads]
            marks += [Transaction(_DECLARED + one.monitor.name, one.declared) for one in redeclared if one.declared is not None]
            marks += [Transaction(_DECLARATION + one.monitor.name, number) for one in redeclared]
            # Not on another version than the next one, which is the number of the rows.
            table.write_rows(delta, rows, CommitProperties(app_transactions=marks, max_commit_retries=0))
        return Counts(written=rows.height)

    written = table.write(None, attempt)
    if written.counts is None or not written.counts.written:
        return 0
    verdicts.verdict_log(lakehouse).went_on(written.version, max(one.at for one in given))
    return written.counts.written


def not_last(lakehouse: Lakehouse, judgements: Iterable[Judgement]) -> list[Monitor]:
    """The monitors that said something else after these judgements were added, as by another run."""
    now = lakehouse.table(verdicts.TABLE).now()
    return [one.monitor for one in judgements if now.transaction_version(_LAST + one.monitor.name) != one.digest]
