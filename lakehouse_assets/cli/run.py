"""`lakehouse run`, `train` and `reproduce`: bring tables and models up to date, or train a version again, and show how far each is."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from lakehouse_assets.cli.complete import MODELS, TABLES
from lakehouse_assets.cli.progress import progress
from lakehouse_assets.cli.shared import JSON, client, command, progress_console
from lakehouse_assets.cli.status import print_champion
from lakehouse_assets.cli.terminal import print_json, say
from lakehouse_assets.platform.wording import counted

if TYPE_CHECKING:
    from lakehouse_assets.client import Client
    from lakehouse_assets.platform.operations.follow import MicroBatch
    from lakehouse_assets.platform.orchestration.run import Outcome

_SHOWN = 5
_ACCOUNT = ("rows_in", "rows_written", "rows_updated", "rows_duplicate", "rows_quarantined")


@command(interrupted="Nothing is lost: the same command resumes where this run stopped.")
@click.argument("selection", nargs=-1, shell_complete=TABLES)
@click.option("--full-refresh", is_flag=True, help="Recompute the selected tables from all rows of their sources.")
@click.option("--partition", help="Recompute one partition of a table by partition, or of a partitioned @dg.asset.")
@click.option("--follow", is_flag=True, help="Do not end: new files are processed within seconds, in micro-batches.")
@JSON
def run(selection: tuple[str, ...], full_refresh: bool, partition: str | None, follow: bool, as_json: bool) -> None:
    """Bring all tables, or a SELECTION, up to date. Models are not trained: `lakehouse train` does that.

    What is up to date is skipped. A run that failed or was killed is resumed by the next one; nothing is done twice.

    With --follow the command stays: it looks for new files every second and brings what they reach up to date, each row once. A SELECTION
    is of tables and products then, with all that they are made of. These batches are commits like others, but no runs of Dagster.

    \b
    Examples:
      lakehouse run
      lakehouse run sales.silver.invoice_lines       one table
      lakehouse run 'sales.silver.invoice_lines+'    and all tables downstream
      lakehouse run '+sales.gold.daily_revenue'      and all tables upstream
      lakehouse run group:sales                      a product
      lakehouse run sales.gold.daily_revenue --full-refresh    after its function has changed
      lakehouse run sales.gold.daily_revenue --partition 2026-01    one month of it
      lakehouse run --follow sales.gold.daily_revenue          keep it up to date within seconds
    """
    if follow:
        if full_refresh or partition is not None:
            raise click.UsageError("--follow takes what is new: leave out --full-refresh and --partition")
        follow_and_print(client(), selection, as_json=as_json)
        return
    sys.exit(run_and_print(client(), selection, full_refresh=full_refresh, partition=partition, as_json=as_json))


@command(interrupted="Nothing is lost: the same command resumes where this run stopped.")
@click.argument("models", nargs=-1, shell_complete=MODELS)
@click.option("--force", is_flag=True, help="Train also where no feature has changed, as after a change of the code.")
@click.option("--reason", default="", help="Why; it is kept with the training, in MLflow and in the model ledger.")
@click.option("--due", is_flag=True, help="Train only where the model's retrain= asks for it now, each for its reason.")
@JSON
def train(models: tuple[str, ...], force: bool, reason: str, due: bool, as_json: bool) -> None:
    """Train all models, or MODELS, whose features have changed, let the gate decide, and score with the champions.

    With --due it does what the sensor `retraining` does where `lakehouse dev` runs: `lakehouse models retraining` says what that would be.

    \b
    Examples:
      lakehouse train
      lakehouse train revenue_forecast.models.daily_revenue --force
      lakehouse train revenue_forecast.models.daily_revenue --reason "the price list was corrected"
      lakehouse train --due
    """
    if due:
        if models or force or reason:
            raise click.UsageError("--due trains what asks for it: leave out MODELS, --force and --reason")
        sys.exit(train_due_and_print(client(), as_json=as_json))
    sys.exit(train_and_print(client(), models, force=force, reason=reason, as_json=as_json))


@command(interrupted="Nothing was changed.")
@click.argument("model", shell_complete=MODELS)
@JSON
def reproduce(model: str, as_json: bool) -> None:
    """Train a version of MODEL again from what it was made of, and compare the bytes. Exit code 1 if they differ.

    MODEL is a model (its champion), MODEL@ALIAS or MODEL/VERSION. Nothing is registered.

    \b
    Examples:
      lakehouse reproduce revenue_forecast.models.daily_revenue
      lakehouse reproduce revenue_forecast.models.daily_revenue@previous
      lakehouse reproduce revenue_forecast.models.daily_revenue/3
    """
    found = client().models.reproduce(model)
    if as_json:
        print_json(asdict(found))
    else:
        for file, state in found.files.items():
            say(f"  {file}: {state}")
        for difference in found.differences:
            say((difference, "yellow"))
        verdict = "is reproduced: every file has the same bytes" if found.equal else "is not reproduced"
        say((f"Version {found.version} of {found.model_name} {verdict}.", "bold"))
    sys.exit(0 if found.equal else 1)


def follow_and_print(lakehouse: "Client", tables: tuple[str, ...] = (), *, as_json: bool = False) -> None:
    """Keep tables up to date, and print a line for each batch, until the command is interrupted."""

    def show(batch: "MicroBatch") -> None:
        if as_json:
            print_json(asdict(batch), one_line=True)
            return
        for text in batch.failed.values():
            say(("failed  ", "red"), f"{text} It is tried again.")
        if batch.rows:
            last, rows = list(batch.rows.items())[-1]
            others = f" and {counted(len(batch.rows) - 1, 'table')} before it" if len(batch.rows) > 1 else ""
            say((f"{batch.began.astimezone():%H:%M:%S} ", "dim"), f"{last}: {counted(rows, 'row')}{others}, {batch.seconds:.1f} s")

    if not as_json:
        say("New files are processed within seconds. Press Ctrl-C to stop.")
    lakehouse.follow(tables, on_batch=show)


def train_and_print(
    lakehouse: "Client", models: tuple[str, ...] = (), *, force: bool = False, reason: str = "", as_json: bool = False
) -> int:
    """Train with progress, and print what became of each model; the exit code."""
    with progress(progress_console(as_json=as_json)) as on_progress:
        outcome = lakehouse.train(models, force=force, reason=reason, on_progress=on_progress)
    if as_json:
        print_json(_as_values(outcome))
    elif outcome is None:
        say("Nothing to do: no feature has changed since the last training. `--force` trains all the same.")
    else:
        _print_trained(outcome, [one for one in lakehouse.champions() if one["model"] in outcome.tables])
    return 1 if outcome is not None and outcome.failed else 0


def train_due_and_print(lakehouse: "Client", *, as_json: bool = False) -> int:
    """Train the models whose declarations ask for it, and print what became of each; the exit code."""
    with progress(progress_console(as_json=as_json)) as on_progress:
        outcomes = lakehouse.train_due(on_progress=on_progress)
    if as_json:
        print_json([{"model": model} | _as_values(outcome) for model, outcome in outcomes.items()])
    elif not outcomes:
        say("Nothing to do: no model asks for a training now. `lakehouse models retraining` says why.")
    else:
        champions = lakehouse.champions()
        for model, outcome in outcomes.items():
            _print_trained(outcome, [one for one in champions if one["model"] == model])
    return 1 if any(outcome.failed for outcome in outcomes.values()) else 0


def _print_trained(outcome: "Outcome", champions: Sequence[dict[str, Any]]) -> None:
    """What became of a training: the reasons of the gate stand below its model alone, and not among the warnings as well."""
    from lakehouse_assets.platform.declarations.check_names import GATE_CHECK

    said = tuple(f"{champion['model']}, check {GATE_CHECK}: " for champion in champions if champion["last_decision"] is not None)
    _print(replace(outcome, warnings=[warning for warning in outcome.warnings if not warning.startswith(said)]), "train")
    for champion in champions:
        print_champion(champion)


def run_and_print(
    lakehouse: "Client",
    selection: tuple[str, ...] = (),
    *,
    full_refresh: bool = False,
    partition: str | None = None,
    as_json: bool = False,
    hints: bool = True,
) -> int:
    """Run with progress, and print what became of each table and what to do next; the exit code."""
    with progress(progress_console(as_json=as_json)) as on_progress:
        outcome = lakehouse.run(selection, full_refresh=full_refresh, partition=partition, on_progress=on_progress)
    duplicates = [] if outcome is None else lakehouse.files.duplicates(outcome.run_id)
    changed = lakehouse.with_changed_function()
    if as_json:
        print_json(_as_values(outcome) | {"duplicates": duplicates, "function_changed": changed})
    elif outcome is None and lakehouse.nothing_landed():
        feeds = ", ".join(sorted(lakehouse.context.policy.feeds()))
        say(
            "Nothing to do: no file has landed yet. Put files under ",
            (f"{lakehouse.settings.landing}/FEED/", "bold"),
            f", or `lakehouse land FEED FILE`, then `lakehouse run`. The feeds are {feeds}.",
        )
    elif outcome is None:
        count = len(lakehouse.context.declarations) - len(lakehouse.context.models)
        up_to_date = "" if changed else f", and all {count} tables are up to date"
        say(f"Nothing to do: no file waits{up_to_date}.")
    else:
        for file in lakehouse.files.remarks(outcome.run_id)[:_SHOWN]:
            say(("note    ", "yellow"), f"{file['feed']}/{file['path']}: {file['reason']}")
        for file in duplicates[:_SHOWN]:
            say(("left out", "yellow"), f" {file['feed']}/{file['path']}: {file['reason']}")
        if len(duplicates) > _SHOWN:
            say(f"{counted(len(duplicates) - _SHOWN, 'more file')} left out: `lakehouse files` lists them")
        options = [*(["--full-refresh"] if full_refresh else []), *(["--partition", partition] if partition is not None else [])]
        _print(outcome, shlex.join(["run", *selection, *options]))
    if hints and not as_json:
        _print_hints(lakehouse, outcome, changed)
    return 1 if outcome is not None and outcome.failed else 0


def _print_hints(lakehouse: "Client", outcome: "Outcome | None", changed: list[str]) -> None:
    """What is not up to date although the run was, and what would change that."""
    for table in changed[:_SHOWN]:
        again = f"lakehouse run {table} --full-refresh"
        say(f"The function of {table} was changed, and rows that it computed before are as they were: ", (again, "bold"))
    if len(changed) > _SHOWN:
        say(f"So it is with {counted(len(changed) - _SHOWN, 'more table')}: `lakehouse doctor` lists them")
    if outcome is not None and outcome.failed:
        return
    warned = " ".join(outcome.warnings) if outcome is not None else ""
    for model in (model for model in lakehouse.without_champion() if model not in warned):
        say(f"Model {model} has no champion, so nothing is predicted: ", (f"lakehouse train {model}", "bold"))


def _as_values(outcome: "Outcome | None") -> dict[str, Any]:
    if outcome is None:
        return {"run_id": None, "tables": [], "warnings": [], "failed": [], "skipped": []}
    return {
        "run_id": outcome.run_id,
        "tables": [
            {
                "table": table.name,
                "state": table.state,
                "seconds": round(table.seconds, 3),
                "rows": table.metadata.get("dagster/row_count"),
                "error": table.error,
            }
            | {name: table.metadata.get(name) for name in _ACCOUNT}
            for table in outcome.tables.values()
        ],
        "warnings": outcome.warnings,
        "failed": [table.name for table in outcome.failed],
        "skipped": [table.name for table in outcome.skipped],
    }


def _print(outcome: "Outcome", verb: str) -> None:
    for warning in outcome.warnings:
        say(("warning ", "yellow"), warning)
    for table in outcome.failed:
        error = (table.error or "").removeprefix(f"{table.name}: ")
        say(("failed  ", "red"), f"{table.name}: {error}")
    if outcome.skipped:
        say(f"skipped {', '.join(table.name for table in outcome.skipped)}: a table upstream failed")
    done = [table for table in outcome.tables.values() if table.state == "done"]
    seconds = sum(table.seconds for table in outcome.tables.values())
    counts = [counted(len(done), "table") + " up to date", *([f"{len(outcome.failed)} failed"] if outcome.failed else [])]
    counts += [f"{len(outcome.skipped)} skipped"] if outcome.skipped else []
    say((f"{', '.join(counts)}, {seconds:.0f} s", "dim"))
    if outcome.failed:
        again = "Fix the errors above, then run "
        say(f"\n{again}", (f"lakehouse {verb}", "bold"), " again. It resumes where this run stopped.")
