"""`lakehouse runs`: the runs that there are, and ending one."""

from typing import Any

import click

from lakehouse_assets.cli.shared import JSON, Noun, client
from lakehouse_assets.cli.terminal import add_row, folds, grid, optional, print_grid, print_json, right, say
from lakehouse_assets.platform.wording import counted, listed

_SHORT = 8
_TABLES = 3


@click.group(cls=Noun)
def runs() -> None:
    """The runs of this lakehouse, whoever started them."""


@runs.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, the newest first.")
@JSON
def list_runs(limit: int, as_json: bool) -> None:
    """The newest runs, and all that have not ended.

    A run is `dead` if it has not ended and its process is gone: the next run ends it.

    \b
    Example:
      lakehouse runs list --limit 5
    """
    rows = client().runs.list(limit)
    if as_json:
        print_json(rows)
        return
    if not rows:
        say("There are no runs yet: `lakehouse run`.")
        return
    shown = grid("run", "state", "created (UTC)", right("seconds"), optional("launched by"), folds("what"), optional("process"))
    for row in rows:
        seconds = f"{(row['ended'] - row['created']).total_seconds():.0f}" if row["ended"] else ""
        process = f"{row['owner']['pid']} on {row['owner']['host']}" if row["owner"] else ""
        created = f"{row['created']:%Y-%m-%d %H:%M:%S}"
        add_row(shown, row["run_id"][:_SHORT], row["state"], created, seconds, row["launched_by"], _what(row), process)
    print_grid(shown)
    if dead := [row["run_id"][:_SHORT] for row in rows if row["state"] == "dead"]:
        say(f"{counted(len(dead), 'run')} died. The next run ends them, or at once: ", (f"lakehouse runs end {dead[0]}", "bold"))


def _what(row: dict[str, Any]) -> str:
    tables = row["tables"]
    if not tables:
        return str(row["job"])
    return listed(tables, _TABLES)


@runs.command()
@click.argument("run")
def end(run: str) -> None:
    """End RUN, by its id or the first characters of it: its process is interrupted, the run is canceled, its pool slots are free.

    Nothing that was committed is lost; the next `lakehouse run` resumes.

    \b
    Example:
      lakehouse runs end 1f0c22b4
    """
    ended = client().runs.end(run, say)
    say(f"Run {ended['run_id'][:_SHORT]} is ended. Next: ", ("lakehouse run", "bold"), " resumes.")
