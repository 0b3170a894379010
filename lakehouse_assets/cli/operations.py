"""`lakehouse maintenance`, `doctor` and `restore`: what keeps a lakehouse healthy, what is wrong with it, and the way back."""

import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from lakehouse_assets.cli.complete import TABLES
from lakehouse_assets.cli.shared import JSON, client, command, progress_console
from lakehouse_assets.cli.tables import MOMENT
from lakehouse_assets.cli.terminal import add_row, folds, grid, optional, print_grid, print_json, right, say
from lakehouse_assets.platform.wording import counted, listed, size

if TYPE_CHECKING:
    from lakehouse_assets.client.restores import PlannedRestore

_VERBS = {"compacted": "compact", "checkpointed": "checkpoint", "vacuumed": "vacuum", "log cleaned up": "clean up the log"}
_COLOURS = {"error": "red", "warning": "yellow", "note": "blue"}
_SAMPLE = 3


# --- maintenance


@command(interrupted="Each table is intact: `lakehouse maintenance` does the rest.")
@click.argument("tables", nargs=-1, shell_complete=TABLES)
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@JSON
def maintenance(tables: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Compact, checkpoint and vacuum all tables, or TABLES with their quarantines, where that is needed.

    Versions that a model in use was trained on, and changes that a reader has not read yet, are kept. A nightly schedule does the same.

    \b
    Examples:
      lakehouse maintenance --dry-run
      lakehouse maintenance sales.silver.invoice_lines
    """
    with progress_console(as_json=as_json).status("Maintenance") as status:
        rows = client().maintenance(tables, dry_run=dry_run, on_progress=lambda table: status.update(f"Done: {table}"))
    if as_json:
        print_json(rows)
    elif dry_run:
        _print_needs(rows)
    else:
        _print_maintained(rows)
    sys.exit(0 if dry_run or not any(row["why_not"] for row in rows) else 1)


def _print_needs(rows: list[dict[str, Any]]) -> None:
    columns = ("files", "small", "partitions", "size", "log entries", "to be freed")
    shown = grid("table", *(optional(name, right=True) for name in columns), folds("would"))
    for row in rows:
        sizes = (size(row["bytes"]), row["log_entries"], size(row["unneeded_bytes"]))
        verbs = ", ".join(_VERBS[name] for name in row["would_do"]) or "do nothing"
        add_row(shown, row["table"], row["files"], row["small_files"], row["partitions"], *sizes, row["why_not"] or verbs)
    print_grid(shown) if rows else say("There are no tables yet.")


def _print_maintained(rows: list[dict[str, Any]]) -> None:
    shown = grid("table", folds("done"), optional("files", right=True), optional("freed", right=True), optional("seconds", right=True))
    busy = [row for row in rows if row["done"] or row["why_not"]]
    for row in busy:
        done = "; ".join(filter(None, [", ".join(row["done"]), row["why_not"]]))
        files = f"{row['files_before']} → {row['files_after']}"
        add_row(shown, row["table"], done, files, size(row["bytes_freed"]), f"{row['seconds']:.1f}")
    if busy:
        print_grid(shown)
    freed = size(sum(row["bytes_freed"] for row in rows))
    say(f"{counted(len(rows), 'table')} checked, {len(busy)} needed maintenance, {freed} freed.")


# --- doctor


@command()
@JSON
def doctor(as_json: bool) -> None:
    """Find what is wrong with this lakehouse and say how to fix it; exit code 1 if something is.

    \b
    Example:
      lakehouse doctor
    """
    with progress_console(as_json=as_json).status("Checking the lakehouse") as status:
        findings = client().doctor(lambda table: status.update(f"Checked {table}"))
    if as_json:
        print_json(findings)
    else:
        _print_findings(findings)
    sys.exit(1 if any(finding["severity"] != "note" for finding in findings) else 0)


def _print_findings(findings: list[dict[str, Any]]) -> None:
    for finding in findings:
        colour = _COLOURS[finding["severity"]]
        what = finding["what"].removeprefix(f"{finding['table']}: ")
        say((f"{finding['severity']:8}", colour), f"{finding['table']}: {what}")
        if finding["fix"]:
            say(f"        → {finding['fix']}")
    counts = Counter(finding["severity"] for finding in findings)
    say(", ".join(counted(counts[name], name) for name in ("error", "warning") if counts[name]) or "Nothing is wrong.")


# --- restore


@command(interrupted="Each table is intact: the same command restores the rest.")
@click.argument("table", required=False, shell_complete=TABLES)
@click.option("--version", type=click.IntRange(0), help="To this version.")
@click.option("--at", type=MOMENT, help="To this moment, in UTC.")
@click.option("--run", "run_id", help="All tables that this run wrote, to before it; the first 8 characters are enough.")
@click.option("--last-good", is_flag=True, help="To the last version that is intact, after a power failure; without TABLE: all tables.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def restore(
    table: str | None,
    *,
    version: int | None,
    at: datetime | None,
    run_id: str | None,
    last_good: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Restore TABLE and its quarantine, or all tables that a run wrote, to one moment.

    Watermarks are restored with the rows, so the next run reads again what came later: nothing is lost. A restore is a new version and can
    be undone like any other. The landing log and the model ledgers stay; `lakehouse models rollback` is for models.

    \b
    Examples:
      lakehouse restore sales.silver.invoice_lines --version 3
      lakehouse restore sales.silver.invoice_lines --at 2026-01-31T06:00:00
      lakehouse restore --run 1f0c22b4 --dry-run
      lakehouse restore --last-good
    """
    if last_good:
        if version is not None or at is not None or run_id is not None:
            raise click.UsageError("--last-good finds the version itself: give no --version, --at or --run")
        sys.exit(_restore_last_good(table, dry_run=dry_run, yes=yes, as_json=as_json))
    if (table is None) == (run_id is None):
        raise click.UsageError("name a table or a run: lakehouse restore TABLE --version N, or lakehouse restore --run ID")
    if (table is not None) != ((version is None) != (at is None)):
        raise click.UsageError("with a table, give --version or --at; with a run, neither")
    plan = client().restore(table, version=version, at=at.replace(tzinfo=UTC) if at else None, run=run_id)
    target = progress_console(as_json=as_json)
    if not (dry_run and as_json):
        _print_plan(plan, target)
    done = None if dry_run else _carry_out(plan, target, lambda: yes or click.confirm("Restore?", err=as_json, default=False))
    if as_json:
        print_json(plan.as_values(done))
    sys.exit(0 if dry_run or done is not None else 1)


def _restore_last_good(table: str | None, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    plan, to, done = client().restore_last_good(table), progress_console(as_json=as_json), None
    for damaged in plan.as_values()["tables"]:
        lost = f", {counted(damaged['lost'], 'version')} lost" if damaged["lost"] else ""
        back = f"back to version {damaged['to']}{lost}" if damaged["to"] >= 0 else "moved away: no version is intact"
        say((damaged["table"], "bold"), f": {damaged['what']}; {back}.", to=to)
    if plan.is_done:
        say("Nothing to do: all tables are intact.", to=to)
        done = {}
    elif not dry_run and (yes or click.confirm("Restore?", err=as_json, default=False)):
        done = plan.carry_out()
        say("Restored, with the tables that had read what is lost. The damaged files are kept under damaged/ in the root.", to=to)
        say("Next: ", ("lakehouse run", "bold"), " reads it again from its sources.", to=to)
    if as_json:
        print_json(plan.as_values(done))
    return 0 if dry_run or done is not None else 1


def _print_plan(plan: "PlannedRestore", to: Console) -> None:
    values = plan.as_values()
    shown = grid("table", right("version"), right("back to"), optional("rows", right=True), right("rows then"), folds("read again"))
    for step in values["tables"]:
        again = ", ".join(f"{source} from {'the beginning' if at is None else at}" for source, at in step["cursors"].items())
        then = "already there" if step["already_restored"] else again
        add_row(shown, step["table"], step["version"], step["to"], f"{step['rows']:,}", f"{step['rows_after']:,}", then)
    print_grid(shown, to)
    if values["readers"]:
        say(f"The next run recomputes what is affected downstream: {', '.join(values['readers'])}.", to=to)
    for feed, paths in plan.missing_files.items():
        say(
            ("warning", "yellow"),
            f" {counted(len(paths), 'file is', 'files are')} not in the landing zone of feed {feed} any more, so these rows do not come "
            f"again: {listed(paths, _SAMPLE)}. To keep them, put the files back first, from the archive if they were moved there.",
            to=to,
        )
    say("The landing log and the model ledgers stay as they are: `lakehouse models rollback MODEL` is for models.", to=to)


def _carry_out(plan: "PlannedRestore", to: Console, confirm: Callable[[], bool]) -> dict[str, int] | None:
    """Ask and restore; the version of each table afterwards, None if the person said no."""
    if plan.is_done:
        say("Nothing to do.", to=to)
        return {}
    if runs := plan.runs_under_way():
        ids = ", ".join(run[:8] for run in runs)
        say(("warning", "yellow"), f" a run is in progress ({ids}): better wait until it has ended.", to=to)
    if not confirm():
        return None
    done = plan.carry_out()
    for name, version in done.items():
        say(f"{name} is restored, as version {version}.", to=to)
    say("Next: ", ("lakehouse run", "bold"), " reads again what came later. To undo this, restore to the version before it.", to=to)
    return done
