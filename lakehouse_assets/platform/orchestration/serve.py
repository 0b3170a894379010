"""Starts the Dagster web UI with its daemon, the MLflow UI, the pages and the REST service, and ends them together.

What they show is not decided here.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from lakehouse_assets.platform.declarations.packages import from_any_folder
from lakehouse_assets.platform.orchestration.instance import PROJECT, instance
from lakehouse_assets.platform.orchestration.ports import check_free
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.platform.orchestration.run_control import as_texts, end_dead_runs, locks_of
from lakehouse_assets.platform.orchestration.run_locks import Lock
from lakehouse_assets.platform.registry.model_card import first_page
from lakehouse_assets.settings import Location, Settings

_SECONDS_TO_END, _SECONDS_BETWEEN_NEWS = 20, 15
_LOCK = "dev"
_SIGNAL_AT_DEATH_OF_PARENT = 1


class AlreadyServed(ValueError):
    """Another process serves this root: two daemons would start each run twice."""


@dataclass(frozen=True)
class _Server:
    """A server that is started.

    Attributes:
        name: Of what it shows.
        address: Where it listens.
        health: The path that answers once it is ready.
        page: The path that people open.
        process: Its process.
    """

    name: str
    address: str
    health: str
    page: str
    process: subprocess.Popen[bytes]


def serve(
    settings: Settings,
    say: Callable[[str], None],
    *,
    mlflow: bool = True,
    pages: bool = True,
    endpoints: bool = False,
    open_browser: bool = False,
) -> int:
    """Serve until interrupted or until one of the servers ends; the exit code to end with.

    Args:
        settings: Of the root, with host and ports.
        say: Told what happens, in lines.
        mlflow: Whether to serve the MLflow UI as well.
        pages: Whether to serve the pages as well; without the extra `pages` they are not.
        endpoints: Whether to start the REST service as well.
        open_browser: Whether to open the web UI.

    Raises:
        AlreadyServed: Another process serves this root.
        PortTaken: A port is taken; the text says by which process.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    pages = pages and find_spec("marimo") is not None
    lock = _prepare(settings, say, mlflow=mlflow, pages=pages, endpoints=endpoints)
    servers: list[_Server] = []
    try:
        say("Starting the web UI. The first start takes a minute or two on a slow machine.")
        servers.append(_dagster(settings))
        if mlflow:
            servers.append(_mlflow(settings))
        if pages:
            servers.append(_pages(settings))
        if endpoints:
            servers.append(_service(settings))
        for server in servers:
            _wait_for(server, say)
            say(f"{server.name:8} {server.address}{server.page}")
        if open_browser:
            webbrowser.open(servers[0].address)
        say(f"New files in {_absolute(settings.landing)}/<feed>/ are ingested every {settings.sensor_seconds} s. Press Ctrl-C to stop.")
        while all(server.process.poll() is None for server in servers):
            time.sleep(0.5)
    except KeyboardInterrupt:
        return 0
    finally:
        for server in servers:
            _end(server.process)
        lock.release(forget=True)
    say("A server has stopped by itself; its messages are above.")
    return 1


def _prepare(settings: Settings, say: Callable[[str], None], *, mlflow: bool, pages: bool, endpoints: bool) -> Lock:
    """Make sure that this is the only one to serve the root, that the ports are free, and that no dead run is in the way."""
    with instance(settings) as opened:
        locks = locks_of(opened)
        lock = locks.take(_LOCK)
        if lock is None:
            raise AlreadyServed(f"`lakehouse dev` serves {settings.root} already: {locks.owner(_LOCK)}. End that one first (Ctrl-C there).")
        check_free(settings.host, settings.web_port, "--port")
        if mlflow:
            check_free(settings.host, settings.mlflow_port, "--mlflow-port")
        if pages:
            check_free(settings.host, settings.pages_port, "--pages-port")
        if endpoints:
            check_free(settings.host, settings.serve_port, "--serve-port")
        for text in as_texts(end_dead_runs(opened)):
            say(text)
    return lock


def _dagster(settings: Settings) -> _Server:
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(PROJECT / "workspace.yaml")]
    command += ["-h", settings.host, "-p", str(settings.web_port), "--log-level", "warning"]
    own = _from_any_folder(settings) | {"PYTHONWARNINGS": "ignore"}
    return _Server("Dagster", f"http://{settings.host}:{settings.web_port}", "/server_info", "", _start(command, own, settings))


def _pages(settings: Settings) -> _Server:
    """The pages for people, by their own command."""
    command = [sys.executable, "-m", "lakehouse_assets.cli", "-q", "pages", "--host", settings.host, "--port", str(settings.pages_port)]
    process = _start(command, _from_any_folder(settings) | _others(settings), settings)
    return _Server("Pages", f"http://{settings.host}:{settings.pages_port}", "/livez", "/", process)


def _others(settings: Settings) -> dict[str, str]:
    """Where the other servers listen, for who links to them."""
    return {
        "LAKEHOUSE_HOST": settings.host,
        "LAKEHOUSE_WEB_PORT": str(settings.web_port),
        "LAKEHOUSE_MLFLOW_PORT": str(settings.mlflow_port),
    }


def _service(settings: Settings) -> _Server:
    """The REST service, by its own command."""
    command = [sys.executable, "-m", "lakehouse_assets.cli", "serve", "--host", settings.host, "--port", str(settings.serve_port)]
    process = _start(command, _from_any_folder(settings), settings)
    return _Server("REST", f"http://{settings.host}:{settings.serve_port}", "/health", "/", process)


def _from_any_folder(settings: Settings) -> dict[str, str]:
    """The settings that name folders, as a process in another folder needs them."""
    return {
        "LAKEHOUSE_ROOT": _absolute(settings.root),
        "LAKEHOUSE_HOME": str(settings.home_folder.absolute()),
        "LAKEHOUSE_PRODUCTS": from_any_folder(settings.products),
    }


def _mlflow(settings: Settings) -> _Server:
    registry = resources(settings)["mlflow"].open()
    command, environment = registry.server_command(settings.mlflow_port, settings.host)
    process = _start(command, environment, settings)
    return _Server("MLflow", f"http://{settings.host}:{settings.mlflow_port}", "/health", first_page(registry.model_names()), process)


def _absolute(location: Location) -> str:
    return str(location.absolute()) if isinstance(location, Path) else location


def _start(command: list[str], environment: dict[str, str], settings: Settings) -> subprocess.Popen[bytes]:
    """Start a server in the home's own folder, where Dagster finds no second dagster.yaml to warn of: paths have to be absolute.

    It is interrupted when this process dies, however that happens; only Linux offers this.
    """
    folder = settings.home_folder.absolute()
    libc = ctypes.CDLL(None)

    def follow_the_parent() -> None:
        if sys.platform == "linux":
            libc.prctl(_SIGNAL_AT_DEATH_OF_PARENT, signal.SIGINT)

    return subprocess.Popen(  # noqa: S603 our own command
        command,
        cwd=folder,
        env=os.environ | environment,
        start_new_session=True,
        preexec_fn=follow_the_parent,  # noqa: PLW1509 few threads run yet, and it calls one function that was looked up before
    )


def _wait_for(server: _Server, say: Callable[[str], None]) -> None:
    """Wait until a server answers, as long as its process lives."""
    began = news = time.monotonic()
    while server.process.poll() is None:
        try:
            with urllib.request.urlopen(server.address + server.health, timeout=5):  # noqa: S310 our own address
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.3)
        if time.monotonic() - news >= _SECONDS_BETWEEN_NEWS:
            news = time.monotonic()
            say(f"{server.name} is still starting, since {news - began:.0f} s.")
    _failed(server)


def _failed(server: _Server) -> NoReturn:
    raise SystemExit(f"{server.name} ended with code {server.process.returncode} while it started; its messages are above.")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_SECONDS_TO_END)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(process.pid, signal.SIGKILL)
