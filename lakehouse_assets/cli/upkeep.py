"""`lakehouse maintenance`, `doctor` and `restore`: what keeps a lakehouse healthy, what is wrong with it, and the way back."""

import sys
from datetime import UTC, datetime

import click
from rich.console import Console

from lakehouse_assets.cli.shared import CONSOLE, JSON, print_json, workspace

_MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])


def _console(*, as_json: bool) -> Console:
    """Progress and questions go beside the JSON, not into it."""
    return Console(stderr=True, highlight=False) if as_json else CONSOLE


@click.command()
@click.argument("tables", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@JSON
def maintenance(tables: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Compact, checkpoint, vacuum and clean up the log of all tables, or of TABLES with their quarantines, where it is due.

    Versions that a model in use was trained on, and what a reader has not read yet, stay. The schedule `nightly_maintenance` does the same.

    \b
    Examples:
      lakehouse maintenance --dry-run
      lakehouse maintenance sales.silver.invoice_lines
    """
    from lakehouse_assets.commands import upkeep as command

    console = _console(as_json=as_json)
    found = command.needs(workspace(), tables, console) if dry_run else command.maintain(workspace(), tables, console)
    if as_json:
        print_json(found)
    elif dry_run:
        command.print_needs(found, CONSOLE)
    else:
        command.print_maintained(found, CONSOLE)
    sys.exit(0 if dry_run or not any(row["why_not"] for row in found) else 1)


@click.command()
@JSON
def doctor(as_json: bool) -> None:
    """Name what is wrong with this lakehouse and how to mend it; exit code 1 if something is.

    \b
    Example:
      lakehouse doctor
    """
    from lakehouse_assets.commands import doctor as command

    found = command.examine(workspace(), _console(as_json=as_json))
    if as_json:
        print_json(found)
    else:
        command.print_findings(found, CONSOLE)
    sys.exit(1 if any(finding["severity"] != "note" for finding in found) else 0)


@click.command()
@click.argument("table", required=False)
@click.option("--version", type=click.IntRange(0), help="Back to this version.")
@click.option("--at", type=_MOMENT, help="Back to this moment, in UTC.")
@click.option("--run", "run_id", help="All tables that this run wrote, to before it; the first 8 characters are enough.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def restore(
    table: str | None, *, version: int | None, at: datetime | None, run_id: str | None, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Bring TABLE and its quarantine, or all that a run wrote, back to one moment.

    Cursors go back with the rows, so the next run reads again what came later: nothing is lost. A restore is a new version and can be
    undone like any other. The landing log and the ledgers of models stay; `lakehouse rollback` is for models.

    \b
    Examples:
      lakehouse restore sales.silver.invoice_lines --version 3
      lakehouse restore sales.silver.invoice_lines --at 2026-01-31T06:00:00
      lakehouse restore --run 1f0c22b4 --dry-run
    """
    from lakehouse_assets.commands import restore as command

    if (table is None) == (run_id is None):
        raise click.UsageError("name a table or a run: lakehouse restore TABLE --version N, or lakehouse restore --run ID")
    if (table is not None) != ((version is None) != (at is None)):
        raise click.UsageError("with a table, say --version or --at; with a run, neither")
    found = workspace()
    plan = command.plan(found, table, version, at.replace(tzinfo=UTC) if at else None, run_id)
    missing = command.missing_files(found, plan)
    if dry_run:
        if as_json:
            print_json(command.as_values(plan, missing, None))
        else:
            command.print_plan(plan, missing, CONSOLE)
        return
    done = command.restore_and_report(
        found, plan, missing, _console(as_json=as_json), lambda: yes or click.confirm("Go back?", err=as_json, default=False)
    )
    if as_json:
        print_json(command.as_values(plan, missing, done))
    sys.exit(1 if done is None else 0)
