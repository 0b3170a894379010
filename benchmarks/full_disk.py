"""A disk that is full at each of ten sizes: no traceback, everything can be read, and with room again the next run ends well.

Each size is what a copy of a root, on a file system of its own in memory, has left when the real `lakehouse run` starts. It needs the
right to mount.

`python -m benchmarks.full_disk`
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.kills import CLI, SELECTION, content, difference, environment, land
from benchmarks.measure import keep

# From nothing to what a whole run takes.
KILOBYTES = (0, 60, 250, 600, 1_000, 1_400, 1_800, 2_200, 2_600, 3_000)
ROOM = 400_000
# The doctor's is that it found something; Dagster's records cannot be opened where nothing can be written.
_EXPECTED = {"doctor": {0, 1}, "runs list": {0, 1}}
READERS = (("status",), ("show", "sales.silver.products"), ("files",), ("runs", "list"), ("doctor",), ("sql", "select 1 as one"))


def call(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, *words], env=environment(root), capture_output=True, text=True, check=False)


@contextmanager
def disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}k", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def must_run(root: Path) -> None:
    done = call(root, "run", *SELECTION)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def leave(folder: Path, kilobytes: int) -> None:
    size = shutil.disk_usage(folder).used // 1024 + kilobytes
    subprocess.run(["mount", "-o", f"remount,size={size}k", folder], check=True)


def full_at(kilobytes: int, start: Path, oracle: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What the commands do on a disk with so much left."""
    with disk(folder) as mounted:
        root = mounted / "root"
        shutil.copytree(start, root)
        leave(mounted, kilobytes)
        run = call(root, "run", *SELECTION)
        read = {" ".join(words): call(root, *words) for words in READERS}
        leave(mounted, ROOM)
        again = call(root, "run", *SELECTION)
        doctor = json.loads(call(root, "doctor", "--json").stdout)
        outputs = [run, again, *read.values()]
        return {
            "kilobytes": kilobytes,
            "run": run.returncode,
            "says": next((line for line in (run.stdout + run.stderr).splitlines() if "disk" in line), ""),
            "tracebacks": sum("Traceback" in done.stdout + done.stderr for done in outputs),
            "not read": [name for name, done in read.items() if done.returncode not in _EXPECTED.get(name, {0})],
            "run with room": again.returncode,
            "differs": difference(root, oracle),
            "errors": [finding["what"] for finding in doctor if finding["severity"] == "error"],
        }


def is_as_it_must_be(found: dict[str, Any]) -> bool:
    whole = found["run with room"] == 0 and not found["differs"] and not found["errors"]
    said = found["run"] == 0 or bool(found["says"])
    return whole and said and not found["tracebacks"] and not found["not read"]


def main() -> int:
    if os.geteuid() != 0:
        print("full_disk: left out, because mounting a file system needs the rights of root")
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        start, whole = folder / "start", folder / "whole"
        land(start, 28, date(2024, 1, 4))
        must_run(start)
        land(start, 20, date(2024, 2, 1))
        shutil.copytree(start, whole)
        must_run(whole)
        found = [full_at(kilobytes, start, content(whole), folder / f"disk{kilobytes}") for kilobytes in KILOBYTES]
    table = Table(*found[0], title="lakehouse run on a disk with so many kilobytes left")
    for row in found:
        table.add_row(*(str(value) if value != [] else "" for value in row.values()))
    Console(width=200).print(table)
    failed = [row["kilobytes"] for row in found if not is_as_it_must_be(row)]
    keep("full_disk", {"sizes": found, "failed": failed})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
