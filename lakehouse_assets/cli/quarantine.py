"""`lakehouse quarantine`: rejected rows, and their release."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from lakehouse_assets.cli.complete import TABLES
from lakehouse_assets.cli.shared import JSON, Noun, client
from lakehouse_assets.cli.terminal import add_row, ago, folds, grid, print_grid, print_json, right, say
from lakehouse_assets.platform.wording import counted, printable

if TYPE_CHECKING:
    from lakehouse_assets.platform.pipeline.replay import Replayed

_SHOWN = 200


@click.group(cls=Noun, argument_command="show")
def quarantine() -> None:
    """Rejected rows: `lakehouse quarantine` counts them by table, `show` shows them, `replay` processes them again.

    \b
    Examples:
      lakehouse quarantine
      lakehouse quarantine show sales.silver.invoice_lines --rule readable --limit 3
      lakehouse quarantine replay sales.silver.invoice_lines --dry-run
    """


@quarantine.command("list")
@JSON
def list_quarantines(as_json: bool) -> None:
    """The tables that have rejected rows, and how many wait there."""
    values = client().quarantines()
    if as_json:
        print_json(values)
        return
    if not values:
        say("No row is in quarantine.")
        return
    shown = grid("table", right("rows"), "last rejected")
    for row in values:
        add_row(shown, row["table"], f"{row['rows']:,}", ago(row["changed_at"]))
    print_grid(shown)
    say("`lakehouse quarantine show TABLE` says why, `lakehouse quarantine replay TABLE` processes them again.")


@quarantine.command()
@click.argument("table", shell_complete=TABLES)
@click.option("--limit", type=click.IntRange(0), default=10, show_default=True, help="How many rows.")
@click.option("--rule", help="Only rows that broke this rule.")
@click.option("--all", "released", is_flag=True, help="Also rows that were released.")
@JSON
def show(table: str, limit: int, rule: str | None, released: bool, as_json: bool) -> None:
    """Rules that rows of TABLE broke, and the rows: file and record, the text that could not be parsed, the source row.

    \b
    Examples:
      lakehouse quarantine show sales.silver.invoice_lines
      lakehouse quarantine show sales.silver.invoice_lines --rule readable --limit 3 --json
    """
    values = client().quarantine(table).show(rows=limit, rule=rule, released=released)
    if as_json:
        print_json(values)
    else:
        _print_rejected(values)


def _print_rejected(values: Mapping[str, Any]) -> None:
    released = f", {values['released']:,} were released" if values["released"] else ""
    say((values["table"], "bold"), f": {counted(values['waiting'], 'row is', 'rows are')} in quarantine{released}.")
    if not values["rules"]:
        return
    shown = grid("rule", right("rows"), folds("demands"))
    for rule in values["rules"]:
        add_row(shown, rule["rule"], f"{rule['rows']:,}", rule["text"])
    print_grid(shown)
    for row in values["rows"]:
        at = f"{row['file']}, row {row['row']}" if row["file"] else "a row without a file"
        mark = f" released {row['released_at']:%Y-%m-%d %H:%M}" if "released_at" in row else ""
        say("\n", (at, "bold"), (mark, "green"), f": {', '.join(row['rules'])}")
        for name, text in row["unparsed"].items():
            say(f"  {name} could not be parsed from ", (_short(text), "red"))
        if row["misfit"]:
            say(f"  {row['misfit']}")
        if row["hint"]:
            say(f"  {row['hint']}")
        say((f"  {_source(row['source'])}", "dim"))
    if len(values["rows"]) < values["matching"]:
        say(f"\n{len(values['rows']):,} of {values['matching']:,}; --limit N shows more.")
    if values["waiting"]:
        say("\nFix the contract, the function or the rows, then ", (f"lakehouse quarantine replay {values['table']}", "bold"))


def _source(values: Mapping[str, Any] | None) -> str:
    if values is None:
        return "its source row cannot be found: it went, or the row is computed from several"
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items() if value is not None) or "its source row is empty"


def _short(value: Any) -> str:
    text = f'"{printable(value)}"' if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


@quarantine.command()
@click.argument("table", shell_complete=TABLES)
@click.option("--where", help="Which rows: a condition in SQL on columns of the quarantine and of the source (source.COLUMN).")
@click.option(
    "--set", "sets", multiple=True, metavar="COLUMN=EXPRESSION", help="Change a column of the source row first, by an expression in SQL."
)
@click.option("--dry-run", is_flag=True, help="Only show what would be released.")
@JSON
def replay(table: str, where: str | None, sets: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Process rejected rows of TABLE by its function and contract again, and write those that pass, once.

    The source rows themselves are not changed; what was changed with --set is recorded with the row in the quarantine.

    \b
    Examples:
      lakehouse quarantine replay sales.silver.invoice_lines            after a contract or a function was fixed
      lakehouse quarantine replay sales.silver.invoice_lines \\
          --where "array_contains(_broken, 'readable') and _file like '2024-%'" \\
          --set "Quantity=replace(Quantity, ',', '')" --dry-run
    """
    replayed = client().quarantine(table).replay(where, _changes(sets), dry_run=dry_run)
    if as_json:
        print_json(_as_values(replayed, dry_run=dry_run))
    else:
        _print_replayed(table, replayed, dry_run=dry_run)


def _changes(sets: tuple[str, ...]) -> dict[str, str]:
    """The expressions of `--set COLUMN=EXPRESSION`, by column."""
    changes: dict[str, str] = {}
    for text in sets:
        column, separator, expression = text.partition("=")
        column = column.strip().strip('"')
        if not separator or not column or not expression.strip():
            example = "--set \"Quantity=replace(Quantity, ',', '.')\""
            raise ValueError(f"--set {text!r} cannot be understood: write COLUMN=EXPRESSION, as in {example}")
        if column in changes:
            raise ValueError(f"--set names {column!r} twice: write one expression for it")
        changes[column] = expression.strip()
    return changes


def _as_values(replayed: "Replayed", *, dry_run: bool) -> dict[str, Any]:
    account = replayed.account
    return {
        "dry_run": dry_run,
        "replay": replayed.number,
        "selected": replayed.selected,
        "released": replayed.released,
        "rejected": replayed.selected - replayed.released,
        "rejected_by": dict(replayed.rejected),
        "source_gone": replayed.gone,
        "written": account.written if account else None,
        "merged": account.updated if account else None,
        "duplicates": account.duplicates if account else None,
        "finished_before": replayed.finished,
    }


def _print_replayed(table: str, replayed: "Replayed", *, dry_run: bool) -> None:
    if replayed.finished:
        say(f"{counted(replayed.finished, 'replay')} that had been interrupted: completed first.")
    if not replayed.selected and not replayed.gone:
        say(f"No row in the quarantine of {table} is selected: nothing to do.")
        return
    selected = f"{counted(replayed.selected, 'row')} selected"
    account = replayed.account
    if dry_run:
        say(f"{selected}, {replayed.released:,} would be released (nothing was written).")
    elif account is not None and replayed.number is not None:
        counts = f"{account.written:,} written, {account.updated:,} merged into a row of the table, {account.duplicates:,} duplicates"
        say(f"{selected}, {replayed.released:,} released into {table} by replay {replayed.number}: {counts}.")
    else:
        say(f"{selected}, {replayed.released:,} released into {table}.")
    still = replayed.selected - replayed.released
    if still:
        reasons = ", ".join(f"{rule} ({count:,})" for rule, count in replayed.rejected.items())
        stay = "would stay" if dry_run else "stays" if still == 1 else "stay"
        say(f"{still:,} {stay} in quarantine, still rejected by: {reasons}.")
    if replayed.gone:
        say(f"{counted(replayed.gone, 'row is', 'rows are')} not in the source any more, left as before: the file was read again later.")
    if not dry_run and account is not None and account.written + account.updated:
        say("Next: ", ("lakehouse run", "bold"), " updates the tables downstream")
