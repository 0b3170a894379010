"""The table of all verdicts, and how it is read: what holds now, what was said last, what failed.

It has one row for each thing that a monitor said, and is a log: it never goes back with the table that was judged. What is asked most is
read from a checkpoint and what came after it. How rows are added is in `judgements`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations.monitors import OVER, Monitor, Verdict
from lakehouse_assets.platform.monitoring.checkpoints import EVERY, Log
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.retention import DATE
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
        "declaration": pl.Int64(),
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
    "declaration": "The sequence with which the monitor was first judged as it was declared then; what it said before that holds no more.",
    DATE: "Day of the evaluation, in UTC; the table is partitioned by it.",
}
PASSED, FAILED, ERROR, NOT_EVALUATED = "passed", "failed", "error", "not evaluated"
BAD: Final = frozenset({FAILED, ERROR})
"""States of a monitor that a person should look at."""
Matter = tuple[str | None, str | None, str | None]
"""Slice key, slice value and column; without a column the rows, as all columns together."""
MATTER: Final = ("monitor", "column_name", "slice_key", "slice_value")
"""The columns that say what a verdict is about, window by window."""
_WINDOW_OF_COLUMN: Final = ("monitor", "column_name", "window_start", "sequence", "evaluated_at")
_IS_OVER: Final = (pl.col("passed") & pl.col("numbers").str.contains(f'"{OVER}"', literal=True)).fill_null(value=False)
_BEGIN: Final = datetime(1, 1, 1, tzinfo=UTC)
FIRST_ZONE: Final = timedelta(hours=14)
"""Where the day begins earliest, so much earlier than in UTC, the window of today may begin after now."""
SHOWN: Final = 20
"""So many of the newest rows of a monitor are read without the whole log."""


def latest(lakehouse: Lakehouse, monitors: Iterable[Monitor]) -> dict[str, list[dict[str, Any]]]:
    """By monitor, the rows that hold now; none of a monitor that never judged.

    That is the last judgement. Where a kind judges only windows that changed, it is of each column and slice what was said last of its
    newest window, as long as the last judgement was about windows of the same table and length. What was said before the monitor was
    declared as it is now does not count, nor what came before it was said to be over. A window that begins after it was judged is one of a
    wrong clock, and not the newest. A slice that failed with its column, in the same window, is told with it, and is over with it: where
    the column is well in that window or a later one, that failure holds no more.

    Args:
        lakehouse: Has the table.
        monitors: Whose rows are wanted.
    """
    return holding(counting_rows(lakehouse), monitors)


def holding(log: pl.LazyFrame, monitors: Iterable[Monitor]) -> dict[str, list[dict[str, Any]]]:
    """As `latest`, of rows that were read from the table."""
    given = {one.name: one for one in monitors}
    rows = _as_declared(complete(log).filter(pl.col("monitor").is_in(list(given))))
    last = _newest(rows, "monitor").collect()
    by_window = [name for name, one in given.items() if one.kind.judges_changes]
    about = last.filter(pl.col("monitor").is_in(by_window), pl.col("granularity").is_not_null())
    if about.height:
        same = about.select("monitor", "table_id", "granularity").unique().lazy()
        windows = rows.join(same, on=["monitor", "table_id", "granularity"], how="semi", nulls_equal=True)
        newest = _newest_windows(_not_over(windows), *MATTER).collect()
        of_all = last.filter(~pl.col("monitor").is_in(about["monitor"].implode()) | pl.col("granularity").is_null())
        last = pl.concat([newest.sort("sequence", descending=True, maintain_order=True), of_all])
    last = _not_over_with_column(_newest_windows(last.lazy(), *MATTER).collect(), rows)
    found: dict[str, list[dict[str, Any]]] = {}
    for row in last.iter_rows(named=True):
        found.setdefault(row["monitor"], []).append(row)
    return found


def not_over(lakehouse: Lakehouse, monitor: str) -> dict[Matter, datetime | None]:
    """What failed and was not said to be over since then, by whatever declaration; with the newest window in which it failed last.

    Args:
        lakehouse: Has the table.
        monitor: The monitor.

    Returns:
        By matter, the start of the window (UTC).
    """
    rows = counting_rows(lakehouse).filter(pl.col("monitor") == monitor, ~is_ahead())
    last_over = pl.col("sequence").filter(_IS_OVER).max().fill_null(-1)
    last_failed = pl.col("sequence").filter(~pl.col("passed")).max()
    start = pl.col("window_start").filter(~pl.col("passed"), pl.col("sequence") == last_failed).max()
    found = rows.group_by(MATTER[1:], maintain_order=True).agg(is_open=last_failed > last_over, start=start)
    return {
        (row["slice_key"], row["slice_value"], row["column_name"]): row["start"]
        for row in found.filter("is_open").collect().iter_rows(named=True)
    }


def matter_of(verdict: Verdict) -> Matter:
    """What a verdict is about."""
    return verdict.slice_key or None, verdict.slice_value if verdict.slice_key else None, verdict.column_name or None


def newest_window(lakehouse: Lakehouse, monitor: str) -> datetime | None:
    """The start of the newest window (UTC) of which a monitor said something, by whatever declaration; None: of none."""
    rows = counting_rows(lakehouse).filter(pl.col("monitor") == monitor, ~is_ahead())
    found: datetime | None = rows.select(pl.col("window_start").max()).collect().item()
    return found


def history(lakehouse: Lakehouse, monitor: str, rows: int) -> list[dict[str, Any]]:
    """The newest rows of a monitor, newest first."""
    own = pl.col("monitor") == monitor
    if rows <= SHOWN:
        found = counting_rows(lakehouse).filter(own).collect()
    else:
        for found in backwards(lakehouse, own):
            if found.height >= rows:
                break
    return _newest_first(found.lazy()).head(rows).collect().to_dicts()


def newest_failed(lakehouse: Lakehouse, monitor: str, window: datetime | None = None) -> list[dict[str, Any]]:
    """The failed verdicts of the last evaluation of a monitor that had any.

    Args:
        lakehouse: Has the table.
        monitor: Its name.
        window: Begin of the window that they are about; None: any.
    """
    wanted = (pl.col("monitor") == monitor) & ~pl.col("passed")
    if window is None:
        return _newest(counting_rows(lakehouse).filter(wanted), "monitor").collect().to_dicts()
    wanted &= pl.col("window_start") == window
    failed = next((rows for rows in backwards(lakehouse, wanted) if rows.height), pl.DataFrame(schema=SCHEMA))
    return _newest(failed.lazy(), "monitor").collect().to_dicts()


def began(lakehouse: Lakehouse, newest: Sequence[Mapping[str, Any]], wait: int) -> list[dict[str, Any]]:
    """The failed verdicts of the windows in which a failure began, of each column that fails in it.

    A failure goes back over windows in between that were well, as those of what lies about at its threshold, until so many in a row are.
    A slice tells the begin of a column that did not fail as a whole.

    Args:
        lakehouse: Has the table.
        newest: The failed verdicts of the last evaluation of one monitor that had any.
        wait: So many windows.

    Returns:
        The verdicts as they were said last; what is given where it has no windows.
    """
    windowed = [row for row in newest if row["window_start"] is not None and row["window_end"] is not None]
    if not windowed:
        return [dict(row) for row in newest]
    last = max(windowed, key=lambda row: row["window_start"])
    reach = wait * (last["window_end"] - last["window_start"])
    same = [pl.col(name).eq_missing(pl.lit(last[name], SCHEMA[name])) for name in ("monitor", "table_id")]
    is_window = (pl.col("granularity") == last["granularity"]) & (pl.col("window_start") <= last["window_start"])
    is_over = pl.col("window_start").is_null() & _IS_OVER
    found = list[dict[str, Any]]()
    for said in backwards(lakehouse, pl.all_horizontal(*same, is_window | is_over)):
        # All that failed may be over: then it is what was.
        is_gone = pl.col("window_start").is_null()
        found = _began(said, last["window_start"], reach) or _began(said.filter(~is_gone), last["window_start"], reach)
        if found and said["window_start"].min() < min(row["window_start"] for row in found) - reach:
            break
    return found or [dict(row) for row in newest]


def _began(said: pl.DataFrame, newest: datetime, reach: timedelta) -> list[dict[str, Any]]:
    """Of each column that failed shortly before a window or in it, the failed verdicts of the window in which that began."""
    over = pl.col("sequence").filter(pl.col("window_start").is_null()).max().over(MATTER).fill_null(-1)
    windows = said.lazy().filter(pl.col("window_start").is_not_null() & (pl.col("sequence") >= over))
    failed = _newest(windows, *MATTER, "window_start").filter(~pl.col("passed")).collect()
    found = list[dict[str, Any]]()
    for part in failed.sort("window_start", descending=True, maintain_order=True).partition_by("column_name", maintain_order=True):
        whole = part.filter(pl.col("slice_key").is_null(), pl.col("window_start") >= newest - reach)
        of = part.filter(pl.col("slice_key").is_null()) if whole.height else part
        begin: datetime | None = None
        for start in of["window_start"].unique().sort(descending=True):
            if (begin or newest) - start > reach:
                break
            begin = start
        found += of.filter(pl.col("window_start") == begin).to_dicts() if begin is not None else []
    return found


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


def verdict_log(lakehouse: Lakehouse) -> Log:
    """The log, and which of its rows count."""
    return Log(lakehouse, TABLE, _counting, ("monitor", "evaluated_at", "run_id"), (__name__,), complete)


def counting_rows(lakehouse: Lakehouse, until: int | None = None) -> pl.LazyFrame:
    """The rows that count, and some that came after them; none if there is no table.

    Args:
        lakehouse: Has the table.
        until: The number of a commit: what counted when it was the newest one; None: what counts now.
    """
    return verdict_log(lakehouse).rows(until=until) if lakehouse.table(TABLE).exists() else pl.LazyFrame(schema=SCHEMA)


def _counting(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows that are asked for again and again, whoever asks.

    That are the last judgement of each monitor, of each matter the newest window, the last failure and when it was over last, the failures
    of columns with which slices failed in their newest window, and the rows that are shown.
    """
    ordered = complete(rows).with_row_index("_row")
    windows = ordered.filter(pl.col("granularity").is_not_null())
    newest = _newest_windows(_not_over(windows), "table_id", "granularity", *MATTER)
    counting = [
        _newest(ordered, "monitor"),
        newest,
        with_column(newest, ordered)[1],
        _newest(ordered.filter(~pl.col("passed")), *MATTER),
        _newest(ordered.filter(_IS_OVER), *MATTER),
        _newest_first(ordered).group_by("monitor", maintain_order=True).head(SHOWN).select(ordered.collect_schema().names()),
    ]
    return pl.concat(counting).unique("_row").sort("_row").drop("_row")


def in_order(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Rows with their place in the order of commits, `sequence`, also those of earlier releases, which come first."""
    has_order = "sequence" in rows.collect_schema()
    order = pl.col("sequence").fill_null(0) if has_order else pl.lit(0, pl.Int64)
    return rows.with_columns(order.alias("sequence"))


def _as_declared(rows: pl.LazyFrame) -> pl.LazyFrame:
    """What was said since each monitor is declared as it was when it was judged last."""
    return rows.filter(pl.col("sequence") >= pl.col("declaration").fill_null(0).max().over("monitor"))


def _not_over(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Without what was said of a matter before it was said to be over."""
    over = pl.when(_IS_OVER).then("sequence").max().over(MATTER)
    return rows.filter(pl.col("sequence") >= over.fill_null(0))


def with_column(slices: pl.LazyFrame, rows: pl.LazyFrame) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """Of failed slices those whose column failed as a whole in the same window, by the same evaluation; and what was said of that."""
    whole, failed = rows.filter(~pl.col("passed"), pl.col("slice_key").is_null()), slices.filter(~pl.col("passed"))
    failed = failed.filter(pl.col("slice_key").is_not_null())
    return (
        failed.join(whole, on=_WINDOW_OF_COLUMN, how="semi", nulls_equal=True),
        whole.join(failed, on=_WINDOW_OF_COLUMN, how="semi", nulls_equal=True),
    )


def _not_over_with_column(last: pl.DataFrame, rows: pl.LazyFrame) -> pl.DataFrame:
    """Without the slices that failed with their column where that is well since.

    Args:
        last: Of each matter the newest window.
        rows: All that were said.
    """
    if last.filter(~pl.col("passed"), pl.col("slice_key").is_not_null()).is_empty():
        return last
    slices = with_column(last.lazy(), rows)[0].collect()
    columns = (
        last.filter(pl.col("slice_key").is_null())
        .group_by("monitor", "column_name")
        .agg(is_well=pl.col("passed").all() & pl.col("passed").any(), newest=pl.col("window_start").max())
    )
    over = slices.join(columns.filter("is_well"), on=["monitor", "column_name"], nulls_equal=True).filter(
        (pl.col("newest") >= pl.col("window_start")).fill_null(value=True)
    )
    return last.join(over, on=MATTER, how="anti", nulls_equal=True, maintain_order="left")


def _newest_windows(rows: pl.LazyFrame, *of: str) -> pl.LazyFrame:
    """Of each the rows about the newest window that were added last; of what has only windows that have not begun, of all these."""
    start = pl.when(~is_ahead()).then("window_start").fill_null(_BEGIN)
    return _newest(rows.filter(start.eq_missing(start.max().over(of))), *of)


def _newest(rows: pl.LazyFrame, *of: str) -> pl.LazyFrame:
    """Of each the rows that were added last. Only rows of earlier releases, which have no order, are told apart by clocks."""
    for part in ("sequence", "evaluated_at"):
        rows = rows.filter(pl.col(part) == pl.col(part).max().over(of))
    return rows


def _newest_first(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.sort("sequence", "evaluated_at", descending=True, maintain_order=True)


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
