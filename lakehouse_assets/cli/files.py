"""`lakehouse land` and `lakehouse files`: files on their way in, what became of them, and their rows."""

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from lakehouse_assets.cli.complete import FEEDS, TABLES
from lakehouse_assets.cli.shared import JSON, Noun, client, command
from lakehouse_assets.cli.terminal import (
    add_row,
    ago,
    folds,
    grid,
    line,
    optional,
    print_grid,
    print_json,
    print_paged,
    print_rows,
    right,
    say,
    say_remedy,
)
from lakehouse_assets.platform.wording import counted

_FEED = click.option("--feed", shell_complete=FEEDS, help="The feed, if several have a file of this path.")
_FILES = 100
_LIMIT = click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many rows.")


@command(interrupted="Each file has landed whole or not at all: the same command lands the rest.")
@click.argument("feed", shell_complete=FEEDS)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only show what a run would make of them; nothing is written.")
@click.option("--replace", is_flag=True, help="A file that landed before under this name is replaced, and its rows with the next run.")
@JSON
def land(feed: str, files: tuple[Path, ...], *, dry_run: bool, replace: bool, as_json: bool) -> None:
    """Copy FILES into the landing zone of FEED, each whole or not at all.

    \b
    Examples:
      lakehouse land invoices ~/downloads/*.parquet
      lakehouse land invoices new.csv --dry-run        rows, new columns, duplicates, what would be quarantined and why
      lakehouse land invoices corrected/2026-11-20.csv --replace
    """
    if dry_run and replace:
        raise click.UsageError("--dry-run does not show what --replace does: give one of them")
    result = client().land(feed, files, dry_run=dry_run, replace=replace)
    if dry_run:
        print_json(result) if as_json else _print_dry_run(result)
        return
    if as_json:
        print_json([{"file": place, "new": new} for place, new in result])
        return
    for place, new in result:
        say(place + ("" if new else " is already there"))
    say("Next: ", ("lakehouse run", "bold"))


def _print_dry_run(values: dict[str, Any]) -> None:
    shown = grid(
        "file", optional("format"), "becomes", right("rows"), optional("rescued", right=True), right("quarantined"), folds("new columns")
    )
    for file in values["files"]:
        quarantined = ", ".join(f"{count:,}" for count in file["quarantined"].values()) if file["rows"] else ""
        counts = (f"{file['rows']:,}", f"{file['rescued']:,}", quarantined)
        add_row(shown, file["name"], file["format"], file["becomes"], *counts, ", ".join(file["new_columns"]))
    print_grid(shown)
    for file in values["files"]:
        if file["reason"]:
            say("\n", ("refused " if file["becomes"] == "refused" else "", "red"), file["reason"])
    total = values["total"]
    files = ", ".join(f"{count} {kind}" for kind, count in total["files"].items())
    say(f"\n{files}; {counted(total['rows'], 'row')} for bronze, {total['rescued']:,} of them with rescued values.")
    if total["new_columns"]:
        say(f"New columns ({values['policy']}): {', '.join(total['new_columns'])}")
    for table in values["tables"]:
        rules = "; ".join(f"{rule}: {count:,}" for rule, count in table["rules"].items())
        reasons = f" ({rules})" if rules else "."
        say((table["table"], "bold"), f" would quarantine {table['quarantined']:,} of {counted(total['rows'], 'row')}{reasons}")
        if table["stops"]:
            say(("  The write would fail: ", "red"), table["stops"])
    say("\nNothing was written.")


@click.group(cls=Noun, argument_command="list")
def files() -> None:
    """The landing log: `lakehouse files` shows what became of every file that ever landed.

    \b
    Examples:
      lakehouse files                                  every file: read when, how many rows, into which version
      lakehouse files list invoices --refused          refused and changed files of a feed, with the reasons
      lakehouse files --path invoices/2026-11-20.csv   all that became of one file
      lakehouse files rows invoices/2026-11-20.csv     from a file to its rows
      lakehouse files origin sales.silver.invoice_lines --where "invoice = '489434'"    from rows to their files
      lakehouse files retry invoices/2026-11-20.csv    read a refused file again
      lakehouse files ignore invoices/old.csv --reason "replaced by new.csv"    leave a refused file as it is
    """


@files.command("list")
@click.argument("feed", required=False, shell_complete=FEEDS)
@click.option("--refused", is_flag=True, help="Only files that were refused, or changed after they were read.")
@click.option("--path", help="All that became of one file: its path, with or without the feed in front.")
@click.option("--limit", type=click.IntRange(1), help=f"How many files, the newest; {_FILES} on a terminal, all as JSON.")
@JSON
def list_files(feed: str | None, *, refused: bool, path: str | None, limit: int | None, as_json: bool) -> None:
    """What became of files: read when, how many rows, into which version of bronze; refused, changed or ignored, and why.

    \b
    Examples:
      lakehouse files list invoices
      lakehouse files list --refused --json
    """
    found = client().files.list(feed, refused=refused, path=path)
    if as_json:
        print_json(found[-limit:] if limit else found)
        return
    if not found:
        say("No files: `lakehouse land FEED FILE`, then `lakehouse run`.")
        return
    rows = sorted(found, key=lambda row: row["at"])[-(limit or _FILES) :] if len(found) > (limit or _FILES) else found
    shown = grid(
        optional("feed"),
        "file",
        optional("number", right=True),
        "state",
        right("rows"),
        optional("version", right=True),
        "when",
        optional("run"),
    )
    for row in rows:
        count = "" if row["rows"] is None or row["outcome"] != "read" else f"{row['rows']:,}"
        version = "" if row["bronze_version"] is None else row["bronze_version"]
        add_row(shown, row["feed"], row["path"], row["sequence"], row["state"], count, version, _when(row["at"]), row["run_id"][:8])
    # What was to be done about an earlier state of a file has been done, or its last state says it again.
    last = {(row["feed"], row["path"]): row for row in rows}.values()
    below = [line("\n", (row["state"], "red"), f" {row['feed']}/{row['path']}: {row['reason']}") for row in last if row["reason"]]
    wrong = [row for row in last if row["state"] in {"refused", "changed"}]
    more = f" of {len(found):,}; --limit shows more" if len(rows) < len(found) else ""
    print_paged(shown, *below, line((f"\n{counted(len(rows), 'file')}{more}" if below else f"{counted(len(rows), 'file')}{more}", "dim")))
    if wrong:
        say_remedy(wrong[0]["feed"], wrong[0]["path"], wrong[0]["state"])


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
@click.argument("table", shell_complete=TABLES)
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


@files.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--reason", required=True, help="Why; it is kept in the landing log, with your name.")
@_FEED
@JSON
def ignore(paths: tuple[str, ...], reason: str, feed: str | None, as_json: bool) -> None:
    """Leave the files PATHS as they are, which were refused or changed after they were read: nothing warns of them any more.

    They need not be there any more. A file whose content changes later is discovered as any other.

    \b
    Example:
      lakehouse files ignore invoices/broken.csv --reason "the source sent it again as invoices_2.csv"
    """
    asked = client().files.ignore(paths, reason, feed)
    if as_json:
        print_json(asked)
        return
    for file in asked:
        say(f"{file['feed']}/{file['path']} is ignored.")


def _print_asked(asked: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(asked)
        return
    for file in asked:
        state = "is a copy of a file that was read, so it is not read again" if file["event"] == "duplicate" else "waits"
        say(f"{file['feed']}/{file['path']} {state}")
    if any(file["event"] != "duplicate" for file in asked):
        say("Next: ", ("lakehouse run", "bold"), " reads it, once")
