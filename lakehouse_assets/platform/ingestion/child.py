"""Reads files in a child process, because what they do to a process is known only after it was done.

A crafted parquet or XLSX file can ask for more memory than there is, which ends the process that reads it, or keep it busy for ever. Here
it ends a child that has a limit of memory and of time, and the file is refused with its reason. One child reads many files, one after the
other; it is started for the first that needs it. How a format is read is in its own module.
"""

import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import polars as pl

from lakehouse_assets.platform.compute.memory import machine_megabytes
from lakehouse_assets.platform.compute.progress import telling
from lakehouse_assets.platform.ingestion.columnar import read_parquet
from lakehouse_assets.platform.ingestion.header import Expected
from lakehouse_assets.platform.ingestion.limits import Limits
from lakehouse_assets.platform.ingestion.records import Records
from lakehouse_assets.platform.ingestion.refused import RefusedFile
from lakehouse_assets.platform.ingestion.scratch import Scratch
from lakehouse_assets.platform.ingestion.workbook import read_xlsx

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from lakehouse_assets.platform.ingestion.child import serve; serve()"
_MEGABYTE = 1024 * 1024
_SHARE = 2  # of the machine's memory, a half
_LEAST, _OF_A_THREAD = 1024 * _MEGABYTE, 32 * _MEGABYTE  # so much is taken before the first byte of a file
_FROM_OUTSIDE = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}
_LOOK_SECONDS = 2.0
_STDERR_BYTES = 20_000


class Child:
    """A process that reads files; a context that ends it.

    Threads may share it: files wait for each other.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: Any = None
        self._memory = 0
        self._lock = threading.Lock()

    def parquet(self, path: Path, expected: Expected, scratch: Scratch, limits: Limits) -> Records:
        """As `read_parquet`. The child reads all pages; the frame streams from the file, in this process.

        Raises:
            RefusedFile: As there, or reading it ended the child.
        """
        told = self._ask({"kind": "parquet"}, path, expected, limits)
        return read_parquet(path, expected, scratch, limits, rows=told["rows"])

    def xlsx(self, path: Path, expected: Expected, scratch: Scratch, limits: Limits, *, sheets: Sequence[str], has_header: bool) -> Records:
        """As `read_xlsx`. The child writes the rows to disk, from where the frame streams.

        Raises:
            RefusedFile: As there, or reading it ended the child.
        """
        target = scratch.file("sheets", path.name)
        request = {"kind": "xlsx", "target": str(target), "sheets": list(sheets), "has_header": has_header}
        told = self._ask(request, path, expected, limits)
        frame = pl.scan_ipc(target, glob=False, hive_partitioning=False)
        return Records(told["header"], frame, told["rows"], remarks=told["remarks"])

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _ask(self, request: Mapping[str, Any], path: Path, expected: Expected, limits: Limits) -> dict[str, Any]:
        question = {**request, "path": str(path), "expected": _plain(expected), "limits": asdict(limits)}
        seconds = limits.seconds + path.stat().st_size // _MEGABYTE
        line = json.dumps(question).encode() + b"\n"
        with self._lock, telling() as tell:
            tell(f"reading {path.name}")  # it may take all of its time
            answer, why, code = self._tried(line, seconds, limits)
            if answer is None and code in _FROM_OUTSIDE:
                # Somebody ended it, or the system for want of memory: perhaps not because of this file.
                answer, why, _ = self._tried(line, seconds, limits)
        if answer is None:
            raise RefusedFile(
                f"{path.name} cannot be read: {why}. It is damaged or made to do this: write it again with another program, in smaller "
                "files or as CSV."
            )
        if answer["refused"]:
            raise RefusedFile(*answer["refused"])
        if answer["error"]:
            number, text = answer["error"]
            raise OSError(number, text)
        return answer

    def _tried(self, line: bytes, seconds: float, limits: Limits) -> tuple[dict[str, Any] | None, str, int]:
        """What the child says to a question; or None, why, and its exit code."""
        process = self._running(limits)
        answer = self._answer(process, line, seconds)
        if answer is not None:
            return answer, "", 0
        why, code = self._why(process, seconds)
        self._end()
        return None, why, code

    def _running(self, limits: Limits) -> subprocess.Popen[bytes]:
        least = _LEAST + (os.cpu_count() or 1) * _OF_A_THREAD
        memory = limits.memory or max(least, machine_megabytes() * _MEGABYTE // _SHARE)
        if self._process is not None and self._process.poll() is None and memory == self._memory:
            return self._process
        self._end()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `_end`
        self._process = subprocess.Popen(  # noqa: S603 - this program
            [sys.executable, "-c", _START, json.dumps(sys.path), str(memory), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=os.environ | {"RUST_BACKTRACE": "0"},
            start_new_session=True,  # Ctrl-C is for this process, and must not look like a bad file
        )
        self._memory = memory
        return self._process

    def _answer(self, process: subprocess.Popen[bytes], question: bytes, seconds: float) -> dict[str, Any] | None:
        """What the child says; None if it ends or says nothing for so long."""
        if process.stdin is None or process.stdout is None:
            raise AssertionError("both are pipes")
        try:
            process.stdin.write(question)
            process.stdin.flush()
        except BrokenPipeError:
            return None
        until = time.monotonic() + seconds
        answer = b""
        with selectors.DefaultSelector() as selector:  # `select` takes no descriptor above 1,023
            selector.register(process.stdout, selectors.EVENT_READ)
            while not answer.endswith(b"\n"):
                is_ready = selector.select(max(0.0, until - time.monotonic()))
                piece = os.read(process.stdout.fileno(), 65_536) if is_ready else b""
                if not piece:
                    return None
                answer += piece
        told: dict[str, Any] = json.loads(answer)
        return told

    def _why(self, process: subprocess.Popen[bytes], seconds: float) -> tuple[str, int]:
        try:
            code = process.wait(timeout=_LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            return f"it was not read within {seconds:,.0f} seconds", 0
        self._stderr.seek(0)
        lines = [
            line for line in self._stderr.read()[-_STDERR_BYTES:].decode(errors="replace").splitlines() if not line.startswith("note:")
        ]
        lines = [line for line in lines if "memory allocation" in line] or lines
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        memory = f", of at most {self._memory // _MEGABYTE:,} MiB of memory" if code < 0 else ""
        return f"reading it ended the process that read it ({name}{memory}{': ' + lines[-1] if lines else ''})", code

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or process.stdin is None or process.stdout is None:
            return
        process.kill()
        process.wait()
        process.stdout.close()
        with suppress(BrokenPipeError):
            process.stdin.close()
        self._stderr.close()


def _plain(expected: Expected) -> dict[str, Any]:
    return {
        "columns": list(expected.columns),
        "required": [list(variant) for variant in expected.required],
        "in_path": dict(expected.in_path),
    }


def serve() -> None:
    """What the child does: it answers each line of its input, until that ends or the parent does."""
    _, memory, parent = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever libraries print is no answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit(resource.RLIMIT_DATA, int(memory))
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    for line in sys.stdin.buffer:
        answers.write(json.dumps(_answered(json.loads(line))).encode() + b"\n")
        answers.flush()


def _limit(what: int, most: int) -> None:
    """Where the system allows it: a limit that is lower already stays."""
    hard = resource.getrlimit(what)[1]
    try:
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    except (ValueError, OSError):
        return


def _end_with(parent: int) -> None:
    """Ends this process when the parent is gone, also in the middle of a file."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(0)


def _answered(question: Mapping[str, Any]) -> dict[str, Any]:
    path, limits, expected = Path(question["path"]), Limits(**question["limits"]), Expected(**question["expected"])
    answer: dict[str, Any] = {"refused": None, "error": None}
    scratch = Scratch()
    try:
        if question["kind"] == "parquet":
            return answer | {"rows": read_parquet(path, expected, scratch, limits).rows}
        records = read_xlsx(path, expected, limits, sheets=question["sheets"], has_header=question["has_header"])
        records.frame.sink_ipc(question["target"])
        return answer | {"header": list(records.header), "rows": records.rows, "remarks": list(records.remarks)}
    except RefusedFile as refused:
        return answer | {"refused": [refused.reason, refused.without_content]}
    except OSError as error:
        return answer | {"error": [error.errno, error.strerror or str(error)]}
    finally:
        scratch.close()
