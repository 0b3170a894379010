"""Runs a selection of assets in this process and shows how far each is. What the assets do is in `platform.pipeline`."""

import re
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from lakehouse_assets.commands.workspace import Workspace
from lakehouse_assets.platform.declarations.declare import QUARANTINE_SUFFIX
from lakehouse_assets.platform.orchestration.assets import REBUILD_TAG
from lakehouse_assets.platform.orchestration.automation import everything

_TABLE_NAME = re.compile(r"(?<![\w\"/.:])[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*){2}(?![\w\"/.])")
_SECONDS_BETWEEN_LOOKS = 0.25
# The events are kept in Dagster's log and told by the bars; nobody reads them a third time on the terminal.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class TableRun:
    """What a run did to one table."""

    name: str
    state: str = "waiting"
    seconds: float = 0.0
    metadata: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass
class Outcome:
    """What a run did, table by table, in the order of the graph."""

    run_id: str
    tables: dict[str, TableRun]
    warnings: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[TableRun]:
        """The tables whose step failed."""
        return [table for table in self.tables.values() if table.state == "failed"]

    @property
    def skipped(self) -> list[TableRun]:
        """The tables that were not tried because what they depend on failed."""
        return [table for table in self.tables.values() if table.state in {"waiting", "skipped"}]


def selection_of(words: Iterable[str], defs: dg.Definitions) -> set[dg.AssetKey]:
    """The assets that a selection names; none given means all but maintenance.

    A selection is Dagster's (`group:sales`, `+sales.gold.daily_revenue`, `sales.silver.invoice_lines+`, joined by `and`, `or`, `not`), with
    tables by their names.

    Raises:
        ValueError: It cannot be understood, or nothing matches.
    """
    graph = defs.resolve_asset_graph()
    text = " or ".join(f"({word})" for word in words)
    if not text:
        return set(everything().resolve(graph))
    keyed = _TABLE_NAME.sub(lambda name: f'key:"{name[0].replace(".", "/")}"', text)
    try:
        keys = dg.AssetSelection.from_string(keyed).resolve(graph)
    except dg.DagsterError as error:
        raise ValueError(f"the selection {text!r} cannot be understood: {str(error).splitlines()[0]}") from error
    if not keys:
        names = ", ".join(sorted(name_of(key) for key in graph.executable_asset_keys if not name_of(key).endswith(QUARANTINE_SUFFIX)))
        raise ValueError(f"nothing is called {text!r}. There are: {names}")
    return set(keys)


def name_of(key: dg.AssetKey) -> str:
    """The table's name of an asset key."""
    return ".".join(key.path)


def execute(workspace: Workspace, defs: dg.Definitions, keys: set[dg.AssetKey], console: Console, *, rebuild: bool = False) -> Outcome:
    """Materialise assets in this process, with a bar for each table."""
    graph = defs.resolve_asset_graph()
    order = [key for key in graph.toposorted_asset_keys if key in keys]
    shown = [name_of(key) for key in order if not name_of(key).endswith(QUARANTINE_SUFFIX)]
    steps = {graph.get(key).assets_def.node_def.name: name_of(key) for key in order if name_of(key) in shown}
    outcome = Outcome(str(uuid.uuid4()), {name: TableRun(name) for name in shown})
    job = defs.resolve_implicit_global_asset_job_def()
    tags = {REBUILD_TAG: "true"} if rebuild else {}
    errors: list[BaseException] = []
    with workspace.instance() as instance:

        def run() -> None:
            try:
                job.execute_in_process(
                    _QUIET, run_id=outcome.run_id, instance=instance, asset_selection=order, tags=tags, raise_on_error=False
                )
            except BaseException as error:  # noqa: BLE001 it is raised again in the main thread
                errors.append(error)

        thread = threading.Thread(target=run, name="run", daemon=True)
        thread.start()
        with _bars(outcome, console) as show:
            events = _Events(instance, outcome, steps)
            while thread.is_alive():
                thread.join(_SECONDS_BETWEEN_LOOKS)
                events.take()
                show()
    if errors:
        raise errors[0]
    return outcome


_STATES = {
    dg.DagsterEventType.STEP_START: "running",
    dg.DagsterEventType.STEP_SUCCESS: "done",
    dg.DagsterEventType.STEP_SKIPPED: "skipped",
    dg.DagsterEventType.STEP_FAILURE: "failed",
    dg.DagsterEventType.STEP_UP_FOR_RETRY: "waiting to try again",
}


class _Events:
    """Follows a run by its events in Dagster's log."""

    def __init__(self, instance: dg.DagsterInstance, outcome: Outcome, steps: Mapping[str, str]) -> None:
        self._instance, self._outcome, self._steps = instance, outcome, steps
        self._cursor: str | None = None
        self._started: dict[str, float] = {}

    def take(self) -> None:
        """Take over what has happened since the last call."""
        while True:
            page = self._instance.get_records_for_run(self._outcome.run_id, cursor=self._cursor)
            for record in page.records:
                event = record.event_log_entry.dagster_event
                if event is not None:
                    self._take(event, record.event_log_entry.timestamp)
            self._cursor = page.cursor
            if not page.has_more:
                return

    def _take(self, event: dg.DagsterEvent, at: float) -> None:
        table = self._outcome.tables.get(self._steps.get(event.step_key or "", ""))
        if table is None:
            return
        table.state = _STATES.get(event.event_type, table.state)
        match event.event_type:
            case dg.DagsterEventType.STEP_START:
                self._started[table.name] = at
            case dg.DagsterEventType.STEP_FAILURE:
                table.error = _reason(event)
            case dg.DagsterEventType.ASSET_MATERIALIZATION:
                materialization = event.step_materialization_data.materialization
                if name_of(materialization.asset_key) == table.name:
                    table.metadata = {name: value.value for name, value in materialization.metadata.items()}
            case dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                check = event.asset_check_evaluation_data
                if not check.passed and check.description:
                    self._outcome.warnings.append(f"{name_of(check.asset_key)}, check {check.check_name}: {check.description}")
        if table.state in {"done", "failed"}:
            table.seconds = at - self._started.get(table.name, at)


def _reason(event: dg.DagsterEvent) -> str:
    """What the step said last: its own words rather than Dagster's around them."""
    failure = event.step_failure_data
    if failure.user_failure_data is not None and failure.user_failure_data.description:
        return str(failure.user_failure_data.description)
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error is not None else "unknown"


@contextmanager
def _bars(outcome: Outcome, console: Console) -> Iterator[Callable[[], None]]:
    """A bar for each table on a terminal, a line for each finished table elsewhere."""
    if not console.is_terminal:
        printed: set[str] = set()

        def lines() -> None:
            for table in outcome.tables.values():
                if table.state in {"done", "failed"} and table.name not in printed:
                    printed.add(table.name)
                    console.print(f"{table.state:7} {table.name:50} {_rows(table)}", highlight=False)

        yield lines
        lines()
        return
    columns = [
        TextColumn("{task.fields[mark]}"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[said]}"),
    ]
    with Progress(*columns, console=console) as progress:
        bars = {name: progress.add_task(name, total=None, start=False, mark=" ", said="") for name in outcome.tables}

        def bar() -> None:
            for table in outcome.tables.values():
                mark = {"done": "[green]✓", "failed": "[red]✗", "running": "[yellow]▸", "skipped": "[dim]-"}.get(table.state, " ")
                if table.state == "running":
                    progress.start_task(bars[table.name])
                if table.state in {"done", "failed"}:
                    progress.update(bars[table.name], total=1, completed=1)
                progress.update(bars[table.name], mark=mark, said=_rows(table) or table.state)

        yield bar
        bar()


def _rows(table: TableRun) -> str:
    said = table.metadata
    if "dagster/row_count" not in said:
        return ""
    changed = int(said.get("rows_written", 0)) + int(said.get("rows_merged", 0))
    aside = f", {said['rows_quarantined']:,} to quarantine" if said.get("rows_quarantined") else ""
    return f"{said['dagster/row_count']:>12,} rows, {changed:,} new or changed{aside}, {table.seconds:.1f} s"


def run_and_report(
    workspace: Workspace,
    selection: Iterable[str],
    console: Console,
    print_json: Callable[[Any], None] | None,
    *,
    rebuild: bool,
) -> int:
    """Run what is selected, unless there is nothing to do, and say what came of it; the exit code."""
    words = list(selection)
    pending = workspace.pending()
    if not words and not rebuild and not pending:
        tables = len(workspace.products.declarations)
        if print_json:
            print_json({"run_id": None, "tables": [], "warnings": [], "failed": [], "skipped": []})
        else:
            console.print(f"Nothing to do: no file waits, and all {tables} tables and models are up to date.")
        return 0
    defs = workspace.definitions()
    outcome = execute(workspace, defs, selection_of(words, defs), console, rebuild=rebuild)
    if print_json:
        print_json(_plain(outcome))
    else:
        _print(outcome, console)
    return 1 if outcome.failed else 0


def _plain(outcome: Outcome) -> dict[str, Any]:
    names = ("rows_in", "rows_written", "rows_merged", "rows_duplicate", "rows_quarantined")
    return {
        "run_id": outcome.run_id,
        "tables": [
            {
                "table": t.name,
                "state": t.state,
                "seconds": round(t.seconds, 3),
                "rows": t.metadata.get("dagster/row_count"),
                "error": t.error,
            }
            | {name: t.metadata.get(name) for name in names}
            for t in outcome.tables.values()
        ],
        "warnings": outcome.warnings,
        "failed": [table.name for table in outcome.failed],
        "skipped": [table.name for table in outcome.skipped],
    }


def _print(outcome: Outcome, console: Console) -> None:
    for warning in outcome.warnings:
        console.print(f"[yellow]warning[/] {escape(warning)}")
    for table in outcome.failed:
        console.print(f"[red]failed[/]  {table.name}: {escape(table.error or '')}")
    if outcome.skipped:
        console.print(f"skipped {', '.join(table.name for table in outcome.skipped)}: what they are made of failed")
    if outcome.failed:
        console.print("\nMend what is said above and run [bold]lakehouse run[/] again: it goes on where this run stopped.")
