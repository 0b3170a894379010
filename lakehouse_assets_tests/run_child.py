"""Runs `lakehouse run` in processes to which something happens at a place: before or after a commit, with Dagster and its pool slots.

As `crash_child`, with orders that have also `words`, the words after `lakehouse run`, and `signal`: what the process gets at the place
`fatal`, by name; `sleep` lets it hang there instead.
"""

import os
import signal
import time
from typing import Any

from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.orchestration import code_location, run  # noqa: F401 imported once, before the forks
from lakehouse_assets_tests.crash_child import Places, serve, watch


class Happening(Places):
    """Places at one of which something happens."""

    def __init__(self, order: dict[str, Any]) -> None:
        super().__init__(order["fatal"], order["when"], in_bucket=False)
        self.what = order["signal"]

    def _die(self, when: str) -> None:
        if not self._is(when):
            return
        if self.what == "sleep":
            time.sleep(600)
        os.kill(os.getpid(), signal.Signals[self.what])


def command(order: dict[str, Any]) -> list[str]:
    os.environ["LAKEHOUSE_ROOT"] = order["root"]
    places = Happening(order)
    watch(places)
    try:
        main(["run", "--json", *order["words"]], standalone_mode=False)
    except SystemExit as end:
        if end.code:
            os._exit(int(end.code))
    return places.names


if __name__ == "__main__":
    # What the command prints must not be taken for an answer.
    answers = os.dup(1)
    os.dup2(2, 1)
    serve(command, answers)
