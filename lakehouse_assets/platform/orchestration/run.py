"""Runs a selection of assets in this process and reports its progress. What the assets do is in `pipeline`; printing is in `cli`."""

import re
import threading
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster._utils.warnings import BetaWarning

from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX, nearest_or_all
from lakehouse_assets.platform.orchestration.assets import FULL_REFRESH_TAG
from lakehouse_assets.platform.orchestration.automation import everything
from lakehouse_assets.platform.orchestration.checks import NOT_EVALUATED
from lakehouse_assets.platform.orchestration.instance import free_slots_of_ended_runs, instance
from lakehouse_assets.settings import Settings

_TABLE_NAME = re.compile(r"(?<![\w\"/.:])[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*){2}(?![\w\"/.])")
_POLL_SECONDS = 0.25
# The events are in Dagster's log and are reported as progress: they are not printed a third time.
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


def selection_of(selection: Iterable[str], defs: dg.Definitions) -> set[dg.AssetKey]:
    """The assets that a selection names; none given means all but maintenance.

    A selection is Dagster's (`group:sales`, `+sales.gold.daily_revenue`, `sales.silver.invoice_lines+`, joined by `and`, `or`, `not`), with
    tables by their names.

    Raises:
        ValueError: It cannot be understood, or nothing matches.
    """
    words = list(selection)
    graph = defs.resolve_asset_graph()
    text = " or ".join(f"({word})" for word in words)
    if not text:
        return set(everything().resolve(graph))
    keyed = _TABLE_NAME.sub(lambda name: f'key:"{name[0].replace(".", "/")}"', text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BetaWarning)  # a person who writes `group:sales` calls nothing that may change
            keys = dg.AssetSelection.from_string(keyed).resolve(graph)
    except dg.DagsterError as error:
        raise ValueError(f"the selection {' '.join(words)!r} cannot be understood: {str(error).splitlines()[0]}") from error
    if not keys:
        names = sorted(name_of(key) for key in graph.executable_asset_keys if not name_of(key).endswith(QUARANTINE_SUFFIX))
        groups = {f"group:{graph.get(key).group_name}" for key in graph.executable_asset_keys}
        known = groups if words[0].startswith("group:") else names
        raise ValueError(f"no table or model matches {' '.join(words)!r}{nearest_or_all(words[0].strip('+*'), known)}")
    return set(keys)


def name_of(key: dg.AssetKey) -> str:
    """The table's name of an asset key."""
    return ".".join(key.path)


def execute(
    settings: Settings,
    defs: dg.Definitions,
    keys: set[dg.AssetKey],
    *,
    full_refresh: bool = False,
    on_progress: Callable[[Outcome], None] = lambda _: None,
) -> Outcome:
    """Materialise assets in this process.

    Args:
        settings: Of the root.
        defs: The code location.
        keys: Of the assets.
        full_refresh: Recompute the tables from all rows of their sources.
        on_progress: Called several times a second with the outcome so far, and once with the final one.

    Raises:
        KeyboardInterrupt: The person stopped it. Dagster's log says so, and nothing that was committed is lost.
    """
    graph = defs.resolve_asset_graph()
    order = [key for key in graph.toposorted_asset_keys if key in keys]
    shown = [name_of(key) for key in order if not name_of(key).endswith(QUARANTINE_SUFFIX)]
    steps = {graph.get(key).assets_def.node_def.name: name_of(key) for key in order if name_of(key) in shown}
    outcome = Outcome(str(uuid.uuid4()), {name: TableRun(name) for name in shown})
    job = defs.resolve_implicit_global_asset_job_def()
    tags = {FULL_REFRESH_TAG: "true"} if full_refresh else {}
    errors: list[BaseException] = []
    with instance(settings) as opened:
        free_slots_of_ended_runs(opened)

        def run() -> None:
            try:
                job.execute_in_process(
                    _QUIET, run_id=outcome.run_id, instance=opened, asset_selection=order, tags=tags, raise_on_error=False
                )
            except BaseException as error:  # noqa: BLE001 it is raised again in the main thread
                errors.append(error)

        thread = threading.Thread(target=run, name="run", daemon=True)
        thread.start()
        events = _Events(opened, outcome, steps)
        try:
            running = True
            while running:
                thread.join(_POLL_SECONDS)
                running = thread.is_alive()  # asked before the events are taken, so that the last ones are
                events.take()
                on_progress(outcome)
        except KeyboardInterrupt:
            if (started := opened.get_run_by_id(outcome.run_id)) is not None:
                opened.report_run_canceled(started, message="Interrupted.")
            raise
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
                table.error = reason_of(event)
            case dg.DagsterEventType.ASSET_MATERIALIZATION:
                materialization = event.step_materialization_data.materialization
                if name_of(materialization.asset_key) == table.name:
                    table.metadata = {name: value.value for name, value in materialization.metadata.items()}
            case dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                check = event.asset_check_evaluation_data
                if not check.passed and check.description and NOT_EVALUATED not in check.metadata:
                    self._outcome.warnings.append(f"{name_of(check.asset_key)}, check {check.check_name}: {check.description}")
        if table.state in {"done", "failed"}:
            table.seconds = at - self._started.get(table.name, at)


def reason_of(event: dg.DagsterEvent) -> str:
    """Why a step failed: the innermost error, without Dagster's messages around it."""
    failure = event.step_failure_data
    if failure.user_failure_data is not None and failure.user_failure_data.description:
        return str(failure.user_failure_data.description)
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error is not None else "unknown"
