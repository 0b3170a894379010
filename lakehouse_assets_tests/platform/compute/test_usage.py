"""What work used is what the operating system counts: of a process that read, computed and held something, and of an idle one."""

import os
import subprocess
import sys

import pytest

from lakehouse_assets.platform.compute.usage import measured

_MEGABYTE = 1_000_000


def test_what_is_read_and_held_is_counted(tmp_path):
    (tmp_path / "file").write_bytes(os.urandom(20 * _MEGABYTE))
    with measured() as idle:
        pass
    with measured() as busy:
        held = bytearray((tmp_path / "file").read_bytes()) * 5
    assert len(held) == 100 * _MEGABYTE
    assert busy.bytes_read >= 20 * _MEGABYTE > idle.bytes_read
    assert busy.peak_memory_bytes >= 100 * _MEGABYTE
    assert busy.cpu_seconds >= 0


def test_child_processes_that_ended_are_counted():
    with measured() as usage:
        subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"], check=True)
    assert usage.cpu_seconds >= 0.5


def test_work_that_fails_is_counted_too(tmp_path):
    (tmp_path / "file").write_bytes(bytes(_MEGABYTE))

    def fail() -> None:
        (tmp_path / "file").read_bytes()
        raise ValueError

    with pytest.raises(ValueError), measured() as usage:
        fail()
    assert usage.bytes_read >= _MEGABYTE
