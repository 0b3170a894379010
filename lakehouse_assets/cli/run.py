"""`lakehouse run`: brings tables up to date and shows how far each is."""

import atexit
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from lakehouse_assets.cli.shared import JSON, client, print_json, progress_console

if TYPE_CHECKING:
    from lakehouse_assets.client import Client
    from lakehouse_assets.platform.orchestration.run import Outcome, TableRun

_ACCOUNT = ("rows_in", "rows_written", "rows_updated", "rows_duplicate", "rows_quarantined")
_MARKS = {"done": "[green]✓", "failed": "[red]✗", "running": "[yellow]▸", "skipped": "[dim]-"}
_FINISHED = {"done", "failed"}
# What a terminal, a service manager and `docker stop` end a command with. The exit code is as shells have it: 128 and the signal's number.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.argument("selection", nargs=-1)
@click.option("--full-refresh", is_flag=True, help="Recompute the selected tables from all rows of their sources.")
@JSON
def run(selection: tuple[str, ...], full_refresh: bool, as_json: bool) -> None:
    """Bring everything, or a SELECTION, up to date.

    What is up to date is skipped. A run that failed or was killed is resumed by the next one; nothing is done twice.

    \b
    Examples:
      lakehouse run
      lakehouse run sales.silver.invoice_lines       one table
      lakehouse run 'sales.silver.invoice_lines+'    and the tables directly downstream
      lakehouse run '+sales.gold.daily_revenue'      and the tables directly upstream
      lakehouse run group:sales                      a product
      lakehouse run sales.gold.daily_revenue --full-refresh    after its function has changed
    """
    sys.exit(run_and_print(client(), selection, full_refresh=full_refresh, as_json=as_json))


def run_and_print(lakehouse: "Client", selection: tuple[str, ...] = (), *, full_refresh: bool = False, as_json: bool = False) -> int:
    """Run with progress, and print what became of each table; the exit code. An interrupt ends the process."""
    console = progress_console(as_json=as_json)
    try:
        with _interrupted_by_signals(), _progress(console) as on_progress:
            outcome = lakehouse.run(selection, full_refresh=full_refresh, on_progress=on_progress)
    except KeyboardInterrupt as interrupt:
        _exit_at_once(interrupt)
    if as_json:
        print_json(_as_values(outcome))
    elif outcome is None and lakehouse.nothing_landed():
        feeds = ", ".join(sorted(lakehouse.context.policy.feeds()))
        console.print(
            f"Nothing to do: no file has landed yet. Put files under [bold]{escape(str(lakehouse.settings.landing))}/FEED/[/], or "
            f"`lakehouse land FEED FILE`, then `lakehouse run`. The feeds are {feeds}.",
            soft_wrap=True,
        )
    elif outcome is None:
        count = len(lakehouse.context.declarations)
        console.print(f"Nothing to do: no file waits, and all {count} tables and models are up to date.")
    else:
        _print(outcome, console)
    return 1 if outcome is not None and outcome.failed else 0


class _Signalled(KeyboardInterrupt):
    def __init__(self, number: int) -> None:
        super().__init__("Interrupted" if number == signal.SIGINT else f"Interrupted by {signal.Signals(number).name}")
        self.number = number


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Let each of the signals that end a command interrupt it as Ctrl-C does. One that is ignored, as under `nohup`, stays so."""

    def interrupt(number: int, _: FrameType | None) -> NoReturn:
        raise _Signalled(number)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_at_once(interrupt: KeyboardInterrupt) -> NoReturn:
    """End the process without the interpreter's shutdown: it crashes under threads of Polars that are still in a product's function."""
    with suppress(OSError):  # the terminal may be gone
        click.echo(f"{str(interrupt) or 'Interrupted'}. Nothing is lost: `lakehouse run` resumes where this run stopped.", err=True)
    atexit._run_exitfuncs()  # noqa: SLF001 - temporary folders are removed there
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody may be reading any more
            stream.flush()
    os._exit(128 + getattr(interrupt, "number", signal.SIGINT))


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


def _print(outcome: "Outcome", console: Console) -> None:
    for warning in outcome.warnings:
        console.print(f"[yellow]warning[/] {escape(warning)}")
    for table in outcome.failed:
        error = (table.error or "").removeprefix(f"{table.name}: ")
        console.print(f"[red]failed[/]  {table.name}: {escape(error)}")
    if outcome.skipped:
        console.print(f"skipped {', '.join(table.name for table in outcome.skipped)}: a table upstream failed")
    if outcome.failed:
        console.print("\nFix the errors above, then run [bold]lakehouse run[/] again. It resumes where this run stopped.")


@contextmanager
def _progress(console: Console) -> Iterator[Callable[["Outcome"], None]]:
    """A bar for each table on a terminal, a line for each finished table elsewhere."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = [
        TextColumn("{task.fields[mark]}"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[state]}"),
    ]
    with Progress(*columns, console=console) as progress:
        yield _Bars(progress)


class _Notes:
    """Prints what else a person should know, once."""

    def __init__(self, console: Console) -> None:
        self._console, self._count = console, 0

    def __call__(self, outcome: "Outcome") -> None:
        for note in outcome.notes[self._count :]:
            self._console.print(f"[yellow]note[/]    {escape(note)}", soft_wrap=True)
        self._count = len(outcome.notes)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console, self._printed = console, set[str]()
        self._notes = _Notes(console)

    def __call__(self, outcome: "Outcome") -> None:
        self._notes(outcome)
        for table in outcome.tables.values():
            if table.state in _FINISHED and table.name not in self._printed:
                self._printed.add(table.name)
                self._console.print(f"{table.state:7} {table.name:50} {_rows(table)}")


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, Any] = {}
        self._notes = _Notes(progress.console)

    def __call__(self, outcome: "Outcome") -> None:
        self._notes(outcome)
        for table in outcome.tables.values():
            if table.name not in self._bars:
                self._bars[table.name] = self._progress.add_task(table.name, total=None, start=False, mark=" ", state="")
            bar = self._bars[table.name]
            if table.state == "running":
                self._progress.start_task(bar)
            if table.state in _FINISHED:
                self._progress.update(bar, total=1, completed=1)
            self._progress.update(bar, mark=_MARKS.get(table.state, " "), state=_rows(table) or table.state)


def _rows(table: "TableRun") -> str:
    metadata = table.metadata
    if "dagster/row_count" not in metadata:
        return ""
    changed = int(metadata.get("rows_written", 0)) + int(metadata.get("rows_updated", 0))
    quarantined = f", {metadata['rows_quarantined']:,} to quarantine" if metadata.get("rows_quarantined") else ""
    return f"{metadata['dagster/row_count']:>12,} rows, {changed:,} new or changed{quarantined}, {table.seconds:.1f} s"
