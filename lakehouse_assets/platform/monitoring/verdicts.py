"""The table of all verdicts: one row for each thing that a monitor said. It is a log, and never goes back with the table that was judged.

How is judged belongs to the kinds of monitors; when, to `evaluation`.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction

from lakehouse_assets.platform.declarations.monitors import OVER, Monitor, Verdict
from lakehouse_assets.platform.monitoring.checkpoints import EVERY, Log
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.retention import DATE
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

TABLE: Final = platform_tables.VERDICTS
DESCRIPTION: Final = "What monitors said: one row a verdict, with the version of the table that was judged."
SCHEMA: Final = pl.Schema(
    {
        "evaluated_at": TIMESTAMP,
        "monitor": pl.String(),
        "kind": pl.String(),
        "table": pl.String(),
        "table_id": pl.String(),
        "table_version": pl.Int64(),
        "owner": pl.String(),
        "severity": pl.String(),
        "run_id": pl.String(),
        "passed": pl.Boolean(),
        "text": pl.String(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "threshold": pl.Float64(),
        "false_alarm_rate": pl.Float64(),
        "rows": pl.Int64(),
        "window_start": TIMESTAMP,
        "window_end": TIMESTAMP,
        "granularity": pl.String(),
        "slice_key": pl.String(),
        "slice_value": pl.String(),
        "column_name": pl.String(),
        "model_version": pl.Int64(),
        "numbers": pl.String(),
        "error": pl.String(),
        "why": pl.String(),
        "sequence": pl.Int64(),
        DATE: pl.Date(),
    }
)
COLUMNS: Final[Mapping[str, str]] = {
    "evaluated_at": "When the monitor was evaluated, in UTC.",
    "monitor": "Name of the monitor; of one that a contract or a kind implies, the table's name and the check's.",
    "kind": "What was watched: freshness, volume, and so on.",
    "table": "The table that was judged.",
    "table_id": "Id of the Delta table, another one after it was deleted and created again; null if it did not exist.",
    "table_version": "Version of the table that was judged; null if it did not exist.",
    "owner": "Who answers for the monitor.",
    "severity": "How bad a failure is: warn or error.",
    "run_id": "Run that evaluated it.",
    "passed": "Whether all is as it should be; null: not evaluated, and the text says why.",
    "text": "What it says, a sentence.",
    "metric": "What was measured; null if it is no number.",
    "value": "What the metric was.",
    "threshold": "Where the metric begins to be bad.",
    "false_alarm_rate": "How often the threshold is passed though nothing has changed, as a share of the windows.",
    "rows": "Rows that were judged.",
    "window_start": "Begin of the window that was judged; null: the whole table.",
    "window_end": "End of the window, exclusive.",
    "granularity": "Length of the window; null if there is none.",
    "slice_key": "Column by whose values rows were judged apart; null: all rows.",
    "slice_value": "The value of that column; null with a key: rows that have none.",
    "column_name": "The column that was judged; null: the rows.",
    "model_version": "Version of the model whose predictions were judged.",
    "numbers": "Other numbers, as JSON by name.",
    "error": "Type of the error that the evaluation ended with; null if it came to its end.",
    "why": "Where a failure most likely comes from; null if that was not found.",
    "sequence": "Order in which a monitor's verdicts were added, whatever clocks said; null in rows of earlier releases.",
    DATE: "Day of the evaluation, in UTC; the table is partitioned by it.",
}
PASSED, FAILED, ERROR, NOT_EVALUATED = "passed", "failed", "error", "not evaluated"
BAD: Final = frozenset({FAILED, ERROR})
"""States of a monitor that a person should look at."""
# What tells verdicts of one monitor and version apart, and what came of them.
_OUTCOME = (
    *("metric", "window_start", "window_end", "granularity", "slice_key", "slice_value", "column_name", "model_version"),
    *("passed", "error"),
)
# What a verdict is about, window by window.
_MATTER: Final = ("monitor", "column_name", "slice_key", "slice_value")
_BEGIN: Final = datetime(1, 1, 1, tzinfo=UTC)
FIRST_ZONE: Final = timedelta(hours=14)
"""Where the day begins earliest, so much earlier than in UTC, the window of today may begin after now."""
# Where an expression of Polars lies in this process's memory is no part of what a kind was given.
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
# With the name of a monitor, the watermark that says what it judged last and what came of it.
_LAST = "judged:"


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
        kind = _ADDRESS.sub("", repr(self.monitor.kind))
        what = (self.table_id, self.version, self.at.date(), kind, self.monitor.severity, self.monitor.owner, said)
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


def create(lakehouse: Lakehouse) -> Table:
    """The table, created unless it exists."""
    table = lakehouse.table(TABLE)
    table.create(SCHEMA, (DATE,), DESCRIPTION)
    table.add_columns(SCHEMA)
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
        order = {"sequence": delta.version() + 1}
        rows = pl.DataFrame([row | order for one in new for row in one.rows], schema=SCHEMA)
        if rows.height:
            marks = [Transaction(_LAST + one.monitor.name, one.digest) for one in new]
            marks += [Transaction(one.monitor.name, one.version) for one in new if one.version is not None]
            marks += [Transaction(read.source, read.after) for one in new for read in one.reads]
            # Not on another version than the next one, which is the number of the rows.
            table.write_rows(delta, rows, CommitProperties(app_transactions=marks, max_commit_retries=0))
        return Counts(written=rows.height)

    written = table.write(None, attempt)
    if written.counts is None or not written.counts.written:
        return 0
    _log(lakehouse).went_on(written.version, max(one.at for one in given))
    return written.counts.written


def not_last(lakehouse: Lakehouse, judgements: Iterable[Judgement]) -> list[Monitor]:
    """The monitors that said something else after these judgements were added, as by another run."""
    now = lakehouse.table(TABLE).now()
    return [one.monitor for one in judgements if now.transaction_version(_LAST + one.monitor.name) != one.digest]


def latest(lakehouse: Lakehouse, monitors: Iterable[Monitor]) -> dict[str, list[dict[str, Any]]]:
    """By monitor, the rows that hold now; none of a monitor that never judged.

    That is the last judgement. Where a kind judges only windows that changed, it is of each column and slice what was said last of its
    newest window, as long as the last judgement was about windows of the same table and length. A window that begins after it was judged is
    one of a wrong clock, and not the newest.

    Args:
        lakehouse: Has the table.
        monitors: Whose rows are wanted.
    """
    return holding(_log(lakehouse).rows(), monitors) if lakehouse.table(TABLE).exists() else {}


def holding(log: pl.LazyFrame, monitors: Iterable[Monitor]) -> dict[str, list[dict[str, Any]]]:
    """As `latest`, of rows that were read from the table."""
    given = {one.name: one for one in monitors}
    rows = in_order(log).filter(pl.col("monitor").is_in(list(given)))
    last = _newest(rows, "monitor").collect()
    by_window = [name for name, one in given.items() if one.kind.judges_changes]
    about = last.filter(pl.col("monitor").is_in(by_window), pl.col("granularity").is_not_null())
    if about.height:
        same = about.select("monitor", "table_id", "granularity").unique().lazy()
        windows = rows.join(same, on=["monitor", "table_id", "granularity"], how="semi", nulls_equal=True)
        newest = _newest_windows(windows, *_MATTER).collect()
        of_all = last.filter(~pl.col("monitor").is_in(about["monitor"].implode()) | pl.col("granularity").is_null())
        last = pl.concat([newest.sort("sequence", descending=True, maintain_order=True), of_all])
    found: dict[str, list[dict[str, Any]]] = {}
    for row in last.iter_rows(named=True):
        found.setdefault(row["monitor"], []).append(row)
    return found


def not_over(lakehouse: Lakehouse, monitor: str) -> dict[tuple[str | None, str | None, str], datetime | None]:
    """The columns of slices of which something was said, and in the end not that it is over; with the newest window of that.

    Args:
        lakehouse: Has the table.
        monitor: The monitor.

    Returns:
        By slice key, slice value and column, the start of the window (UTC).
    """
    if not lakehouse.table(TABLE).exists():
        return {}
    rows = complete(_log(lakehouse).rows()).filter(pl.col("monitor") == monitor, pl.col("column_name").is_not_null(), ~is_ahead())
    newest = _newest_windows(rows.filter(pl.col("passed").is_not_null(), pl.col("granularity").is_not_null()), *_MATTER).collect()
    said = [(row, json.loads(row["numbers"] or "{}")) for row in newest.iter_rows(named=True)]
    return {
        (row["slice_key"], row["slice_value"], row["column_name"]): row["window_start"]
        for row, numbers in said
        if not row["passed"] or OVER not in numbers
    }


def history(lakehouse: Lakehouse, monitor: str, rows: int) -> list[dict[str, Any]]:
    """The newest rows of a monitor, newest first."""
    found = pl.DataFrame(schema=SCHEMA)
    for found in backwards(lakehouse, pl.col("monitor") == monitor):
        if found.height >= rows:
            break
    return found.sort("sequence", "evaluated_at", descending=True, maintain_order=True).head(rows).to_dicts()


def newest_failed(lakehouse: Lakehouse, monitor: str, window: datetime | None = None) -> list[dict[str, Any]]:
    """The failed verdicts of the last evaluation of a monitor that had any.

    Args:
        lakehouse: Has the table.
        monitor: Its name.
        window: Begin of the window that they are about; None: any.
    """
    wanted = (pl.col("monitor") == monitor) & ~pl.col("passed")
    if window is not None:
        wanted &= pl.col("window_start") == window
    failed = next((rows for rows in backwards(lakehouse, wanted) if rows.height), pl.DataFrame(schema=SCHEMA))
    return _newest(failed.lazy(), "monitor").collect().to_dicts()


def verdict_of(row: Mapping[str, Any]) -> Verdict:
    """A row as the verdict that it was."""
    said = {one.name: row[one.name] for one in fields(Verdict) if row[one.name] is not None}
    return Verdict(**said | {"passed": row["passed"], "numbers": json.loads(row["numbers"] or "{}")})


def scan(lakehouse: Lakehouse, after: int | None = None) -> pl.LazyFrame:
    """All verdicts, with the columns of this release; none if there is no table.

    Args:
        lakehouse: Has the table.
        after: The number of a commit: those of later ones alone; files of earlier ones are not read.
    """
    table = lakehouse.table(TABLE)
    if not table.exists():
        return pl.LazyFrame(schema=SCHEMA)
    rows = table.scan()
    if after is not None and "sequence" in rows.collect_schema():
        rows = rows.filter(pl.col("sequence") > after)
    return complete(rows)


def complete(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Rows of the table, also of one of an earlier release, with the columns of this one; `sequence` as `in_order` has it."""
    known = rows.collect_schema()
    return in_order(rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in known))


def backwards(lakehouse: Lakehouse, which: pl.Expr) -> Iterator[pl.DataFrame]:
    """Some of the verdicts, again and again: of the newest commits, then of more and more, in the end of all.

    Args:
        lakehouse: Has the table.
        which: Leaves those that are wanted.
    """
    table = lakehouse.table(TABLE)
    newest = table.version() if table.exists() else 0
    for reach in (EVERY, 16 * EVERY, 256 * EVERY):
        if reach < newest:
            yield scan(lakehouse, newest - reach).filter(which).collect()
    yield scan(lakehouse).filter(which).collect()


def _log(lakehouse: Lakehouse) -> Log:
    return Log(lakehouse, TABLE, _counting, ("monitor", "evaluated_at", "run_id"), (__name__,))


def _counting(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows that `holding` looks at, whoever asks: the last judgement of each monitor, and the newest window of each matter."""
    ordered = complete(rows).with_row_index("_row")
    windows = ordered.filter(pl.col("granularity").is_not_null())
    newest = _newest_windows(windows, "table_id", "granularity", *_MATTER)
    return pl.concat([_newest(ordered, "monitor"), newest]).unique("_row").sort("_row").drop("_row")


def in_order(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Rows with their place in the order of commits, `sequence`, also those of earlier releases, which come first."""
    has_order = "sequence" in rows.collect_schema()
    order = pl.col("sequence").fill_null(0) if has_order else pl.lit(0, pl.Int64)
    return rows.with_columns(order.alias("sequence"))


def _newest_windows(rows: pl.LazyFrame, *of: str) -> pl.LazyFrame:
    """Of each the rows about the newest window that were added last."""
    start = pl.when(~is_ahead()).then("window_start").fill_null(_BEGIN)
    return _newest(rows.filter(start == start.max().over(of)), *of)


def _newest(rows: pl.LazyFrame, *of: str) -> pl.LazyFrame:
    """Of each the rows that were added last. Only rows of earlier releases, which have no order, are told apart by clocks."""
    for part in ("sequence", "evaluated_at"):
        rows = rows.filter(pl.col(part) == pl.col(part).max().over(of))
    return rows


def is_ahead() -> pl.Expr:
    """Of rows, whether their window begins after the moment at which it was judged: some clock is wrong, and it holds up nothing."""
    return (pl.col("window_start") > pl.col("evaluated_at") + FIRST_ZONE).fill_null(value=False)


def state_of(rows: Iterable[Mapping[str, Any]]) -> str:
    """What the rows of one judgement come to: failed, error (the evaluation ended with one), passed, or not evaluated."""
    given = list(rows)
    if any(row["passed"] is False for row in given):
        return FAILED
    if any(row["error"] is not None for row in given):
        return ERROR
    return PASSED if any(row["passed"] for row in given) else NOT_EVALUATED


def is_bad(row: Mapping[str, Any]) -> bool:
    """Whether a row says that something is wrong, or that it is not known because the evaluation ended with an error."""
    return row["passed"] is False or row["error"] is not None
