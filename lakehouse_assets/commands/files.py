"""What the landing log says about files, the way from a file to its rows and back, and files that shall be read again."""

import difflib
import json
from datetime import datetime
from typing import Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from lakehouse_assets.commands.report import ago, right
from lakehouse_assets.commands.workspace import Workspace
from lakehouse_assets.platform.declarations.declare import FeedAsset
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.storage.table import Table

_WRONG = (landing.REFUSED, landing.CHANGED, landing.IGNORED)
_LINEAGE = ("_file", "_row", "_sequence")


def files(workspace: Workspace, feed: str | None, *, refused: bool = False, path: str | None = None) -> list[dict[str, Any]]:
    """What last became of every file, by feed and in the order in which they were found; with a path, all that became of it.

    Raises:
        LookupError: No product declares the feed, or the log does not know the path.
    """
    if feed is not None:
        workspace.feed(feed)
    found = landing.journal(workspace.log, feed)
    if path is not None:
        found = found.filter(pl.any_horizontal(pl.col("path") == path, pl.concat_str("feed", pl.lit("/"), "path") == path))
        if not found.height:
            raise _unknown_path(workspace, path)
    else:
        found = found.filter(pl.col("event") != landing.TOUCHED).unique(["feed", "path"], keep="last", maintain_order=True)
        found = found.sort("feed", "sequence")
    found = found.with_columns(_became().alias("state"))
    if refused:
        found = found.filter(pl.col("state").is_in(_WRONG))
    versions = {name: _Versions(workspace.lakehouse.table(workspace.feed(name).name)) for name in found["feed"].unique()}
    rows = found.iter_rows(named=True)
    return [row | {"bronze_version": versions[row["feed"]].of(row["sequence"]) if row["outcome"] == landing.READ else None} for row in rows]


def _became() -> pl.Expr:
    state = pl.coalesce("outcome", pl.when(pl.col("event").is_in([landing.FOUND, landing.REREAD])).then(pl.lit("waits")), "event")
    return pl.when(pl.col("archived_at").is_not_null()).then(pl.lit(landing.ARCHIVED)).otherwise(state)


class _Versions:
    """Into which version of a bronze table the file of a number came, as its commits say."""

    def __init__(self, bronze: Table) -> None:
        commits = bronze.history() if bronze.exists() else []
        self._spans = [(*json.loads(c["info"]["sequences"]), c["version"]) for c in commits if "sequences" in c["info"]]

    def of(self, sequence: int) -> int | None:
        return next((version for after, until, version in self._spans if after < sequence <= until), None)


def rows(workspace: Workspace, path: str, feed: str | None = None) -> pl.LazyFrame:
    """The rows of a file in bronze, in the order of the file.

    Raises:
        LookupError: The log does not know the path, or knows it in several feeds.
    """
    asset, name = find(workspace, path, feed)
    bronze = workspace.lakehouse.table(asset.name).scan().filter(pl.col("_file") == name)
    first = [pl.col("_row"), pl.exclude(*_LINEAGE, "_ingested_at", "_run_id")]
    return bronze.sort("_sequence", "_row").select(*first)


def origins(workspace: Workspace, table: str, where: str | None) -> pl.LazyFrame:
    """Rows of a table, each with the file and the record in it that it came from.

    Raises:
        LookupError: The rows of the table are made of many: they have no file of their own.
        ValueError: The condition cannot be understood.
    """
    frame = workspace.lakehouse.table(table).scan()
    columns = frame.collect_schema().names()
    if not set(_LINEAGE) <= set(columns):
        asset = next((asset for asset in workspace.products.tables if asset.name == table), None)
        sources = ", ".join(read.table for read in asset.reads.values()) if asset else "the tables that it is made of"
        raise LookupError(f"a row of {table} does not come from one file: ask for rows of {sources}")
    try:
        chosen = frame if where is None else frame.filter(pl.sql_expr(where))
        chosen.collect_schema()
    except pl.exceptions.PolarsError as error:
        said = str(error).splitlines()[0].partition(";")[0]
        raise ValueError(f"the condition {where!r} cannot be understood: {said}. Columns: {', '.join(columns)}") from error
    return chosen.select(*_LINEAGE, ~pl.selectors.starts_with("_"))


def again(workspace: Workspace, path: str, feed: str | None, *, reread: bool) -> dict[str, str]:
    """Let the next run read a file again: one that was refused, or any with `reread`.

    Raises:
        LookupError: As `rows`.
        RequestRefused: As `landing.request_read`.
    """
    asset, name = find(workspace, path, feed)
    event = workspace.ingestion(asset).request_read(name, reread=reread, run_id="by hand")
    return {"feed": asset.feed.name, "path": name, "event": event}


def find(workspace: Workspace, path: str, feed: str | None) -> tuple[FeedAsset, str]:
    """The feed and the path in it of a file, named by its path with or without the feed in front.

    Raises:
        LookupError: The log does not know it, or knows it in several feeds.
    """
    known = landing.journal(workspace.log, feed).select("feed", "path").unique()
    whole = pl.concat_str("feed", pl.lit("/"), "path")
    found = known.filter((pl.col("path") == path) | (whole == path)).sort("feed")
    if not found.height:
        raise _unknown_path(workspace, path)
    if found.height > 1:
        named = ", ".join(f"{feed}/{name}" for feed, name in found.select("feed", "path").iter_rows())
        raise LookupError(f"several feeds have a file {path!r}: say which one of {named}")
    return workspace.feed(found["feed"].item()), str(found["path"].item())


def _unknown_path(workspace: Workspace, path: str) -> LookupError:
    known = landing.journal(workspace.log).select(pl.concat_str("feed", pl.lit("/"), "path").unique()).to_series().to_list()
    near = difflib.get_close_matches(path, known, 1, 0.5)
    hint = f": did you mean {near[0]}?" if near else ". `lakehouse files` lists what it knows."
    return LookupError(f"the landing log knows no file {path!r}{hint}")


# --- for people


def print_files(found: list[dict[str, Any]], console: Console) -> None:
    """The landing log as a grid, with the reasons below."""
    if not found:
        console.print("No file: land some with `lakehouse land FEED FILE`, then `lakehouse run`.")
        return
    grid = Grid("feed", "file", right("number"), "state", right("rows"), right("version"), "when", "run", box=None)
    for row in found:
        count = "" if row["rows"] is None or row["outcome"] != landing.READ else f"{row['rows']:,}"
        version = "" if row["bronze_version"] is None else str(row["bronze_version"])
        shown = (
            row["feed"],
            _one_line(row["path"]),
            str(row["sequence"]),
            row["state"],
            count,
            version,
            _when(row["at"]),
            row["run_id"][:8],
        )
        grid.add_row(*map(escape, shown))
    console.print(grid)
    for row in found:
        if row["reason"]:
            console.print(f"\n[red]{row['state']}[/] {escape(row['feed'])}: {escape(row['reason'])}")


def _one_line(path: str) -> str:
    return path if path.isprintable() else repr(path)


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} ({ago(moment)})"
