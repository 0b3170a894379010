"""The HTTP server of a service: one process, uvicorn with httptools and uvloop. What is answered is in `app`."""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import polars as pl
import uvicorn

from lakehouse_assets.platform.serving import garbage
from lakehouse_assets.platform.serving.app import Application

MLFLOW_PATIENCE: Final = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""So long a service waits for a server of MLflow, unless the environment says otherwise. By itself MLflow tries for many minutes, and as
long no ledger would be followed, and no new forecasts be taken."""
_SWITCH_SECONDS = 0.001
_BACKLOG = 2_048
_GRACE_SECONDS = 10


class _Server(uvicorn.Server):
    """Ends well when it is told to end: uvicorn would raise the signal again once it is done."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def server(application: Application, host: str, port: int) -> uvicorn.Server:
    """A server that is not started yet. SIGTERM and SIGINT end it once what it has begun is answered."""
    config = uvicorn.Config(
        application,
        host=host,
        port=port,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return _Server(config)


def run(application: Application, host: str, port: int, listening: Callable[[str], None]) -> None:
    """Serve until the process is told to end.

    Args:
        application: What is answered.
        host: Address to listen on.
        port: Port; 0: any that is free.
        listening: Told the address.
    """
    for name, value in MLFLOW_PATIENCE.items():
        os.environ.setdefault(name, value)
    # Frames of requests are small: the streaming engine costs several times what it does with them.
    pl.Config.set_engine_affinity("in-memory")
    # The thread that scores and the one that answers share the interpreter: neither may keep it for long.
    sys.setswitchinterval(_SWITCH_SECONDS)
    garbage.serve_only()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listening(f"http://{host}:{listener.getsockname()[1]}")
        server(application, host, port).run(sockets=[listener])
