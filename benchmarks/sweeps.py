"""The sweeps of the test suite in full: every kind and history, every place of death, every fault of a file, the real invoices.

The suite itself runs a sample of each (`lakehouse_assets_tests/sweeps.py`). Here the same functions run with everything, in two processes.
The limit: none fails.

`python -m benchmarks.sweeps [MODULES AND OPTIONS OF PYTEST]`
"""

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import PROJECT, keep
from lakehouse_assets_tests.sweeps import VARIABLE

TESTS = PROJECT / "lakehouse_assets_tests"
_HAS_A_SWEEP = ("from lakehouse_assets_tests import sweeps\n", "from lakehouse_assets_tests.platform.storage.fresh import examples")


def modules() -> list[str]:
    """The test modules that have a sweep, as paths within the project."""
    found = (path for path in TESTS.rglob("test_*.py") if any(line in path.read_text(encoding="utf-8") for line in _HAS_A_SWEEP))
    return sorted(path.relative_to(PROJECT).as_posix() for path in found)


def main() -> None:
    chosen = sys.argv[1:] or modules()
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "worksteal", "--timeout=3600", f"--junit-xml={report}", *chosen]
        began = time.monotonic()
        code = subprocess.run(command, cwd=PROJECT, env=os.environ | {VARIABLE: "1"}, check=False).returncode
        seconds = time.monotonic() - began
        counted = next(ET.parse(report).getroot().iter("testsuite")).attrib if report.exists() else {}  # noqa: S314 pytest wrote it
    keep("sweeps", {"seconds": seconds, **{name: int(counted.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}})
    if code:
        sys.exit("some sweeps failed")


if __name__ == "__main__":
    main()
