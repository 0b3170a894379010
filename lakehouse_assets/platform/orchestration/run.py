"""Runs a selection of assets in this process and reports its progress. What the assets do is in `pipeline`; printing is in `cli`."""

import logging
import re
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterRunAlreadyExists
from dagster._utils.warnings import BetaWarning

from lakehouse_assets.platform.compute.signals import keep_polars_from_signals
from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX, nearest_or_all
from lakehouse_assets.platform.declarations.check_names import NOT_EVALUATED
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.orchestration import automation
from lakehouse_assets.platform.orchestration.automation import REFRESH, everything, training
from lakehouse_assets.platform.orchestration.in_process_run import InProcessRun
from lakehouse_assets.platform.orchestration.instance import instance
from lakehouse_assets.platform.orchestration.io_manager import stored_as
from lakehouse_assets.platform.orchestration.monitors import OTHER_WINDOWS
from lakehouse_assets.platform.orchestration.planned import KEPT, settle
from lakehouse_assets.platform.orchestration.recording import try_to_record
from lakehouse_assets.platform.orchestration.run_control import as_texts, blockers, end_dead_runs, locks_of
from lakehouse_assets.platform.orchestration.steps import FULL_REFRESH_TAG, key_of
from lakehouse_assets.platform.orchestration.table_partitions import SUFFIX
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.settings import Settings

_TABLE_NAME = re.compile(r"(?<![\w\"/.:])[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*){2}(?![\w\"/.])")
_PRODUCT_GROUP = re.compile(r'group:"?(\w+)"?(?![\w/*"])')
_POLL_SECONDS, _CHECK_SECONDS = 0.25, 1.0
_LOG = logging.getLogger(__name__)


class AlreadyStarted(Exception):
    """There is a run of the id that a run was to have: somebody else works on it, or has."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id[:8]} was started by somebody else")


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
    """What a run did, table by table, in the order of the graph.

    Attributes:
        run_id: Its id in Dagster.
        tables: By name.
        warnings: Checks that failed.
        notes: What a person should know while it runs: dead runs that were ended, and other runs that it waits for.
    """

    run_id: str
    tables: dict[str, TableRun]
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[TableRun]:
        """The tables whose step failed."""
        return [table for table in self.tables.values() if table.state == "failed"]

    @property
    def skipped(self) -> list[TableRun]:
        """The tables that were not tried because what they depend on failed."""
        return [table for table in self.tables.values() if table.state in {"waiting", "skipped"}]


def training_of(models: Sequence[ModelDeclaration], defs: dg.Definitions) -> set[dg.AssetKey]:
    """The assets of a training: the models, and what their champions predict."""
    graph = defs.resolve_asset_graph()
    return _with_partitions(graph, training(models).resolve(graph), None)


def training_of_one(model: ModelDeclaration, models: Sequence[ModelDeclaration], defs: dg.Definitions) -> set[dg.AssetKey]:
    """The assets of a training of one model alone."""
    return automation.training_of_one(model, models, defs.resolve_asset_graph())


def selection_of(
    selection: Iterable[str], defs: dg.Definitions, models: Sequence[ModelDeclaration], partition: str | None = None
) -> set[dg.AssetKey]:
    """The assets of a refresh that a selection names; none given means all. Models are left out: a refresh does not train.

    Without one, assets with partitions are left out. A selection is Dagster's (`group:sales`, `+sales.gold.daily_revenue`,
    `sales.silver.invoice_lines+`, joined by `and`, `or`, `not`), with tables by their names.

    Raises:
        ValueError: It cannot be understood, nothing matches, it names models alone, or what matches needs a partition, or has none.
    """
    words = list(selection)
    graph = defs.resolve_asset_graph()
    text = " or ".join(f"({word})" for word in words)
    if not text:
        return _with_partitions(graph, everything(models).resolve(graph), partition)
    keyed = _TABLE_NAME.sub(lambda name: f'key:"{name[0].replace(".", "/")}"', text)
    keyed = _PRODUCT_GROUP.sub(r'(group:"\1" or group:"\1/*")', keyed)  # a product's layers are groups within its own
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BetaWarning)  # a person who writes `group:sales` calls nothing that may change
            named = dg.AssetSelection.from_string(keyed).resolve(graph)
    except dg.DagsterError as error:
        raise ValueError(f"the selection {' '.join(words)!r} cannot be understood: {str(error).splitlines()[0]}") from error
    keys = named & graph.executable_asset_keys
    if named and not keys:
        raise ValueError(f"{', '.join(sorted(map(name_of, named)))} is written by the run of its table: name the table")
    if not keys:
        names = sorted(name_of(key) for key in graph.executable_asset_keys if not name_of(key).endswith((QUARANTINE_SUFFIX, SUFFIX)))
        groups = {f"group:{key.path[0]}" for key in graph.executable_asset_keys}
        known = groups if words[0].startswith("group:") else names
        raise ValueError(f"no table matches {' '.join(words)!r}{nearest_or_all(words[0].strip('+*'), known)}")
    trained = {key_of(model.name) for model in models}
    if set(keys) <= trained:
        only = " ".join(sorted(name_of(key) for key in keys))
        raise ValueError(f"a run refreshes tables and does not train: `lakehouse train {only}` does")
    return _with_partitions(graph, set(keys) - trained, partition)


def _with_partitions(graph: Any, keys: Iterable[dg.AssetKey], partition: str | None) -> set[dg.AssetKey]:
    """Of some assets, those that can be run with this partition, or without one. A table that has one for its partitions stands for it."""
    if partition is not None:
        shown = {key: key_of(name_of(key) + SUFFIX) for key in keys}
        keys = [own if graph.has(own) else key for key, own in shown.items()]
    partitioned = {key: graph.get(key).partitions_def for key in keys if graph.get(key).partitions_def is not None}
    if partition is None:
        chosen = set(keys) - partitioned.keys()
        if partitioned and not chosen:
            name = min(map(name_of, partitioned))
            known = _partition_keys(partitioned[key_of(name)])
            example = f"`lakehouse run {name.removesuffix(SUFFIX)} --partition {known[-1] if known else 'KEY'}`"
            raise ValueError(f"{name} has partitions: say which one, as in {example}")
        return chosen
    if not partitioned:
        raise ValueError(f"none of {', '.join(sorted(map(name_of, keys)))} has partitions: leave --partition out")
    for key, definition in partitioned.items():
        known = _partition_keys(definition)
        if known and partition not in known:
            raise ValueError(f"{name_of(key)} has no partition {partition!r}{nearest_or_all(partition, known[-20:])}")
    return set(partitioned)


def _partition_keys(definition: dg.PartitionsDefinition) -> Sequence[str]:
    """The keys that there are; none where only an instance or a table knows them."""
    return () if isinstance(definition, dg.DynamicPartitionsDefinition) else definition.get_partition_keys()


def name_of(key: dg.AssetKey) -> str:
    """The table's name of an asset key."""
    return ".".join(key.path)


def execute(
    settings: Settings,
    defs: dg.Definitions,
    keys: set[dg.AssetKey],
    *,
    run_id: str | None = None,
    full_refresh: bool = False,
    partition: str | None = None,
    tags: Mapping[str, str] = MappingProxyType({}),
    on_progress: Callable[[Outcome], None] = lambda _: None,
) -> Outcome:
    """Materialise assets in this process.

    Runs whose process is gone are ended first, so that none of them holds what this one waits for.

    Args:
        settings: Of the root.
        defs: The code location.
        keys: Of the assets.
        run_id: Id of the run, of which there may be one only; None: a new one.
        full_refresh: Recompute the tables from all rows of their sources.
        partition: The partition of assets that have some.
        tags: On the run.
        on_progress: Called several times a second with the outcome so far, and once with the final one.

    Raises:
        AlreadyStarted: There is a run of this id.
        RunEnded: Somebody ended it, by command or in the web UI.
        KeyboardInterrupt: The person stopped it. Dagster's log says so, its pool slots are free, and nothing that was committed is lost.
    """
    keep_polars_from_signals()
    graph = defs.resolve_asset_graph()
    order = [key for key in graph.toposorted_asset_keys if key in keys]
    shown = [name_of(key) for key in order if not name_of(key).endswith(QUARANTINE_SUFFIX)]
    steps = {graph.get(key).assets_def.node_def.name: name_of(key) for key in order if name_of(key) in shown}
    outcome = Outcome(run_id or str(uuid.uuid4()), {name: TableRun(name) for name in shown})
    job, part = _job_of(defs, keys, order)
    with instance(settings) as opened:
        lock = None if run_id is not None and opened.get_run_by_id(run_id) is not None else locks_of(opened).take(outcome.run_id)
        if lock is None:
            raise AlreadyStarted(outcome.run_id)
        is_mine = True
        try:
            outcome.notes += as_texts(end_dead_runs(opened))
            on_progress(outcome)
            given = {**tags, **({FULL_REFRESH_TAG: "true"} if full_refresh else {})}
            _follow(InProcessRun(opened, job, outcome.run_id, part, given, partition=partition), outcome, steps, on_progress)
        except DagsterRunAlreadyExists:  # another machine was faster
            is_mine = False
            raise AlreadyStarted(outcome.run_id) from None
        finally:
            if is_mine:
                settle(opened, outcome.run_id)
                owners = {stored_as(key): ", ".join(graph.get(key).owners) for key in graph.get_all_asset_keys()}
                try_to_record(opened, Lakehouse(str(settings.tables)), owners, _LOG)
            run = opened.get_run_by_id(outcome.run_id)
            lock.release(forget=not is_mine or run is None or run.is_finished)
    return outcome


def _job_of(defs: dg.Definitions, keys: set[dg.AssetKey], order: list[dg.AssetKey]) -> tuple[dg.JobDefinition, list[dg.AssetKey] | None]:
    """The job that a selection is run as, and the part of it that is meant: `refresh` as a whole, where that is what was selected."""
    repository = defs.get_repository_def()
    if repository.has_job(REFRESH) and repository.get_job(REFRESH).asset_layer.selected_asset_keys == keys:
        return repository.get_job(REFRESH), None
    return repository.get_implicit_global_asset_job_def(), order


def _follow(run: InProcessRun, outcome: Outcome, steps: Mapping[str, str], on_progress: Callable[[Outcome], None]) -> None:
    """Report the progress of a run until its end, and what it waits for."""
    events = _Events(run.instance, outcome, steps)
    next_check = 0.0
    try:
        running = True
        while running:
            running = run.is_running(_POLL_SECONDS)  # asked before the events are taken, so that the last ones are
            events.take()
            if running and time.monotonic() >= next_check:
                next_check = time.monotonic() + _CHECK_SECONDS
                run.check_not_ended()
                _note_blockers(run, outcome, steps)
            on_progress(outcome)
    except KeyboardInterrupt:
        run.stop()
        raise


def _note_blockers(run: InProcessRun, outcome: Outcome, steps: Mapping[str, str]) -> None:
    """Say which other run writes a table that this one waits for; if that run died meanwhile, end it."""
    waiting = {pool: steps[node] for pool, node in run.pools.items() if node in steps and outcome.tables[steps[node]].state == "waiting"}
    for pool, blocker in blockers(run.instance, run.run_id, [pool for pool in waiting if pool]).items():
        if blocker.is_dead or blocker.ended:
            outcome.notes += as_texts(end_dead_runs(run.instance))
            continue
        note = f"{waiting[pool]} waits: {blocker} writes it. To end that run: lakehouse runs end {blocker.run_id[:8]}"
        if note not in outcome.notes:
            outcome.notes.append(note)


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
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:  # also of the steps of monitors, which are no tables
            check = event.asset_check_evaluation_data
            is_bad = not check.passed or (OTHER_WINDOWS in check.metadata and KEPT not in check.metadata)
            if is_bad and check.description and NOT_EVALUATED not in check.metadata:
                self._outcome.warnings.append(f"{name_of(check.asset_key)}, check {check.check_name}: {check.description}")
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
