"""How a run is shown while it goes on: a bar for each table on a terminal, lines elsewhere. What a run does is in `orchestration`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from lakehouse_assets.cli.terminal import say
from lakehouse_assets.platform.compute import progress as working
from lakehouse_assets.platform.wording import counted, printable

if TYPE_CHECKING:
    from lakehouse_assets.platform.orchestration.run import Outcome, TableRun

HEARTBEAT = 15.0
"""Seconds after which a step that goes on is named again where there is no terminal."""
_MARKS = {"done": "✓", "failed": "✗", "skipped": "-"}
_FINISHED = {"done", "failed"}
_LONGEST_NAME = 44

OnProgress = Callable[["Outcome"], None]


@contextmanager
def progress(to: Console) -> Iterator[OnProgress]:
    """Shows a run on a console, as it is called with the outcome so far."""
    if not to.is_terminal:
        yield _Lines(to)
        return
    columns = [
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.fields[mark]} {task.description}", markup=False),
        TextColumn("{task.fields[state]}", markup=False),
    ]
    with Progress(*columns, console=to) as bars:
        yield _Bars(bars)


class _Lines:
    def __init__(self, to: Console) -> None:
        self._to, self._printed, self._started = to, set[str](), dict[str, float]()
        self._said = time.monotonic()

    def __call__(self, outcome: "Outcome") -> None:
        for table in outcome.tables.values():
            if table.state in _FINISHED and table.name not in self._printed:
                self._printed.add(table.name)
                self._say(f"{table.state:7} {table.name:{_LONGEST_NAME}} {result(table)}".rstrip())
            elif table.state == "running":
                started = self._started.setdefault(table.name, time.monotonic())
                if time.monotonic() - self._said >= HEARTBEAT:
                    self._say(f"running {table.name:{_LONGEST_NAME}} {_so_far(started)}")

    def _say(self, text: str) -> None:
        say(text, to=self._to)
        self._to.file.flush()
        self._said = time.monotonic()


class _Bars:
    """One line a table that has begun: names are whole, what is behind them goes first where there is no room."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._lines: dict[str, Any] = {}
        self._started: dict[str, float] = {}

    def __call__(self, outcome: "Outcome") -> None:
        for table in outcome.tables.values():
            if table.state == "waiting":
                continue
            if table.name not in self._lines:
                self._lines[table.name] = self._bars.add_task(table.name, total=1, mark=" ", state="")
                self._started[table.name] = time.monotonic()
            done = table.state in {*_FINISHED, "skipped"}
            state = _so_far(self._started[table.name]) if table.state == "running" else result(table) or table.state
            self._bars.update(self._lines[table.name], completed=int(done), mark=_MARKS.get(table.state, " "), state=state)


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
    version, champion = metadata.get("version"), metadata.get("champion")
    why = printable(str(metadata["reasons"]).split("\n", 1)[0].split(":", 1)[0]).rstrip(".")
    if not version:
        return f"not trained: {why}"
    return f"trained version {version}, {'champion' if version == champion else 'not champion'}: {why}"
