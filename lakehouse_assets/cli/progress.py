"""How a run, and other work that takes seconds, is shown while it goes on: a moving line on a terminal, lines elsewhere.

What a run does is in `orchestration`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Column as Folded

from lakehouse_assets.cli.terminal import say
from lakehouse_assets.platform.compute import progress as working
from lakehouse_assets.platform.wording import counted, printable

if TYPE_CHECKING:
    from lakehouse_assets.platform.orchestration.run import Outcome, TableRun

HEARTBEAT = 15.0
"""Seconds after which a step that goes on is named again where there is no terminal."""
_MOVES = 0.5
"""Seconds after which a moving line moves on."""
_MARKS = {"done": ("✓", "green"), "failed": ("✗", "red")}
_FINISHED = {"done", "failed"}
_LONGEST_NAME = 44

OnProgress = Callable[["Outcome"], None]


@contextmanager
def progress(to: Console) -> Iterator[OnProgress]:
    """Shows a run on a console, as it is called with the outcome so far."""
    if not to.is_terminal:
        yield _Lines(to)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False, table_column=Folded(overflow="fold")))
    with Progress(*columns, console=to, transient=True) as live:
        yield _Live(live, to)


@contextmanager
def working_on(what: str, to: Console) -> Iterator[None]:
    """Shows how far work is that is no run: a moving line on a terminal, a line now and then elsewhere.

    Args:
        what: Is said where the work says nothing of itself.
        to: Where it is shown; stderr where stdout is read by programs.
    """
    ended, started = threading.Event(), time.monotonic()

    def lines() -> None:
        while not ended.wait(HEARTBEAT):
            say(f"{time.monotonic() - started:.0f} s, {working.now() or what}", to=to)
            to.file.flush()

    def moving() -> None:
        with to.status(what) as status:
            while not ended.wait(_MOVES):
                status.update(f"{time.monotonic() - started:.0f} s, {working.now() or what}")

    thread = threading.Thread(target=moving if to.is_terminal else lines, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _Notes:
    """Prints what else a person should know, once."""

    def __init__(self, to: Console) -> None:
        self._to, self._count = to, 0

    def __call__(self, outcome: "Outcome") -> None:
        for note in outcome.notes[self._count :]:
            say(("note    ", "yellow"), note, to=self._to)
        self._count = len(outcome.notes)


class _Lines:
    def __init__(self, to: Console) -> None:
        self._to, self._printed, self._started = to, set[str](), dict[str, float]()
        self._last_line_at = time.monotonic()
        self._notes = _Notes(to)

    def __call__(self, outcome: "Outcome") -> None:
        self._notes(outcome)
        for table in outcome.tables.values():
            if table.state in _FINISHED and table.name not in self._printed:
                self._printed.add(table.name)
                self._say(f"{table.state:7} {table.name:{_LONGEST_NAME}} {result(table)}".rstrip())
            elif table.state == "running":
                started = self._started.setdefault(table.name, time.monotonic())
                if time.monotonic() - max(self._last_line_at, started) >= HEARTBEAT:
                    self._say(f"running {table.name:{_LONGEST_NAME}} {_so_far(started)}")

    def _say(self, text: str) -> None:
        say(text, to=self._to)
        self._to.file.flush()
        self._last_line_at = time.monotonic()


class _Live:
    """A line for each table that has ended, and a moving one for those at work: names are folded where they do not fit, never cut."""

    def __init__(self, live: Progress, to: Console) -> None:
        self._live, self._to = live, to
        self._moving: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._printed = set[str]()
        self._notes = _Notes(to)

    def __call__(self, outcome: "Outcome") -> None:
        self._notes(outcome)
        for table in outcome.tables.values():
            if table.state == "running":
                started = self._started.setdefault(table.name, time.monotonic())
                if table.name not in self._moving:
                    self._moving[table.name] = self._live.add_task("", total=None)
                self._live.update(self._moving[table.name], description=f"{table.name} {_so_far(started)}")
            elif table.state in _FINISHED and table.name not in self._printed:
                self._printed.add(table.name)
                if table.name in self._moving:
                    self._live.remove_task(self._moving.pop(table.name))
                say(_MARKS[table.state], f" {table.name:{_LONGEST_NAME}} {result(table)}".rstrip(), to=self._to)


def _so_far(started: float) -> str:
    told = working.now()
    return f"{time.monotonic() - started:.0f} s" + (f", {told}" if told else "")


def result(table: "TableRun") -> str:
    """What became of a table or a model, in words; empty before it has ended."""
    metadata = table.metadata
    if "reasons" in metadata:
        return f"{_trained(metadata)}, {table.seconds:.1f} s"
    if "dagster/row_count" not in metadata:
        return ""
    changed = int(metadata.get("rows_written", 0)) + int(metadata.get("rows_updated", 0))
    quarantined = f", {metadata['rows_quarantined']:,} to quarantine" if metadata.get("rows_quarantined") else ""
    return f"{counted(metadata['dagster/row_count'], 'row')}, {changed:,} new or changed{quarantined}, {table.seconds:.1f} s"


def _trained(metadata: dict[str, Any]) -> str:
    """What a training came to."""
    decided, champion = metadata.get("newest_decision", ""), metadata.get("champion")
    first = str(metadata["reasons"]).split("\n", 1)[0].removeprefix("- ").split(":", 1)[0].rstrip(".")
    why = printable(str(metadata.get("in_short") or first))
    if not decided.startswith("version"):
        return f"not trained: {why}"
    return f"trained {decided}, {'champion' if decided == champion else 'not champion'}: {why}"
