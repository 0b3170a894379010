"""The runs of an instance from outside: which there are, which of them died, who holds what another one waits for, and how one is ended.

Whoever starts a run first ends those whose process is gone, and checks that they planned keep their last results. A step process that
outlives the run that started it is left alone: each of its commits is refused if the next run was there first, and read by the next run if
not.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import GRPC_INFO_TAG, SCHEDULE_NAME_TAG, SENSOR_NAME_TAG

from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX
from lakehouse_assets.platform.orchestration.planned import settle
from lakehouse_assets.platform.orchestration.run_locks import Owner, RunLocks

LAUNCHED_BY_TAG, USER_TAG, GIT_TAG = "lakehouse/launched_by", "user", "git_sha"
CLI = "cli"

_ACTIVE = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_SHORT = 8
_SECONDS_TO_END = 20


@dataclass(frozen=True)
class RunState:
    """A run as people see it.

    Attributes:
        run_id: Its whole id.
        state: Dagster's status in lower case, or `dead`: not ended, but its process is gone.
        job: Which job, `selection` for a selection of assets.
        launched_by: `cli`, `sensor NAME`, `schedule NAME` or `web UI`, with the user where it is known.
        created: When it was asked for.
        ended: When it ended; None if it has not.
        owner: The process that works on it, or worked; None if it is not known on this machine.
        tables: The tables that it was asked for, empty for all of its job.
    """

    run_id: str
    state: str
    job: str
    launched_by: str
    created: datetime
    ended: datetime | None
    owner: Owner | None
    tables: tuple[str, ...] = ()

    @property
    def is_dead(self) -> bool:
        """Whether it has not ended, and its process is gone."""
        return self.state == "dead"

    def __str__(self) -> str:
        owner = f", {self.owner}" if self.owner else ""
        return f"run {self.run_id[:_SHORT]} ({self.job}, by {self.launched_by}, since {self.created:%Y-%m-%d %H:%M:%S} UTC{owner})"


def locks_of(instance: dg.DagsterInstance) -> RunLocks:
    """The locks of an instance's runs."""
    return RunLocks(instance.root_directory)


# --- runs that died


def end_dead_runs(instance: dg.DagsterInstance) -> list[RunState]:
    """End the runs whose process is gone as failed, and free the pool slots of runs that have ended; the runs that were ended."""
    locks, ended = locks_of(instance), []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_ACTIVE)):
        run_id = record.dagster_run.run_id
        with locks.taken_over(run_id) as owner:
            if owner is None and not _is_orphan(instance, record.dagster_run, locks):
                continue
            run = instance.get_run_by_id(run_id)
            if run is None or run.is_finished:  # since then
                continue
            state = _state(record, locks)
            _end(instance, run, f"Its process ended before the run did: {owner or 'the process of its code location'} is gone.")
            settle(instance, run_id)
            ended.append(state)
    free_slots_of_ended_runs(instance)
    unfinished = {run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))}
    for name in set(locks.names()) - unfinished:
        locks.forget(name)
    return ended


def _end(instance: dg.DagsterInstance, run: dg.DagsterRun, message: str) -> None:
    if run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, message)
    else:
        instance.report_run_failed(run, message)


def free_slots_of_ended_runs(instance: dg.DagsterInstance) -> None:
    """Free the pool slots that runs kept which have ended: the next run would wait for them for ever."""
    for run_id in instance.event_log_storage.get_concurrency_run_ids():
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)


def _is_orphan(instance: dg.DagsterInstance, run: dg.DagsterRun, locks: RunLocks) -> bool:
    """Whether a launched run died before its process took the lock: the code server of this machine that launched it is gone.

    While the server lives, it reports such a run as failed itself.
    """
    if run.run_id in locks.names() or run.status is dg.DagsterRunStatus.NOT_STARTED:
        return False
    address = json.loads(run.tags.get(GRPC_INFO_TAG, "{}")).get("socket")
    if not address or not Path(address).exists():  # another machine's
        return False
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(address)
        except ConnectionRefusedError:
            return not any(_lives(pid) for pid in _pids(instance, run.run_id))
        except OSError:
            return False
    return False


def _pids(instance: dg.DagsterInstance, run_id: str) -> Iterator[int]:
    """The processes that a run says it had."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        if event is not None and "pid" in event.engine_event_data.metadata:
            yield int(event.engine_event_data.metadata["pid"].value)  # type: ignore[arg-type]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


# --- what there is


def list_runs(instance: dg.DagsterInstance, limit: int) -> list[RunState]:
    """The newest runs, the newest first; those that have not ended are among them however old they are."""
    locks = locks_of(instance)
    newest = instance.get_run_records(limit=limit)
    known = {record.dagster_run.run_id for record in newest}
    unfinished = instance.get_run_records(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
    return [_state(record, locks) for record in [*newest, *(record for record in unfinished if record.dagster_run.run_id not in known)]]


def unfinished_runs(instance: dg.DagsterInstance) -> list[RunState]:
    """The runs that have not ended, the dead ones too."""
    locks = locks_of(instance)
    return [_state(record, locks) for record in instance.get_run_records(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))]


def find_run(instance: dg.DagsterInstance, run_id: str) -> RunState:
    """A run by its id or the first characters of it.

    Raises:
        LookupError: There is none, or there are several.
    """
    locks = locks_of(instance)
    found = [record for record in instance.get_run_records(limit=1_000) if record.dagster_run.run_id.startswith(run_id)]
    if len(found) != 1:
        raise LookupError(f"{'no run' if not found else 'more than one run'} begins with {run_id!r}: `lakehouse runs list` shows them")
    return _state(found[0], locks)


def _state(record: dg.RunRecord, locks: RunLocks) -> RunState:
    run = record.dagster_run
    owner, state = locks.owner(run.run_id), run.status.value.lower()
    if owner is None and not run.is_finished:
        with locks.taken_over(run.run_id) as gone:
            owner, state = (gone, "dead") if gone else (None, state)
    names = (".".join(key.path) for key in run.asset_selection or ())
    return RunState(
        run_id=run.run_id,
        state=state,
        job="selection" if run.job_name.startswith("__") else run.job_name,
        launched_by=launched_by(run.tags),
        created=record.create_timestamp.astimezone(UTC),
        ended=datetime.fromtimestamp(record.end_time, UTC) if record.end_time and run.is_finished else None,
        owner=owner,
        tables=tuple(sorted(name for name in names if not name.endswith(QUARANTINE_SUFFIX))),
    )


def launched_by(tags: Mapping[str, str]) -> str:
    """Who started a run: `cli`, `sensor NAME`, `schedule NAME` or `web UI`, with the user where it is known."""
    user = f" ({tags[USER_TAG]})" if USER_TAG in tags else ""
    if LAUNCHED_BY_TAG in tags:
        return tags[LAUNCHED_BY_TAG] + user
    for tag, word in ((SENSOR_NAME_TAG, "sensor"), (SCHEDULE_NAME_TAG, "schedule")):
        if tag in tags:
            return f"{word} {tags[tag]}"
    return f"web UI{user}"


# --- waiting and ending


def blockers(instance: dg.DagsterInstance, run_id: str, pools: Iterable[str]) -> dict[str, RunState]:
    """By pool that a run waits for, the run that has its slot."""
    locks, blocked = locks_of(instance), {}
    for pool, info in instance.event_log_storage.get_concurrency_infos(list(pools)).items():
        holders = [slot.run_id for slot in info.claimed_slots if slot.run_id != run_id]
        if holders and any(step.run_id == run_id and step.assigned_timestamp is None for step in info.pending_steps):
            record = instance.get_run_record_by_id(holders[0])
            if record is not None:
                blocked[pool] = _state(record, locks)
    return blocked


def end_run(instance: dg.DagsterInstance, run_id: str, say: Callable[[str], None] = lambda _: None) -> RunState:
    """End a run: its process is asked to stop, and killed if it does not; the run is canceled and its pool slots are freed.

    Args:
        instance: Where the run is.
        run_id: Its id, or the first characters of it.
        say: Told what is waited for.

    Returns:
        The run as it was.

    Raises:
        LookupError: As `find_run`.
        ValueError: It has ended already.
    """
    state = find_run(instance, run_id)
    run = instance.get_run_by_id(state.run_id)
    assert run is not None  # noqa: S101 it was found
    if run.is_finished:
        free_slots_of_ended_runs(instance)
        raise ValueError(f"run {state.run_id[:_SHORT]} has ended already: {state.state}")
    locks = locks_of(instance)
    if state.is_dead:
        end_dead_runs(instance)
        return state
    instance.report_run_canceling(run, "It is ended by `lakehouse runs end`.")
    if state.owner is not None:
        _stop_process(locks, state, say)
    run = instance.get_run_by_id(state.run_id)
    if run is not None and not run.is_finished:
        instance.report_run_canceled(run, "It was ended by `lakehouse runs end`.")
    free_slots_of_ended_runs(instance)
    settle(instance, state.run_id)
    locks.forget(state.run_id)
    return state


def _stop_process(locks: RunLocks, state: RunState, say: Callable[[str], None]) -> None:
    """Ask the process of a run to stop, and kill it if it does not. It lives for certain as long as it holds the lock."""
    deadline = time.monotonic() + _SECONDS_TO_END
    asked: int | None = None
    while (owner := locks.owner(state.run_id)) is not None:
        wanted = signal.SIGINT if time.monotonic() < deadline else signal.SIGKILL
        if wanted != asked:
            say(f"{owner}: {'asked to stop' if wanted == signal.SIGINT else 'killed'}")
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(owner.pid, wanted)
            asked = wanted
        time.sleep(0.1)


def as_texts(runs: Sequence[RunState]) -> list[str]:
    """What is said about runs that were found dead and ended."""
    return [f"{str(run)[0].upper()}{str(run)[1:]} is ended as failed: its process is gone. Its pool slots are free." for run in runs]
