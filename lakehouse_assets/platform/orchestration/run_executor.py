"""The executor of launched runs: Dagster's own, in a process that is known to work on the run, and that frees what dead runs hold.

What a lock says is in `run_locks`, what becomes of dead runs in `run_control`. Runs of `lakehouse run` do the same in `run`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import dagster as dg
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig
from sqlalchemy.exc import OperationalError

from lakehouse_assets.platform.orchestration.run_control import as_texts, end_dead_runs, locks_of
from lakehouse_assets.platform.orchestration.run_locks import Lock
from lakehouse_assets.settings import STEPS_AT_ONCE

_SECONDS_BETWEEN_CHECKS: Final = 5.0
# Until the process ends: a run's last event is written after its executor is done. A launched run has a process of its own.
_HELD: Final[dict[str, Lock | None]] = {}


def executor(kind: str) -> dg.ExecutorDefinition:
    """How steps run: in the run's own process (least overhead), or each in a process that a preloaded server forks."""
    if kind == "in_process":
        return _owned(dg.in_process_executor)
    forkserver = {"forkserver": {"preload_modules": ["lakehouse_assets.definitions"]}}
    return _owned(dg.multiprocess_executor.configured({"max_concurrent": STEPS_AT_ONCE, "start_method": forkserver}))


def _owned(inner: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    create = inner.executor_creation_fn
    assert create is not None  # noqa: S101 Dagster's own have one
    return dg.ExecutorDefinition(
        name=inner.name,
        config_schema=inner.config_schema,  # type: ignore[arg-type]  # one that is made is taken as it is
        requirements=inner._requirements_fn,  # noqa: SLF001 there is no public way to wrap an executor
        executor_creation_fn=lambda context: _Owned(create(context)),
        description=inner.description,
    )


class _Owned(dg.Executor):
    def __init__(self, inner: dg.Executor) -> None:
        self._inner = inner

    @property
    def retries(self) -> RetryMode:
        return self._inner.retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        return self._inner.step_dependency_config

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[dg.DagsterEvent]:
        """Run the steps of a plan."""
        instance, run_id = plan_context.instance, plan_context.run_id
        _HELD[run_id] = locks_of(instance).take(run_id)
        for text in as_texts(end_dead_runs(instance)):
            plan_context.log.info(text)
        with ending_dead_runs(instance):
            yield from self._inner.execute(plan_context, execution_plan)


@contextmanager
def ending_dead_runs(instance: dg.DagsterInstance) -> Iterator[None]:
    """Meanwhile check every few seconds for runs that died: a step of this one may wait for the slot of one of them."""
    done = threading.Event()

    def check() -> None:
        while not done.wait(_SECONDS_BETWEEN_CHECKS):
            with suppress(OperationalError):  # the database was busy: the next check comes
                end_dead_runs(instance)

    thread = threading.Thread(target=check, name="ending dead runs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
