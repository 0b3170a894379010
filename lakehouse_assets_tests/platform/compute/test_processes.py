"""Worker processes: what is sent to them, what they are given, and that none of them outlives its work, whoever is killed."""

import os
import signal
import subprocess
import sys
import time
import types
from functools import partial
from pathlib import Path

import pytest

from lakehouse_assets.platform.compute.memory import limit_memory
from lakehouse_assets.platform.compute.pool import MOST_TRIES, WorkerLost, cores
from lakehouse_assets.platform.compute.processes import Processes
from lakehouse_assets.platform.compute.travel import CannotTravel, RemoteTraceback, packed
from lakehouse_assets.platform.declarations.modules import products_in
from lakehouse_assets.platform.declarations.packages import product_packages
from lakehouse_assets_tests.platform.compute import work

PROJECT = Path(__file__).parents[3]
TWO = Processes(2)


def test_the_function_is_packed_once_and_sent_to_each_worker_once(tmp_path):
    assert TWO.map(work.Counted(str(tmp_path)), range(6)) == [0, 1, 2, 3, 4, 5]
    noted = work.noted(tmp_path)
    assert noted.count("packed") == 1
    unpacked = [line for line in noted if line != "packed"]
    assert 1 <= len(unpacked) == len({*unpacked}) <= 2


def test_each_worker_gets_a_share_of_the_machine(monkeypatch, capfd):
    environment = {"POLARS_OOC_MEMORY_BUDGET_MB": "1000"}
    monkeypatch.setenv("POLARS_OOC_MEMORY_BUDGET_MB", str(limit_memory(environment=environment)))
    monkeypatch.delenv("POLARS_MAX_THREADS", raising=False)
    threads = max(1, cores() // 2)
    expected = {"OMP_WAIT_POLICY": "PASSIVE", "POLARS_OOC_MEMORY_BUDGET_MB": "500"}
    expected |= {"POLARS_MAX_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    assert TWO.map(work.surroundings, range(2)) == [(expected, threads)] * 2
    printed = capfd.readouterr()
    assert (printed.out, printed.err.count("no output")) == ("", 2)


def closure(value):
    return lambda item: item + value


def test_what_cannot_travel_is_refused_by_name():
    with pytest.raises(CannotTravel, match=r"test_processes\.closure\.<locals>\.<lambda> cannot be sent .* without closures"):
        TWO.map(closure(1), [1, 2])
    with pytest.raises(CannotTravel, match=r"an item of .*\.double cannot be sent"):
        TWO.map(work.double, [1, closure(2)])
    with pytest.raises(CannotTravel, match=r"the result of .*\.a_lock cannot be sent"):
        TWO.map(work.a_lock, [1, 2])
    mine = types.FunctionType(work.double.__code__, {})
    mine.__module__, mine.__qualname__ = "__main__", "mine"
    with pytest.raises(CannotTravel, match=r"mine is defined in the script or notebook that runs"):
        TWO.map(partial(mine), [1, 2])


def test_what_workers_do_not_find_is_refused_by_name(monkeypatch):
    gone = types.ModuleType("gone_tomorrow")
    gone.function = types.FunctionType(work.double.__code__, {}, "function")
    gone.function.__module__, gone.function.__qualname__ = gone.__name__, "function"
    monkeypatch.setitem(sys.modules, gone.__name__, gone)
    with pytest.raises(CannotTravel, match=r"gone_tomorrow\.function cannot be loaded in another process: ModuleNotFoundError"):
        TWO.map(gone.function, [1, 2])


class Reads:
    """What reads rows when it is sent."""

    def __getstate__(self):
        raise TypeError("rows of another type")


def test_an_error_of_what_is_read_to_be_sent_is_raised_as_it_was():
    with pytest.raises(TypeError, match=r"^rows of another type$"):
        packed(Reads(), "an item")


def test_workers_find_the_products_of_a_folder(tmp_path, monkeypatch):
    own = tmp_path / "traveling_products" / "shop"
    own.mkdir(parents=True)
    (own / "learner.py").write_text("def half(item):\n    return item / 2\n", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [*sys.path])
    (package,) = product_packages(str(own.parent))
    (product,) = products_in(package.load())
    half = next(module for module in product.modules if module.__name__.endswith("learner")).half
    assert TWO.map(half, [2, 4]) == [1, 2]


def test_an_error_says_where_it_was_raised_even_if_it_cannot_travel():
    with pytest.raises(RuntimeError, match=r"Stubborn: [01]: stays here") as raised:
        TWO.map(work.stubborn_error, [0, 1])
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert "in stubborn_error" in str(raised.value.__cause__)


def test_the_first_error_ends_the_rest(tmp_path):
    with pytest.raises(work.Odd, match="failed"):
        TWO.map(partial(work.error_or_long, str(tmp_path)), range(9))
    pids = work.noted(tmp_path)
    assert len(pids) == 2
    assert not any(work.is_alive(pid) for pid in pids)


def test_what_a_killed_worker_was_at_is_done_by_another_one(tmp_path):
    assert TWO.map(partial(work.killed_once, str(tmp_path)), range(4)) == [0, 1, 2, 3]
    assert sorted(work.noted(tmp_path)) == ["0", "1", "1", "2", "3"]


def test_an_item_that_ends_every_worker_is_an_error(tmp_path):
    with pytest.raises(WorkerLost, match=rf"part 2 of 3 of .*killed_always was tried {MOST_TRIES} times, .* SIGKILL"):
        TWO.map(partial(work.killed_always, str(tmp_path)), range(3))
    assert work.noted(tmp_path).count("1") == MOST_TRIES


PARENT = """
import sys
from functools import partial
from lakehouse_assets.platform.compute.processes import Processes
from lakehouse_assets_tests.platform.compute import work
Processes(2).map(partial(work.stays, sys.argv[1]), range(3))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_workers_end_with_their_parent(tmp_path, number):
    command = [sys.executable, "-W", "error", "-c", PARENT, str(tmp_path)]
    parent = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while len(pids := work.noted(tmp_path)) < 2 and parent.poll() is None:
        time.sleep(0.05)
    os.kill(parent.pid, number)
    out, errors = parent.communicate(timeout=60)
    assert len(pids) == 2, errors
    if number == signal.SIGINT:
        assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "leaked" not in errors
    assert "Warning" not in errors
    assert out == ""
    while any(work.is_alive(pid) for pid in pids):  # until the time limit of the test
        time.sleep(0.05)
