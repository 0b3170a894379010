"""A command that is interrupted says so in a sentence, and ends with 128 and the number of the signal."""

import os
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from lakehouse_assets_tests import sweeps

# A command of the real command line, which works in Python, or outside of it, until it is interrupted.
WORKING = """
import threading, time
import click
import polars as pl
from lakehouse_assets.cli.main import main
from lakehouse_assets.cli.shared import command

@command(interrupted="What was begun stays.")
@click.argument("how")
def work(how):
    if how == "query":
        threading.Timer(1, lambda: print("begun", flush=True)).start()  # the query is at work by then
    else:
        print("begun", flush=True)
    if how == "python":
        time.sleep(60)
    elif how == "finalizer":
        class Held:
            def __del__(self):
                time.sleep(5)  # what is raised here, Python drops
        held = Held()
        del held
        time.sleep(60)
    elif how == "asking":
        click.confirm("Really?")
    else:
        rows = pl.LazyFrame({"a": range(1_000_000)})
        rows.join(rows, how="cross").select((pl.col("a") * pl.col("a_right")).sum()).collect(engine="streaming")

main.add_command(work)
main()
"""


def interrupted(number: signal.Signals, how: str) -> tuple[int, str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", WORKING, "work", how]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=environment, **pipes) as process:
        assert process.stdout.readline() == "begun\n"
        if how == "asking":
            assert process.stdout.read(15) == "Really? [y/N]: "  # the blank at its end is written by what reads the answer
        process.send_signal(number)
        code = process.wait(60)
        return code, process.stderr.read()


def test_a_signal_that_python_drops_in_a_finalizer_ends_the_command_all_the_same():
    assert interrupted(signal.SIGTERM, "finalizer") == (143, "Interrupted by SIGTERM. What was begun stays.\n")


SIGNALS = ((signal.SIGINT, 130, "Interrupted. "), (signal.SIGTERM, 143, "Interrupted by SIGTERM. "))
MEANINGS = {"python": "What was begun stays.\n", "query": "What was begun stays.\n", "asking": "Nothing was done.\n"}


@pytest.mark.parametrize(("of", "how"), sweeps.of([(0, "python"), (1, "query"), (0, "query"), (1, "asking")], [*product((0, 1), MEANINGS)]))
def test_a_signal(of, how):
    (number, code, words), meaning = SIGNALS[of], MEANINGS[how]
    found, said = interrupted(number, how)
    assert found == code
    # While a prompt waits, the system may hand the signal to another thread: then the command ends as one outside of Python does.
    assert said in ({words + meaning, words + "What was begun stays.\n"} if how == "asking" else {words + meaning})
