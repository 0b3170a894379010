"""A run of Dagster in this process, recorded as the web UI expects it: with its job, code location, and who started it.

`JobDefinition.execute_in_process` would record neither. What is run, and how progress is told, is in `run`.
"""

import getpass
import subprocess
import threading
from typing import Final

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import PARTITION_NAME_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from lakehouse_assets.platform.orchestration.instance import PROJECT
from lakehouse_assets.platform.orchestration.run_control import CLI, GIT_TAG, LAUNCHED_BY_TAG, USER_TAG, free_slots_of_ended_runs

# As `workspace.yaml` has it.
MODULE, LOCATION = "lakehouse_assets.definitions", "lakehouse_assets"
CODE_LOCATION: Final = RemoteRepositoryOrigin(
    ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name=MODULE, working_directory=str(PROJECT)), LOCATION),
    "__repository__",
)
_CANCELED = {dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED}
# The events are in Dagster's log and are reported as progress: they are not printed a third time.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class RunEnded(KeyboardInterrupt):
    """The run was interrupted, and not by a signal: somebody ended it by command or in the web UI."""


class InProcessRun:
    """A run in a thread of this process, which can be told to stop after the step that it is in.

    Args:
        opened: Where it is recorded.
        job: What is run.
        run_id: Its id.
        keys: The assets of the job that are meant; None: all.
        tags: More tags than those of all such runs.
        partition: The partition of assets that have some.
    """

    def __init__(
        self,
        opened: dg.DagsterInstance,
        job: dg.JobDefinition,
        run_id: str,
        keys: list[dg.AssetKey] | None,
        tags: dict[str, str],
        *,
        partition: str | None,
    ) -> None:
        own = job.as_ephemeral_job(resource_defs={}, input_values={}, asset_selection=keys)
        self.instance, self.run_id = opened, run_id
        self.pools = {node.definition.pool: node.name for node in own.nodes if isinstance(node.definition, dg.OpDefinition)}
        self._stopping = threading.Event()
        self._errors: list[BaseException] = []
        # With the origin of the code location, or the web UI would show the run in no timeline and with no job.
        if partition is not None:
            tags = {PARTITION_NAME_TAG: partition, **tags}
        origin = RemoteJobOrigin(CODE_LOCATION, job.name)
        run = opened.create_run_for_job(
            own,
            run_id=run_id,
            run_config=_QUIET,
            tags={**job.run_tags, LAUNCHED_BY_TAG: CLI, USER_TAG: getpass.getuser(), **_git_sha(), **tags},
            asset_selection=frozenset(keys) if keys else None,
            remote_job_origin=origin,
        )

        def work() -> None:
            try:
                for _ in execute_run_iterator(InMemoryJob(own), run, opened):
                    if self._stopping.is_set():
                        threading.Event().wait()  # closing Dagster's generator in a step would record a failure
            except BaseException as error:  # noqa: BLE001 it is raised again in the main thread
                self._errors.append(error)

        self._thread = threading.Thread(target=work, name="run", daemon=True)
        self._thread.start()

    def is_running(self, seconds: float) -> bool:
        """Wait so long for its end, and say whether it has not come.

        Raises:
            RunEnded: Somebody else ended it.
        """
        self._thread.join(seconds)
        if self._errors:
            raise self._errors[0]
        return self._thread.is_alive()

    def stop(self) -> None:
        """Record it as canceled, and free its pool slots."""
        self._stopping.set()
        run = self.instance.get_run_by_id(self.run_id)
        if run is not None and not run.is_finished:
            self.instance.report_run_canceled(run, "Interrupted.")
        free_slots_of_ended_runs(self.instance)

    def check_not_ended(self) -> None:
        """Notice that the run was ended from outside.

        Raises:
            RunEnded: It was.
        """
        run = self.instance.get_run_by_id(self.run_id)
        if run is not None and run.status in _CANCELED and self._thread.is_alive():
            self.stop()
            raise RunEnded(f"run {self.run_id[:8]} was ended from outside: {run.status.value}")


def _git_sha() -> dict[str, str]:
    """The tag that says which commit this code is; none where it is not a checkout."""
    if not (PROJECT / ".git").exists():
        return {}
    command = ["git", "-C", str(PROJECT), "rev-parse", "--short=12", "HEAD"]
    try:
        return {GIT_TAG: subprocess.run(command, capture_output=True, check=True, text=True, timeout=5).stdout.strip()}  # noqa: S603 our own
    except (OSError, subprocess.SubprocessError):
        return {}
