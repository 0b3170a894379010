"""What places of work are given in tests: functions of a module, which travel. Files say what was done, by which process."""

import os
import signal
import time
from pathlib import Path

import polars as pl

from lakehouse_assets.platform.compute import deadline


class Odd(ValueError):
    """An error that knows more than its text."""

    def __init__(self, item, reason):
        super().__init__(f"{item}: {reason}")
        self.item, self.reason = item, reason

    def __reduce__(self):
        return Odd, (self.item, self.reason)


class Stubborn(ValueError):
    """An error that pickle cannot make again."""

    def __init__(self, item, reason):
        super().__init__(f"{item}: {reason}")


def noted(folder):
    """The lines that were noted, in no order."""
    return [line for file in Path(folder).iterdir() for line in file.read_text().splitlines()]


def note(folder, text):
    """Note a line."""
    with Path(folder, f"{os.getpid()}").open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def is_alive(pid):
    """Whether a process is there and no zombie, which only waits for a parent that does not ask."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def double(item):
    return item * 2


def slowest_first(item):
    """The first items take longest, so that they end last."""
    time.sleep(max(0, 0.4 - 0.1 * item))
    return item


def odd_error(item):
    if item == 1:
        raise Odd(item, "is odd")
    return item


def stubborn_error(item):
    raise Stubborn(item, "stays here")


def error_or_long(folder, item):
    """The first item fails as soon as the second is at work, which takes long."""
    note(folder, os.getpid())
    if item == 0:
        while len(noted(folder)) < 2:
            time.sleep(0.01)
        raise Odd(item, "failed")
    time.sleep(600)


def within_time(_):
    deadline.check()
    return deadline.has_passed()


def for_ever(_):
    while True:
        deadline.check()
        time.sleep(0.01)


def trains_nested(compute, item):
    """The kind of place that is at hand, and what it does."""
    return type(compute).__name__, compute.map(double, [item, item + 1])


def a_lock(_):
    import threading

    return threading.Lock()


def pid(_):
    time.sleep(0.1)
    return os.getpid()


def surroundings(_):
    names = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "POLARS_OOC_MEMORY_BUDGET_MB")
    print("this is no output of a command")
    return {name: os.environ[name] for name in names}, pl.thread_pool_size()


def killed_once(folder, item):
    """The process that works on the second item first is killed."""
    note(folder, item)
    if item == 1 and noted(folder).count("1") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def killed_always(folder, item):
    note(folder, item)
    if item == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def stays(folder, _):
    note(folder, os.getpid())
    time.sleep(600)


def running_total(rows):
    return rows.with_columns(total=pl.col("value").cum_sum().over("a", "b"), first=pl.col("value").first().over("a", "b"))


class Counted:
    """A function with data, as a learner with rows: it notes how often it was packed and unpacked."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, item):
        time.sleep(0.05)
        return item

    def __getstate__(self):
        note(self.folder, "packed")
        return {"folder": self.folder}

    def __setstate__(self, state):
        self.__dict__.update(state)
        note(self.folder, f"unpacked by {os.getpid()}")
