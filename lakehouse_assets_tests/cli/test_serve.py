"""`lakehouse dev` as a team meets it: both web UIs answer, a landed file is taken by itself, and nothing stays behind at the end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

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
        "LAKEHOUSE_SENSOR_SECONDS": "5",
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


@pytest.mark.timeout(400)
def test_the_web_uis_answer_and_a_landed_file_is_taken_by_itself(served):
    settings, server = served
    said = dict(line.split() for line in (server.stdout.readline() for _ in range(2)))
    assert said == {"Dagster": f"http://127.0.0.1:{settings.web_port}", "MLflow": f"http://127.0.0.1:{settings.mlflow_port}"}

    with urllib.request.urlopen(f"http://127.0.0.1:{settings.mlflow_port}/", timeout=30) as page:
        assert b"MLflow" in page.read()

    land_text(settings, "invoices", "1.csv", f"{HEADER}\n{LINE}\n")
    gold = tables_of(settings).table("sales.gold.daily_revenue")
    deadline = time.monotonic() + 240
    while not (gold.exists() and gold.count()) and time.monotonic() < deadline:
        assert server.poll() is None
        time.sleep(1)
    assert gold.count() == 1, "the landing sensor started no run, or the run failed"
    found = post(f"http://127.0.0.1:{settings.web_port}/graphql", ASSETS)["data"]["assetsOrError"]["nodes"]
    assert ["sales", "gold", "daily_revenue"] in [node["key"]["path"] for node in found]

    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
    for port in (settings.web_port, settings.mlflow_port):
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            pass
