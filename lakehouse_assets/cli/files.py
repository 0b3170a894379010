"""`lakehouse land` and `lakehouse files`: files on their way in, what became of them, and their rows."""

from pathlib import Path

import click

from lakehouse_assets.cli.shared import CONSOLE, JSON, Commands, print_json, print_rows, workspace

_FEED = click.option("--feed", help="The feed, where several have a file of this path.")
_ROWS = click.option("--rows", type=click.IntRange(1), default=20, show_default=True, help="How many rows.")


@click.command()
@click.argument("feed")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only say what a run would make of them; nothing is written.")
@JSON
def land(feed: str, files: tuple[Path, ...], dry_run: bool, as_json: bool) -> None:
    """Put FILES into the landing zone of FEED, each whole or not at all.

    \b
    Examples:
      lakehouse land invoices ~/downloads/*.parquet
      lakehouse land invoices new.csv --dry-run        rows, new columns, duplicates, what would be quarantined and why
    """
    from lakehouse_assets.commands import land as commands

    found = workspace()
    asset = found.feed(feed)
    if dry_run:
        result = commands.dry_run(found, asset, list(files))
        print_json(result) if as_json else commands.print_dry_run(result, CONSOLE)
        return
    landed = [(f"{found.settings.landing}/{feed}/{name}", new) for name, new in commands.land(list(files), found.ingestion(asset))]
    if as_json:
        print_json([{"file": place, "new": new} for place, new in landed])
        return
    for place, new in landed:
        CONSOLE.print(place + ("" if new else " lies there already"), markup=False)
    CONSOLE.print("Next: [bold]lakehouse run[/]")


class _FeedOrCommand(Commands):
    """`files`, `files FEED` and `files --refused` are short for `files list …`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command in that was left out."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_FeedOrCommand)
def files() -> None:
    """The landing log: `lakehouse files` shows what became of every file that ever landed.

    \b
    Examples:
      lakehouse files                                  every file: read when, how many rows, into which version
      lakehouse files invoices --refused               refused and changed files of a feed, with the reasons
      lakehouse files --path invoices/2026-11-20.csv   all that became of one file
      lakehouse files rows invoices/2026-11-20.csv     from a file to its rows
      lakehouse files of sales.silver.invoice_lines --where "invoice = '489434'"    from rows to their files
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
    from lakehouse_assets.commands import files as commands

    found = commands.files(workspace(), feed, refused=refused, path=path)
    if as_json:
        print_json(found)
    else:
        commands.print_files(found, CONSOLE)


@files.command()
@click.argument("path")
@_FEED
@_ROWS
@JSON
def rows(path: str, feed: str | None, rows: int, as_json: bool) -> None:
    """The rows of the file PATH as bronze holds them; `_row` is the number of the record in the file, without the header.

    \b
    Example:
      lakehouse files rows invoices/2026-11-20.csv --rows 5
    """
    from lakehouse_assets.commands import files as commands

    print_rows(commands.rows(workspace(), path, feed).head(rows).collect(), as_json=as_json)


@files.command("of")
@click.argument("table")
@click.option("--where", help="Which rows: a condition in SQL on columns of the table.")
@_ROWS
@JSON
def origins(table: str, where: str | None, rows: int, as_json: bool) -> None:
    """Rows of TABLE with the file and the record in it that each came from.

    \b
    Examples:
      lakehouse files of sales.silver.invoice_lines --where "invoice = '489434'"
      lakehouse files of sales.silver.invoice_lines__quarantine
    """
    from lakehouse_assets.commands import files as commands

    print_rows(commands.origins(workspace(), table, where).head(rows).collect(engine="streaming"), as_json=as_json)


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
    _again(paths, feed, as_json, reread=False)


@files.command()
@click.argument("paths", nargs=-1, required=True)
@_FEED
@JSON
def reread(paths: tuple[str, ...], feed: str | None, as_json: bool) -> None:
    """Put the rows that the files PATHS have now in the place of those that they brought, with the next run, once.

    It does so whatever the feed's policy for changed files is.

    \b
    Example:
      lakehouse files reread invoices/2026-11-20.csv && lakehouse run
    """
    _again(paths, feed, as_json, reread=True)


def _again(paths: tuple[str, ...], feed: str | None, as_json: bool, *, reread: bool) -> None:
    from lakehouse_assets.commands import files as commands

    found = workspace()
    asked = [commands.again(found, path, feed, reread=reread) for path in paths]
    if as_json:
        print_json(asked)
        return
    for one in asked:
        said = "is a copy of what was read, so it is not read again" if one["event"] == "duplicate" else "waits"
        CONSOLE.print(f"{one['feed']}/{one['path']} {said}", markup=False)
    if any(one["event"] != "duplicate" for one in asked):
        CONSOLE.print("Next: [bold]lakehouse run[/] reads it, once")
