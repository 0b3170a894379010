"""What the suite does at some places, done at all of them: kills at each commit and file move, every fault of a file, many random examples.

The tests are those modules of `lakehouse_assets_tests` that call `sweep`, run by pytest with whole sweeps. All have to pass.

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


def modules() -> list[str]:
    """The modules with sweeps, as paths within the project."""
    found = (path for path in TESTS.rglob("test_*.py") if "sweeps import sweep" in path.read_text(encoding="utf-8"))
    return sorted(path.relative_to(PROJECT).as_posix() for path in found)


def main() -> None:
    chosen = sys.argv[1:] or modules()
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "worksteal", f"--junit-xml={report}", *chosen]
        began = time.monotonic()
        code = subprocess.run(command, cwd=PROJECT, env=os.environ | {VARIABLE: "all"}, check=False).returncode
        seconds = time.monotonic() - began
        counted = next(ET.parse(report).getroot().iter("testsuite")).attrib if report.exists() else {}  # noqa: S314 pytest wrote it
    keep("sweeps", {"seconds": seconds, **{name: int(counted.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}})
    if code:
        sys.exit("some sweeps failed")


if __name__ == "__main__":
    main()
