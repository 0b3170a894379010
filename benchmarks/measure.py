"""What the benchmarks share: a command's wall time and peak memory as the operating system counts them, and where results are kept."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
REAL_DATA = PROJECT.parent / "shared" / "data" / "online_retail"
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Measured:
    """A finished command: wall and CPU seconds, peak resident memory in megabytes, what it printed."""

    seconds: float
    cpu: float
    megabytes: float
    output: str


def measure(command: Sequence[str], environment: Mapping[str, str] | None = None, cwd: Path = PROJECT) -> Measured:
    """Run a command to its end.

    Raises:
        SystemExit: It failed; its last words are shown.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=clean | dict(environment or {}), cwd=cwd)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)} ended with {process.returncode}\n{out.read()[-2000:]}{err.read()[-2000:]}")
        return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, out.read())


def keep(name: str, result: Any) -> None:
    """Write a result next to the others, as JSON."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
