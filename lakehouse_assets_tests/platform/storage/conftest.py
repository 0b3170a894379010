import subprocess
import sys
from contextlib import ExitStack

import pytest

from lakehouse_assets.platform.storage.lakehouse import Lakehouse


@pytest.fixture
def lakehouse(tmp_path):
    return Lakehouse(str(tmp_path / "tables"))


@pytest.fixture
def table(lakehouse):
    """A handle of a table that does not exist yet."""
    return lakehouse.table("shop.silver.things")


@pytest.fixture
def start():
    """Starts a process of its own, see `worker`; it says "ready" when its imports are done. None outlives the test."""
    with ExitStack() as stack:

        def start_one(*arguments):
            command = [sys.executable, "-m", "lakehouse_assets_tests.platform.storage.worker", *map(str, arguments)]
            process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            return process

        yield start_one
