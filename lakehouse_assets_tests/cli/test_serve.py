"""`lakehouse dev` as a team meets it: both web UIs answer, a landed file is taken by itself, and nothing stays behind at the end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.orchestration.run_locks import RunLocks
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import land_text, tables_of

HEADER = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country"
LINE = "489434,85048,BALL,12,2009-12-01 07:45:00,6.95,13085,United Kingdom"
ASSETS = "{ assetsOrError { ... on AssetConnection { nodes { key { path } } } } }"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Settings, subprocess.Popen[str]]]:
    environment = {
        "LAKEHOUSE_ROOT": str(tmp_path / "root"),
        "LAKEHOUSE_WEB_PORT": str(free_port()),
        "LAKEHOUSE_MLFLOW_PORT": str(free_port()),
        "LAKEHOUSE_SERVE_PORT": str(free_port()),
        "LAKEHOUSE_PAGES_PORT": str(free_port()),
        "LAKEHOUSE_SENSOR_SECONDS": "5",
        "LAKEHOUSE_SERVE_MILLISECONDS": "30000",
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    command = [sys.executable, "-m", "lakehouse_assets.cli", "dev"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, env=clean | environment, stdout=subprocess.PIPE, stderr=log, text=True, cwd=tmp_path)
        try:
            yield Settings.load(environment), server
        finally:
            if server.poll() is None:
                server.terminate()
                server.wait(60)
            server.stdout.close()


def post(address: str, query: str) -> dict:
    request = urllib.request.Request(address, json.dumps({"query": query}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def until(server: "subprocess.Popen[str]", look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 240
    while not (found := look()):
        assert server.poll() is None
        assert time.monotonic() < deadline, "the landing sensor started no run, or the run failed"
        time.sleep(0.2)
    return found


def refused(settings: Settings, *options: str) -> str:
    """What a `lakehouse dev` says that cannot start."""
    result = CliRunner(env={"LAKEHOUSE_ROOT": str(settings.root), "DAGSTER_HOME": ""}).invoke(main, ["dev", *options])
    assert result.exit_code == 1, result.output
    return result.stderr


@pytest.mark.timeout(400)
def test_the_web_uis_answer_and_a_landed_file_is_taken_by_itself_though_its_first_run_is_killed(served):
    settings, server = served
    said: list[str] = []
    while not said or "are ingested every" not in said[-1]:
        said.append(server.stdout.readline())
        assert said[-1], "it ended while it started"
    assert f"Dagster  http://127.0.0.1:{settings.web_port}\n" in said
    mlflow = next(line for line in said if line.startswith(f"MLflow   http://127.0.0.1:{settings.mlflow_port}/#/"))
    assert mlflow.endswith("workflowType=machine_learning\n")
    assert f"serves {settings.root} already: process {server.pid} on" in refused(settings, "--no-mlflow")
    other = refused(Settings.load({"LAKEHOUSE_ROOT": f"{settings.root}2"}), "--port", str(settings.web_port))
    assert f"port {settings.web_port} of 127.0.0.1 cannot be used. process " in other
    assert "dagster_webserver" in other

    with urllib.request.urlopen(f"http://127.0.0.1:{settings.mlflow_port}/", timeout=30) as page:
        assert b"MLflow" in page.read()
    assert f"REST     http://127.0.0.1:{settings.serve_port}/\n" in said
    assert f"Pages    http://127.0.0.1:{settings.pages_port}/\n" in said
    with urllib.request.urlopen(f"http://127.0.0.1:{settings.pages_port}/overview/", timeout=30) as page:
        assert b"What is expected" in page.read()
    with urllib.request.urlopen(f"http://127.0.0.1:{settings.serve_port}/openapi.json", timeout=30) as document:
        assert "/endpoints/revenue" in json.load(document)["paths"]

    land_text(settings, "invoices", "1.csv", f"{HEADER}\n{LINE}\n")
    locks = RunLocks(settings.dagster_home)
    (worker,) = until(server, lambda: [owner.pid for name in locks.names() if name != "dev" and (owner := locks.owner(name))])
    os.kill(worker, signal.SIGKILL)
    gold = tables_of(settings).table("sales.gold.daily_revenue")
    until(server, lambda: gold.exists() and gold.count())
    found = post(f"http://127.0.0.1:{settings.web_port}/graphql", ASSETS)["data"]["assetsOrError"]["nodes"]
    assert ["sales", "gold", "daily_revenue"] in [node["key"]["path"] for node in found]

    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
    for port in (settings.web_port, settings.mlflow_port, settings.serve_port, settings.pages_port):
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            pass
