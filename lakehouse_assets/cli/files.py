"""`lakehouse land` and `lakehouse files`: files on their way in, what became of them, and their rows."""

from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from lakehouse_assets.cli.shared import CONSOLE, JSON, Noun, add_row, ago, client, grid, plural, print_json, print_rows, right

_FEED = click.option("--feed", help="The feed, if several have a file of this path.")
_LIMIT = click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many rows.")


@click.command()
@click.argument("feed")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only show what a run would make of them; nothing is written.")
@JSON
def land(feed: str, files: tuple[Path, ...], dry_run: bool, as_json: bool) -> None:
    """Copy FILES into the landing zone of FEED, each whole or not at all.

    \b
    Examples:
      lakehouse land invoices ~/downloads/*.parquet
      lakehouse land invoices new.csv --dry-run        rows, new columns, duplicates, what would be quarantined and why
    """
    result = client().land(feed, files, dry_run=dry_run)
    if dry_run:
        print_json(result) if as_json else _print_dry_run(result)
        return
    if as_json:
        print_json([{"file": place, "new": new} for place, new in result])
        return
    for place, new in result:
        CONSOLE.print(place + ("" if new else " is already there"), markup=False)
    CONSOLE.print("Next: [bold]lakehouse run[/]")


def _print_dry_run(values: dict[str, Any]) -> None:
    shown = grid("file", "format", "becomes", right("rows"), right("rescued"), right("quarantined"), "new columns")
    for file in values["files"]:
        quarantined = ", ".join(f"{count:,}" for count in file["quarantined"].values()) if file["rows"] else ""
        counts = (f"{file['rows']:,}", f"{file['rescued']:,}", quarantined)
        add_row(shown, file["name"], file["format"], file["becomes"], *counts, ", ".join(file["new_columns"]))
    CONSOLE.print(shown)
    for file in values["files"]:
        if file["reason"]:
            mark = f"[red]{file['becomes']}[/] " if file["becomes"] == "refused" else ""
            CONSOLE.print(f"\n{mark}{escape(file['reason'])}")
    total = values["total"]
    files = ", ".join(f"{count} {kind}" for kind, count in total["files"].items())
    CONSOLE.print(f"\n{files}; {plural(total['rows'], 'row')} for bronze, {total['rescued']:,} of them with rescued values.")
    if total["new_columns"]:
        CONSOLE.print(f"New columns ({values['policy']}): {escape(', '.join(total['new_columns']))}")
    for table in values["tables"]:
        rules = "; ".join(f"{rule}: {count:,}" for rule, count in table["rules"].items())
        reasons = escape(f" ({rules})") if rules else "."
        CONSOLE.print(f"[bold]{table['table']}[/] would quarantine {table['quarantined']:,} of {total['rows']:,} rows{reasons}")
        if table["stops"]:
            CONSOLE.print(f"  [red]The write would fail:[/] {escape(table['stops'])}")
    CONSOLE.print("\nNothing was written.")


@click.group(cls=Noun)
def files() -> None:
    """The landing log: `lakehouse files` shows what became of every file that ever landed.

    \b
    Examples:
      lakehouse files                                  every file: read when, how many rows, into which version
      lakehouse files list invoices --refused             refused and changed files of a feed, with the reasons
      lakehouse files --path invoices/2026-11-20.csv   all that became of one file
      lakehouse files rows invoices/2026-11-20.csv     from a file to its rows
      lakehouse files origin sales.silver.invoice_lines --where "invoice = '489434'"    from rows to their files
      lakehouse files retry invoices/2026-11-20.csv    read a refused file again
    """


@files.command("list")
@click.argument("feed", required=False)
@click.option("--refused", is_flag=True, help="Only files that were refused, or changed after they were read.")
@click.option("--path", help="All that became of one file: its path, with or without the feed in front.")
@JSON
def list_files(feed: str | None, refused: bool, path: str | None, as_json: bool) -> None:
    """What became of files: read when, how many rows, into which version of bronze; refused, changed or ignored, and why.

    \b
    Examples:
      lakehouse files list invoices
      lakehouse files list --refused --json
    """
    rows = client().files.list(feed, refused=refused, path=path)
    if as_json:
        print_json(rows)
        return
    if not rows:
        CONSOLE.print("No files: `lakehouse land FEED FILE`, then `lakehouse run`.")
        return
    shown = grid("feed", "file", right("number"), "state", right("rows"), right("version"), "when", "run")
    for row in rows:
        count = "" if row["rows"] is None or row["outcome"] != "read" else f"{row['rows']:,}"
        version = "" if row["bronze_version"] is None else row["bronze_version"]
        path_shown = row["path"] if row["path"].isprintable() else repr(row["path"])
        add_row(shown, row["feed"], path_shown, row["sequence"], row["state"], count, version, _when(row["at"]), row["run_id"][:8])
    CONSOLE.print(shown)
    # What was to be done about an earlier state of a file has been done, or its last state says it again.
    last = {(row["feed"], row["path"]): row for row in rows}
    for row in last.values():
        if row["reason"]:
            CONSOLE.print(f"\n[red]{row['state']}[/] {escape(row['feed'])}: {escape(row['reason'])}")


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} ({ago(moment)})"


@files.command()
@click.argument("path")
@_FEED
@_LIMIT
@JSON
def rows(path: str, feed: str | None, limit: int, as_json: bool) -> None:
    """The rows of the file PATH in bronze; `_row` is the number of the record in the file, without the header.

    \b
    Example:
      lakehouse files rows invoices/2026-11-20.csv --limit 5
    """
    print_rows(client().files.rows(path, feed).head(limit).collect(), as_json=as_json)


@files.command()
@click.argument("table")
@click.option("--where", help="Which rows: a condition in SQL on columns of the table. It sees personal data masked.")
@_LIMIT
@JSON
def origin(table: str, where: str | None, limit: int, as_json: bool) -> None:
    """Rows of TABLE with the file and the record in it that each came from.

    \b
    Examples:
      lakehouse files origin sales.silver.invoice_lines --where "invoice = '489434'"
      lakehouse files origin sales.silver.invoice_lines__quarantine
    """
    print_rows(client().files.origins(table, where).head(limit).collect(engine="streaming"), as_json=as_json)


@files.command()
@click.argument("paths", nargs=-1, required=True)
@_FEED
@JSON
def retry(paths: tuple[str, ...], feed: str | None, as_json: bool) -> None:
    """Read the refused files PATHS again with the next run, once.

    \b
    Example:
      lakehouse files retry invoices/2026-11-20.csv && lakehouse run
    """
    _print_asked(client().files.retry(paths, feed), as_json)


@files.command()
@click.argument("paths", nargs=-1, required=True)
@_FEED
@JSON
def reread(paths: tuple[str, ...], feed: str | None, as_json: bool) -> None:
    """Replace the old rows of the files PATHS with their current content, with the next run, once.

    It does so whatever the feed's policy for changed files is.

    \b
    Example:
      lakehouse files reread invoices/2026-11-20.csv && lakehouse run
    """
    _print_asked(client().files.reread(paths, feed), as_json)


def _print_asked(asked: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(asked)
        return
    for file in asked:
        state = "is a copy of a file that was read, so it is not read again" if file["event"] == "duplicate" else "waits"
        CONSOLE.print(f"{file['feed']}/{file['path']} {state}", markup=False)
    if any(file["event"] != "duplicate" for file in asked):
        CONSOLE.print("Next: [bold]lakehouse run[/] reads it, once")
