"""`make run` in a fresh clone of what is committed, part by part, against pip installing the same locked packages.

The limit is two minutes where the network is not what takes the time. uv starts with an empty cache, as on a new machine.
"""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import PROJECT, keep, measure

MOST_SECONDS = 120
# The lines that `make` prints when a part begins.
PARTS = {
    "Making the environment": "virtual environment",
    "Installing uv": "uv, by pip",
    "Installing 1": "the locked packages, by uv",
    "Installing lakehouse-assets": "this project",
    "Compiling": "byte code",
    ".venv/bin/lakehouse demo": "the main job",
}


def environment(folder: Path) -> dict[str, str]:
    """A newcomer's: no cache of uv, none of this project's variables."""
    ours = ("LAKEHOUSE_", "DAGSTER_", "VIRTUAL_ENV", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {
        "UV_CACHE_DIR": str(folder / "uv"),
        "PATH": os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if ".venv" not in p),
    }


def parts_of(lines: Iterable[str], started: float) -> dict[str, float]:
    """Seconds of each part, by when the line was printed that begins it."""
    began: dict[str, float] = {}
    for line in lines:
        for words, part in PARTS.items():
            if line.startswith(words):
                began.setdefault(part, time.perf_counter() - started)
    began["end"] = time.perf_counter() - started
    order = list(began)
    return {part: began[after] - began[part] for part, after in itertools.pairwise(order)}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure(["git", "clone", "--quiet", str(PROJECT), str(folder / "clone")])
        started = time.perf_counter()
        with subprocess.Popen(
            ["make", "run", f"PYTHON={sys.base_prefix}/bin/python3"],
            cwd=folder / "clone",
            env=environment(folder),
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            parts = parts_of(process.stdout or (), started)
        if process.returncode:
            sys.exit(f"make run ended with {process.returncode}")
        megabytes = int(measure(["du", "-sm", str(folder / "clone" / ".venv")]).output.split()[0])
        measure([f"{sys.base_prefix}/bin/python3", "-m", "venv", str(folder / "peer")])
        lock = str(folder / "clone" / "requirements.lock")
        pip = measure(
            [
                str(folder / "peer/bin/python"),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--require-hashes",
                "--no-deps",
                "--no-cache-dir",
                "-r",
                lock,
            ]
        )
    total = sum(parts.values())
    table = Table(title="From a clone to forecasts")
    for column in ("part", "seconds"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for part, seconds in parts.items():
        table.add_row(part, f"{seconds:.1f}")
    table.add_row("make run, in all", f"{total:.1f}")
    table.add_row("peer: the locked packages, by pip", f"{pip.seconds:.1f}")
    console = Console()
    console.print(table)
    console.print(f"The environment takes {megabytes} MB. Limit {MOST_SECONDS} s: {'kept' if total <= MOST_SECONDS else 'missed'}.")
    keep(
        "set_up",
        {"parts": parts, "seconds": total, "pip_seconds": pip.seconds, "environment_megabytes": megabytes, "limit_seconds": MOST_SECONDS},
    )


if __name__ == "__main__":
    main()
