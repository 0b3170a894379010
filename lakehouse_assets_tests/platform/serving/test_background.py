"""What a service does besides answering happens in a process of its own, which ends with it and is started again, however either dies."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.platform.serving.background import Task
from lakehouse_assets.platform.serving.background_process import NICE
from lakehouse_assets_tests.platform.serving import busy
from lakehouse_assets_tests.platform.serving.asking import Connection, under_load
from lakehouse_assets_tests.platform.serving.till import listening, settings_in, until

PATH = "/endpoints/busy"
LOGGED = "till.inference.busy"


def sent(number: int) -> dict[str, object]:
    shop = "ab"[number % 2]
    return {"receipt": f"n{number}", "at": busy.NOW.isoformat(), "shop": shop, "amount": 10.0, "items": 1, "note": None}


def children(pid: int) -> list[int]:
    """The processes that a process started and that live."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(entry.name))
    return found


def is_ready(address: str) -> bool:
    with suppress(ConnectionError), Connection(address) as connection:
        return connection.get("/ready")[0] == 200
    return False


def is_gone(pid: int) -> bool:
    """Whether a process ended."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """The service in a process, ready; its address."""
    command = [sys.executable, "-m", "lakehouse_assets_tests.platform.serving.busy_child", str(folder)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        address = process.stdout.readline().strip()
        assert address, (folder / "log").read_text()
        until(lambda: is_ready(address), 60)
        yield process, address
    finally:
        left = children(process.pid)
        if process.poll() is None:
            process.kill()
        process.wait(30)
        process.stdout.close()
        until(lambda: all(map(is_gone, left)), 60)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(settings_in(tmp_path))


@pytest.fixture
def runner(root: Root) -> Runner:
    return busy.prepared(root)


def logged(root: Root) -> list[str]:
    table = root.lakehouse.table(LOGGED)
    return table.scan().collect()["request_id"].to_list() if table.exists() else []


def asker(answered: list[str]) -> Callable[[Connection, int], Any]:
    """What asks, and keeps the ids of what was answered."""

    def ask(connection: Connection, number: int) -> int | None:
        try:
            status, answer = connection.post(PATH, sent(number))
        except (OSError, HTTPException):
            connection.close()
            time.sleep(0.01)
            return None
        if status == 200:
            answered.append(answer["request_id"])
        return status

    return ask


@pytest.mark.timeout(180)
def test_it_syncs_lands_and_drains_and_ends_with_the_service(root: Root, runner: Runner, tmp_path: Path) -> None:
    with serving(tmp_path) as (process, address), Connection(address) as connection:
        (child,) = children(process.pid)
        priority = os.getpriority(os.PRIO_PROCESS, process.pid)
        until(lambda: os.getpriority(os.PRIO_PROCESS, child) == min(priority + NICE, 19))
        until(lambda: not statuses(connection), 60)
        new = busy.receipts(60, 61).with_columns(pl.lit("new").alias("shop"))
        root.lakehouse.table("till.silver.receipts").append(new)
        runner.run(busy.MADE, run_id="second")
        shop = {"shop": "new", "receipt": "x"}
        until(lambda: "features" not in connection.post(PATH, sent(1) | shop)[1]["predictions"][0], 60)
        status, receipt = connection.post("/ingest/pushed", [{"receipt": "a", "amount": 1}])
        assert (status, receipt["accepted"]) == (200, 1)
        zone = root.zone("pushed")
        until(lambda: len(list(zone.files())) == 1, 60)
        ids = [connection.post(PATH, sent(number))[1]["request_id"] for number in range(5)]
        metrics = connection.get("/metrics")[1]
        assert "lakehouse_background_restarts 0.0" in metrics
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
        assert is_gone(child)
    assert (tmp_path / "log").read_text() == ""
    assert set(ids) <= set(logged(root))
    assert len(logged(root)) == len(set(logged(root)))


def statuses(connection: Connection) -> set[str]:
    return {word for row in connection.post(PATH, sent(0))[1]["predictions"] for word in row.get("features", {})}


@pytest.mark.timeout(180)
def test_no_request_fails_when_it_is_killed_and_it_is_started_again(root: Root, runner: Runner, tmp_path: Path) -> None:
    answered: list[str] = []
    with serving(tmp_path) as (process, address), Connection(address) as connection:
        first = children(process.pid)

        def kill() -> None:
            for _ in range(2):
                (child,) = children(process.pid)
                mark = len(answered)
                os.kill(child, signal.SIGKILL)
                until(lambda child=child: children(process.pid) not in ([], [child]), 60)
                until(lambda mark=mark: len(answered) > mark + 50, 60)

        said = under_load(address, 2, asker(answered), kill)
        assert {*said} == {200}
        assert children(process.pid) != first
        assert "lakehouse_background_restarts 2.0" in connection.get("/metrics")[1]
        # It goes on with what it does.
        root.lakehouse.table("till.silver.receipts").append(busy.receipts(60, 61).with_columns(pl.lit("new").alias("shop")))
        runner.run(busy.MADE, run_id="second")
        until(lambda: "features" not in connection.post(PATH, sent(1) | {"shop": "new"})[1]["predictions"][0], 90)
        until(lambda: "background" not in connection.get("/ready")[1], 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
    assert set(answered) <= set(logged(root))
    assert len(logged(root)) == len(set(logged(root)))


@pytest.mark.timeout(180)
def test_it_brings_what_was_answered_to_the_lake_and_ends_when_the_service_is_killed(root: Root, runner: Runner, tmp_path: Path) -> None:
    answered: list[str] = []
    with serving(tmp_path) as (process, address):
        (child,) = children(process.pid)

        def kill() -> None:
            until(lambda: len(answered) > 100, 60)
            process.kill()
            process.wait(30)

        under_load(address, 2, asker(answered), kill)
        until(lambda: is_gone(child), 90)
    assert set(answered) <= set(logged(root))
    assert len(logged(root)) == len(set(logged(root)))


@pytest.mark.timeout(180)
def test_a_service_is_ready_once_the_store_knows_what_is_looked_up_or_cannot_be_reached(root: Root, runner: Runner, tmp_path: Path) -> None:
    service = busy.service_of(root)
    held = service.background
    held.start = lambda: None  # nobody syncs
    held.stop = lambda _: None
    with listening(service) as address, Connection(address) as connection:
        until(lambda: service.served["busy"].versions is not None)
        status, said = connection.get("/ready")
        assert (status, said["endpoints"]["busy"]["ready"]) == (503, False)
        assert set(said["endpoints"]["busy"]["features_synced_until"].values()) == {None}
        # Anybody may sync.
        other = busy.service_of(root)
        other.online.lookups(other.served["busy"], {})
        other.background.sync()
        assert connection.get("/ready")[0] == 200
        place = root.settings.home_folder / "online"
        shutil.rmtree(place)
        place.write_bytes(b"a file is in the way")
        time.sleep(1.1)  # a connection looks at its file once a second
        status, said = connection.get("/ready")
        assert (status, said["endpoints"]["busy"]["features_unavailable"]) == (200, True)
        assert connection.post(PATH, sent(0))[1]["predictions"][0]["features"]["unavailable"]


def test_a_task_that_fails_says_why_until_it_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    errors = [ConnectionError("away\nfor good"), ConnectionError("away"), None]

    def step() -> None:
        if (error := errors.pop(0)) is not None:
            raise error

    task = Task("log", step, 1.0, 60.0)
    for _ in range(2):
        task.once()
        assert task.trouble == "ConnectionError: away"
    assert len(caplog.records) == 1
    task.once()
    assert task.trouble == ""


def test_a_task_that_panics_says_so_and_is_done_again() -> None:
    outcomes: list[BaseException | None] = [pl.exceptions.PanicException("for a test"), None]

    def step() -> None:
        if (outcome := outcomes.pop(0)) is not None:
            raise outcome

    task = Task("sync", step, 0.0, 0.0)
    task.once()
    assert "for a test" in task.trouble
    task.once()
    assert not task.trouble
