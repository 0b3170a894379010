"""Starts the Dagster web UI with its daemon, and the MLflow UI, and ends both together. What they show is not decided here."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from lakehouse_assets.platform.orchestration.instance import PROJECT, prepare_home
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.platform.registry.model_card import PAGES as MODELS
from lakehouse_assets.settings import Location, Settings

_SECONDS_TO_START, _SECONDS_TO_END = 120, 20


def serve(settings: Settings, say: Callable[[str], None]) -> int:
    """Serve until interrupted or until one of the servers ends; the exit code to end with."""
    prepare_home(settings)
    registry = resources(settings)["mlflow"].open()
    arguments, environment = registry.server_command(settings.mlflow_port, settings.host)
    web = [sys.executable, "-m", "dagster", "dev", "-w", str(PROJECT / "workspace.yaml")]
    web += ["-h", settings.host, "-p", str(settings.web_port), "--log-level", "warning"]
    # In the home's own folder, where Dagster finds no second dagster.yaml to warn of; so the places have to be named absolutely.
    folder = settings.home_folder.absolute()
    own = {"LAKEHOUSE_ROOT": _absolute(settings.root), "LAKEHOUSE_HOME": str(folder), "PYTHONWARNINGS": "ignore"}
    servers = {
        f"Dagster  http://{settings.host}:{settings.web_port}": _start(web, own, folder),
        f"MLflow   http://{settings.host}:{settings.mlflow_port}": _start(arguments, environment, folder),
    }
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        for name, path in zip(servers, ("/server_info", "/health"), strict=True):
            _wait_for(name, servers[name], path)
            say(name + (MODELS if name.startswith("MLflow") else ""))
        say(f"New files in {_absolute(settings.landing)}/<feed>/ are ingested every {settings.sensor_seconds} s. Press Ctrl-C to stop.")
        while all(server.poll() is None for server in servers.values()):
            time.sleep(0.5)
    except KeyboardInterrupt:
        return 0
    finally:
        for server in servers.values():
            _end(server)
    say("A server has stopped by itself; its messages are above.")
    return 1


def _absolute(location: Location) -> str:
    return str(location.absolute()) if isinstance(location, Path) else location


def _start(command: list[str], environment: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=folder, env=os.environ | environment, start_new_session=True)  # noqa: S603 our own command


def _wait_for(name: str, server: subprocess.Popen[bytes], path: str) -> None:
    address = name.rsplit(maxsplit=1)[-1] + path
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):  # noqa: S310 our own address
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.3)
    raise SystemExit(f"{name} did not start. Is its port taken? LAKEHOUSE_WEB_PORT and LAKEHOUSE_MLFLOW_PORT choose others.")


def _end(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is not None:
        return
    server.send_signal(signal.SIGINT)
    try:
        server.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
