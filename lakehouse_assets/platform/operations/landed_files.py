"""What the landing log says about files, and how a row is traced to its file. Reading files again is `ingestion`'s part."""

import difflib
import json
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table

LINEAGE = ("_file", "_row", "_sequence")
"""Columns that say which file and which record in it a row came from."""
_WRONG = (landing.REFUSED, landing.CHANGED, landing.IGNORED)
_NOT_OF_THE_FILE = ("_ingested_at", "_run_id")


def landed_files(
    lakehouse: Lakehouse, bronze: Mapping[str, str], feed: str | None = None, *, refused: bool = False, path: str | None = None
) -> list[dict[str, Any]]:
    """What became of every file: its last state, by feed and in the order of discovery; with a path, every state of that file.

    Args:
        lakehouse: The tables.
        bronze: The bronze table of each feed.
        feed: Only this feed.
        refused: Only files that were refused, changed or ignored.
        path: Only this file, with or without the feed in front.

    Raises:
        LookupError: The log does not know the path.
    """
    log = lakehouse.table(landing.LOG)
    rows = landing.journal(log, feed)
    if path is not None:
        rows = rows.filter(pl.any_horizontal(pl.col("path") == path, pl.concat_str("feed", pl.lit("/"), "path") == path))
        if not rows.height:
            raise _unknown_path(log, path)
    else:
        rows = rows.filter(pl.col("event") != landing.TOUCHED).unique(["feed", "path"], keep="last", maintain_order=True)
        rows = rows.sort("feed", "sequence")
    rows = rows.with_columns(_state().alias("state"))
    if refused:
        rows = rows.filter(pl.col("state").is_in(_WRONG))
    versions = {name: _Versions(lakehouse.table(bronze[name])) for name in rows["feed"].unique() if name in bronze}

    def version_of(row: dict[str, Any]) -> int | None:
        read = row["outcome"] == landing.READ and row["feed"] in versions
        return versions[row["feed"]].of(row["sequence"]) if read else None

    return [row | {"bronze_version": version_of(row)} for row in rows.iter_rows(named=True)]


def remedies(feed: str, path: str, event: str) -> tuple[str, str, str]:
    """What can be done about a file that was refused, or that changed after it was read.

    Returns:
        What to do in words, the command that reads the file again, and the command that leaves it as it is.
    """
    name = shlex.quote(f"{feed}/{path}")
    verb, words = (
        ("retry", "Read it again, after the file or the feed was corrected")
        if event == landing.REFUSED
        else ("reread", "Have it read again")
    )
    return words, f"lakehouse files {verb} {name}", f"lakehouse files ignore {name} --reason TEXT"


def with_path(path: str, reason: str) -> str:
    """A reason with the whole path of its file in front; most begin with the path or the file's name already."""
    begun = next((name for name in (path, PurePosixPath(path).name) if reason.startswith(name)), None)
    return f"{path}: {reason}" if begun is None else path + reason.removeprefix(begun)


def duplicates(log: Table, run_id: str) -> list[dict[str, str]]:
    """The files that a run found and left out, because a file with the same content was read: `feed`, `path`, `reason`."""
    return _reasons(log, run_id, landing.DUPLICATE)


def remarks(log: Table, run_id: str) -> list[dict[str, str]]:
    """What a run noticed about files that it read: `feed`, `path`, `reason`."""
    return _reasons(log, run_id, landing.READ)


def _reasons(log: Table, run_id: str, event: str) -> list[dict[str, str]]:
    if not log.exists():
        return []
    events = log.scan().filter((pl.col("event") == event) & (pl.col("run_id") == run_id) & pl.col("reason").is_not_null())
    return events.select("feed", "path", "reason").sort("feed", "path").collect().to_dicts()


def _state() -> pl.Expr:
    state = pl.coalesce("outcome", pl.when(pl.col("event").is_in([landing.FOUND, landing.REREAD])).then(pl.lit("waits")), "event")
    return pl.when(pl.col("archived_at").is_not_null()).then(pl.lit(landing.ARCHIVED)).otherwise(state)


class _Versions:
    """With which version of a bronze table a file came in, by the file's number and the commits' info."""

    def __init__(self, bronze: Table) -> None:
        self._commits = bronze.commits() if bronze.exists() else iter(())
        self._spans: list[tuple[int, int, int]] = []

    def of(self, sequence: int) -> int | None:
        while not self._spans or self._spans[-1][0] >= sequence:  # newest first, and only as far back as needed
            commit = next((commit for commit in self._commits if "sequences" in commit["info"]), None)
            if commit is None:
                break
            after, until = json.loads(commit["info"]["sequences"])
            self._spans.append((after, until, commit["version"]))
        return next((version for after, until, version in self._spans if after < sequence <= until), None)


def find_file(log: Table, path: str, feed: str | None = None) -> tuple[str, str]:
    """The feed of a file and its path in it, from its path with or without the feed in front.

    Raises:
        LookupError: The log does not know it, or knows it in several feeds.
    """
    known = landing.journal(log, feed).select("feed", "path").unique()
    whole = pl.concat_str("feed", pl.lit("/"), "path")
    files = known.filter((pl.col("path") == path) | (whole == path)).sort("feed")
    if not files.height:
        raise _unknown_path(log, path)
    if files.height > 1:
        named = ", ".join(f"{feed}/{name}" for feed, name in files.select("feed", "path").iter_rows())
        raise LookupError(f"several feeds have a file {path!r}: name one of {named}")
    return str(files["feed"].item()), str(files["path"].item())


def _unknown_path(log: Table, path: str) -> LookupError:
    known = landing.journal(log).select(pl.concat_str("feed", pl.lit("/"), "path").unique()).to_series().to_list()
    near = difflib.get_close_matches(path, known, 1, 0.5)
    hint = f": did you mean {near[0]}?" if near else ". `lakehouse files` lists the files that it knows."
    return LookupError(f"the landing log knows no file {path!r}{hint}")


def rows_of_file(bronze: pl.LazyFrame, path: str) -> pl.LazyFrame:
    """The rows of a file in a bronze table, in the order of the file."""
    rows = bronze.filter(pl.col("_file") == path).sort("_sequence", "_row")
    return rows.select(pl.col("_row"), pl.exclude(*LINEAGE, *_NOT_OF_THE_FILE))


def with_origin(rows: pl.LazyFrame, table: str, sources: tuple[str, ...], where: str | None) -> pl.LazyFrame:
    """Rows of a table, each with the file and the record in it that it came from.

    Args:
        rows: Of the table.
        table: Its name.
        sources: The tables that it is made from, for the message.
        where: Which rows: a condition in SQL on the columns.

    Raises:
        LookupError: Each row of the table is made from many: it has no file of its own.
        ValueError: The condition cannot be understood.
    """
    columns = rows.collect_schema().names()
    if not set(LINEAGE) <= set(columns):
        raise LookupError(
            f"a row of {table} does not come from one file: trace rows of {', '.join(sources) or 'the tables it is made from'}"
        )
    try:
        chosen = rows if where is None else rows.filter(pl.sql_expr(where))
        chosen.collect_schema()
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0].partition(";")[0]
        raise ValueError(f"the condition {where!r} cannot be understood: {reason}. Columns: {', '.join(columns)}") from error
    return chosen.select(*LINEAGE, ~pl.selectors.starts_with("_"))
