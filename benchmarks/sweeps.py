"""The sweeps of the test suite in full: every kind and history, every place of death, every number of threads, the real invoices.

The suite itself runs a sample of each (`lakehouse_assets_tests/sweeps.py`). Here the same functions run with everything, in two processes.
The limit: none fails.

`python -m benchmarks.sweeps [--only WORDS]`
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import PROJECT, keep

TESTS = PROJECT / "lakehouse_assets_tests"
MODULE = "lakehouse_assets_tests.sweeps"


def modules() -> list[Path]:
    """The test modules that have a sweep."""
    users = (f"import {MODULE}", f"from {MODULE}", "from lakehouse_assets_tests import sweeps")
    return [path for path in sorted(TESTS.rglob("test_*.py")) if any(one in path.read_text(encoding="utf-8") for one in users)]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="as pytest's -k")
    given = parser.parse_args()
    files = [str(path.relative_to(PROJECT)) for path in modules()]
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "worksteal", "--timeout", "3600", *files]
    environment = {**os.environ, "LAKEHOUSE_TESTS_SWEEP": "1"}
    code = subprocess.run([*command, "-k", given.only] if given.only else command, cwd=PROJECT, env=environment, check=False).returncode
    keep("sweeps", {"modules": files, "seconds": time.monotonic() - began, "failed": code != 0})
    return 1 if code else 0


if __name__ == "__main__":
    sys.exit(main())
