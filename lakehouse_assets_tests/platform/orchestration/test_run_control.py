"""Which runs count as dead, and which do not: on this machine, on another one, and of a code server that is gone."""

import json
import os
import socket
import uuid
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.storage.tags import GRPC_INFO_TAG

from lakehouse_assets.platform.orchestration.run_control import end_dead_runs, list_runs, locks_of
from lakehouse_assets.platform.orchestration.run_executor import executor

Status = dg.DagsterRunStatus


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def add(instance: dg.DagsterInstance, status: Status, **tags: str) -> dg.DagsterRun:
    run = dg.DagsterRun(job_name="refresh", run_id=str(uuid.uuid4()), status=status, tags=tags)
    instance.add_run(run)
    return run


def status_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Status:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


@pytest.mark.parametrize(
    ("status", "then"),
    [
        (Status.NOT_STARTED, Status.FAILURE),
        (Status.STARTING, Status.FAILURE),
        (Status.STARTED, Status.FAILURE),
        (Status.CANCELING, Status.CANCELED),
        (Status.SUCCESS, Status.SUCCESS),
    ],
)
def test_a_run_that_has_not_ended_and_whose_process_is_gone_is_ended(instance, status, then):
    run = add(instance, status)
    lock = locks_of(instance).take(run.run_id)
    assert end_dead_runs(instance) == []
    assert status_of(instance, run) is status
    lock.release(forget=False)
    assert [dead.run_id for dead in end_dead_runs(instance)] == ([run.run_id] if status is not then else [])
    assert status_of(instance, run) is then
    assert end_dead_runs(instance) == []
    assert locks_of(instance).names() == []


def test_a_run_that_has_no_process_on_this_machine_is_left_alone(instance):
    runs = [add(instance, status) for status in (Status.NOT_STARTED, Status.STARTING, Status.STARTED)]
    assert end_dead_runs(instance) == []
    assert [status_of(instance, run) for run in runs] == [run.status for run in runs]


@pytest.mark.parametrize(
    ("server", "process", "is_dead"),
    [("gone", "none", True), ("lives", "none", False), ("elsewhere", "none", False), ("gone", "lives", False)],
)
def test_a_run_whose_process_never_took_the_lock_is_dead_if_its_code_server_is(instance, tmp_path, server, process, is_dead):
    address = tmp_path / "socket"
    listener = socket.socket(socket.AF_UNIX)
    if server != "elsewhere":
        listener.bind(str(address))
        listener.listen()
    run = add(instance, Status.STARTING, **{GRPC_INFO_TAG: json.dumps({"host": "localhost", "socket": str(address)})})
    if process == "lives":
        instance.report_engine_event("Started process for run", run, EngineEventData.in_process(os.getpid()))
    if server == "gone":
        listener.close()
    assert bool(end_dead_runs(instance)) is is_dead
    assert status_of(instance, run) is (Status.FAILURE if is_dead else Status.STARTING)
    listener.close()


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"lakehouse/launched_by": "cli", "user": "ann"}, "cli (ann)"),
        ({"dagster/sensor_name": "landing_sensor"}, "sensor landing_sensor"),
        ({"dagster/schedule_name": "daily_refresh"}, "schedule daily_refresh"),
        ({}, "web UI"),
    ],
)
def test_it_is_said_who_launched_a_run(instance, tags, said):
    add(instance, Status.STARTED, **tags)
    assert [run.launched_by for run in list_runs(instance, 5)] == [said]


def one_step() -> dg.JobDefinition:
    @dg.op
    def step() -> None: ...

    return dg.GraphDefinition(name="job", node_defs=[step]).to_job(executor_def=executor("in_process"))


def test_a_launched_run_belongs_to_its_process_and_ends_dead_ones_first(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", "")
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        dead = add(instance, Status.STARTED)
        locks_of(instance).take(dead.run_id).release(forget=False)
        done = dg.execute_job(dg.reconstructable(one_step), instance=instance)
        assert done.success
        assert status_of(instance, dead) is Status.FAILURE
        assert locks_of(instance).owner(done.run_id).pid == os.getpid()
        end_dead_runs(instance)
        assert status_of(instance, done.dagster_run) is Status.SUCCESS
