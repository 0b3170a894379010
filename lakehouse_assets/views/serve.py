"""Serves the pages until the process is told to end. What they show is in the views, who may see them in `web`."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

from lakehouse_assets.client import Client
from lakehouse_assets.platform.orchestration.ports import check_free
from lakehouse_assets.platform.serving.tokens import tokens_needed
from lakehouse_assets.views import opened

MISSING: Final = "the pages need marimo and altair: `pip install 'lakehouse-assets[pages]'`; `make setup` installs them"


class PagesMissing(ValueError):
    """The packages of the extra `pages` are not installed."""


def are_installed() -> bool:
    """Whether the pages can be served."""
    return all(find_spec(name) is not None for name in ("marimo", "altair"))


def serve(lake: Client, say: Callable[[str], None], host: str | None = None, port: int | None = None) -> None:
    """Show the pages until the process is told to end.

    Args:
        lake: Whose settings count; its root is that of this process.
        say: Told what happens, in lines.
        host: In place of LAKEHOUSE_HOST; on another one than loopback, a token is needed.
        port: In place of LAKEHOUSE_PAGES_PORT.

    Raises:
        PagesMissing: The extra `pages` is not installed.
        PortTaken: Another process listens on the port.
    """
    if not are_installed():
        raise PagesMissing(MISSING)
    import uvicorn

    from lakehouse_assets.views.web import application

    settings = lake.settings
    at, number = host or settings.host, port or settings.pages_port
    check_free(at, number, "--port")
    tokens = tokens_needed(at, settings.serve_tokens)
    made = application(settings.home_folder, tuple(settings.pages_hosts.split(",")), tokens=tokens)
    opened.warm_up()
    say(f"Pages   http://{at}:{number}/{'  (with a token of the scope `pages`)' if tokens else ''}. Press Ctrl-C to stop.")
    uvicorn.run(made, host=at, port=number, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2)
