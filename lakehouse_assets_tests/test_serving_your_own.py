"""The page that makes an endpoint from CSV files is true: files are written, commands typed, requests sent, answers compared."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lakehouse_assets.cli.main import main
from lakehouse_assets_tests.platform.serving.till import until
from lakehouse_assets_tests.test_tutorial import forget_products

PROJECT = Path(__file__).parents[1]
PAGE = (PROJECT / "docs" / "serving_your_own.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)([^\n]*)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
ANY = "…"
PORT = "8000"


class Terminal:
    """A shell in an empty folder; `lakehouse serve` runs meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, ""
        bin_ = folder / "bin"
        bin_.mkdir()
        for name, words in {"lakehouse": "-m lakehouse_assets.cli", "python": ""}.items():
            (bin_ / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
            (bin_ / name).chmod(0o755)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
        self.environment = clean | {
            "PYTHONPATH": str(PROJECT),
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "DAGSTER_HOME": "",
            "LAKEHOUSE_SERVE_MILLISECONDS": "30000",
        }
        self.server: subprocess.Popen[bytes] | None = None

    def type(self, commands: str) -> str:
        """What commands print; an exported variable stays. `lakehouse` runs in this process, where imports are paid for once."""
        self.environment |= dict(re.findall(r"^export (\w+)=(.*)$", commands, re.MULTILINE))
        given = commands.replace(f"localhost:{PORT}", f"localhost:{self.port}")
        if all(line.startswith(("lakehouse ", "export ")) for line in given.strip().splitlines()):
            return "".join(self._lakehouse(line) for line in given.splitlines() if line.startswith("lakehouse "))
        done = subprocess.run(["bash", "-ec", given], cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _lakehouse(self, line: str) -> str:
        forget_products()
        unset = {name: None for name in os.environ if name.startswith(("LAKEHOUSE_", "DAGSTER_")) and name not in self.environment}
        result = CliRunner(env={**self.environment, **unset}).invoke(main, shlex.split(line, comments=True)[1:], catch_exceptions=False)
        assert result.exit_code == 0, f"{line}\n{result.output}"
        return result.stdout

    def serve(self, command: str) -> None:
        """Start the service, on a port that is free, and wait until it is ready."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = str(free.getsockname()[1])
        words = [str(self.folder / "bin" / command.split(maxsplit=1)[0]), *command.split()[1:], "--port", self.port]
        with (self.folder / "serve.log").open("wb") as log:
            self.server = subprocess.Popen(words, cwd=self.folder, env=self.environment, stdout=log, stderr=subprocess.STDOUT)
        until(self._is_ready, 120)

    def _is_ready(self) -> bool:
        assert self.server.poll() is None, (self.folder / "serve.log").read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=10) as answer:
                (state,) = json.load(answer)["endpoints"].values()
        except OSError:
            return False
        return state["ready"] and None not in state["features_synced_until"].values()

    def close(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGTERM)
            self.server.wait(60)


@pytest.fixture
def terminal(tmp_path, monkeypatch) -> Iterator[Terminal]:
    monkeypatch.chdir(tmp_path)
    made, path = Terminal(tmp_path), [*sys.path]
    yield made
    made.close()
    sys.path[:] = path
    forget_products()


def is_like(answer: Any, said: Any) -> bool:
    """Whether an answer is what the page says, where `…` is any value, and a field that may be missing."""
    if said == ANY:
        return True
    if isinstance(said, dict):
        optional = {name for name, value in said.items() if value == ANY}
        return isinstance(answer, dict) and said.keys() - optional <= answer.keys() <= said.keys() and all(
            is_like(value, said[name]) for name, value in answer.items()
        )  # fmt: skip
    if isinstance(said, list):
        return isinstance(answer, list) and len(answer) == len(said) and all(map(is_like, answer, said))
    return type(answer) is type(said) and answer == said


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.timeout(600)
def test_a_newcomer_makes_an_endpoint(terminal):
    printed, compared = "", 0
    for number, (language, what, content) in enumerate(BLOCKS):
        verb, _, place = what.strip().partition(" ")
        match language, verb:
            case "python", "file":
                (terminal.folder / place).write_text(content)
            case "sh", "serve":
                terminal.serve(content.strip())
            case "sh", "landed":
                # Within a few seconds what was pushed is a file of the feed.
                until(lambda: any((terminal.folder / "data" / "landing" / "parcels").glob("pushed-*")), 60)
                terminal.type(content)
            case "sh", "":
                printed = terminal.type(content)
            case "json", "":
                said, command = json.loads(content), BLOCKS[number - 1][2]
                if "localhost:8000/features" in command:  # windows are told of what was asked beside the answer
                    until(lambda said=said, command=command: is_like(json.loads(terminal.type(command)), said), 30)
                else:
                    assert is_like(json.loads(printed), said), printed
                compared += 1
            case unknown:
                pytest.fail(f"a block that nothing is done with: {unknown}")
    assert compared >= 8
