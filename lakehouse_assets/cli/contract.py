"""`lakehouse contract`: what tables promise, and what a change breaks. What is done is in `commands.contract`."""

import sys
from pathlib import Path

import click

from lakehouse_assets.cli.shared import CONSOLE, JSON, Commands, print_json, workspace


@click.group(cls=Commands)
def contract() -> None:
    """What tables promise: show it, see what a change breaks, exchange it as Open Data Contract Standard 3.1.

    \b
    Examples:
      lakehouse contract show sales.silver.invoice_lines
      lakehouse contract diff
      lakehouse contract export sales.silver.invoice_lines > invoice_lines.odcs.yaml
      lakehouse contract check invoice_lines.odcs.yaml
    """


@contract.command()
@click.argument("table")
@JSON
def show(table: str, as_json: bool) -> None:
    """Columns, rules with their levels, thresholds and monitors of TABLE.

    \b
    Example:
      lakehouse contract show sales.gold.daily_revenue
    """
    from lakehouse_assets.commands import contract as commands

    found = commands.show(workspace(), table)
    if as_json:
        print_json(found)
    else:
        commands.print_contract(found, CONSOLE)


@contract.command()
@click.argument("table", required=False)
@JSON
def diff(table: str | None, as_json: bool) -> None:
    """Compare the contract of TABLE (default: of all tables) with the last one that the table was written under.

    Says what breaks, and whom: the stored table, its rows, the tables that read it. Ends with 1 if something does.

    \b
    Examples:
      lakehouse contract diff
      lakehouse contract diff sales.silver.invoice_lines --json
    """
    from lakehouse_assets.commands import contract as commands

    found = commands.diff(workspace(), table)
    if as_json:
        print_json(found)
    else:
        commands.print_diff(found, CONSOLE)
    sys.exit(any(part["breaks"] for part in found))


@contract.command()
@click.argument("table", required=False)
@click.option("--all", "folder", type=click.Path(path_type=Path, file_okay=False), help="Write every table's contract into this folder.")
def export(table: str | None, folder: Path | None) -> None:
    """Print the contract of TABLE as Open Data Contract Standard 3.1 (YAML), or write all of them into a folder.

    \b
    Examples:
      lakehouse contract export sales.gold.daily_revenue
      lakehouse contract export --all contracts/
    """
    from lakehouse_assets.commands import contract as commands

    if (table is None) == (folder is None):
        raise click.UsageError("name a table, or a folder with --all")
    if folder is not None:
        for path in commands.export_all(workspace(), folder):
            click.echo(path)
    elif table is not None:
        click.echo(commands.export(workspace(), table), nl=False)


@contract.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@JSON
def check(file: Path, as_json: bool) -> None:
    """Say whether the table that FILE is about keeps what FILE promises (Open Data Contract Standard 3, by any author).

    Ends with 1 if it does not.

    \b
    Example:
      lakehouse contract check invoice_lines.odcs.yaml
    """
    from lakehouse_assets.commands import contract as commands

    found = commands.check(workspace(), file)
    if as_json:
        print_json(found)
    else:
        commands.print_check(found, CONSOLE)
    sys.exit(not all(part["kept"] for part in found))
