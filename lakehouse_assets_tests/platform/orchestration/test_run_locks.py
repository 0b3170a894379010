"""A lock belongs to one process and is free the moment that it is dead, whatever it left."""

import os
import signal
import subprocess
import sys

from lakehouse_assets.platform.orchestration.run_locks import RunLocks

HOLD = """
import sys, time
from lakehouse_assets.platform.orchestration.run_locks import RunLocks
lock = RunLocks(sys.argv[1]).take("run")
print("held" if lock else "taken", flush=True)
time.sleep(60)
"""


def holder(home) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(home)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_is_free_once_its_process_is_killed(tmp_path):
    locks = RunLocks(tmp_path)
    with holder(tmp_path) as process:
        assert locks.owner("run").pid == process.pid
        assert locks.take("run") is None
        with locks.taken_over("run") as gone:
            assert gone is None
        locks.forget("run")
        assert locks.names() == ["run"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert locks.owner("run") is None
    with locks.taken_over("run") as gone, locks.taken_over("run") as second:
        assert gone.pid == process.pid
        assert second is None  # one process alone ends a run
    lock = locks.take("run")
    assert locks.owner("run").pid == os.getpid()
    lock.release(forget=True)
    assert locks.names() == []


def test_nothing_is_said_about_a_run_without_a_file(tmp_path):
    locks = RunLocks(tmp_path / "nowhere")
    assert locks.names() == []
    assert locks.owner("run") is None
    with locks.taken_over("run") as gone:
        assert gone is None


def test_a_file_that_a_power_loss_left_empty_is_one_of_a_dead_process(tmp_path):
    locks = RunLocks(tmp_path)
    locks.take("run").release(forget=False)
    (tmp_path / "run_locks" / "run").write_bytes(b"")
    assert locks.owner("run") is None
    with locks.taken_over("run") as gone:
        assert gone is not None
