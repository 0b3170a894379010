"""`lakehouse contracts`: what tables promise, and what a change breaks."""

import sys
from pathlib import Path
from typing import Any

import click

from lakehouse_assets.cli.complete import TABLES
from lakehouse_assets.cli.shared import JSON, Noun, client
from lakehouse_assets.cli.terminal import add_row, folds, grid, optional, print_grid, print_json, say
from lakehouse_assets.platform.wording import counted

_CONSEQUENCES = {
    "error": "rows that break it are quarantined",
    "warn": "rows that break it are counted and written",
    "fail": "one row that breaks it stops the write",
}


@click.group(cls=Noun, argument_command="show")
def contracts() -> None:
    """What tables promise: show it, see what a change breaks, exchange it as Open Data Contract Standard 3.1.

    \b
    Examples:
      lakehouse contracts show sales.silver.invoice_lines
      lakehouse contracts diff
      lakehouse contracts export sales.silver.invoice_lines > invoice_lines.odcs.yaml
      lakehouse contracts check invoice_lines.odcs.yaml
    """


@contracts.command("list")
@JSON
def list_contracts(as_json: bool) -> None:
    """The tables with a contract, and who answers for them."""
    values = client().contracts.list()
    if as_json:
        print_json(values)
        return
    if not values:
        say("No product declares a table with a contract.")
        return
    shown = grid("table", "contract", optional("owner"), optional("columns", right=True), optional("rules", right=True))
    for row in values:
        add_row(shown, row["table"], row["contract"], row["owner"], row["columns"], row["rules"])
    print_grid(shown)


@contracts.command()
@click.argument("table", shell_complete=TABLES)
@JSON
def show(table: str, as_json: bool) -> None:
    """Columns, rules with their levels, thresholds and monitors of TABLE.

    \b
    Example:
      lakehouse contracts show sales.gold.daily_revenue
    """
    values = client().contracts.show(table)
    if as_json:
        print_json(values)
    else:
        _print_contract(values)


def _print_contract(values: dict[str, Any]) -> None:
    say((values["table"], "bold"), f"  contract {values['contract']} {values['fingerprint']}, {values['owner']}")
    say(f"{values['description']}\n")
    shown = grid("column", "type", "nulls", "marks", folds("description"))
    for column in values["columns"]:
        marks = [name for name in ("key", "personal") if column[name]] + ([f"in {column['references']}"] if column["references"] else [])
        add_row(shown, column["name"], column["type"], "allowed" if column["nullable"] else "", ", ".join(marks), column["description"])
    print_grid(shown)
    say()
    shown = grid("level", "rule", folds("demands"))
    for rule in values["rules"]:
        add_row(shown, rule["level"], rule["name"], rule["text"])
    print_grid(shown)
    for level, text in _CONSEQUENCES.items():
        if any(rule["level"] == level for rule in values["rules"]):
            say((f"{level}: {text}.", "dim"))
    limits = values["thresholds"]
    rows = "" if limits["max_bad_rows"] is None else f" or {counted(limits['max_bad_rows'], 'row')}"
    share = f"{limits['max_bad_share']:.1%} of the rows (from {counted(limits['share_counts_from'], 'row')} on)"
    say(f"\nThe write stops if more than {share}{rows} are bad.")
    if values["key"]:
        say(f"The key is {', '.join(values['key'])}, kept unique by {values['key_kept_by']}.")
    for monitor, text in values["monitors"].items():
        say(f"{monitor}: {text}")


@contracts.command()
@click.argument("table", required=False, shell_complete=TABLES)
@JSON
def diff(table: str | None, as_json: bool) -> None:
    """Compare the contract of TABLE (default: of all tables) with the last one that the table was written under.

    Shows what breaks, and whom: the stored table, its rows, the tables that read it. Ends with 1 if something does, or
    if a product cannot be loaded.

    \b
    Examples:
      lakehouse contracts diff
      lakehouse contracts diff sales.silver.invoice_lines --json
    """
    opened = client()
    values = opened.contracts.diff(table)
    if as_json:
        print_json(values)
    else:
        _print_diff(values)
    # Of a product that cannot be loaded nothing is known; which one it is, the warning says.
    sys.exit(bool(opened.context.loaded.broken) or any(part["breaks"] for part in values))


def _print_diff(values: list[dict[str, Any]]) -> None:
    same = 0
    for table in values:
        if not table["changes"] and not table["breaks"] and (table["before"] or not table["notes"]):
            same += 1
            continue
        say((table["table"], "bold"), f"  {table['before'] or 'none'} -> {table['after']}")
        for change in table["changes"]:
            say(f"  {change['kind']}: ", (change["subject"], "bold"), f": {change['text']}")
        for broken in table["breaks"]:
            say((f"  breaks {broken['whom']}", "red"), f" ({broken['owner']}): {broken['text']}")
        for note in table["notes"]:
            say((f"  {note}", "dim"))
    if same:
        say(f"{counted(same, 'contract has', 'contracts have')} not changed since the tables were last written.")


@contracts.command()
@click.argument("table", required=False, shell_complete=TABLES)
@click.option("--all", "folder", type=click.Path(path_type=Path, file_okay=False), help="Write every table's contract into this folder.")
def export(table: str | None, folder: Path | None) -> None:
    """Print the contract of TABLE as Open Data Contract Standard 3.1 (YAML), or write all of them into a folder.

    \b
    Examples:
      lakehouse contracts export sales.gold.daily_revenue
      lakehouse contracts export --all contracts/
    """
    if (table is None) == (folder is None):
        raise click.UsageError("name a table, or a folder with --all")
    if folder is not None:
        for path in client().contracts.export_all(folder):
            say(str(path))
    elif table is not None:
        click.echo(client().contracts.export(table), nl=False)


@contracts.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@JSON
def check(file: Path, as_json: bool) -> None:
    """Check whether the table that FILE is about keeps what FILE promises (Open Data Contract Standard 3, by any author).

    Ends with 1 if it does not.

    \b
    Example:
      lakehouse contracts check invoice_lines.odcs.yaml
    """
    values = client().contracts.check(file)
    if as_json:
        print_json(values)
    else:
        _print_check(values)
    sys.exit(not all(part["kept"] for part in values))


def _print_check(values: list[dict[str, Any]]) -> None:
    for table in values:
        kept = ("keeps what is promised", "green") if table["kept"] else ("does not keep what is promised", "red")
        say((table["table"], "bold"), " ", kept)
        for finding in table["findings"]:
            mark = ("broken", "red") if finding["broken"] else ("to know", "dim")
            say("  ", mark, f" {finding['where']} {finding['text']}")
