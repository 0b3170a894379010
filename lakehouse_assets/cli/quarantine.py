"""`lakehouse quarantine`: rejected rows, and their way back. What is done is in `commands.quarantine`."""

import click

from lakehouse_assets.cli.shared import CONSOLE, JSON, Commands, print_json, workspace


class _TableOrCommand(Commands):
    """`quarantine TABLE` is short for `quarantine show TABLE`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command in that was left out."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_TableOrCommand)
def quarantine() -> None:
    """Rows that were rejected: `lakehouse quarantine TABLE` shows them, `replay` puts them through again.

    \b
    Examples:
      lakehouse quarantine sales.silver.invoice_lines
      lakehouse quarantine sales.silver.invoice_lines --rule readable --rows 3
      lakehouse quarantine replay sales.silver.invoice_lines --dry-run
    """


@quarantine.command()
@click.argument("table")
@click.option("--rows", type=click.IntRange(0), default=10, show_default=True, help="How many rows.")
@click.option("--rule", help="Only rows that broke this rule.")
@click.option("--all", "released", is_flag=True, help="Also rows that were released.")
@JSON
def show(table: str, rows: int, rule: str | None, released: bool, as_json: bool) -> None:
    """Rules that rows of TABLE broke, and the rows: file and line, the text that could not be read, the source row.

    \b
    Examples:
      lakehouse quarantine sales.silver.invoice_lines
      lakehouse quarantine sales.silver.invoice_lines --rule readable --rows 3 --json
    """
    from lakehouse_assets.commands import quarantine as commands

    found = commands.rejected(commands.replays_of(workspace(), table), rows=rows, rule=rule, released=released)
    if as_json:
        print_json(found)
    else:
        commands.print_rejected(found, CONSOLE)


@quarantine.command()
@click.argument("table")
@click.option("--where", help="Which rows: a condition in SQL on columns of the quarantine and of the source (source.COLUMN).")
@click.option(
    "--set", "sets", multiple=True, metavar="COLUMN=EXPRESSION", help="Change a column of the source row first, by an expression in SQL."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be released.")
@JSON
def replay(table: str, where: str | None, sets: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Put rejected rows of TABLE through its function and contract again, and write those that pass, once.

    The source rows themselves stay as they are; what was changed with --set is kept beside the row in the quarantine.

    \b
    Examples:
      lakehouse quarantine replay sales.silver.invoice_lines            after a contract or a function was mended
      lakehouse quarantine replay sales.silver.invoice_lines \\
          --where "array_contains(_broken, 'readable') and _file like '2024-%'" \\
          --set "Quantity=replace(Quantity, ',', '')" --dry-run
    """
    from lakehouse_assets.commands import quarantine as commands

    selection = commands.selection_of(where, sets)
    replayed = commands.replay(commands.replays_of(workspace(), table), selection, dry_run=dry_run)
    if as_json:
        print_json(commands.plain(replayed, dry_run=dry_run))
    else:
        commands.print_replayed(table, replayed, CONSOLE, dry_run=dry_run)
