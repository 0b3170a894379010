"""The service as a process: it ends well when it is told to, and what it answered is in the lake once, however it ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from lakehouse_assets.platform.serving.inference_log.log import InferenceLog
from lakehouse_assets.platform.serving.inference_log.table import LoggedEndpoint
from lakehouse_assets_tests.platform.serving.asking import Connection, under_load
from lakehouse_assets_tests.platform.serving.till import Till, receipt, settings_in

PATH = "/endpoints/receipts"


@contextmanager
def service(folder: Path, seconds: float = 0.0) -> Iterator[tuple[subprocess.Popen, str]]:
    command = [sys.executable, "-m", "lakehouse_assets_tests.platform.serving.served_child", str(folder), str(seconds)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        address = process.stdout.readline().strip()
        assert address, (folder / "log").read_text()
        while True:
            with suppress(ConnectionError), Connection(address) as connection:
                if connection.get("/ready")[0] == 200:
                    break
            time.sleep(0.05)
        yield process, address
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        process.stdout.close()


@pytest.mark.timeout(120)
def test_what_is_in_work_is_answered_when_the_service_is_told_to_end(tmp_path):
    answers = []
    with service(tmp_path, seconds=0.7) as (process, address):

        def ask() -> None:
            with Connection(address) as connection:
                answers.append(connection.post(PATH, receipt()))

        client = threading.Thread(target=ask)
        client.start()
        time.sleep(0.35)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        client.join()
    assert [status for status, _ in answers] == [200]
    assert (tmp_path / "log").read_text() == ""


@pytest.mark.timeout(120)
def test_every_answer_is_in_the_log_once_after_the_process_was_killed_under_load(tmp_path):
    answered: list[str] = []

    with service(tmp_path) as (process, address):

        def ask(connection: Connection, number: int) -> None:
            try:
                status, answer = connection.post(PATH, receipt(number))
            except (OSError, HTTPException):
                connection.close()
                time.sleep(0.01)
                return
            assert status == 200
            answered.append(answer["request_id"])

        def kill() -> None:
            while len(answered) < 100:
                time.sleep(0.02)
            os.kill(process.pid, signal.SIGKILL)
            process.wait(30)

        under_load(address, 4, ask, kill)
    till = Till(settings_in(tmp_path))
    home = till.root.settings.home_folder
    log = InferenceLog(home / "serving" / "spool", lambda: till.root.lakehouse, [LoggedEndpoint("till", "receipts")])
    assert log.flush()
    assert log.release()
    logged = till.root.lakehouse.table("till.inference.receipts").scan().collect()["request_id"].to_list()
    assert len(logged) == len(set(logged))
    assert set(answered) <= set(logged)
