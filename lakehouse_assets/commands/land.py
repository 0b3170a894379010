"""Puts files into the landing zone so that a run sees each of them whole or not at all, or says what a run would make of them.

Reading them is the ingestion room's business, judging their rows that of the quality room.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from lakehouse_assets.commands.report import right
from lakehouse_assets.commands.workspace import Workspace
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.ingestion.bronze import Ingestion
from lakehouse_assets.platform.ingestion.feed import is_seen
from lakehouse_assets.platform.ingestion.preview import Preview, preview
from lakehouse_assets.platform.ingestion.zone import NotLanded, Zone
from lakehouse_assets.platform.pipeline import contracts
from lakehouse_assets.platform.quality.contract import ContractBroken
from lakehouse_assets.platform.quality.split import BROKEN
from lakehouse_assets.platform.storage.lakehouse import Lakehouse


def land(files: list[Path], way: Ingestion) -> list[tuple[str, bool]]:
    """Copy files into a feed's landing zone.

    Returns:
        The name of each file there, and whether it is new.

    Raises:
        NotLanded: A file is missing, the feed's pattern does not fit it, or another one has its name there. Those before it have landed.
    """
    for file in files:
        if not way.feed.takes(file.name) or not is_seen(PurePosixPath(file.name)):
            raise NotLanded(
                f"{file} does not fit the pattern of feed {way.feed.name} ({way.feed.pattern}) or looks unfinished: no run would read it"
            )
    return [(file.name, way.zone.put(file, file.name)) for file in files]


def land_feeds(folder: Path, zone_of: Callable[[str], Zone]) -> None:
    """Copy a whole landing folder, one folder a feed, into the landing zones of its feeds; what lies there already is left alone.

    Raises:
        NotLanded: Another file has the name of one of these there.
    """
    for feed in sorted(path for path in folder.iterdir() if path.is_dir()):
        zone = zone_of(feed.name)
        for file in sorted(path for path in feed.rglob("*") if path.is_file()):
            zone.put(file, file.relative_to(feed).as_posix())


@dataclass(frozen=True)
class Judged:
    """What a table that reads a feed's changes would say of the rows of files.

    Attributes:
        quarantined: How many rows it would set aside.
        rules: How many rows each rule would reject; a row may break several.
        files: How many rows of each file would be set aside.
        stops: Why it would take none of them; None if it would not stop.
    """

    table: str
    quarantined: int = 0
    rules: tuple[tuple[str, int], ...] = ()
    files: tuple[tuple[str, int], ...] = ()
    stops: str | None = None


def dry_run(workspace: Workspace, asset: FeedDeclaration, files: list[Path]) -> dict[str, Any]:
    """What a run would make of files, without writing anything: one entry a file, the sum, and what the silver tables would say."""
    with ExitStack() as held:
        found = list(preview(workspace.ingestion(asset), files, held))
        frames = [one.frame for one in found if one.frame is not None]
        rows = pl.concat(frames, how="diagonal") if frames else None
        readers = [table for table in workspace.products.tables if table.kind.takes_rows and asset.name in table.inputs.values()]
        tables = [] if rows is None else [judged(table, asset.name, rows, workspace.lakehouse) for table in readers]
    return {
        "feed": asset.feed.name,
        "policy": asset.feed.new_columns,
        "files": [_plain(one, {table.table: dict(table.files).get(one.name, 0) for table in tables}) for one in found],
        "total": {
            "files": {kind: sum(one.becomes == kind for one in found) for kind in dict.fromkeys(one.becomes for one in found)},
            "rows": sum(one.rows for one in found),
            "rescued": sum(one.rescued for one in found),
            "new_columns": sorted({name for one in found for name in one.new_columns}),
        },
        "tables": [{"table": one.table, "quarantined": one.quarantined, "rules": dict(one.rules), "stops": one.stops} for one in tables],
    }


def _plain(one: Preview, quarantined: dict[str, int]) -> dict[str, Any]:
    return {f.name: getattr(one, f.name) for f in fields(one) if f.name != "frame"} | {"quarantined": quarantined}


def judged(asset: TableDeclaration, bronze: str, rows: pl.LazyFrame, lakehouse: Lakehouse) -> Judged:
    """Put bronze rows through a table's function and contract, in memory."""
    frames: dict[str, Any] = dict.fromkeys(asset.inputs, rows)
    for name, dimension in asset.dimensions.items():
        if not lakehouse.table(dimension.table).exists():
            return Judged(asset.name, stops=f"it cannot be judged before {dimension.table} exists: `lakehouse run {dimension.table}`")
        frames[name] = lakehouse.table(dimension.table).scan()
    try:
        worked_out = asset.function(**frames).collect(engine="streaming")
        bad = contracts.judge(asset, lakehouse, worked_out, contracts.references_now(asset, lakehouse), limited=False).bad
        stops = None
        try:
            contracts.judge(asset, lakehouse, worked_out, contracts.references_now(asset, lakehouse))
        except ContractBroken as broken:
            stops = str(broken)
    except (ContractBroken, pl.exceptions.PolarsError) as error:
        return Judged(asset.name, stops=str(error))
    rules = bad[BROKEN].explode().drop_nulls().value_counts(sort=True).rows()
    files = bad["_file"].value_counts(sort=True).rows() if "_file" in bad.columns else []
    return Judged(asset.name, bad.height, tuple(rules), tuple(files), stops)


def print_dry_run(found: dict[str, Any], console: Console) -> None:
    """What a run would make of files, for people."""
    grid = Grid("file", "format", "becomes", right("rows"), right("rescued"), right("quarantined"), "new columns", box=None)
    for one in found["files"]:
        quarantined = ", ".join(f"{count:,}" for count in one["quarantined"].values()) if one["rows"] else ""
        columns = ", ".join(one["new_columns"])
        shown = (one["name"], one["format"], one["becomes"], f"{one['rows']:,}", f"{one['rescued']:,}", quarantined, columns)
        grid.add_row(*map(escape, shown))
    console.print(grid)
    for one in found["files"]:
        if one["reason"]:
            console.print(
                f"\n[red]{one['becomes']}[/] {escape(one['reason'])}" if one["becomes"] == "refused" else f"\n{escape(one['reason'])}"
            )
    total = found["total"]
    files = ", ".join(f"{count} {kind}" for kind, count in total["files"].items())
    console.print(f"\n{files}; {total['rows']:,} rows would come into bronze, {total['rescued']:,} of them with something rescued.")
    if total["new_columns"]:
        console.print(f"New columns ({found['policy']}): {escape(', '.join(total['new_columns']))}")
    for table in found["tables"]:
        _print_judged(table, total["rows"], console)
    console.print("\nNothing was written.")


def _print_judged(table: dict[str, Any], rows: int, console: Console) -> None:
    rules: Sequence[tuple[str, int]] = list(table["rules"].items())
    text = "; ".join(f"{rule}: {count:,}" for rule, count in rules)
    console.print(
        f"[bold]{table['table']}[/] would set {table['quarantined']:,} of {rows:,} rows aside" + escape(f" ({text})" if text else ".")
    )
    if table["stops"]:
        console.print(f"  [red]It would take none of them:[/] {escape(table['stops'])}")
